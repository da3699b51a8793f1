// `GET /v1/clients`: who has connections open, those nearest to a limit first; with `?fleet` who has how many on which node.

import type { ClientUse } from "../engine/questions.ts";
import { monotonic } from "../lib/clock.ts";
import { escapeInvisible } from "../lib/errors.ts";
import { ruleOf } from "../state/client-rules.ts";
import { Limits } from "../state/limits.ts";
import type { ClientView } from "./api-types.ts";
import { json, Refused, type Answer, type Call, type Output } from "./route.ts";
import type { Subject } from "./subject.ts";
import { answered } from "./threads.ts";

/** Clients that are looked up, or sent, in one go. */
const BATCH = 500;

export async function clients({ subject, query }: Call): Promise<Answer> {
  if (query.has("fleet")) return ofFleet(subject);
  return {
    status: 200,
    headers: { "content-type": "application/json; charset=utf-8" },
    body: (output) => send(subject, output),
  };
}

async function ofFleet({ fleet }: Subject): Promise<Answer> {
  try {
    return json({ clients: await fleet.clients() });
  } catch (error) {
    throw new Refused(409, (error as Error).message);
  }
}

async function send(subject: Subject, output: Output): Promise<void> {
  const uses = await answered(subject.runner.ask({ about: "clients" }));
  if (uses === "late") return output.abort();
  const views = await viewsOf(merge(uses), subject);
  views.sort((a, b) => nearness(b) - nearness(a) || (a.client < b.client ? -1 : 1));
  let text = '{"clients":[';
  for (let i = 0; i < views.length; i += BATCH) {
    const batch = views.slice(i, i + BATCH).map((view) => escapeInvisible(JSON.stringify(view)));
    if (!output.write(`${text}${batch.join(",")}`) && !(await output.drained())) return;
    text = ",";
    await new Promise(setImmediate);
  }
  if (views.length === 0) output.write(text);
  output.write("]}\n");
  output.end();
}

/** A client has connections in several threads. */
function merge(threads: readonly (readonly ClientUse[])[]): ClientUse[] {
  const all = new Map<string, ClientUse>();
  for (const use of threads.flat()) {
    const known = all.get(use.client);
    all.set(use.client, known === undefined ? use : sumOf(known, use));
  }
  return [...all.values()];
}

function sumOf(a: ClientUse, b: ClientUse): ClientUse {
  return {
    client: a.client,
    open: a.open + b.open,
    bytesIn: a.bytesIn + b.bytesIn,
    bytesOut: a.bytesOut + b.bytesOut,
  };
}

async function viewsOf(uses: readonly ClientUse[], { config, ledger }: Subject): Promise<ClientView[]> {
  const limits = new Limits(ledger, config.rateLimit, config.limits);
  const views: ClientView[] = [];
  for (const { client, open, bytesIn, bytesOut } of uses) {
    const { capacity, maxConnections } = ruleOf(config, client);
    const left = limits.tokens(client, monotonic());
    const bucket = capacity === Infinity ? undefined : capacity;
    const tokens = left === Infinity ? undefined : left;
    views.push({ client, open, maxConnections, tokens, capacity: bucket, bytesIn, bytesOut });
    if (views.length % BATCH === 0) await new Promise(setImmediate);
  }
  return views;
}

/** The share of a limit that is used up, of the limit that is nearer; then the number of connections. */
function nearness({ open, maxConnections, tokens, capacity }: ClientView): number {
  const connections = maxConnections === undefined ? 0 : open / maxConnections;
  const bucket = tokens === undefined || capacity === undefined ? 0 : 1 - tokens / capacity;
  return Math.max(connections, bucket) + open / 1e9;
}
