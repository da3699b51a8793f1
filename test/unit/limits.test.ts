import { expect, test } from "bun:test";
import { ClientLease, Limits } from "../../src/state/limits.ts";
import { Random } from "../support/random.ts";

const hour = 3_600_000;

function admitted(result: ReturnType<Limits["admit"]>): ClientLease {
  if (typeof result === "string") throw new Error(result);
  return result;
}

test("clients do not pay for each other", () => {
  const limits = new Limits({ capacity: 1, fillRate: hour });
  admitted(limits.admit("alice@admin", 0));
  admitted(limits.admit("alice@ops", 0));
  expect(limits.admit("alice@admin", 0)).toBe("rate_limited");
});

test("the cap on open connections is judged before the bucket, and its refusal takes no token", () => {
  const limits = new Limits({ capacity: 2, fillRate: hour, maxConnections: 1 });
  const first = admitted(limits.admit("alice@admin", 0));
  for (let i = 0; i < 10; i++) expect(limits.admit("alice@admin", 0)).toBe("connection_limit");
  first.release();
  admitted(limits.admit("alice@admin", 0)).release();
  expect(limits.admit("alice@admin", 0)).toBe("rate_limited");
});

test("a lease released twice counts once", () => {
  const limits = new Limits({ capacity: 9, fillRate: 1, maxConnections: 2 });
  const [a] = [admitted(limits.admit("a@x", 0)), admitted(limits.admit("a@x", 0))];
  a.release();
  a.release();
  a.cancel();
  expect(limits.open("a@x")).toBe(1);
});

test("a cancelled lease gives back its token, once", () => {
  const limits = new Limits({ capacity: 1, fillRate: hour });
  const lease = admitted(limits.admit("a@x", 0));
  lease.cancel();
  lease.cancel();
  admitted(limits.admit("a@x", 0));
  expect(limits.admit("a@x", 0)).toBe("rate_limited");
});

test("a token that came back late fills the bucket no further than full", () => {
  const limits = new Limits({ capacity: 2, fillRate: 100 });
  const lease = admitted(limits.admit("a@x", 0));
  lease.cancel();
  for (let i = 0; i < 2; i++) admitted(limits.admit("a@x", 10_000));
  expect(limits.admit("a@x", 10_000)).toBe("rate_limited");
});

test("a client back at a full bucket with nothing open is forgotten", () => {
  const limits = new Limits({ capacity: 10, fillRate: 1_000 });
  const leases = Array.from({ length: 1_000 }, (_, i) => admitted(limits.admit(`user${i}@x`, 0)));
  for (const lease of leases.slice(1)) lease.release();
  limits.sweep(999);
  expect(limits.size).toBe(1_000);
  limits.sweep(1_000);
  expect(limits.size).toBe(1);
  leases[0]!.release();
  limits.sweep(1_000);
  expect(limits.size).toBe(0);
});

test("over random schedules counts are never negative or above the cap, and zero at rest", () => {
  for (let seed = 1; seed <= 100; seed++) {
    const random = new Random(seed);
    const maxConnections = random.pick([undefined, 1, 2, 5]);
    const limits = new Limits({ capacity: random.int(1, 20), fillRate: random.int(1, 30), maxConnections });
    const names = ["a@x", "b@x", "c@y"];
    const living = new Map<string, ClientLease[]>(names.map((name) => [name, []]));
    let now = 0;
    for (let step = 0; step < 500; step++) {
      const name = random.pick(names);
      const leases = living.get(name)!;
      now += random.int(0, 10);
      const action = random.int(0, 9);
      if (action < 5) {
        const result = limits.admit(name, now);
        if (typeof result !== "string") leases.push(result);
        else if (result === "connection_limit") expect(leases.length).toBe(maxConnections!);
      } else if (action < 8 && leases.length > 0) {
        const [lease] = leases.splice(random.int(0, leases.length - 1), 1);
        if (random.int(0, 3) === 0) lease!.cancel();
        lease!.release();
      } else if (action === 9) limits.sweep(now);
      for (const each of names) expect(limits.open(each)).toBe(living.get(each)!.length);
      expect(leases.length).toBeLessThanOrEqual(maxConnections ?? Infinity);
    }
    for (const leases of living.values()) for (const lease of leases) lease.release();
    for (const name of names) expect(limits.open(name)).toBe(0);
    limits.sweep(now + hour);
    expect(limits.size).toBe(0);
  }
});
