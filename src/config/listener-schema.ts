// The keys of a listener, declared as those in schema.ts are: its address, its certificates and whom it lets connect.

import { IDENTITY_KINDS, patternFault } from "../auth/identity-rule.ts";
import { quote } from "../lib/errors.ts";
import { listenerAddress, protocolName, range, serverName } from "./forms.ts";
import { builtIn, demonstration, list, optional, required, table, type Keys } from "./kinds.ts";
import { choice, flag, pemPath, text } from "./values.ts";

const IDENTITY = table(
  {
    from: required(
      choice(IDENTITY_KINDS),
      "The Common Name, or the alternative name of this kind. There must be exactly one, and no other kind stands in for it.",
    ),
    pattern: optional(
      text("a pattern"),
      'How such a name is written, with `{user}` and `{group}` each once, such as `"spiffe://example.org/{group}/{user}"`. Neither matches `/` or `@`, nor a dot in a DNS name. The client is `user@group`.',
      "`user@group`, for `cn`; required for the others",
    ),
  },
  undefined,
  (read, { from, pattern }, key) => {
    const own = `${key}.pattern`;
    if (from === "cn") {
      if (pattern !== undefined) read.fault(own, 'is not for "cn": a Common Name is user@group as it stands');
    } else if (pattern === undefined) {
      read.fault(own, `is missing; "${from}" needs one, with {user} and {group}`);
    } else if (pattern !== "") {
      const fault = patternFault(pattern, from);
      if (fault !== undefined) read.fault(own, `${quote(pattern)} ${fault}`);
    }
  },
);

const CERTIFICATE = table(
  {
    certificate: required(pemPath, "The certificate, then its chain."),
    privateKey: required(pemPath, "That certificate's private key, not encrypted."),
    serverNames: optional(
      list(serverName, "server name"),
      'The server names (SNI) of the clients that see it: `"db.example.com"`, or `"*.example.com"` for everything below it.',
      "the DNS names that it holds",
    ),
  },
  "CertificateConfig",
);

const ACCEPT_PROXY = table(
  {
    from: required(list(range, "range"), "The balancers' own addresses, each an address or a range of them."),
  },
  undefined,
);

export const LISTENER = {
  address: builtIn(
    listenerAddress,
    ":5000",
    'Where clients connect. `":5000"` is every interface, IPv4 and IPv6. With port 0 the system picks one. `"systemd:NAME"` is the socket that systemd has opened under this name.',
  ),
  ca: demonstration(
    pemPath,
    "certs/ca.crt",
    "The CA certificates that clients must chain to, one or several.",
  ),
  certificate: demonstration(
    pemPath,
    "certs/server.crt",
    "The proxy's certificate, then its chain, if it has one.",
  ),
  privateKey: demonstration(pemPath, "certs/server.key", "The certificate's private key, not encrypted."),
  certificates: optional(
    list(CERTIFICATE, "certificate"),
    "More certificates of the proxy, for some server names. Exact names win over `*.` suffixes; all other clients see `certificate`. A name may have one with an RSA key and one with an ECDSA key. `ca` is the same for all.",
  ),
  alpn: optional(
    list(protocolName, "protocol", { unique: (each) => each }),
    'Protocols that are agreed on with clients that offer them by ALPN, such as `["postgresql"]`, the preferred one first. A client that offers only others is refused; one that offers none is not.',
    "no protocol, and no client is refused for those that it offers",
  ),
  crl: optional(pemPath, "The CA's revocation lists. Revoked client certificates are refused."),
  allow: optional(
    list(range, "range"),
    "The addresses that may connect. All others are refused before TLS.",
    "every address",
  ),
  deny: optional(
    list(range, "range"),
    "The addresses that are refused before TLS, even if `allow` has them.",
    "no address",
  ),
  acceptProxy: optional(
    ACCEPT_PROXY,
    "The balancers that name their callers in a PROXY header (version 1 or 2) before TLS. It is required from them, and never read from others. Limits, `allow`, `deny`, blocks, the log and the header for targets then go by the caller's address. Needs Linux; to set it for the first time needs a restart.",
    "no balancer",
  ),
  sessionTickets: builtIn(
    flag,
    true,
    "Whether a client may resume its TLS session, which costs a fraction of a handshake. The proxy still checks the certificate again.",
  ),
  reusePort: builtIn(
    flag,
    false,
    "Whether another process may open the same port, for a change of binaries without a gap.",
  ),
  upstream: optional(
    text("an upstream's name"),
    "The upstream for all connections of this listener, for any server name.",
  ),
  identity: optional(IDENTITY, "Which name of the certificate identifies the client.", "the Common Name"),
} satisfies Keys;

/** In a list, the keys that identify a listener have no built-in value. */
export const LISTENER_ENTRY = table(
  {
    ...LISTENER,
    address: required(listenerAddress, LISTENER.address.meaning),
    ca: required(pemPath, LISTENER.ca.meaning),
    certificate: required(pemPath, LISTENER.certificate.meaning),
    privateKey: required(pemPath, LISTENER.privateKey.meaning),
  },
  "ListenerConfig",
);
