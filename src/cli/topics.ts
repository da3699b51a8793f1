// The topics of `proxy help TOPIC`. The binary contains the texts, for hosts that have nothing else of the project.

import { configHelp, reasonsHelp } from "../config/help.ts";
import certificates from "../../certs/README.md" with { type: "text" };
import log from "./topics/log.md" with { type: "text" };
import metrics from "./topics/metrics.md" with { type: "text" };
import operations from "./topics/operations.md" with { type: "text" };
import services from "./topics/services.md" with { type: "text" };
import strangers from "./topics/strangers.md" with { type: "text" };

/** A text that operators read on a host. */
export interface Topic {
  readonly summary: string;
  text(): string;
}

/** By name, in the order of the list. */
export const TOPICS: ReadonlyMap<string, Topic> = new Map([
  ["config", { summary: "every configuration key: type, range, built-in value, meaning", text: configHelp }],
  ["reasons", { summary: "why connections are refused or end, and what to do", text: reasonsHelp }],
  [
    "certificates",
    { summary: "a CA, the proxy, its clients; rotation and revocation", text: () => certificates },
  ],
  ["log", { summary: "log lines and their fields", text: () => log }],
  ["metrics", { summary: "metrics, health checks, alerts", text: () => metrics }],
  ["operations", { summary: "flags, reloads, limits, shutdown, the library", text: () => operations }],
  ["services", { summary: "several services, by server name and by listener", text: () => services }],
  ["strangers", { summary: "limits for clients without a valid certificate", text: () => strangers }],
]);
