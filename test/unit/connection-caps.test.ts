// Caps on the connections of an upstream and of its targets, over all threads. Time is an argument.

import { expect, test } from "bun:test";
import { Balancer, type TargetRule } from "../../src/state/balancer.ts";
import { Ledger } from "../../src/state/ledger.ts";
import type { TargetLease } from "../../src/state/target-lease.ts";
import { small } from "../support/ledger.ts";
import { Random } from "../support/random.ts";

const health = { fall: 3, slowStart: 0 };

function targets(...caps: (number | undefined)[]): TargetRule[] {
  return caps.map((maxConnections, slot) => ({ slot, weight: 1, backup: false, maxConnections }));
}

test("a target at its cap is passed over, and picked again once a connection has gone", () => {
  const balancer = new Balancer(small(), targets(1, undefined), health);
  const first = balancer.pick(0)!;
  expect(first.slot).toBe(0);
  for (let i = 0; i < 3; i++) expect(balancer.pick(0)!.slot).toBe(1);
  first.release();
  expect(balancer.peek(0)).toBe(0);
  expect(balancer.pick(0)!.slot).toBe(0);
  expect(balancer.full).toBeUndefined();
});

test("a backup takes over from targets that are at their cap", () => {
  const [main, backup] = targets(1, 2) as [TargetRule, TargetRule];
  const balancer = new Balancer(small(), [main, { ...backup, backup: true }], health);
  expect([0, 1, 2].map(() => balancer.pick(0)?.slot)).toEqual([0, 1, 1]);
  expect(balancer.pick(0)).toBeUndefined();
  expect(balancer.full).toBe("targets_full");
});

test("the balancer says that targets are full only where a cap is why none is left", () => {
  const balancer = new Balancer(small(), targets(1, undefined), health);
  balancer.pick(0);
  expect(balancer.pick(0, new Set([1]))).toBeUndefined();
  expect(balancer.full).toBe("targets_full");
  expect(balancer.pick(0, new Set([0, 1]))).toBeUndefined();
  expect(balancer.full).toBeUndefined();
  balancer.setOverride(0, true, undefined);
  expect(balancer.pick(0, new Set([1]))).toBeUndefined();
  expect(balancer.full).toBeUndefined();
});

test("an upstream's cap counts connections to targets that a reload has removed", () => {
  const balancer = new Balancer(small(), targets(undefined, undefined), { ...health, maxConnections: 2 });
  const leases = [balancer.pick(0)!, balancer.pick(0)!];
  const [, second] = targets(undefined, undefined) as [TargetRule, TargetRule];
  balancer.update([second], { ...health, maxConnections: 2 });
  expect(balancer.pick(0)).toBeUndefined();
  expect(balancer.full).toBe("upstream_full");
  expect(balancer.peek(0)).toBeUndefined();
  leases.find(({ slot }) => slot === 0)!.release();
  expect(balancer.pick(0)!.slot).toBe(1);
  // A cap that a reload lowers ends nothing, and one that it takes away is gone.
  balancer.update([second], { ...health, maxConnections: 1 });
  expect(balancer.openInAll).toBe(2);
  expect(balancer.pick(0)).toBeUndefined();
  balancer.update([second], health);
  expect(balancer.pick(0)!.slot).toBe(1);
});

test("caps hold exactly over random schedules of several threads, also when a thread dies", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const random = new Random(seed);
    const supervisor = small({ workers: 3 });
    const cap = () => random.pick([undefined, 1, 2, 5]);
    let rules = targets(cap(), cap(), cap());
    let most = random.pick([undefined, 1, 4, 8]);
    const make = (worker: number) =>
      new Balancer(Ledger.attach(supervisor.memory, worker), rules, { ...health, maxConnections: most }, 7);
    const threads = [0, 1, 2].map(make);
    let living: { worker: number; lease: TargetLease }[] = [];
    for (let step = 0; step < 300; step++) {
      const worker = random.int(0, 2);
      const balancer = threads[worker]!;
      const openTo = (slot: number) => living.filter(({ lease }) => lease.slot === slot).length;
      const action = random.int(0, 99);
      if (action < 55) {
        const tried = new Set(random.int(0, 3) === 0 ? [random.int(0, 2)] : []);
        const isFull = living.length >= (most ?? Infinity);
        const free = rules.filter((each) => openTo(each.slot) < (each.maxConnections ?? Infinity));
        const able = free.filter(({ slot }) => !tried.has(slot));
        const lease = balancer.pick(step, tried);
        if (isFull) expect([lease, balancer.full]).toEqual([undefined, "upstream_full"]);
        else if (able.length === 0) expect([lease, balancer.full]).toEqual([undefined, "targets_full"]);
        else {
          const fewest = Math.min(...able.map(({ slot }) => openTo(slot)));
          expect(openTo(lease!.slot)).toBe(fewest);
          expect(able.map(({ slot }) => slot)).toContain(lease!.slot);
          living.push({ worker, lease: lease! });
        }
      } else if (action < 94 && living.length > 0) {
        living.splice(random.int(0, living.length - 1), 1)[0]!.lease.release();
      } else if (action < 99) {
        rules = targets(cap(), cap(), cap());
        most = random.pick([undefined, 1, 4, 8]);
        for (const each of threads) each.update(rules, { ...health, maxConnections: most });
      } else {
        supervisor.forget(worker);
        living = living.filter((each) => each.worker !== worker);
        threads[worker] = make(worker);
      }
      expect(balancer.openInAll).toBe(living.length);
    }
  }
});
