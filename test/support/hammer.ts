// A worker thread that takes and returns places as fast as it can, until it is told to stop or is terminated midway.

import { Balancer } from "../../src/state/balancer.ts";
import { Ledger, type LedgerMemory } from "../../src/state/ledger.ts";
import { Limits, type ClientLease } from "../../src/state/limits.ts";
import type { TargetLease } from "../../src/state/target-lease.ts";
import { Random } from "./random.ts";

/** What a thread is started with. */
export interface HammerOrder {
  readonly memory: LedgerMemory;
  readonly worker: number;
  /** Indexed as in {@link FLAG}. */
  readonly flags: Int32Array;
  /** Begins one step only, and stops in the middle of it while it holds the lock. */
  readonly stuck?: boolean;
}

/** Flags that all threads share: stop; how often a count exceeded its limit; from `steps` on, the steps of each thread. */
export const FLAG = { stop: 0, beyond: 1, steps: 2 } as const;

export const MAX = { connections: 40, perClient: 3, clients: 24, targets: 4 } as const;
export const CLIENTS = Array.from({ length: 32 }, (_, i) => `user${i}@x`);
export const RULE = { capacity: 5, fillRate: 1, maxConnections: MAX.perClient };

/** What a thread holds when it has stopped. */
export interface HammerReport {
  readonly connections: number;
  readonly clients: Record<string, number>;
  readonly targets: number[];
}

interface Held {
  readonly name: string;
  readonly client: ClientLease;
  readonly target: TargetLease;
}

declare const self: Worker;

if (!Bun.isMainThread) self.onmessage = ({ data }: MessageEvent<HammerOrder>) => hammer(data);

function hammer({ memory, worker, flags, stuck = false }: HammerOrder): void {
  const random = new Random(worker + 1);
  const ledger = Ledger.attach(memory, worker);
  const limits = new Limits(ledger, RULE);
  const targets = Array.from({ length: MAX.targets }, (_, slot) => ({ slot, weight: 1, backup: false }));
  const balancer = new Balancer(ledger, targets, { fall: 3, slowStart: 0 });
  if (stuck) {
    ledger.takeConnection(Infinity);
    ledger.lock();
    ledger.targets.open.total[0]!++;
    Atomics.add(flags, FLAG.steps + worker, 1);
    while (Atomics.load(flags, FLAG.stop) === 0);
  }
  const held: Held[] = [];
  const release = ({ client, target }: Held): void => {
    target.release();
    client.release();
    ledger.giveBackConnection();
  };
  for (let now = 0; Atomics.load(flags, FLAG.stop) === 0; now++) {
    Atomics.add(flags, FLAG.steps + worker, 1);
    if (random.int(0, 1) === 0 && held.length > 0) {
      release(held.splice(random.int(0, held.length - 1), 1)[0]!);
    } else if (ledger.takeConnection(MAX.connections)) {
      const name = random.pick(CLIENTS);
      const client = limits.admit(name, now);
      if (typeof client !== "string") held.push({ name, client, target: balancer.pick(now)! });
      else {
        ledger.giveBackConnection();
      }
      const beyond =
        ledger.connections() > MAX.connections ||
        limits.open(name) > MAX.perClient ||
        limits.size > MAX.clients;
      if (beyond) Atomics.add(flags, FLAG.beyond, 1);
    }
    if (now % 64 === 0) limits.sweep(now);
  }
  const count = (match: (each: Held) => boolean): number => held.filter(match).length;
  self.postMessage({
    connections: held.length,
    clients: Object.fromEntries(CLIENTS.map((name) => [name, count((each) => each.name === name)])),
    targets: targets.map(({ slot }) => count(({ target }) => target.slot === slot)),
  } satisfies HammerReport);
  self.onmessage = () => {
    for (const each of held) release(each);
    self.postMessage("released");
  };
}
