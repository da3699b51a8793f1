// The keys of `[admin]` and `[metrics]`, declared as those in schema.ts are: the ports for those who run the proxy.

import { clientPattern, listenAddress } from "./forms.ts";
import { builtIn, list, optional, required, table } from "./kinds.ts";
import { countOrZero, path, pemPath } from "./values.ts";

const CLIENTS = 'write it like ["alice@admin", "*@admin"]';

export const ADMIN = table(
  {
    socket: optional(
      path("a Unix socket"),
      "Where the commands `status`, `ps`, `kick` and others reach the running proxy. Its mode is 0600: a user who can open it is an operator.",
      "no socket",
    ),
    address: optional(
      listenAddress,
      "HTTPS beside it, TLS 1.3 with client certificates; the next three keys go with it.",
      "no HTTPS",
    ),
    ca: optional(pemPath, "The CA certificates that its clients must chain to."),
    certificate: optional(pemPath, "Its certificate, then its chain."),
    privateKey: optional(pemPath, "That certificate's private key, not encrypted."),
    readers: builtIn(
      list(clientPattern, "client", { hint: CLIENTS, unique: (each) => each }),
      [],
      "Who may look, over HTTPS.",
    ),
    operators: builtIn(
      list(clientPattern, "client", { hint: CLIENTS, unique: (each) => each }),
      [],
      "Who may also change things, over HTTPS.",
    ),
    stateDirectory: optional(
      path("a folder"),
      "Where blocks and changes of targets are kept over a restart.",
      "they end with the process",
    ),
  },
  "AdminConfig",
  (read, { socket, address, ca, certificate, privateKey }, key) => {
    const files = Object.entries({ ca, certificate, privateKey });
    if (socket === undefined && address === undefined) read.fault(key, "needs socket or address, or both");
    for (const [name, value] of files) {
      if (address !== undefined && value === undefined)
        read.fault(`${key}.${name}`, "is missing; address needs ca, certificate and privateKey");
      else if (address === undefined && value !== undefined)
        read.fault(`${key}.${name}`, "is for HTTPS, which needs address");
    }
  },
);

export const METRICS = table(
  {
    address: required(
      listenAddress,
      "Where Prometheus scrapes: plain HTTP, to be kept on loopback or a trusted network.",
    ),
    topClients: builtIn(
      countOrZero(1_000),
      0,
      "The clients with the most open connections, so many of them, get a series each. A client's name is a label then.",
    ),
  },
  "MetricsConfig",
);
