// The topics of `proxy help TOPIC`. The texts are in the binary, for hosts that have nothing else of the project.

import { configHelp, reasonsHelp } from "../config/help.ts";
import certificates from "../../certs/README.md" with { type: "text" };
import fleet from "../fleet/README.md" with { type: "text" };
import log from "./topics/log.md" with { type: "text" };
import operations from "./topics/operations.md" with { type: "text" };
import services from "./topics/services.md" with { type: "text" };
import strangers from "./topics/strangers.md" with { type: "text" };

/** A text to read on a host. */
export interface Topic {
  readonly summary: string;
  text(): string;
}

/** By name, in the order in which they are listed. */
export const TOPICS: ReadonlyMap<string, Topic> = new Map([
  ["config", { summary: "every configuration key: type, range, built-in value, meaning", text: configHelp }],
  ["reasons", { summary: "why connections are refused or end, and what to do", text: reasonsHelp }],
  [
    "certificates",
    { summary: "a CA, the proxy, its clients; rotation and revocation", text: () => certificates },
  ],
  ["log", { summary: "log lines and their fields", text: () => log }],
  [
    "operations",
    { summary: "run it as a service, reload, replace it, take it down", text: () => operations },
  ],
  ["services", { summary: "several services, by server name and by listener", text: () => services }],
  ["fleet", { summary: "one limit for a client over several proxies", text: () => fleet }],
  ["strangers", { summary: "what strangers may cost", text: () => strangers }],
]);
