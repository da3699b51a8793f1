// The endpoints that change what runs: kick, blocks, targets. They read what was sent, and refuse what is not understood.

import { parseDuration } from "../lib/duration.ts";
import { quote } from "../lib/errors.ts";
import { parseRange } from "../lib/source.ts";
import type { ConnectionFilter } from "../connection/view.ts";
import type { Block } from "../auth/blocks.ts";
import type { BlockView } from "./api-types.ts";
import { OperationError } from "./operation-error.ts";
import { json, Refused, type Answer, type Call } from "./route.ts";

type Body = Call["body"];

const KICK_KEYS = ["ids", "client", "group", "upstream", "target", "from", "grace", "reason", "dryRun"];
/** The largest number of ids in one kick. */
const MAX_IDS = 1_000;
/** The longest reason. */
const MAX_REASON = 500;

/** `POST /v1/kick` */
export async function kick({ operations, body }: Call): Promise<Answer> {
  only(body, KICK_KEYS);
  const ids = idsIn(body["ids"]);
  const filter: ConnectionFilter = {
    ...textIn(body, "client"),
    ...textIn(body, "group"),
    ...textIn(body, "upstream"),
    ...textIn(body, "target"),
    ...textIn(body, "from"),
  };
  if (ids === undefined && Object.keys(filter).length === 0) {
    throw new Refused(400, "say which connections: ids, client, group, upstream, target or from");
  }
  if (filter.from !== undefined && parseRange(filter.from) === undefined) {
    throw new Refused(400, "from is an address or a range, such as 10.0.0.0/8");
  }
  const dryRun = flagIn(body, "dryRun");
  const grace = durationIn(body, "grace") ?? 0;
  const kicked = await operations.kick({ filter, ids, grace, reason: reasonIn(body), dryRun });
  const missing = ids?.filter((id) => !kicked.includes(id)) ?? [];
  const detail = `${dryRun ? "would end" : "ended"} ${kicked.length}${criteria(ids, filter)}`;
  return { ...json({ kicked, missing, dryRun, graceMs: grace }), detail };
}

/** `GET /v1/blocks` */
export function blocks({ operations }: Call): Answer {
  return json({ blocks: operations.blocks.map(viewOf), kept: operations.keeps });
}

/** `PUT /v1/blocks` */
export async function block({ operations, actor, body }: Call): Promise<Answer> {
  only(body, ["subject", "for", "reason", "fleet"]);
  const request = {
    lasting: durationIn(body, "for"),
    reason: reasonIn(body),
    actor,
    fleet: flagIn(body, "fleet"),
  };
  const made = await told(operations.block(required(body, "subject"), request));
  const view = viewOf(made.block);
  const where = !view.fleet
    ? ""
    : view.published
      ? " in the fleet"
      : " in the fleet, which does not know yet";
  const detail = `${view.subject}${where} until ${view.until ?? "unblocked"}, closed ${made.closed}`;
  return { ...json({ block: view, closed: made.closed, kept: operations.keeps }), detail };
}

/** `DELETE /v1/blocks` */
export async function unblock({ operations, body }: Call): Promise<Answer> {
  only(body, ["subject", "fleet"]);
  const { block: ended, still } = await told(
    operations.unblock(required(body, "subject"), flagIn(body, "fleet")),
  );
  const detail = `${ended.subject}${ended.fleet === undefined ? "" : " in the fleet"}`;
  return { ...json({ block: viewOf(ended), still: still && viewOf(still), kept: operations.keeps }), detail };
}

/** `PATCH /v1/targets` */
export async function target({ operations, body }: Call): Promise<Answer> {
  only(body, ["upstream", "target", "draining", "weight"]);
  const [upstream, address] = [required(body, "upstream"), required(body, "target")];
  const { weight } = body;
  const isWeight = Number.isInteger(weight) && (weight as number) >= 1 && (weight as number) <= 1_000;
  if (weight !== undefined && weight !== null && !isWeight) {
    throw new Refused(400, "weight is a whole number from 1 to 1000, or null for the configuration's");
  }
  if (weight === undefined && body["draining"] === undefined) {
    throw new Refused(400, "say what changes: draining or weight");
  }
  const change = {
    ...(body["draining"] !== undefined && { draining: flagIn(body, "draining") }),
    ...(weight !== undefined && { weight: weight as number | null }),
  };
  const { draining, weight: now, configured } = await told(operations.setTarget(upstream, address, change));
  const detail = `${upstream} ${address} ${draining ? "drains" : "takes connections"}, weight ${now ?? configured}`;
  const view = { upstream, target: address, draining, weight: now ?? configured, kept: operations.keeps };
  return { ...json(view), detail };
}

function viewOf({ subject, kind, reason, actor, since, until, fleet }: Block): BlockView {
  const dateOf = (ms: number) => new Date(ms).toISOString();
  return {
    subject,
    kind,
    reason,
    actor,
    since: dateOf(since),
    until: until === undefined ? undefined : dateOf(until),
    fleet: fleet !== undefined,
    published: fleet === undefined ? undefined : fleet > 0,
  };
}

/** An operation that cannot be carried out is the asker's business. */
async function told<T>(operation: Promise<T>): Promise<T> {
  try {
    return await operation;
  } catch (error) {
    if (!(error instanceof OperationError)) throw error;
    throw new Refused({ unknown: 404, invalid: 400, unavailable: 409 }[error.kind], error.message);
  }
}

function criteria(ids: readonly string[] | undefined, filter: ConnectionFilter): string {
  const given = Object.entries(filter).map(([key, value]) => ` ${key}=${value}`);
  return (ids === undefined ? "" : ` of ${ids.length} ids`) + given.join("");
}

function only(body: Body, known: readonly string[]): void {
  const unknown = Object.keys(body).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  throw new Refused(400, `unknown key ${quote(unknown)}; known here: ${known.join(", ")}`);
}

function required(body: Body, key: string): string {
  const value = body[key];
  if (typeof value === "string" && value !== "") return value;
  throw new Refused(400, `${key} is missing or no text`);
}

function textIn<K extends string>(body: Body, key: K): { readonly [name in K]?: string } {
  if (body[key] === undefined) return {};
  return { [key]: required(body, key) } as { readonly [name in K]?: string };
}

function reasonIn(body: Body): string {
  const { reason = "" } = body;
  if (typeof reason === "string" && reason.length <= MAX_REASON) return reason;
  throw new Refused(400, `reason is a text of at most ${MAX_REASON} characters`);
}

function flagIn(body: Body, key: string): boolean {
  const { [key]: value = false } = body;
  if (typeof value === "boolean") return value;
  throw new Refused(400, `${key} is true or false`);
}

function durationIn(body: Body, key: string): number | undefined {
  const { [key]: value } = body;
  if (value === undefined) return undefined;
  const ms = typeof value === "string" ? parseDuration(value) : undefined;
  if (ms === undefined) throw new Refused(400, `${key} is a duration such as "30s" or "8h"`);
  return ms;
}

function idsIn(value: unknown): string[] | undefined {
  if (value === undefined) return undefined;
  const isList = Array.isArray(value) && value.length > 0 && value.length <= MAX_IDS;
  if (isList && value.every((id): id is string => typeof id === "string")) return value;
  throw new Refused(400, `ids is a list of 1 to ${MAX_IDS} ids`);
}
