// Counters: what each thread adds, what readers see, and what is left when a thread dies.

import { describe, expect, test } from "bun:test";
import { BOUNDS } from "../../src/state/counters.ts";
import { Ledger } from "../../src/state/ledger.ts";
import { Rows } from "../../src/state/rows.ts";
import { Random } from "../support/random.ts";
import { small } from "../support/ledger.ts";

test("the counters of a single thread hold what it counted", () => {
  const { counters } = small();
  counters.accepted(0);
  counters.accepted(2);
  counters.handshaking(2, 1);
  counters.handshakeDone(2, false, 7);
  counters.handshakeDone(2, true, 10_001);
  counters.refused(5, 3);
  counters.admitted(1, 4);
  counters.moved(1, 100, 2 ** 40);
  counters.connected(9, 2.5);
  counters.connectFailed(9);
  expect(counters.readListener(0).accepted).toBe(1);
  const listener = counters.readListener(2);
  expect(listener).toMatchObject({ accepted: 1, handshaking: 1, full: { sum: 7 }, resumed: { sum: 10_001 } });
  expect(listener.full.counts.indexOf(1)).toBe(BOUNDS.handshake.indexOf(10));
  expect(listener.resumed.counts.at(-1)).toBe(1);
  expect(counters.readRoute(5, 4)).toEqual([0, 0, 0, 1]);
  expect(counters.readRoute(4, 4)).toEqual([0, 0, 0, 0]);
  expect(counters.readGroup(4)).toBe(1);
  expect(counters.isOpen(1)).toBe(true);
  counters.closed(1, 2, 1_500);
  expect(counters.isOpen(1)).toBe(false);
  const upstream = counters.readUpstream(1, 3);
  expect(upstream).toMatchObject({ open: 0, received: 100, sent: 2 ** 40, closed: [0, 0, 1] });
  expect(upstream.duration).toMatchObject({ sum: 1_500 });
  const target = counters.readTarget(9);
  expect(target.failures).toBe(1);
  expect(target.connect.counts[BOUNDS.connect.indexOf(2.5)]).toBe(1);
});

test("the decisions of a shadow count by upstream, outcome and reason, and go with the upstream", () => {
  const { counters } = small();
  counters.judged(undefined, 1, 3);
  counters.judged(0, 2, 3);
  counters.judged(0, 2, 3);
  counters.judged(1, 3, 0);
  expect(counters.readJudged(undefined, 1, 4)).toEqual([0, 0, 0, 1]);
  expect(counters.readJudged(0, 2, 4)).toEqual([0, 0, 0, 2]);
  expect(counters.readJudged(0, 3, 4)).toEqual([0, 0, 0, 0]);
  counters.resetUpstream(0);
  expect(counters.readJudged(0, 2, 4)).toEqual([0, 0, 0, 0]);
  expect(counters.readJudged(undefined, 1, 4)).toEqual([0, 0, 0, 1]);
  expect(counters.readJudged(1, 3, 1)).toEqual([1]);
});

test("a connection that is refused after its admission is open no more, and counts as no end", () => {
  const { counters } = small();
  counters.admitted(0, 0);
  counters.closed(0, undefined, 10);
  expect(counters.readUpstream(0, 2)).toMatchObject({ open: 0, closed: [0, 0], duration: { sum: 0 } });
});

test("the counters of several threads add up, and outlive a thread; what it had open does not", () => {
  const supervisor = Ledger.make({ workers: 2, targets: 4, clients: 4 });
  const [a, b] = [0, 1].map((worker) => Ledger.attach(supervisor.memory, worker).counters);
  for (const each of [a!, b!, b!]) {
    each.accepted(0);
    each.handshaking(0, 1);
    each.admitted(0, 0);
    each.moved(0, 1, 2);
    each.expiring([1, 1, 1]);
  }
  const read = () => ({
    ...supervisor.counters.readUpstream(0, 2),
    ...supervisor.counters.readListener(0),
    expiring: supervisor.counters.readExpiring(),
  });
  expect(read()).toMatchObject({ accepted: 3, handshaking: 3, open: 3, received: 3, expiring: [2, 2, 2] });
  supervisor.forget(1, { closed: 1, refused: 2, routes: [7] });
  expect(read()).toMatchObject({
    accepted: 3,
    handshaking: 1,
    open: 1,
    received: 3,
    sent: 6,
    closed: [0, 2],
  });
  expect(read().expiring).toEqual([1, 1, 1]);
  // Those that were in their handshakes count as refused.
  expect(supervisor.counters.readRoute(7, 4)).toEqual([0, 0, 2, 0]);
  expect(supervisor.counters.readGroup(0)).toBe(3);
});

test("a histogram counts each event in the first bucket whose bound it does not exceed", () => {
  const { counters } = small();
  const random = new Random(7);
  const events = Array.from({ length: 2_000 }, () => random.int(0, random.pick([20, 500, 20_000])));
  for (const ms of events) counters.handshakeDone(0, false, ms);
  const { counts, sum } = counters.readListener(0).full;
  const bounds = [-1, ...BOUNDS.handshake, Infinity];
  expect(counts).toEqual(
    bounds.slice(1).map((bound, i) => events.filter((ms) => ms > bounds[i]! && ms <= bound).length),
  );
  expect(sum).toBe(events.reduce((total, ms) => total + ms, 0));
});

describe("a directory of rows", () => {
  const make = (size: number, busy = new Set<number>(), cleared: number[] = []) =>
    new Rows({ size, isBusy: (row) => busy.has(row), reset: (row) => cleared.push(row) });

  test("keeps the row of what stays, and clears the one that another thing gets", () => {
    const cleared: number[] = [];
    const rows = make(3, new Set(), cleared);
    const first = rows.assign(["a", "b"])!;
    const second = rows.assign(["b", "c"])!;
    expect(second.get("b")).toBe(first.get("b")!);
    expect(cleared).toEqual([...first.values(), second.get("c")!]);
  });

  test("says whether there is room, and changes nothing by that", () => {
    const cleared: number[] = [];
    const rows = make(2, new Set(), cleared);
    rows.assign(["a"]);
    expect([rows.fits(["b", "c"]), rows.fits(["a", "b", "c"])]).toEqual([true, false]);
    expect(cleared.length).toBe(1);
    expect(rows.assign(["a"])!.size).toBe(1);
    expect(cleared.length).toBe(1);
  });

  test("gives away no row that is busy, and answers nothing where there are too few", () => {
    const busy = new Set<number>();
    const rows = make(2, busy);
    busy.add(rows.assign(["a"])!.get("a")!);
    expect(rows.assign(["b", "c"])).toBeUndefined();
    expect(rows.assign(["b"])!.get("b")).not.toBe([...busy][0]!);
  });
});
