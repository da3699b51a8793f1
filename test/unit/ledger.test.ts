// The counts that threads share: exact when a thread dies, even in the middle of a change.

import { expect, test } from "bun:test";
import { Balancer } from "../../src/state/balancer.ts";
import { ClientTable, keyOf } from "../../src/state/client-table.ts";
import { Ledger } from "../../src/state/ledger.ts";
import { Limits } from "../../src/state/limits.ts";
import { Lock } from "../../src/state/lock.ts";
import { Layout } from "../../src/state/memory.ts";
import { small } from "../support/ledger.ts";
import { Random } from "../support/random.ts";

test("the ledger of one worker has memory of its own, that of several is shared", () => {
  const [one, two] = [small(), small({ workers: 2 })];
  expect(one.memory.buffer).toBeInstanceOf(ArrayBuffer);
  expect(one.worker).toBe(0);
  expect(two.memory.buffer).toBeInstanceOf(SharedArrayBuffer);
  expect(two.worker).toBe(-1);
  expect(Ledger.attach(two.memory, 1).worker).toBe(1);
});

test("the ledger counts connections over all workers, up to the limit", () => {
  const supervisor = small({ workers: 2 });
  const [a, b] = [Ledger.attach(supervisor.memory, 0), Ledger.attach(supervisor.memory, 1)];
  expect([a.takeConnection(2), b.takeConnection(2), a.takeConnection(2)]).toEqual([true, true, false]);
  b.giveBackConnection();
  expect(supervisor.connections()).toBe(1);
});

test("the ledger gives back what a dead worker held, and keeps what the others hold", () => {
  const supervisor = small({ workers: 2 });
  const workers = [0, 1].map((worker) => {
    const ledger = Ledger.attach(supervisor.memory, worker);
    const limits = new Limits(ledger, { capacity: 9, fillRate: 1_000 });
    const balancer = new Balancer(ledger, [{ slot: 3, weight: 1, backup: false }], { fall: 1, slowStart: 0 });
    for (let i = 0; i <= worker; i++) ledger.takeConnection(9);
    return { limits, balancer, leases: [limits.admit("a@x", 0), balancer.pick(0)] };
  });
  const { limits, balancer } = workers[0]!;
  workers[1]!.limits.admit("b@x", 0);
  expect(supervisor.connections()).toBe(3);
  expect([limits.open("a@x"), limits.open("b@x"), balancer.open(3)]).toEqual([2, 1, 2]);
  supervisor.forget(1);
  expect(supervisor.connections()).toBe(1);
  expect([limits.open("a@x"), limits.open("b@x"), balancer.open(3)]).toEqual([1, 0, 1]);
  supervisor.forget(0);
  expect(supervisor.connections()).toBe(0);
  expect([limits.open("a@x"), balancer.open(3)]).toEqual([0, 0]);
  limits.sweep(2_000);
  expect(limits.size).toBe(0);
});

test("the ledger frees the lock and corrects the totals when a worker died in the middle of a change", () => {
  const supervisor = small({ workers: 2 });
  const [a, b] = [Ledger.attach(supervisor.memory, 0), Ledger.attach(supervisor.memory, 1)];
  const limits = new Limits(a, { capacity: 1, fillRate: 1_000 });
  limits.admit("a@x", 0);
  a.targets.open.add(0, 1);
  b.lock();
  // As if the worker had stopped between changing the total and changing its own count.
  b.targets.open.total[0]!++;
  b.clients.open.total[0]!--;
  supervisor.forget(1);
  expect(supervisor.targets.open.total[0]).toBe(1);
  expect(limits.open("a@x")).toBe(1);
  expect(a.takeConnection(1)).toBe(true);
});

test("the lock of a dead worker is not taken from the worker that holds it now", () => {
  const word = new Int32Array(new SharedArrayBuffer(4));
  const [supervisor, owner] = [new Lock(word, 0), new Lock(word, 2)];
  supervisor.takeFrom(1);
  supervisor.free();
  owner.take();
  const held = word[0]!;
  expect(held).not.toBe(0);
  owner.free();
  expect(word[0]).toBe(0);
  owner.take();
  supervisor.takeFrom(2);
  expect(word[0]).not.toBe(held);
  supervisor.free();
  expect(word[0]).toBe(0);
});

test("the client table rebuilds its index and order from its rows, however damaged they are", () => {
  for (let seed = 1; seed <= 50; seed++) {
    const random = new Random(seed);
    const { table, arrays } = openTable(32);
    const names = Array.from({ length: random.int(1, 32) }, (_, i) => `user${i}@${seed}`);
    const rows = new Map(names.map((name) => [name, table.insert(keyOf(name), keyOf("*@x"))]));
    for (let i = random.int(0, names.length - 1); i > 0; i--) {
      const place = random.int(0, table.size - 1);
      for (const [name, row] of rows) if (row === table.rowAt(place)) rows.delete(name);
      table.removeAt(place);
    }
    const [counters, order, index] = [arrays.at(0)!, arrays.at(-2)!, arrays.at(-1)!];
    counters[0] = random.int(0, 32);
    for (const broken of [order.subarray(0, counters[1]), index]) {
      for (let i = 0; i < broken.length; i++) broken[i] = random.int(0, 31);
    }
    table.forget(1);
    expect(table.size).toBe(rows.size);
    for (const name of names) expect(table.find(keyOf(name))).toBe(rows.get(name) ?? -1);
    while (!table.full) {
      const name = `new${table.size}@${seed}`;
      rows.set(name, table.insert(keyOf(name), keyOf("*@x")));
    }
    expect(new Set(rows.values()).size).toBe(32);
    for (const [name, row] of rows) expect(table.find(keyOf(name))).toBe(row);
  }
});

/** A table in memory of its own, and its arrays of whole numbers in the order of their allocation. */
function openTable(rows: number): { table: ClientTable; arrays: Int32Array[] } {
  const arrays: Int32Array[] = [];
  class Watched extends Layout {
    override int32(length: number): Int32Array {
      arrays.push(super.int32(length));
      return arrays.at(-1)!;
    }
  }
  return { table: new ClientTable(new Watched(new ArrayBuffer(1e5)), rows, 2, 0), arrays };
}
