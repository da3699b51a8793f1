// The keys of `[fleet]`, declared as those in schema.ts are: which store the proxies of a fleet share, and how.

import { hostname } from "node:os";
import { formatDuration } from "../lib/duration.ts";
import { builtIn, optional, required, shorthand, table } from "./kinds.ts";
import { storeAddress } from "./store-address.ts";
import { choice, duration, filePath, form, pemPath } from "./values.ts";

/** What a node does without the store. */
export const WHEN_DOWN = ["share", "local", "refuse"] as const;
export type WhenDown = (typeof WHEN_DOWN)[number];

/** A name that is a part of keys in the store: nothing in it has a meaning there. */
const name = (what: string) =>
  form({
    type: what.replace(/^an? /, ""),
    what,
    hint: 'it has letters, digits and . _ - : only, at most 100, like "tcpproxy"',
    parse: (value) => (typeof value === "string" && /^[\w.:-]{1,100}$/.test(value) ? value : undefined),
    harmless: "",
    schema: { pattern: "^[\\w.:-]{1,100}$" },
  });

const STORE = table(
  {
    url: required(storeAddress, "The store: Redis 6 or later, or Valkey. `rediss://` is TLS."),
    passwordFile: optional(filePath, "A file with the store's password, in place of one in the address."),
  },
  "StoreConfig",
  (read, { url, passwordFile }, key) => {
    if (url.password !== undefined && passwordFile !== undefined)
      read.fault(`${key}.passwordFile`, "is given beside a password in the address; give one of them");
  },
);

const TLS = table(
  {
    ca: required(pemPath, "The CA certificates that the store must chain to."),
    certificate: optional(pemPath, "The proxy's certificate as a client of the store."),
    privateKey: optional(pemPath, "That certificate's private key, not encrypted."),
  },
  undefined,
  (read, { certificate, privateKey }, key) => {
    if ((certificate === undefined) !== (privateKey === undefined))
      read.fault(key, "has one of certificate and privateKey; give both, or neither");
  },
);

export const FLEET = table(
  {
    store: required(
      shorthand(STORE, "url"),
      'The store that the proxies share: an address such as `"redis://user:password@host:6379/0"`, or a table with more to say.',
    ),
    tls: optional(TLS, "Verifies the store. It is required with `rediss://`."),
    namespace: builtIn(
      name("a namespace"),
      "tcpproxy",
      "Begins the keys in the store. Proxies with the same one are one fleet.",
    ),
    node: optional(
      name("a node's name"),
      "The name of this proxy, unique in the fleet.",
      "the host's name and the process's number",
    ),
    timeout: builtIn(duration, "50ms", "How long a client waits for one answer of the store."),
    lease: builtIn(duration, "10s", "The time after which the counts of a node that is silent are void."),
    heartbeat: builtIn(duration, "2s", "How often a node writes all of its counts anew."),
    whenDown: builtIn(
      choice(WHEN_DOWN),
      "share",
      "Without the store: each node gives a client its share of the limits, or the whole limits (`local`), or refuses all clients (`refuse`).",
    ),
  },
  undefined,
  (read, { store, tls, timeout, lease, heartbeat }, key) => {
    if (store.url.tls && tls === undefined)
      read.fault(`${key}.tls`, "is missing; rediss:// needs a CA to verify the store");
    if (!store.url.tls && store.url.shown !== "" && tls !== undefined)
      read.fault(`${key}.tls`, "is given, but the store is not reached by rediss://");
    if (lease < 2 * heartbeat) {
      const least = formatDuration(2 * heartbeat);
      read.fault(`${key}.lease`, `${formatDuration(lease)} is less than two heartbeats, which are ${least}`);
    }
    if (timeout > heartbeat)
      read.fault(
        `${key}.timeout`,
        `${formatDuration(timeout)} is more than heartbeat, which is ${formatDuration(heartbeat)}`,
      );
  },
);

/** What a node is called where the configuration does not say. */
export function defaultNode(): string {
  const host =
    hostname()
      .replace(/[^\w.:-]/g, "-")
      .slice(0, 80) || "node";
  return `${host}-${process.pid}`;
}
