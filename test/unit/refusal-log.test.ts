// The refusal log: a flood of refusals is few lines, and their counts add up.

import { expect, test } from "bun:test";
import type { RefusalReason } from "../../src/lib/errors.ts";
import type { Fields } from "../../src/lib/log.ts";
import { RefusalLog } from "../../src/connection/refusal-log.ts";
import { Random } from "../support/random.ts";

/** A refusal log with a clock and a timer of the test's own. */
function world(options: { keys?: number; interval?: number } = {}) {
  let now = 1_000;
  let timer: { call: () => void; at: number } | undefined;
  const lines: (Fields & { at: number })[] = [];
  const log = new RefusalLog({
    ...options,
    write: (fields) => void lines.push({ ...fields, at: now }),
    now: () => now,
    date: () => now,
    schedule(call, ms) {
      expect(timer).toBeUndefined();
      timer = { call, at: now + ms };
      return () => (timer = undefined);
    },
  });
  let described = 0;
  return {
    log,
    lines,
    add(reason: RefusalReason, remote: string, client?: string) {
      log.add(reason, client, remote, () => {
        described++;
        return { client, remote, reason };
      });
    },
    pass(ms: number) {
      const until = now + ms;
      while (timer !== undefined && timer.at <= until) {
        now = timer.at;
        const { call } = timer;
        timer = undefined;
        call();
      }
      now = until;
    },
    sum: () => lines.reduce((sum, { count }) => sum + Number(count ?? 1), 0),
    waits: () => timer !== undefined,
    described: () => described,
  };
}

test("the refusal log writes the first refusal at once, and later ones as one line with count and since", () => {
  const { add, lines, pass, waits } = world();
  add("handshake_failed", "10.0.0.1:1");
  expect(lines).toEqual([{ at: 1_000, client: undefined, remote: "10.0.0.1:1", reason: "handshake_failed" }]);
  expect(waits()).toBe(false);
  pass(100);
  for (let port = 2; port <= 1_000; port++) add("handshake_failed", `10.0.0.1:${port}`);
  expect(lines).toHaveLength(1);
  pass(10_000);
  expect(lines.slice(1)).toEqual([
    {
      at: 6_100,
      client: undefined,
      remote: "10.0.0.1:2",
      reason: "handshake_failed",
      count: 999,
      since: "1970-01-01T00:00:01.100Z",
    },
  ]);
  expect(waits()).toBe(false);
});

test("the refusal log writes a flood of one client as one line every five seconds, and builds no other lines", () => {
  const { add, lines, pass, sum, log, described } = world();
  for (let i = 0; i < 60_000; i++) {
    add("rate_limited", `10.0.0.${i % 200}:${i}`, "alice@admin");
    pass(1);
  }
  log.flush();
  expect(sum()).toBe(60_000);
  expect(lines.length).toBeLessThanOrEqual(14);
  // A line's fields are built only when it is written, not for each refusal.
  expect(described()).toBeLessThanOrEqual(lines.length);
  for (const [i, { at }] of lines.entries()) {
    if (i > 0 && i < lines.length - 1) expect(at - lines[i - 1]!.at).toBeGreaterThanOrEqual(5_000);
  }
});

test("the refusal log separates sources, clients and reasons, but not ports or addresses of one IPv6 /64", () => {
  const { add, lines } = world();
  add("handshake_failed", "10.0.0.1:1");
  add("handshake_timeout", "10.0.0.1:1");
  add("handshake_failed", "10.0.0.2:1");
  add("rate_limited", "10.0.0.1:1", "alice@admin");
  add("rate_limited", "10.0.0.1:1", "bob@admin");
  add("handshake_failed", "[2001:db8::1]:1");
  add("handshake_failed", "[2001:db8:0:1::1]:1");
  expect(lines).toHaveLength(7);
  add("handshake_failed", "10.0.0.1:2");
  add("rate_limited", "10.9.9.9:1", "alice@admin");
  add("handshake_failed", "[2001:db8::1:2:3:4]:1");
  expect(lines).toHaveLength(7);
});

test("the refusal log needs bounded memory and lines for a flood of sources, and still shows clients", () => {
  const { add, lines, pass, sum, log } = world({ keys: 16 });
  for (let i = 0; i < 50_000; i++) add("handshake_failed", `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}:1`);
  expect(lines).toHaveLength(9);
  expect(lines.at(-1)).toMatchObject({ remote: "various", reason: "handshake_failed" });
  add("rate_limited", "10.0.0.1:1", "alice@admin");
  expect(lines.at(-1)).toMatchObject({ client: "alice@admin" });
  pass(6_000);
  expect(lines.at(-1)).toMatchObject({ remote: "various", reason: "handshake_failed", count: 49_991 });
  expect(sum()).toBe(50_001);
  // Once the flood is over, sources have lines of their own again.
  pass(60_000);
  add("handshake_failed", "192.0.2.1:1");
  expect(lines.at(-1)).toMatchObject({ remote: "192.0.2.1:1" });
  log.flush();
  expect(sum()).toBe(50_002);
});

test.each(Array.from({ length: 20 }, (_, seed) => seed))(
  "the refusal log's counts add up exactly over random schedules, seed %i",
  (seed) => {
    const random = new Random(seed);
    const { add, lines, pass, log, waits } = world({ keys: random.int(2, 40) });
    const reasons = ["handshake_failed", "overloaded", "rate_limited", "no_target"] as const;
    const expected = new Map<string, number>();
    for (let i = 0; i < 5_000; i++) {
      const reason = random.pick(reasons);
      const known = reason === "rate_limited" || reason === "no_target";
      add(reason, `10.0.0.${random.int(1, 60)}:1`, known ? `c${random.int(1, 60)}@x` : undefined);
      expected.set(reason, (expected.get(reason) ?? 0) + 1);
      if (random.next() < 0.3) pass(random.int(1, 3_000));
      if (random.next() < 0.001) log.flush();
    }
    if (random.next() < 0.5) log.flush();
    else pass(7_000);
    expect(waits()).toBe(false);
    const sums = new Map<string, number>();
    for (const { reason, count = 1 } of lines) {
      sums.set(String(reason), (sums.get(String(reason)) ?? 0) + Number(count));
    }
    expect(sums).toEqual(expected);
  },
);

test.each([
  ["10.0.0.1:5000", "10.0.0.1:6000", 1],
  ["10.0.0.1:5000", "[::ffff:10.0.0.1]:5000", 1],
  ["10.0.0.1:5000", "10.0.0.2:5000", 2],
  ["unknown", "unknown", 1],
  ["unknown", "0.0.0.0:1", 2],
  ["[::1]:1", "[::]:1", 1],
  ["[::1]:1", "0.0.0.0:1", 2],
  ["[2001:db8::1]:1", "[2001:db8:0:0:ffff::]:1", 1],
  ["[2001:db8::1]:1", "[2001:db8:0:1::1]:1", 2],
  ["[2001:db8:1:2::]:1", "[2001:db8:1:2:3:4:5:6]:1", 1],
  ["[fe80::1%eth0]:1", "[fe80::2%eth0]:1", 1],
])("refusals of %s and %s are %i lines at first", (one, other, count) => {
  const { add, lines } = world();
  add("handshake_failed", one);
  add("handshake_failed", other);
  expect(lines).toHaveLength(count);
});

test("the interval between two lines can be given", () => {
  const { add, lines, pass } = world({ interval: 50 });
  for (let port = 1; port <= 3; port++) add("handshake_failed", `10.0.0.1:${port}`);
  pass(60);
  expect(lines.map(({ count }) => count)).toEqual([undefined, 2]);
});
