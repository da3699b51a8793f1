// What all connections of a thread share, as it is at the thread's start.

import { Activity } from "../connection/activity.ts";
import type { Shared } from "../connection/connection.ts";
import type { FleetGate } from "../connection/fleet-gate.ts";
import { HandshakeQueue } from "../connection/handshake-queue.ts";
import { HeaderWait, headerSource } from "../connection/header-wait.ts";
import { RefusalLog } from "../connection/refusal-log.ts";
import { socketMeter } from "../connection/socket-meter.ts";
import { Tarpit } from "../connection/tarpit.ts";
import { monotonic } from "../lib/clock.ts";
import type { DescriptorBudget } from "../lib/descriptors.ts";
import { libcNow, type Libc } from "../lib/libc.ts";
import type { Logger } from "../lib/log.ts";
import type { Ledger } from "../state/ledger.ts";
import { Limits } from "../state/limits.ts";
import { Sources } from "../state/sources.ts";
import { makePools } from "../upstreams/pool.ts";
import { activate } from "./activate.ts";
import type { Snapshot } from "./snapshot.ts";

/** What an engine gets besides its snapshot. */
export interface EngineOptions {
  readonly ledger: Ledger;
  readonly budget: DescriptorBudget;
  readonly log: Logger;
  /** Asked where the configuration has a fleet. */
  readonly fleet?: FleetGate;
  /** The start of its connections' names. */
  readonly prefix: string;
  /** Milliseconds between two lines of the refusal log for the same; undefined for the log's own. */
  readonly refusalInterval?: number | undefined;
}

/** @param changed called when connections have come or gone */
export function makeShared(
  snapshot: Snapshot,
  { ledger, budget, log, prefix, refusalInterval, fleet }: EngineOptions,
  changed: () => void,
): Shared {
  const { config } = snapshot;
  const sources = new Sources(ledger, config.handshakes);
  const activity = new Activity();
  return {
    rules: activate(snapshot, makePools(snapshot, ledger)),
    ledger,
    budget,
    limits: new Limits(ledger, config.rateLimit, config.limits),
    sources,
    handshakes: new HandshakeQueue({
      sources,
      meter: socketMeter(),
      max: ownHandshakes(snapshot, ledger),
      activity,
      now: monotonic,
    }),
    activity,
    tarpit: new Tarpit(budget, monotonic),
    // A port that takes headers is opened only where there is a C library.
    headers: new HeaderWait(() => headerSource(libcNow() as Libc), monotonic),
    fleet: config.fleet && fleet,
    log,
    refusals: new RefusalLog({
      write: (fields) => log.warn("refused", fields),
      now: monotonic,
      interval: refusalInterval,
    }),
    connections: new Set(),
    prefix,
    shadow: undefined,
    now: monotonic,
    changed,
  };
}

/** A thread's share of the handshakes that may be in progress at a time. */
export function ownHandshakes(
  { config: { handshakes, maxConnections } }: Snapshot,
  { memory }: Ledger,
): number {
  const max = handshakes.max ?? Math.max(Math.floor(maxConnections / 4), Math.min(64, maxConnections));
  return Math.ceil(max / memory.shape.workers);
}
