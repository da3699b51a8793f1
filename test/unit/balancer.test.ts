// Which target gets a connection: least connections, weights, backups, failures, slow start. Time is an argument.

import { expect, test } from "bun:test";
import { Balancer, PENALTY_MS, type HealthRule, type TargetRule } from "../../src/state/balancer.ts";
import { Ledger } from "../../src/state/ledger.ts";
import type { TargetLease } from "../../src/state/target-lease.ts";
import { small } from "../support/ledger.ts";
import { Random } from "../support/random.ts";

const health: HealthRule = { fall: 3, slowStart: 0 };
/** Later than any penalty. */
const later = 1e6;

function rules(targets: readonly Partial<TargetRule>[]): TargetRule[] {
  return targets.map((target, slot) => ({ slot, weight: 1, backup: false, ...target }));
}

/** A balancer of `count` equal targets, in slots 0, 1, 2 and so on. */
function equal(count: number, rule = health): Balancer {
  return new Balancer(small(), rules(Array(count).fill({})), rule);
}

function of(targets: readonly Partial<TargetRule>[], rule = health): Balancer {
  return new Balancer(small(), rules(targets), rule);
}

function open(balancer: Balancer, count: number): number[] {
  return Array.from({ length: count }, (_, slot) => balancer.open(slot));
}

/** Lets a target fail `times` times in a row, and returns what each call of `failed` returned. */
function fail(balancer: Balancer, slot: number, times: number, now: number, count: number): boolean[] {
  const others = new Set(Array.from({ length: count }, (_, i) => i).filter((i) => i !== slot));
  return Array.from({ length: times }, () => balancer.pick(now, others)!.failed(now));
}

test("the balancer spreads simultaneous connections evenly", () => {
  const balancer = equal(4);
  for (let i = 0; i < 40; i++) balancer.pick(0);
  expect(open(balancer, 4)).toEqual([10, 10, 10, 10]);
});

test("the balancer breaks ties in turn", () => {
  const balancer = equal(3);
  const order = Array.from({ length: 7 }, () => {
    const lease = balancer.pick(0)!;
    lease.release();
    return lease.slot;
  });
  expect(order).toEqual([0, 1, 2, 0, 1, 2, 0]);
});

test("the balancer picks the target with the fewest open connections", () => {
  const balancer = equal(3);
  const leases = Array.from({ length: 9 }, () => balancer.pick(0)!);
  for (const lease of leases) if (lease.slot === 1) lease.release();
  expect([balancer.pick(0)!.slot, balancer.pick(0)!.slot, balancer.pick(0)!.slot]).toEqual([1, 1, 1]);
});

test("a target lease that is released twice counts once", () => {
  const balancer = equal(1);
  const [first] = [balancer.pick(0)!, balancer.pick(0)!];
  first.release();
  first.release();
  first.failed(0);
  expect(open(balancer, 1)).toEqual([1]);
});

test("the balancer never offers a target that was tried, and nothing when all were", () => {
  const balancer = equal(3);
  const tried = new Set<number>();
  for (let i = 0; i < 3; i++) {
    const lease = balancer.pick(0, tried)!;
    expect(tried.has(lease.slot)).toBe(false);
    tried.add(lease.slot);
    lease.failed(0);
  }
  expect(balancer.pick(0, tried)).toBeUndefined();
  expect(open(balancer, 3)).toEqual([0, 0, 0]);
});

test("a target that failed is tried last for a while, however few connections it has", () => {
  const balancer = equal(2);
  balancer.pick(0)!.failed(0);
  for (let i = 0; i < 5; i++) expect(balancer.pick(PENALTY_MS - 1)!.slot).toBe(1);
  expect(balancer.pick(PENALTY_MS - 1, new Set([1]))!.slot).toBe(0);
});

test("a target whose penalty is over gets one connection, and more only once that one succeeds", () => {
  const balancer = equal(2);
  balancer.pick(0)!.failed(0);
  const busy = [balancer.pick(1)!, balancer.pick(1)!];
  expect(busy.map(({ slot }) => slot)).toEqual([1, 1]);
  const probe = balancer.pick(PENALTY_MS)!;
  expect(probe.slot).toBe(0);
  expect(balancer.pick(PENALTY_MS)!.slot).toBe(1);
  probe.succeeded(PENALTY_MS);
  expect(balancer.pick(PENALTY_MS)!.slot).toBe(0);
});

test("the balancer still tries all targets when all have failed", () => {
  const balancer = equal(2);
  const [a, b] = [balancer.pick(0)!, balancer.pick(0)!];
  a.failed(0);
  b.failed(0);
  expect(new Set([balancer.pick(1)!.slot, balancer.pick(1)!.slot])).toEqual(new Set([0, 1]));
});

test("the balancer distributes connections by weight", () => {
  const balancer = of([{ weight: 1 }, { weight: 2 }, { weight: 5 }]);
  for (let i = 0; i < 80; i++) balancer.pick(0);
  expect(open(balancer, 3)).toEqual([10, 20, 50]);
});

test("a backup gets connections only while no other target is in good standing", () => {
  const balancer = of([{ backup: true }, {}, {}]);
  for (let i = 0; i < 10; i++) expect(balancer.pick(0)!.slot).not.toBe(0);
  fail(balancer, 1, 1, 0, 3);
  for (let i = 0; i < 10; i++) expect(balancer.pick(1)!.slot).toBe(2);
  fail(balancer, 2, 1, 1, 3);
  for (let i = 0; i < 10; i++) expect(balancer.pick(1)!.slot).toBe(0);
  expect(balancer.pick(later)!.slot).not.toBe(0);
});

test("the balancer tries the target with the fewest failures first when all fail, and backups after the others", () => {
  const balancer = of([{}, {}, { backup: true }, {}, { backup: true }]);
  fail(balancer, 0, 2, 0, 5);
  fail(balancer, 1, 1, 0, 5);
  fail(balancer, 2, 1, 0, 5);
  balancer.mark(3, false, 0);
  fail(balancer, 4, 7, 0, 5);
  const tried = new Set<number>();
  for (let lease = balancer.pick(1, tried); lease; lease = balancer.pick(1, tried)) tried.add(lease.slot);
  // One failure; one failure, but a backup; two; seven; checked down.
  expect([...tried]).toEqual([1, 2, 0, 4, 3]);
});

test("a target is ejected after `fall` failures in a row, and only the last of them reports it", () => {
  const balancer = equal(2);
  expect(fail(balancer, 0, 2, 0, 2)).toEqual([false, false]);
  expect(balancer.health(0, 0)).toBe("suspect");
  expect(balancer.health(0, PENALTY_MS)).toBe("up");
  expect(fail(balancer, 0, 3, 0, 2)).toEqual([true, false, false]);
  expect(balancer.health(0, later)).toBe("ejected");
  expect(balancer.health(1, 0)).toBe("up");
});

test("a target that answers has its failures cleared, and its return is reported once", () => {
  const balancer = equal(1);
  fail(balancer, 0, 2, 0, 1);
  expect(balancer.pick(0)!.succeeded(0)).toBe(false);
  expect(fail(balancer, 0, 3, 0, 1)).toEqual([false, false, true]);
  const [lease, other] = [balancer.pick(0)!, balancer.pick(0)!];
  expect(lease.succeeded(0)).toBe(true);
  expect(lease.succeeded(0)).toBe(false);
  expect(other.succeeded(0)).toBe(false);
  expect(balancer.health(0, 0)).toBe("up");
});

test("a target lease that is over changes nothing any more", () => {
  const balancer = equal(1, { fall: 1, slowStart: 0 });
  const [released, failed] = [balancer.pick(0)!, balancer.pick(0)!];
  released.release();
  expect(released.failed(0)).toBe(false);
  expect(balancer.health(0, 0)).toBe("up");
  expect(failed.failed(0)).toBe(true);
  expect(failed.failed(0)).toBe(false);
  for (const lease of [released, failed]) expect(lease.succeeded(0)).toBe(false);
  expect(balancer.health(0, 0)).toBe("ejected");
  expect(open(balancer, 1)).toEqual([0]);
});

test.each([
  [1, PENALTY_MS],
  [2, PENALTY_MS],
  [3, PENALTY_MS],
  [4, 2 * PENALTY_MS],
  [5, 4 * PENALTY_MS],
  [7, 16 * PENALTY_MS],
  [8, 60_000],
  [5_000, 60_000],
])("a target with %d failures in a row is tried last for %d ms", (times, penalty) => {
  const balancer = equal(2);
  fail(balancer, 0, times, 0, 2);
  balancer.pick(0);
  expect(balancer.pick(penalty - 1)!.slot).toBe(1);
  expect(balancer.pick(penalty)!.slot).toBe(0);
  // It is tried last for as long again while that connection is being dialled.
  expect(balancer.pick(2 * penalty - 1)!.slot).toBe(1);
  expect(balancer.pick(2 * penalty)!.slot).toBe(0);
});

test("a target that comes back grows from a tenth of its weight to all of it", () => {
  const balancer = equal(2, { fall: 1, slowStart: 1_000 });
  fail(balancer, 0, 1, 0, 2);
  const leases = Array.from({ length: 9 }, () => balancer.pick(0)!);
  const probe = balancer.pick(0, new Set([1]))!;
  expect(probe.succeeded(0)).toBe(true);
  expect(balancer.health(0, 999)).toBe("starting");
  probe.release();
  // At a tenth of its weight, one connection counts like ten of the other target's.
  expect(balancer.pick(0)!.slot).toBe(0);
  expect(balancer.pick(0)!.slot).toBe(1);
  expect(open(balancer, 2)).toEqual([1, 10]);
  // At 0.55 of its weight, 6 connections count like slightly less than 11; at full weight they count the same.
  while (balancer.open(0) < 6) expect(balancer.pick(500)!.slot).toBe(0);
  expect(balancer.pick(500)!.slot).toBe(1);
  expect(balancer.health(0, 1_000)).toBe("up");
  while (balancer.open(0) < 11) expect(balancer.pick(1_000)!.slot).toBe(0);
  expect(open(balancer, 2)).toEqual([11, 11]);
  for (const lease of leases) lease.release();
});

test("an ejected target's outage does not grow by failures of connections that were already being dialled", () => {
  const balancer = equal(1, { fall: 1, slowStart: 0 });
  const together = Array.from({ length: 8 }, () => balancer.pick(0)!);
  expect(together.map((lease) => lease.failed(10))).toEqual([true, ...Array<boolean>(7).fill(false)]);
  expect(balancer.health(0, 10 + PENALTY_MS - 1)).toBe("ejected");
  const second = equal(2, { fall: 1, slowStart: 0 });
  const all = Array.from({ length: 16 }, () => second.pick(0)!);
  for (const lease of all.filter(({ slot }) => slot === 0)) lease.failed(10);
  // The target is out for the shortest time, and is then tried again.
  expect(second.pick(10 + PENALTY_MS)!.slot).toBe(0);
});

test("a health check reports a change once; coming up clears failures and begins the slow start", () => {
  const balancer = equal(2, { fall: 1, slowStart: 1_000 });
  expect(balancer.mark(0, true, 0)).toBe(false);
  expect(balancer.health(0, 0)).toBe("up");
  expect([balancer.mark(0, false, 0), balancer.mark(0, false, 0)]).toEqual([true, false]);
  expect(balancer.health(0, later)).toBe("down");
  fail(balancer, 0, 1, 0, 2);
  for (let i = 0; i < 9; i++) expect(balancer.pick(later)!.slot).toBe(1);
  expect([balancer.mark(0, true, later), balancer.mark(0, true, later)]).toEqual([true, false]);
  expect(balancer.health(0, later)).toBe("starting");
  expect(balancer.health(0, later + 1_000)).toBe("up");
});

test("a target that its health check found down stays down when a connection to it succeeds", () => {
  const balancer = equal(1, { fall: 1, slowStart: 0 });
  balancer.mark(0, false, 0);
  balancer.pick(0)!.succeeded(0);
  expect(balancer.health(0, 0)).toBe("down");
});

test("a health check that succeeds does not bring back a target that connections cannot reach", () => {
  const balancer = equal(1, { fall: 1, slowStart: 0 });
  fail(balancer, 0, 1, 0, 1);
  expect(balancer.mark(0, true, 0)).toBe(false);
  expect(balancer.health(0, 0)).toBe("ejected");
});

test("the balancer keeps a target's state over an update, and leases of removed targets stay valid", () => {
  const balancer = equal(2);
  const [gone, stays] = [balancer.pick(0)!, balancer.pick(0)!];
  fail(balancer, 1, 1, 0, 2);
  balancer.update(rules([{ slot: 1 }, { slot: 5 }]), health);
  for (let i = 0; i < 3; i++) expect(balancer.pick(1)!.slot).toBe(5);
  expect(gone.failed(1)).toBe(false);
  stays.release();
  expect(open(balancer, 6)).toEqual([0, 0, 0, 0, 0, 3]);
});

test("balancers in several threads share connections, failures, turns and health checks", () => {
  const supervisor = small({ workers: 2 });
  const targets = rules([{}, {}]);
  const [a, b] = [0, 1].map(
    (worker) => new Balancer(Ledger.attach(supervisor.memory, worker), targets, health),
  ) as [Balancer, Balancer];
  expect([a, b, a, b].map((each) => each.pick(0)!.slot)).toEqual([0, 1, 0, 1]);
  expect(open(b, 2)).toEqual([2, 2]);
  fail(a, 0, 2, 0, 2);
  expect(fail(b, 0, 1, 0, 2)).toEqual([true]);
  expect(a.health(0, 0)).toBe("ejected");
  expect(new Balancer(supervisor, targets, health).mark(1, false, 0)).toBe(true);
  expect(a.health(1, 0)).toBe("down");
});

test("the balancer's counts equal the open leases over random schedules, and are zero at rest", () => {
  for (let seed = 1; seed <= 100; seed++) {
    const random = new Random(seed);
    const count = random.int(1, 6);
    const rule = { fall: random.int(1, 3), slowStart: random.pick([0, 5_000]) };
    const balancer = of(
      Array.from({ length: count }, () => ({ weight: random.int(1, 4), backup: random.int(0, 3) === 0 })),
      rule,
    );
    const living: TargetLease[] = [];
    let now = 0;
    for (let step = 0; step < 500; step++) {
      now += random.int(0, PENALTY_MS / 3);
      if (random.int(0, 9) === 0) balancer.mark(random.int(0, count - 1), random.int(0, 1) === 0, now);
      if (living.length === 0 || random.int(0, 1) === 0) {
        const before = open(balancer, count);
        const tried = new Set(random.int(0, 3) === 0 ? [random.int(0, count - 1)] : []);
        const lease = balancer.pick(now, tried);
        if (lease === undefined) expect(tried.size).toBe(count);
        else {
          expect(tried.has(lease.slot)).toBe(false);
          expect(balancer.open(lease.slot)).toBe(before[lease.slot]! + 1);
          living.push(lease);
        }
      } else {
        const [lease] = living.splice(random.int(0, living.length - 1), 1) as [TargetLease];
        const action = random.int(0, 2);
        const wasOut = balancer.health(lease.slot, now) === "ejected";
        const wasDown = balancer.health(lease.slot, now) === "down";
        const changed =
          action === 0 ? lease.failed(now) : action === 1 ? lease.succeeded(now) : lease.release();
        const isOut = balancer.health(lease.slot, now) === "ejected";
        if (!wasDown) expect(changed ?? false).toBe(wasOut !== isOut);
        lease.release();
      }
      const expected = Array.from(
        { length: count },
        (_, i) => living.filter(({ slot }) => slot === i).length,
      );
      expect(open(balancer, count)).toEqual(expected);
    }
    for (const lease of living) lease.release();
    expect(open(balancer, count)).toEqual(Array(count).fill(0));
  }
});

test("the balancer always picks one of the least loaded targets while all are healthy", () => {
  for (let seed = 1; seed <= 50; seed++) {
    const random = new Random(seed);
    const count = random.int(1, 6);
    const weights = Array.from({ length: count }, () => (seed % 2 === 0 ? 1 : random.int(1, 9)));
    const balancer = of(weights.map((weight) => ({ weight })));
    const living: TargetLease[] = [];
    for (let step = 0; step < 300; step++) {
      if (living.length > 0 && random.int(0, 2) === 0) {
        living.splice(random.int(0, living.length - 1), 1)[0]!.release();
      } else {
        const before = open(balancer, count).map((each, slot) => each / weights[slot]!);
        const lease = balancer.pick(0)!;
        expect(before[lease.slot]).toBe(Math.min(...before));
        living.push(lease);
      }
    }
  }
});
