// What one source may cost: its window of handshakes, its failures, and the bounded table of sources.

import { describe, expect, test } from "bun:test";
import { Ledger } from "../../src/state/ledger.ts";
import { MAX_SOURCES, SHARED_ROW, type SourceKey } from "../../src/state/source-table.ts";
import { FIRST_WINDOW, MAX_DEBT_BUCKETS, PACE_MS, PROVEN_MS, Sources } from "../../src/state/sources.ts";
import { small } from "../support/ledger.ts";

const RULE = { perSource: 8, failures: 4, failuresRefill: 1_000 };
const key = (low: number, family: 4 | 6 = 4): SourceKey => ({ family, high: 0, low });
const NOW = 10_000;

function make(rule = RULE) {
  const ledger = small();
  return { ledger, sources: new Sources(ledger, rule) };
}

/** How many handshakes a source may have under way at once. */
function windowOf(sources: Sources, row: number, now = NOW): number {
  let count = 0;
  while (["free", "watched"].includes(sources.start(row, now, true))) count++;
  for (let i = 0; i < count; i++) sources.stop(row);
  return count;
}

describe("the source table", () => {
  test("the source table keeps held, proven and open sources under a flood of a million others, in the same memory", () => {
    const { ledger, sources } = make();
    const { buffer } = ledger.memory;
    const size = buffer.byteLength;
    const held = sources.enter(key(1), NOW)!;
    const proven = sources.enter(key(2), NOW)!;
    sources.admitted(proven, NOW);
    sources.closed(proven, NOW);
    sources.leave(proven);
    const open = sources.enter(key(3), NOW)!;
    sources.admitted(open, NOW);
    for (let i = 100; i < 1_000_100; i++) {
      const row = sources.enter(key(i), NOW);
      if (row !== undefined) sources.leave(row);
    }
    expect([1, 2, 3].map((low) => ledger.sources.find(key(low)))).toEqual([held, proven, open]);
    expect([held, proven, open].map((row) => ledger.sources.held.total[row])).toEqual([1, 0, 1]);
    expect(buffer.byteLength).toBe(size);
  });

  test("the source table remembers a source in debt longer than one that owes less", () => {
    const { ledger, sources } = make();
    const row = sources.enter(key(1), NOW)!;
    sources.failed(row, 3, NOW);
    sources.leave(row);
    // Enough sources to reach every set of rows, and too few to replace all eight rows of a set.
    for (let i = 100; i < 20_000; i++) sources.leave(sources.enter(key(i), NOW)!);
    expect(ledger.sources.find(key(1))).toBe(row);
  });

  test("the source table has sources share one row when all other rows are held", () => {
    const { ledger, sources } = make();
    const rows = Array.from({ length: MAX_SOURCES * 2 }, (_, i) => sources.enter(key(i), NOW)!);
    const shared = rows.filter((row) => row === SHARED_ROW).length;
    expect(shared).toBeGreaterThanOrEqual(MAX_SOURCES);
    expect(ledger.sources.held.total[SHARED_ROW]).toBe(shared);
    expect(new Set(rows.filter((row) => row !== SHARED_ROW)).size).toBe(rows.length - shared);
    for (const row of rows) sources.leave(row);
    expect(ledger.sources.held.total.every((count) => count === 0)).toBe(true);
  });

  test("the source table separates IPv4 and IPv6 sources", () => {
    const { sources } = make();
    expect(sources.enter(key(1, 4), NOW)).not.toBe(sources.enter(key(1, 6), NOW)!);
  });
});

describe("the window of a source", () => {
  test("a source's window starts small, grows with each admitted client, and is halved by a failure", () => {
    const { sources } = make();
    const row = sources.enter(key(1), NOW)!;
    const windows = [windowOf(sources, row)];
    for (let i = 0; i < 10; i++) {
      sources.admitted(row, NOW);
      windows.push(windowOf(sources, row));
    }
    expect(windows).toEqual([FIRST_WINDOW, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8]);
    sources.failed(row, 1, NOW);
    expect(windowOf(sources, row)).toBe(FIRST_WINDOW + 4);
    sources.failed(row, 1, NOW);
    expect(windowOf(sources, row)).toBe(FIRST_WINDOW + 2);
  });

  test("a source's window is at most the configured one, also after a change", () => {
    const { sources } = make({ ...RULE, perSource: 1 });
    const row = sources.enter(key(1), NOW)!;
    expect(windowOf(sources, row)).toBe(1);
    sources.admitted(row, NOW);
    sources.setRule({ ...RULE, perSource: 3 });
    expect(windowOf(sources, row)).toBe(3);
  });
});

describe("the failures of a source", () => {
  test("a source is refused once it has reached the allowed failures, until one is forgiven", () => {
    const { sources } = make();
    const row = sources.enter(key(1), NOW)!;
    sources.failed(row, 3, NOW);
    expect(sources.start(row, NOW, false)).toBe("watched");
    sources.failed(row, 1, NOW);
    expect(sources.start(row, NOW, false)).toBe("refused");
    expect(sources.enter(key(1), NOW)).toBeUndefined();
    expect(sources.enter(key(2), NOW)).toBeDefined();
    expect(sources.enter(key(1), NOW + 999)).toBeUndefined();
    expect(sources.enter(key(1), NOW + 1_000)).toBe(row);
  });

  test("a proven source with failures is slowed down to one handshake at a time, and not refused", () => {
    const { sources } = make();
    const row = sources.enter(key(1), NOW)!;
    sources.admitted(row, NOW);
    expect(sources.start(row, NOW, false)).toBe("free");
    sources.stop(row);
    sources.failed(row, 10, NOW);
    sources.failed(row, 1, NOW);
    expect(sources.enter(key(1), NOW)).toBe(row);
    expect(sources.start(row, NOW + 10 * PACE_MS - 1, false)).toBe("later");
    expect(sources.start(row, NOW + 10 * PACE_MS, false)).toBe("watched");
    expect(sources.start(row, NOW + 10 * PACE_MS, false)).toBe("later");
  });

  test("a source's debt is bounded, so that it is not refused for hours", () => {
    const { sources } = make();
    const row = sources.enter(key(1), NOW)!;
    for (let i = 0; i < 1_000; i++) sources.failed(row, 200, NOW);
    const last = NOW + (MAX_DEBT_BUCKETS - 1) * RULE.failures * RULE.failuresRefill;
    expect(sources.enter(key(1), last)).toBeUndefined();
    expect(sources.enter(key(1), last + RULE.failures * RULE.failuresRefill)).toBe(row);
  });

  test("a source whose failures are forgiven is treated as before them", () => {
    const { sources } = make();
    const row = sources.enter(key(1), NOW)!;
    sources.failed(row, 30, NOW);
    sources.forgive(row, 30);
    expect(sources.start(row, NOW, false)).toBe("watched");
  });
});

test("a source is proven while a client is connected, and for an hour after the last one left", () => {
  const { sources } = make();
  const row = sources.enter(key(1), NOW)!;
  const turn = (now: number) => {
    const turn = sources.start(row, now, false);
    sources.stop(row);
    return turn;
  };
  expect(turn(NOW)).toBe("watched");
  sources.admitted(row, NOW);
  expect(turn(NOW + 2 * PROVEN_MS)).toBe("free");
  sources.closed(row, NOW + 2 * PROVEN_MS);
  expect(turn(NOW + 3 * PROVEN_MS - 1)).toBe("free");
  expect(turn(NOW + 3 * PROVEN_MS)).toBe("watched");
});

test("the source table is shared by threads, and a dead thread's counts are given back", () => {
  const supervisor = small({ workers: 2 });
  const ledgers = [0, 1].map((worker) => Ledger.attach(supervisor.memory, worker));
  const [a, b] = ledgers.map((ledger) => new Sources(ledger, RULE)) as [Sources, Sources];
  const row = a.enter(key(1), NOW)!;
  expect(b.enter(key(1), NOW)).toBe(row);
  expect([a.start(row, NOW, false), b.start(row, NOW, false), a.start(row, NOW, false)]).toEqual([
    "watched",
    "watched",
    "later",
  ]);
  a.admitted(row, NOW);
  a.failed(row, 2, NOW);
  b.failed(row, 2, NOW);
  const counts = () => {
    const { held, active, open } = supervisor.sources;
    return [held.total[row], active.total[row], open.total[row]];
  };
  expect(counts()).toEqual([2, 2, 1]);
  supervisor.forget(0);
  expect(counts()).toEqual([1, 1, 0]);
  b.stop(row);
  b.leave(row);
  expect(counts()).toEqual([0, 0, 0]);
  // The debt stays, and so does the fact that a client was admitted.
  expect(b.start(row, NOW, false)).toBe("later");
  expect(b.enter(key(1), NOW + PROVEN_MS)).toBe(row);
});
