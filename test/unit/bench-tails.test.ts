// The arithmetic of the benchmark's percentiles, and of the tool that says where slow round trips come from.

import { expect, test } from "bun:test";
import { CAUSES, divide, mainCauses, stretchesOf, timeline, type Cause } from "../bench/tails/causes.ts";
import { percentileOfRounds } from "../bench/percentiles.ts";
import { eventOf, type Event } from "../bench/tails/trace.ts";

const upTo = (count: number) => Float64Array.from({ length: count }, (_, i) => i);

test("a percentile is one of each round, of all rounds, or none, by the number of samples", () => {
  expect(percentileOfRounds([upTo(2_000), upTo(2_000)], 0.99)).toEqual([1_980, 1_980]);
  // 10 of a round are slower, 20 of both.
  expect(percentileOfRounds([upTo(1_000), upTo(1_000)], 0.99)).toEqual([990]);
  expect(percentileOfRounds([upTo(999), upTo(1_000)], 0.99)).toEqual([]);
  expect(percentileOfRounds([upTo(100_000), upTo(100_000)], 0.9999)).toHaveLength(1);
  expect(percentileOfRounds([upTo(100_000), upTo(99_000)], 0.9999)).toEqual([]);
});

const [PROXY, GENERATOR, BACKEND, HELPER, STRANGER] = [10, 20, 30, 11, 99];
const threads = {
  proxy: PROXY,
  generator: GENERATOR,
  backend: BACKEND,
  own: new Set([PROXY, HELPER]),
  load: new Set([GENERATOR, BACKEND]),
  relayed: new Set([5, 6]),
};
const call = (at: number, number: number, first: number): Event => ({ at, kind: "call", number, first });
const turn = (at: number, from: number, to: number, isRunnable = false): Event => ({
  at,
  kind: "switch",
  core: 0,
  from,
  isRunnable,
  to,
});

function causesOf(events: Event[], from: number, to: number): Partial<Record<Cause, number>> {
  const parts = divide(timeline(events, threads), from, to);
  return Object.fromEntries(CAUSES.flatMap(([cause], i) => (parts[i]! > 0 ? [[cause, parts[i]!]] : [])));
}

test("each moment has the cause that the proxy's thread is at", () => {
  const events = [
    turn(0, 0, PROXY),
    call(1, 45, 5),
    call(3, 1, 2),
    call(4, 202, 0),
    call(9, 44, 6),
    call(10, 121, 0x7ff0001),
    call(12, 121, 0x7ff0002),
    call(13, 45, 40),
    call(15, 44, 40),
    call(15.05, 232, 3),
  ];
  expect(causesOf(events, 0, 16)).toEqual({
    gc: 6,
    tick: 2,
    signature: 2,
    handshake: expect.closeTo(0.05),
    relay: 3,
    loop: expect.closeTo(2.95),
  });
  expect(stretchesOf(timeline(events, threads), "gc")).toEqual([6]);
});

test("who has the core for which the proxy waits is told apart", () => {
  const waiting = (who: number) =>
    causesOf([turn(0, 0, PROXY), turn(1, PROXY, who, true), turn(4, who, PROXY)], 1, 4);
  expect(waiting(GENERATOR)).toEqual({ "core-load": 3 });
  expect(waiting(HELPER)).toEqual({ "core-own": 3 });
  expect(waiting(STRANGER)).toEqual({ "core-other": 3 });
  expect(waiting(0)).toEqual({ "core-idle": 3 });
  // The core is the one that the kernel has chosen.
  const chosen: Event[] = [
    turn(0, 0, STRANGER),
    { at: 0, kind: "switch", core: 1, from: 0, isRunnable: false, to: GENERATOR },
    { at: 1, kind: "wake", pid: PROXY },
    { at: 1, kind: "place", core: 1, pid: PROXY },
  ];
  expect(causesOf(chosen, 1, 3)).toEqual({ "core-load": 2 });
});

test("while the proxy sleeps, the generator or the backend has the round trip", () => {
  const events: Event[] = [
    turn(0, PROXY, GENERATOR),
    turn(2, GENERATOR, BACKEND),
    turn(5, BACKEND, STRANGER, true),
    turn(6, STRANGER, BACKEND),
    turn(7, BACKEND, 0),
  ];
  expect(causesOf(events, 1, 9)).toEqual({ generator: 1, backend: 4, "load-core": 1, none: 2 });
});

test("the main cause is what a slow round trip has most of beyond an ordinary one", () => {
  const parts = (gc: number, relay: number) =>
    Float64Array.from(CAUSES, ([cause]) => (cause === "gc" ? gc : cause === "relay" ? relay : 0));
  const main = mainCauses([parts(2, 3), parts(0, 9)], parts(0, 2.5));
  expect(main[0]).toBe(0.5);
  expect(main[4]).toBe(0.5);
});

test("lines of the kernel's trace are read", () => {
  const head = (core: string) => `           proxy-17835   [00${core}] d..2.   701.703481: `;
  expect(
    eventOf(
      `${head("1")}sched_switch: prev_comm=a b prev_pid=17835 prev_prio=120 prev_state=R+ ==> next_comm=x next_pid=7 next_prio=120`,
    ),
  ).toEqual({ at: 701_703.481, kind: "switch", core: 1, from: 17_835, isRunnable: true, to: 7 });
  expect(eventOf(`${head("0")}sched_waking: comm=x pid=7 prio=120 target_cpu=001`)).toEqual({
    at: 701_703.481,
    kind: "wake",
    pid: 7,
  });
  expect(eventOf(`${head("0")}sched_wakeup: comm=x pid=7 prio=120 target_cpu=001`)).toEqual({
    at: 701_703.481,
    kind: "place",
    core: 1,
    pid: 7,
  });
  expect(eventOf(`${head("0")}sys_enter: NR 45 (1f, 0, 0, 0, 0, 0)`)).toEqual({
    at: 701_703.481,
    kind: "call",
    number: 45,
    first: 31,
  });
  expect(eventOf("# entries-in-buffer/entries-written: 3/3   #P:2")).toBeUndefined();
});
