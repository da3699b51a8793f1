// `GET /v1/status` and `GET /v1/targets`: the state at a moment, put together from what the threads count in shared memory. No
// thread is asked.

import { formatAddress } from "../lib/address.ts";
import { monotonic } from "../lib/clock.ts";
import { CLOSE_REASONS, REFUSAL_REASONS } from "../lib/reasons.ts";
import { droppedLines } from "../lib/stderr.ts";
import { MAX_CLIENTS } from "../engine/snapshot.ts";
import type { Pool } from "../upstreams/pool.ts";
import type { Status, TargetView } from "./api-types.ts";
import type { Right } from "./route.ts";
import type { Subject } from "./subject.ts";
import { isAlive, threadsOf } from "./threads.ts";

const REFUSED = Object.keys(REFUSAL_REASONS);
const CLOSED = Object.keys(CLOSE_REASONS).length;

const sum = (numbers: readonly number[]) => numbers.reduce((all, each) => all + each, 0);
const dateOf = (ms: number) => new Date(ms).toISOString();

/** @param right of the one who asks */
export function statusOf(subject: Subject, right: Right): Status {
  const { config, reloads, ledger, ports } = subject;
  const refusals = refusalsOf(subject);
  const upstreams = upstreamsOf(subject, refusals.byUpstream);
  const listeners = ports.flatMap((port, row) => {
    if (port === undefined) return [];
    const { accepted, handshaking } = ledger.counters.readListener(row);
    return [{ address: formatAddress(port.address), upstream: port.upstream, accepted, handshaking }];
  });
  return {
    version: subject.version,
    runtime: `bun ${Bun.version}`,
    pid: process.pid,
    right,
    phase: subject.phase,
    startedAt: dateOf(subject.startedAt),
    uptimeMs: Math.max(0, Date.now() - subject.startedAt),
    configFile: subject.configFile,
    threads: threadsOf(subject).map((thread) => ({ thread, alive: isAlive(subject, thread) })),
    reload: {
      succeeded: reloads.succeeded,
      refused: reloads.refused,
      succeededAt: dateOf(reloads.succeededAt),
      triedAt: reloads.triedAt === undefined ? undefined : dateOf(reloads.triedAt),
      faults: reloads.faults.map((fault) => ({ key: keyOf(fault), problem: fault.problem })),
    },
    warnings: subject.warnings,
    connections: { open: ledger.connections(), limit: subject.maxConnections },
    clients: { tracked: ledger.clients.size, limit: MAX_CLIENTS },
    totals: {
      accepted: sum(listeners.map(({ accepted }) => accepted)),
      admitted: sum(upstreams.map(({ admitted }) => admitted)),
      refused: sum(Object.values(refusals.byReason)),
      closed: sum(upstreams.map(({ closed }) => closed)),
      bytesIn: sum(upstreams.map(({ bytesIn }) => bytesIn)),
      bytesOut: sum(upstreams.map(({ bytesOut }) => bytesOut)),
    },
    listeners,
    refusals: refusals.byReason,
    upstreams: upstreams.map(({ closed: _, ...upstream }) => upstream),
    certificates: config.listeners.flatMap(({ address }, i) =>
      (subject.expiries[i] ?? [])
        // A list that does not say when the next one comes does not end.
        .filter(({ until }) => until !== Infinity)
        .map(({ kind, what, until }) => ({
          listener: formatAddress(address),
          kind,
          what,
          notAfter: dateOf(until),
        })),
    ),
    logLinesDropped: droppedLines(),
    fleet: fleetOf(subject),
  };
}

function fleetOf({ fleet }: Subject): Status["fleet"] {
  const status = fleet.status();
  if (status === undefined) return undefined;
  const { durations: _, ...shown } = status;
  return shown;
}

/** All targets, in the order of the configuration. */
export function targetsOf({ pools, ledger }: Pick<Subject, "pools" | "ledger">): TargetView[] {
  return [...pools.values()].flatMap((pool) => targetsIn(pool, ledger));
}

function targetsIn({ upstream, targets, balancer }: Pool, { counters }: Subject["ledger"]): TargetView[] {
  const now = monotonic();
  return Array.from(targets, ([slot, { address, weight, backup, maxConnections }]) => {
    const override = balancer.override(slot);
    return {
      upstream: upstream.name,
      target: formatAddress(address),
      open: balancer.open(slot),
      maxConnections,
      health: balancer.health(slot, now),
      weight: override.weight ?? weight,
      backup,
      draining: override.draining,
      failures: counters.readTarget(slot).failures,
    };
  });
}

function upstreamsOf({ pools, ledger }: Subject, refused: ReadonlyMap<string, number>) {
  return Array.from(pools, ([name, pool]) => {
    const { open, received, sent, closed } = ledger.counters.readUpstream(pool.row, CLOSED);
    return {
      name,
      open,
      maxConnections: pool.upstream.maxConnections,
      admitted: sum(Array.from(pool.groups.values(), (row) => ledger.counters.readGroup(row))),
      refused: refused.get(name) ?? 0,
      closed: sum(closed),
      bytesIn: received,
      bytesOut: sent,
      targets: targetsIn(pool, ledger),
    };
  });
}

/** Since the start, by reason and by upstream. Where a client got no further than the listener, the upstream is "". */
function refusalsOf({ rows, ledger }: Subject) {
  const byReason: Record<string, number> = {};
  const byUpstream = new Map<string, number>();
  for (const routes of rows.routes) {
    for (const [upstream, row] of routes) {
      const counts = ledger.counters.readRoute(row, REFUSED.length);
      byUpstream.set(upstream, (byUpstream.get(upstream) ?? 0) + sum(counts));
      counts.forEach((count, i) => {
        const reason = REFUSED[i] as string;
        if (count > 0) byReason[reason] = (byReason[reason] ?? 0) + count;
      });
    }
  }
  return { byReason, byUpstream };
}

function keyOf(fault: object): string | undefined {
  return "key" in fault && typeof fault.key === "string" ? fault.key : undefined;
}
