// The port for monitoring: plain HTTP, for GET and HEAD of three paths. It says nothing that depends on a request but
// for its path, its query and the format that it asks for.

import { formatAddress } from "../lib/address.ts";
import { monotonic } from "../lib/clock.ts";
import { cannotListen, escapeInvisible, quote } from "../lib/errors.ts";
import { bindEverywhere } from "../listeners/listener.ts";
import { liveness, readiness, type Health } from "./health.ts";
import { CONTENT_TYPE, formatFor, metricsText } from "./metrics-text.ts";
import { readMetrics, threadsOf } from "./metrics-reading.ts";
import { Paced } from "./paced.ts";
import type { Subject, Window } from "./subject.ts";
import { TopClients } from "./top-clients.ts";

/** How long a connection may be silent, in seconds. */
const IDLE_SECONDS = 10;

/** No request has a body that anybody reads. */
const MAX_BODY_BYTES = 1_024;

/** Which keys a query may have, by path. */
const QUERIES: Readonly<Record<string, readonly string[]>> = {
  "/metrics": [],
  "/livez": ["verbose"],
  "/readyz": ["verbose", "upstream"],
};

const HEADERS = { "cache-control": "no-store", "x-content-type-options": "nosniff" };

/** A request that is at fault. */
class Refused extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Opens the port. @throws StartError where it cannot be had */
export async function openMetrics(subject: Subject): Promise<Window> {
  const { metrics } = subject.config;
  if (metrics === undefined) throw new Error("no metrics are configured");
  const { address } = metrics;
  const topClients = new TopClients(subject);
  // Scrapes that come at the same time share one reading.
  const read = new Paced(async () => {
    const top = await topClients.read(subject.config.metrics?.topClients ?? metrics.topClients);
    return { ...readMetrics(subject), top_client_connections_open: top };
  });
  const bind = (hostname: string) =>
    Bun.serve({
      hostname,
      port: address.port,
      idleTimeout: IDLE_SECONDS,
      maxRequestBodySize: MAX_BODY_BYTES,
      development: false,
      fetch: (request) => answer(request, subject, read).catch((error: unknown) => refuse(error, subject)),
    });
  let server: Bun.Server<undefined>;
  try {
    server = address.hostname === "" ? bindEverywhere(bind) : bind(address.hostname);
  } catch (error) {
    throw cannotListen(`${formatAddress(address)} (metrics.address)`, error);
  }
  const { hostname = "", port = 0 } = server;
  subject.log.info("metrics listening", { address: formatAddress({ hostname, port }) });
  return {
    follow() {},
    close: () => void server.stop(true),
  };
}

type Reader = Paced<Parameters<typeof metricsText>[0]>;

async function answer(request: Request, subject: Subject, read: Reader): Promise<Response> {
  const { path, query } = targetOf(request.url);
  const keys = Object.hasOwn(QUERIES, path) ? QUERIES[path] : undefined;
  if (keys === undefined) throw new Refused(404, "there is /metrics, /livez and /readyz");
  if (request.method !== "GET" && request.method !== "HEAD") throw new Refused(405, "only GET and HEAD");
  for (const key of query.keys()) {
    if (!keys.includes(key)) throw new Refused(400, `unknown query parameter ${quote(key)}`);
    if (query.getAll(key).length > 1) throw new Refused(400, `the query has ${quote(key)} twice`);
  }
  if (path === "/metrics") {
    const format = formatFor(request.headers.get("accept"));
    const text = metricsText(await read.next(), format);
    return new Response(text, { headers: { ...HEADERS, "content-type": CONTENT_TYPE[format] } });
  }
  const verbose = query.has("verbose");
  if (path === "/livez") {
    return say(liveness(subject.ledger.counters, threadsOf(subject), monotonic()), verbose);
  }
  const asked = query.get("upstream") ?? undefined;
  if (asked !== undefined && !subject.pools.has(asked)) {
    throw new Refused(404, `there is no upstream ${quote(asked)}`);
  }
  return say(readiness(subject.phase, subject.pools, asked), verbose);
}

/** The path and the query of a request, whatever it says of its host. */
function targetOf(url: string): { path: string; query: URLSearchParams } {
  const target = url.replace(/^[a-z]+:\/\/[^/?]*/i, "");
  const mark = target.indexOf("?");
  const path = mark === -1 ? target : target.slice(0, mark);
  return { path, query: new URLSearchParams(mark === -1 ? "" : target.slice(mark + 1)) };
}

function say({ healthy, lines }: Health, verbose: boolean): Response {
  const verdict = healthy ? "ok" : "not ok";
  const text = verbose
    ? [...lines, verdict].map((line) => `${escapeInvisible(line)}\n`).join("")
    : `${verdict}\n`;
  const headers = { ...HEADERS, "content-type": "text/plain; charset=utf-8" };
  return new Response(text, { status: healthy ? 200 : 503, headers });
}

function refuse(error: unknown, { log }: Subject): Response {
  const refused = error instanceof Refused ? error : new Refused(500, "internal error");
  if (!(error instanceof Refused))
    log.error("internal error", { error: String((error as Error)?.stack ?? error) });
  const allow = refused.status === 405 ? { allow: "GET, HEAD" } : {};
  const body = { error: refused.message };
  return Response.json(body, { status: refused.status, headers: { ...HEADERS, ...allow } });
}
