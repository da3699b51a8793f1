// Each client's token bucket and open connections, and the bounded table of clients. Time is an argument.

import { expect, test } from "bun:test";
import { Ledger } from "../../src/state/ledger.ts";
import { ClientLease, Limits } from "../../src/state/limits.ts";
import { changeRule, returnToken, takeToken } from "../../src/state/token-bucket.ts";
import { small } from "../support/ledger.ts";
import { Random } from "../support/random.ts";

const hour = 3_600_000;

function admitted(result: ReturnType<Limits["admit"]>): ClientLease {
  if (typeof result === "string") throw new Error(result);
  return result;
}

test("each client has a token bucket of its own", () => {
  const limits = new Limits(small(), { capacity: 1, fillRate: hour });
  admitted(limits.admit("alice@admin", 0));
  admitted(limits.admit("alice@ops", 0));
  expect(limits.admit("alice@admin", 0)).toBe("rate_limited");
});

test("the cap on open connections is checked before the bucket, and its refusal takes no token", () => {
  const limits = new Limits(small(), { capacity: 2, fillRate: hour, maxConnections: 1 });
  const first = admitted(limits.admit("alice@admin", 0));
  for (let i = 0; i < 10; i++) expect(limits.admit("alice@admin", 0)).toBe("connection_limit");
  first.release();
  admitted(limits.admit("alice@admin", 0)).release();
  expect(limits.admit("alice@admin", 0)).toBe("rate_limited");
});

test("a connection that is open already counts, over any limit, and takes no token", () => {
  const limits = new Limits(small({ clients: 1 }), { capacity: 1, fillRate: hour, maxConnections: 2 });
  const leases = Array.from({ length: 3 }, () => limits.adopt("a@x", 0)!);
  expect(limits.open("a@x")).toBe(3);
  expect(limits.admit("a@x", 0)).toBe("connection_limit");
  expect(limits.adopt("b@x", 0)).toBeUndefined();
  for (const lease of leases) lease.release();
  expect(limits.open("a@x")).toBe(0);
  admitted(limits.admit("a@x", 0));
  expect(limits.admit("a@x", 0)).toBe("rate_limited");
});

test("a client lease that is released twice counts once", () => {
  const limits = new Limits(small(), { capacity: 9, fillRate: 1, maxConnections: 2 });
  const [a] = [admitted(limits.admit("a@x", 0)), admitted(limits.admit("a@x", 0))];
  a.release();
  a.release();
  a.cancel();
  expect(limits.open("a@x")).toBe(1);
});

test("a cancelled client lease gives back its token, once", () => {
  const limits = new Limits(small(), { capacity: 1, fillRate: hour });
  const lease = admitted(limits.admit("a@x", 0));
  lease.cancel();
  lease.cancel();
  admitted(limits.admit("a@x", 0));
  expect(limits.admit("a@x", 0)).toBe("rate_limited");
});

test("a token that is given back late fills the bucket no further than its capacity", () => {
  const limits = new Limits(small(), { capacity: 2, fillRate: 100 });
  const lease = admitted(limits.admit("a@x", 0));
  lease.cancel();
  for (let i = 0; i < 2; i++) admitted(limits.admit("a@x", 10_000));
  expect(limits.admit("a@x", 10_000)).toBe("rate_limited");
});

test("a client with a full bucket and nothing open is forgotten", () => {
  const limits = new Limits(small(), { capacity: 10, fillRate: 1_000 });
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

test("the counts of clients are never negative or above the cap over random schedules, and zero at rest", () => {
  for (let seed = 1; seed <= 100; seed++) {
    const random = new Random(seed);
    const maxConnections = random.pick([undefined, 1, 2, 5]);
    const limits = new Limits(small(), {
      capacity: random.int(1, 20),
      fillRate: random.int(1, 30),
      maxConnections,
    });
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

test("a new client is refused when the table is full, known clients are not", () => {
  const limits = new Limits(small({ clients: 3 }), { capacity: 2, fillRate: 100 });
  const leases = ["a@x", "b@x", "c@x"].map((name) => admitted(limits.admit(name, 0)));
  expect(limits.admit("d@x", 0)).toBe("overloaded");
  expect(limits.open("d@x")).toBe(0);
  admitted(limits.admit("a@x", 0)).release();
  leases[1]!.release();
  expect(limits.admit("d@x", 99)).toBe("overloaded");
  expect(limits.size).toBe(3);
  admitted(limits.admit("d@x", 100));
  expect(limits.open("b@x")).toBe(0);
  expect(limits.open("c@x")).toBe(1);
});

test("a large full table is not swept again for every new client in a flood", () => {
  const clients = 3 * 4_096;
  const limits = new Limits(small({ clients }), { capacity: 1, fillRate: 1 });
  const leases = Array.from({ length: clients }, (_, i) => admitted(limits.admit(`user${i}@x`, 0)));
  // This refusal sweeps the table. The next sweep of so large a table may follow after 3 ms at the earliest.
  expect(limits.admit("late@x", 10)).toBe("overloaded");
  leases[0]!.release();
  expect(limits.admit("late@x", 12)).toBe("overloaded");
  admitted(limits.admit("late@x", 13));
});

test.each([
  ["faster", { capacity: 4, fillRate: 100 }, 1, [1, 100, 200, 300]],
  ["slower", { capacity: 4, fillRate: 5_000 }, 1, [1, 5_000, 10_000, 15_000]],
  ["a larger bucket", { capacity: 6, fillRate: 1_000 }, 3, [3, 1_000, 2_000, 3_000]],
  ["a smaller bucket", { capacity: 2, fillRate: 1_000 }, 0, [0, 1_000, 2_000]],
])("a new rule keeps the number of missing tokens, up to its capacity: %s", (_, rule, left, times) => {
  const limits = new Limits(small(), { capacity: 4, fillRate: 1_000 });
  for (let i = 0; i < 3; i++) admitted(limits.admit("a@x", 0));
  limits.setRule(rule, 0);
  for (let i = 0; i < left; i++) admitted(limits.admit("a@x", 0));
  expect(limits.admit("a@x", 0)).toBe("rate_limited");
  for (const time of times.slice(1)) {
    expect(limits.admit("a@x", time - 1)).toBe("rate_limited");
    admitted(limits.admit("a@x", time));
  }
});

test("a new rule keeps a full bucket full, and open connections counted", () => {
  const limits = new Limits(small(), { capacity: 1, fillRate: 10 });
  const lease = admitted(limits.admit("a@x", 0));
  limits.setRule({ capacity: 3, fillRate: hour, maxConnections: 3 }, 10);
  for (let i = 0; i < 2; i++) admitted(limits.admit("a@x", 10));
  expect(limits.admit("a@x", 10)).toBe("connection_limit");
  lease.release();
  admitted(limits.admit("a@x", 10));
  limits.setRule({ capacity: 3, fillRate: hour }, 10);
  expect(limits.admit("a@x", 10)).toBe("rate_limited");
});

test("a token that is given back counts by the rule in force", () => {
  const limits = new Limits(small(), { capacity: 2, fillRate: 1_000 });
  const lease = admitted(limits.admit("a@x", 0));
  admitted(limits.admit("a@x", 0));
  limits.setRule({ capacity: 2, fillRate: 10 }, 0);
  lease.cancel();
  admitted(limits.admit("a@x", 0));
  expect(limits.admit("a@x", 9)).toBe("rate_limited");
  admitted(limits.admit("a@x", 10));
});

test("a new rule that several threads set changes the buckets once", () => {
  const supervisor = small({ workers: 2 });
  const rule = { capacity: 2, fillRate: 1_000 };
  const workers = [0, 1].map((worker) => new Limits(Ledger.attach(supervisor.memory, worker), rule));
  for (const limits of workers) admitted(limits.admit("a@x", 0));
  for (const limits of workers) limits.setRule({ capacity: 2, fillRate: 100 }, 0);
  for (const limits of workers) expect(limits.admit("a@x", 99)).toBe("rate_limited");
  admitted(workers[1]!.admit("a@x", 100));
  // A thread that starts later uses the rule in force, whatever its own is.
  const late = new Limits(Ledger.attach(supervisor.memory, 0), rule);
  expect(late.admit("a@x", 199)).toBe("rate_limited");
  admitted(late.admit("a@x", 200));
});

test("the client table behaves as a Map over random schedules, however full it is", () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = new Random(seed);
    const clients = random.pick([1, 2, 7, 16, 40]);
    const supervisor = small({ workers: 3, clients });
    const names = Array.from({ length: 60 }, (_, i) => `user${i}@${seed}`);
    let rule = { capacity: random.int(1, 3), fillRate: random.int(1, 60) };
    const ledgers = [0, 1, 2].map((worker) => Ledger.attach(supervisor.memory, worker));
    const limits = ledgers.map((ledger) => new Limits(ledger, rule));
    const model = new Map<string, { fullAt: number; open: number }>();
    let living: { name: string; worker: number; lease: ClientLease }[] = [];
    const sweep = () => {
      for (const [name, { fullAt, open }] of model) if (open === 0 && fullAt <= now) model.delete(name);
    };
    let now = 0;
    for (let step = 0; step < 600; step++) {
      // At least one: a full table is swept at most once a millisecond.
      now += random.int(1, 10);
      const worker = random.int(0, 2);
      const name = random.pick(names);
      const action = random.int(0, 99);
      if (action < 55) {
        const known = model.get(name);
        const fullAt = takeToken(known?.fullAt ?? 0, now, rule);
        if (fullAt !== undefined && known === undefined && model.size === clients) sweep();
        const lease = limits[worker]!.admit(name, now);
        if (fullAt === undefined) expect(lease).toBe("rate_limited");
        else if (known === undefined && model.size === clients) expect(lease).toBe("overloaded");
        else {
          living.push({ name, worker, lease: admitted(lease) });
          model.set(name, { fullAt, open: (known?.open ?? 0) + 1 });
        }
      } else if (action < 90 && living.length > 0) {
        const { name, lease } = living.splice(random.int(0, living.length - 1), 1)[0]!;
        const client = model.get(name)!;
        client.open--;
        if (random.int(0, 2) === 0) {
          client.fullAt = returnToken(client.fullAt, rule);
          lease.cancel();
        }
        lease.release();
      } else if (action < 96) {
        sweep();
        limits[worker]!.sweep(now);
      } else if (action < 98) {
        const next = { capacity: random.int(1, 3), fillRate: random.int(1, 60) };
        for (const client of model.values()) client.fullAt = changeRule(client.fullAt, now, rule, next);
        for (const each of limits) each.setRule(next, now);
        rule = next;
      } else {
        for (const each of living) if (each.worker === worker) model.get(each.name)!.open--;
        living = living.filter((each) => each.worker !== worker);
        supervisor.forget(worker);
      }
      expect(limits[worker]!.size).toBe(model.size);
      for (const each of [name, random.pick(names), random.pick(names)])
        expect(limits[worker]!.open(each)).toBe(model.get(each)?.open ?? 0);
    }
    for (const { lease } of living) lease.release();
    limits[0]!.sweep(now + hour);
    expect(limits[0]!.size).toBe(0);
  }
});

test("an unlimited rate still counts and caps open connections, and forgets clients", () => {
  const limits = new Limits(small(), { capacity: Infinity, fillRate: hour, maxConnections: 100 });
  const leases = Array.from({ length: 100 }, () => admitted(limits.admit("a@x", 0)));
  expect(limits.admit("a@x", 0)).toBe("connection_limit");
  leases.pop()!.cancel();
  for (const lease of leases) lease.release();
  limits.sweep(0);
  expect(limits.size).toBe(0);
});

test("a rate limit that every thread switches off and on again begins with full buckets", () => {
  const ledger = Ledger.make({ workers: 2, targets: 1, clients: 16 });
  const rule = { capacity: 2, fillRate: hour };
  const [one, two] = [0, 1].map((worker) => new Limits(Ledger.attach(ledger.memory, worker), rule));
  for (let i = 0; i < 2; i++) admitted(one!.admit("a@x", 0));
  expect(two!.admit("a@x", 0)).toBe("rate_limited");
  for (const each of [one!, two!]) each.setRule({ capacity: Infinity, fillRate: hour }, 0);
  for (let i = 0; i < 50; i++) admitted((i % 2 ? one! : two!).admit("a@x", 0));
  for (const each of [two!, one!]) each.setRule(rule, 0);
  admitted(one!.admit("a@x", 0));
  admitted(two!.admit("a@x", 0));
  expect(one!.admit("a@x", 0)).toBe("rate_limited");
  expect(one!.open("a@x")).toBe(54);
});
