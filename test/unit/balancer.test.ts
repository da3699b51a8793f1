import { expect, test } from "bun:test";
import { Balancer, PENALTY, type TargetLease } from "../../src/state/balancer.ts";
import { Random } from "../support/random.ts";

test("simultaneous choices spread evenly", () => {
  const balancer = new Balancer(4);
  for (let i = 0; i < 40; i++) balancer.pick(0);
  expect(balancer.open()).toEqual([10, 10, 10, 10]);
});

test("ties are broken in turn", () => {
  const balancer = new Balancer(3);
  const order = Array.from({ length: 7 }, () => {
    const lease = balancer.pick(0)!;
    lease.release();
    return lease.index;
  });
  expect(order).toEqual([0, 1, 2, 0, 1, 2, 0]);
});

test("the fewest open come first", () => {
  const balancer = new Balancer(3);
  const leases = Array.from({ length: 9 }, () => balancer.pick(0)!);
  for (const lease of leases) if (lease.index === 1) lease.release();
  expect([balancer.pick(0)!.index, balancer.pick(0)!.index, balancer.pick(0)!.index]).toEqual([1, 1, 1]);
});

test("a target released twice counts once", () => {
  const balancer = new Balancer(1);
  const [first] = [balancer.pick(0)!, balancer.pick(0)!];
  first.release();
  first.release();
  first.failed(0);
  expect(balancer.open()).toEqual([1]);
});

test("what has been tried is not offered again, and in the end nothing is", () => {
  const balancer = new Balancer(3);
  const tried = new Set<number>();
  for (let i = 0; i < 3; i++) {
    const lease = balancer.pick(0, tried)!;
    expect(tried.has(lease.index)).toBe(false);
    tried.add(lease.index);
    lease.failed(0);
  }
  expect(balancer.pick(0, tried)).toBeUndefined();
  expect(balancer.open()).toEqual([0, 0, 0]);
});

test("a target that failed is tried last for a while, however few it has open", () => {
  const balancer = new Balancer(2);
  balancer.pick(0)!.failed(0);
  for (let i = 0; i < 5; i++) expect(balancer.pick(PENALTY - 1)!.index).toBe(1);
  expect(balancer.pick(PENALTY - 1, new Set([1]))!.index).toBe(0);
});

test("after that while one connection finds out, and the others wait for what it finds", () => {
  const balancer = new Balancer(2);
  balancer.pick(0)!.failed(0);
  const busy = [balancer.pick(1)!, balancer.pick(1)!];
  expect(busy.map(({ index }) => index)).toEqual([1, 1]);
  const probe = balancer.pick(PENALTY)!;
  expect(probe.index).toBe(0);
  expect(balancer.pick(PENALTY)!.index).toBe(1);
  probe.succeeded();
  expect(balancer.pick(PENALTY)!.index).toBe(0);
});

test("where all have failed, all are still tried", () => {
  const balancer = new Balancer(2);
  const [a, b] = [balancer.pick(0)!, balancer.pick(0)!];
  a.failed(0);
  b.failed(0);
  expect(new Set([balancer.pick(1)!.index, balancer.pick(1)!.index])).toEqual(new Set([0, 1]));
});

test("over random schedules counts are those of the living leases, and zero at rest", () => {
  for (let seed = 1; seed <= 100; seed++) {
    const random = new Random(seed);
    const count = random.int(1, 6);
    const balancer = new Balancer(count);
    const living: TargetLease[] = [];
    let now = 0;
    for (let step = 0; step < 500; step++) {
      now += random.int(0, PENALTY / 3);
      if (living.length === 0 || random.int(0, 1) === 0) {
        const before = balancer.open();
        const tried = new Set(random.int(0, 3) === 0 ? [random.int(0, count - 1)] : []);
        const lease = balancer.pick(now, tried);
        if (lease === undefined) expect(tried.size).toBe(count);
        else {
          expect(balancer.open()[lease.index]).toBe(before[lease.index]! + 1);
          living.push(lease);
        }
      } else {
        const [lease] = living.splice(random.int(0, living.length - 1), 1);
        const action = random.int(0, 2);
        if (action === 0) lease!.failed(now);
        if (action === 1) lease!.succeeded();
        lease!.release();
      }
      const expected = Array.from(
        { length: count },
        (_, i) => living.filter(({ index }) => index === i).length,
      );
      expect(balancer.open()).toEqual(expected);
    }
    for (const lease of living) lease.release();
    expect(balancer.open()).toEqual(Array(count).fill(0));
  }
});

test("with every target in good standing the choice is always one of the least", () => {
  for (let seed = 1; seed <= 50; seed++) {
    const random = new Random(seed);
    const balancer = new Balancer(random.int(1, 6));
    const living: TargetLease[] = [];
    for (let step = 0; step < 300; step++) {
      if (living.length > 0 && random.int(0, 2) === 0) {
        living.splice(random.int(0, living.length - 1), 1)[0]!.release();
      } else {
        const before = balancer.open();
        const lease = balancer.pick(0)!;
        expect(before[lease.index]).toBe(Math.min(...before));
        living.push(lease);
      }
    }
  }
});
