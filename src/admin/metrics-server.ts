// The port for monitoring: `/metrics`, `/livez` and `/readyz`, for GET and HEAD. Its answers depend on nothing of a request
// but its path, its query and the format that it asks for.

import { formatAddress } from "../lib/address.ts";
import { monotonic } from "../lib/clock.ts";
import { cannotListen, escapeInvisible, quote } from "../lib/errors.ts";
import { liveness, readiness, type Health } from "./health.ts";
import { HttpFault, serveHttp, type HttpAnswer, type HttpPort, type HttpRequest } from "./http.ts";
import { readMetrics } from "./metrics-reading.ts";
import { columnsOf } from "./threads.ts";
import { CONTENT_TYPE, formatFor, metricsText, type Reading } from "./metrics-text.ts";
import { Paced } from "./paced.ts";
import type { Subject, Window } from "./subject.ts";
import { TopClients } from "./top-clients.ts";

/** Which keys a query may have, by path. */
const QUERIES: Readonly<Record<string, readonly string[]>> = {
  "/metrics": [],
  "/livez": ["verbose"],
  "/readyz": ["verbose", "upstream"],
};

/** Opens the port. @throws StartError where it cannot be had */
export async function openMetrics(subject: Subject): Promise<Window> {
  const { metrics } = subject.config;
  if (metrics === undefined) throw new Error("no metrics are configured");
  const { address } = metrics;
  const topClients = new TopClients(subject);
  // Scrapes that come at the same time share one reading.
  const reader = new Paced(async () => {
    const top = await topClients.read(subject.config.metrics?.topClients ?? metrics.topClients);
    return { ...readMetrics(subject), top_client_connections_open: top };
  });
  const failed = (error: unknown) =>
    subject.log.error("internal error", { error: String((error as Error | undefined)?.stack ?? error) });
  let port: HttpPort;
  try {
    port = await serveHttp(address, (request) => answer(request, subject, reader), failed);
  } catch (error) {
    throw cannotListen(`${formatAddress(address)} (metrics.address)`, error);
  }
  subject.log.info("metrics listening", { address: formatAddress(port.address) });
  return { follow() {}, close: () => port.close() };
}

async function answer(
  { method, target, accept }: HttpRequest,
  subject: Subject,
  reader: Paced<Reading>,
): Promise<HttpAnswer> {
  const { path, query } = partsOf(target);
  const keys = Object.hasOwn(QUERIES, path) ? QUERIES[path] : undefined;
  if (keys === undefined) throw new HttpFault(404, "there is /metrics, /livez and /readyz");
  if (method !== "GET" && method !== "HEAD") {
    throw new HttpFault(405, "only GET and HEAD", { allow: "GET, HEAD" });
  }
  for (const key of query.keys()) {
    if (!keys.includes(key)) throw new HttpFault(400, `unknown query parameter ${quote(key)}`);
    if (query.getAll(key).length > 1) throw new HttpFault(400, `the query has ${quote(key)} twice`);
  }
  if (path === "/metrics") {
    const format = formatFor(accept);
    return { status: 200, type: CONTENT_TYPE[format], body: metricsText(await reader.next(), format) };
  }
  const verbose = query.has("verbose");
  if (path === "/livez") {
    return say(liveness(subject.ledger.counters, columnsOf(subject), monotonic()), verbose);
  }
  const asked = query.get("upstream") ?? undefined;
  if (asked !== undefined && !subject.pools.has(asked)) {
    throw new HttpFault(404, `there is no upstream ${quote(asked)}`);
  }
  return say(readiness(subject.phase, subject.pools, asked), verbose);
}

/** The path and the query of what is asked for, which may have a host before it. */
function partsOf(target: string): { path: string; query: URLSearchParams } {
  const own = target.replace(/^https?:\/\/[^/?]*/i, "");
  const mark = own.indexOf("?");
  const path = mark === -1 ? own : own.slice(0, mark);
  return { path, query: new URLSearchParams(mark === -1 ? "" : own.slice(mark + 1)) };
}

function say({ healthy, lines }: Health, verbose: boolean): HttpAnswer {
  const said = [...(verbose ? lines : []), healthy ? "ok" : "not ok"];
  return {
    status: healthy ? 200 : 503,
    type: "text/plain; charset=utf-8",
    body: said.map((line) => `${escapeInvisible(line)}\n`).join(""),
  };
}
