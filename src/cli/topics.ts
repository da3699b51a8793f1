// The topics of `proxy help TOPIC`. The binary contains the texts, for hosts that have nothing else of the project.

import { configHelp, reasonsHelp } from "../config/help.ts";
import { reflow } from "./reflow.ts";
import certificates from "../../certs/README.md" with { type: "text" };
import fleet from "../fleet/README.md" with { type: "text" };
import install from "./topics/install.md" with { type: "text" };
import log from "./topics/log.md" with { type: "text" };
import metrics from "./topics/metrics.md" with { type: "text" };
import operations from "./topics/operations.md" with { type: "text" };
import connect from "../tunnel/README.md" with { type: "text" };
import services from "./topics/services.md" with { type: "text" };
import strangers from "./topics/strangers.md" with { type: "text" };

/** A text that operators read on a host, laid out for 80 columns. */
export interface Topic {
  readonly summary: string;
  text(): string;
}

/** A topic that is written as a page of Markdown. */
const page = (summary: string, markdown: string): Topic => ({
  summary,
  text: () => reflow(markdown).trimEnd(),
});

/** By name, in the order of the list. */
export const TOPICS: ReadonlyMap<string, Topic> = new Map<string, Topic>([
  ["config", { summary: "every configuration key: type, range, built-in value, meaning", text: configHelp }],
  ["reasons", { summary: "why connections are refused or end, and what to do", text: reasonsHelp }],
  ["certificates", page("a CA, the proxy, its clients; rotation and revocation", certificates)],
  ["connect", page("the client's end, for programs that speak no TLS", connect)],
  ["fleet", page("one limit for a client over several proxies", fleet)],
  ["install", page("releases, the Debian package, a container", install)],
  ["log", page("log lines and their fields", log)],
  ["metrics", page("metrics, health checks, alerts", metrics)],
  ["operations", page("flags, reloads, limits, shutdown, the library", operations)],
  ["services", page("several services, by server name and by listener", services)],
  ["strangers", page("limits for clients without a valid certificate", strangers)],
]);
