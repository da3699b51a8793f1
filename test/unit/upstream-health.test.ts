// The turns of an upstream: when it loses its last healthy target, and when the first one is back.

import { expect, test } from "bun:test";
import { Balancer, type HealthRule } from "../../src/state/balancer.ts";
import { Ledger } from "../../src/state/ledger.ts";
import { Random } from "../support/random.ts";

const rule: HealthRule = { fall: 2, slowStart: 0 };

/** One balancer for each thread, over the same ledger. */
function threads(count: number, targets: number): Balancer[] {
  const { memory } = Ledger.make({ workers: count, targets: 16, clients: 16 });
  const rules = Array.from({ length: targets }, (_, slot) => ({ slot, weight: 1, backup: false }));
  return Array.from({ length: count }, (_, i) => new Balancer(Ledger.attach(memory, i), rules, rule));
}

test("an upstream turns with its last healthy target and with the first that is back, and reports each turn once", () => {
  const [balancer] = threads(1, 2) as [Balancer];
  const turns: (boolean | undefined)[] = [];
  for (const [slot, up] of [
    [0, false],
    [1, false],
    [1, true],
    [0, true],
  ] as const) {
    balancer.mark(slot, up, 0);
    turns.push(balancer.takeHealthChange(), balancer.takeHealthChange());
  }
  expect(turns).toEqual([undefined, undefined, false, undefined, true, undefined, undefined, undefined]);
});

test("a target that is both down and ejected causes no turn until both are over", () => {
  const [balancer] = threads(1, 1) as [Balancer];
  balancer.mark(0, false, 0);
  expect(balancer.takeHealthChange()).toBe(false);
  const lease = balancer.pick(0)!;
  expect([balancer.pick(0)!.failed(1), balancer.pick(0)!.failed(1)]).toEqual([false, true]);
  expect(balancer.takeHealthChange()).toBeUndefined();
  // The target answers, but its health check has not passed yet.
  expect(lease.succeeded(2)).toBe(true);
  expect(balancer.takeHealthChange()).toBeUndefined();
  balancer.mark(0, true, 3);
  expect(balancer.takeHealthChange()).toBe(true);
});

test("a target that a reload removed causes no turn", () => {
  const [balancer] = threads(1, 2) as [Balancer];
  balancer.update([{ slot: 1, weight: 1, backup: false }], rule);
  balancer.mark(1, false, 0);
  expect(balancer.takeHealthChange()).toBe(false);
  balancer.mark(0, false, 0);
  balancer.mark(0, true, 0);
  expect(balancer.takeHealthChange()).toBeUndefined();
});

test.each(Array.from({ length: 10 }, (_, seed) => seed))(
  "an upstream's turns alternate over threads, seed %i",
  (seed) => {
    const random = new Random(seed);
    const all = threads(3, random.int(1, 3));
    const one = () => random.pick(all);
    let healthy = true;
    let turns = 0;
    for (let now = 0; now < 4_000; now++) {
      const balancer = one();
      if (random.next() < 0.3) balancer.mark(random.int(0, 2), random.next() < 0.5, now);
      else {
        const lease = balancer.pick(now)!;
        if (random.next() < 0.6) lease.failed(now);
        else lease.succeeded(now);
        lease.release();
      }
      const turn = balancer.takeHealthChange();
      if (turn !== undefined) {
        expect(turn).toBe(!healthy);
        healthy = turn;
        turns++;
      }
      expect(one().healthy).toBe(healthy);
    }
    expect(turns).toBeGreaterThan(10);
  },
);
