// The shared state under real threads, which single-threaded tests cannot cover.

import { expect, test } from "bun:test";
import { Balancer } from "../../src/state/balancer.ts";
import { Ledger } from "../../src/state/ledger.ts";
import { Limits } from "../../src/state/limits.ts";
import { CLIENTS, FLAG, MAX, RULE, type HammerOrder, type HammerReport } from "../support/hammer.ts";

const THREADS = 3;

function start(order: HammerOrder): Worker {
  const thread = new Worker(new URL("../support/hammer.ts", import.meta.url));
  thread.postMessage(order);
  return thread;
}

function next<T>(thread: Worker): Promise<T> {
  return new Promise((resolve, reject) => {
    thread.addEventListener("message", ({ data }) => resolve(data as T), { once: true });
    thread.addEventListener("error", ({ message }) => reject(new Error(message)), { once: true });
  });
}

async function end(thread: Worker): Promise<void> {
  const closed = new Promise((resolve) => thread.addEventListener("close", resolve, { once: true }));
  thread.terminate();
  await closed;
}

/** Waits until a thread has done `count` more steps. */
async function steps(flags: Int32Array, worker: number, count: number): Promise<void> {
  const until = Atomics.load(flags, FLAG.steps + worker) + count;
  while (Atomics.load(flags, FLAG.steps + worker) < until) await Bun.sleep(1);
}

test("the ledger's totals are exact over threads, some of which are terminated in the middle", async () => {
  const ledger = Ledger.make({ workers: THREADS, targets: MAX.targets, clients: MAX.clients });
  const flags = new Int32Array(new SharedArrayBuffer(4 * (FLAG.steps + THREADS)));
  const order = (worker: number): HammerOrder => ({ memory: ledger.memory, worker, flags });
  const threads = Array.from({ length: THREADS }, (_, worker) => start(order(worker)));
  const limits = new Limits(ledger, RULE);
  const balancer = new Balancer(ledger, [], { fall: 3, slowStart: 0 });
  for (let worker = 0; worker < THREADS; worker++) await steps(flags, worker, 200);

  for (const victim of [1, 0, 1]) {
    await end(threads[victim]!);
    ledger.forget(victim);
    // If the victim held the lock, the other threads go on now.
    await steps(flags, 2, 200);
    threads[victim] = start(order(victim));
    await steps(flags, victim, 200);
  }
  await end(threads[2]!);
  ledger.forget(2);
  const living = threads.slice(0, 2);
  const reports = living.map((thread) => next<HammerReport>(thread));
  Atomics.store(flags, FLAG.stop, 1);
  const held = await Promise.all(reports);

  const sum = (of: (report: HammerReport) => number): number => held.reduce((all, each) => all + of(each), 0);
  expect(Atomics.load(flags, FLAG.beyond)).toBe(0);
  expect(ledger.connections()).toBe(sum(({ connections }) => connections));
  for (const name of CLIENTS) expect(limits.open(name)).toBe(sum(({ clients }) => clients[name]!));
  for (let slot = 0; slot < MAX.targets; slot++) {
    expect(balancer.open(slot)).toBe(sum(({ targets }) => targets[slot]!));
  }

  const released = living.map((thread) => next(thread));
  for (const thread of living) thread.postMessage("release");
  await Promise.all(released);
  for (const thread of living) thread.terminate();
  expect(ledger.connections()).toBe(0);
  for (let slot = 0; slot < MAX.targets; slot++) expect(balancer.open(slot)).toBe(0);
  limits.sweep(Number.MAX_SAFE_INTEGER);
  expect(limits.size).toBe(0);
});

test("a thread that is terminated while it holds the lock blocks the others only until the ledger forgets it", async () => {
  const ledger = Ledger.make({ workers: 2, targets: MAX.targets, clients: MAX.clients });
  const flags = new Int32Array(new SharedArrayBuffer(4 * (FLAG.steps + 2)));
  const order = (worker: number): HammerOrder => ({ memory: ledger.memory, worker, flags });
  const stuck = start({ ...order(1), stuck: true });
  await steps(flags, 1, 1);
  const other = start(order(0));
  await end(stuck);
  // The other thread waits for the lock of the dead one, so it has finished one step at most.
  expect(Atomics.load(flags, FLAG.steps)).toBeLessThanOrEqual(1);
  ledger.forget(1);
  await steps(flags, 0, 200);
  const report = next<HammerReport>(other);
  Atomics.store(flags, FLAG.stop, 1);
  expect((await report).connections).toBe(ledger.connections());
  expect((await report).targets[0]).toBe(ledger.targets.open.total[0]!);
  await end(other);
});
