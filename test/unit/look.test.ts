// What the commands that look into a running proxy show: events, the status page, the live screen.

import { describe, expect, test } from "bun:test";
import type { ConnectionView, LoggedEvent } from "../../src/admin/api-types.ts";
import { eventLines } from "../../src/cli/event-line.ts";
import { widthOf } from "../../src/cli/human.ts";
import { statusPage } from "../../src/cli/status-page.ts";
import { events, lines } from "../../src/cli/streams.ts";
import { SORT_NAMES, frame, sorted, viewOf, type Look, type Sort } from "../../src/cli/top-frame.ts";
import { CLOSE_REASONS, REFUSAL_REASONS } from "../../src/lib/reasons.ts";
import { aConnection, aStatus } from "../support/fake-door.ts";
import { Random } from "../support/random.ts";

const time = "2026-01-02T15:04:05.678Z";
const event = (msg: string, fields: Partial<LoggedEvent>): LoggedEvent => ({
  time,
  level: "info",
  msg,
  ...fields,
});
const line = (msg: string, fields: Partial<LoggedEvent>, width = 200) =>
  eventLines(event(msg, fields), width)
    .join("\n")
    .replace(/^\d\d:\d\d:\d\d /, "");

describe("an event", () => {
  const refused = { reason: "rate_limited", client: "bob@ops", remote: "10.0.0.9:5123", upstream: "db" };
  const closed = {
    reason: "idle_timeout",
    client: "alice@dba",
    remote: "10.0.0.9:5123",
    upstream: "db",
    target: "10.0.0.5:5432",
    bytesIn: 5_000,
    bytesOut: 77,
    durationMs: 123_456,
  };
  test.each<[string, Partial<LoggedEvent>, string]>([
    [
      "refused",
      refused,
      "refused rate_limited bob@ops from 10.0.0.9:5123 to db  The client's token bucket is empty: it connects faster than the bucket fills.",
    ],
    [
      "refused",
      {
        reason: "certificate_untrusted",
        claimed: "eve@x",
        remote: "10.0.0.9:5123",
        count: 12,
        detail: "CODE",
      },
      "refused certificate_untrusted 12 times (claims eve@x) from 10.0.0.9:5123  CODE: No chain to the CA: signed by another CA, an intermediate is missing, not for client authentication, or a CRL …",
    ],
    [
      "closed",
      closed,
      "ended idle_timeout alice@dba from 10.0.0.9:5123 to db 10.0.0.5:5432 after 2m3s, 4.9 KiB in, 77 B out  No byte went in either direction for timeout.",
    ],
    [
      "closed",
      { ...closed, reason: "closed" },
      "ended closed alice@dba from 10.0.0.9:5123 to db 10.0.0.5:5432 after 2m3s, 4.9 KiB in, 77 B out",
    ],
    [
      "refused",
      { ...refused, reason: "of_tomorrow" },
      "refused of_tomorrow bob@ops from 10.0.0.9:5123 to db",
    ],
    ["target is down", { level: "warn", target: "a:1" }, "warn: target is down target=a:1"],
    ["reloaded", { keys: "none", files: 'a "b"' }, 'reloaded keys=none files=a "b"'],
  ])("%s %o is a line", (msg, fields, expected) => {
    expect(line(msg, fields)).toBe(expected);
  });

  test("has the reason's meaning on a line of its own where the terminal is narrow", () => {
    const [first, second, ...more] = line("refused", refused, 80).split("\n");
    expect(first).toBe("refused rate_limited bob@ops from 10.0.0.9:5123 to db");
    expect(second).toStartWith("         The client's token bucket is empty");
    expect(more).toEqual([]);
  });

  test("has a meaning for every reason", () => {
    for (const reason of Object.keys(REFUSAL_REASONS)) expect(line("refused", { reason })).toContain("  ");
    for (const reason of Object.keys(CLOSE_REASONS)) {
      if (reason !== "closed") expect(line("closed", { reason })).toContain("  ");
    }
  });

  test("with hostile values stays on one line of its width", () => {
    const evil = "\x1b]0;x\x07\n\u202e漢字\x9b2J".repeat(3);
    const random = new Random(5);
    for (const msg of ["refused", "closed", evil]) {
      for (let i = 0; i < 50; i++) {
        const width = random.int(1, 250);
        const fields = {
          reason: evil,
          client: evil,
          claimed: evil,
          remote: evil,
          detail: evil,
          [evil]: evil,
        };
        for (const text of eventLines({ ...event(msg, fields), time: evil }, width)) {
          expect(widthOf(text)).toBeLessThanOrEqual(width);
          expect(text).not.toMatch(/[\x00-\x1f\x7f-\x9f\u202e]/);
        }
      }
    }
  });
});

describe("the status page", () => {
  const now = Date.parse("2026-01-04T00:00:00.000Z");

  test("in 80 columns", () => {
    expect(statusPage(aStatus(), 80, now).join("\n")).toBe(`\
proxy          9.9.9 on bun 1.4.5, process 4711, running for 3d4h
configuration  /etc/tcpproxy/proxy.toml
reloads        3 succeeded, 0 refused; in force for 3d
threads        2
connections    120 open, 5,000 at most
clients        33 known, 262,144 at most
since start    12,345 accepted, 12,000 admitted, 345 refused, 11,880 ended
bytes          4.8 MiB from clients, 6.5 GiB to clients

Listeners
ADDRESS ONLY TO ACCEPTED HANDSHAKING
:7443   -         12,345           2

Upstreams
NAME   OPEN ADMITTED REFUSED      IN     OUT
orders  120   12,000     300 4.8 MiB 6.5 GiB

Targets
UPSTREAM TARGET        OPEN HEALTH WEIGHT FAILURES
orders   10.0.0.5:5432  120 up          1        7

Refusals since the start
COUNT REASON              MEANING
  300 rate_limited        The client's token bucket is empty: it connects faste…
   45 certificate_expired The certificate is outside its validity, before or af…

Certificates and revocation lists
LEFT LISTENER WHAT
100y :7443    the proxy's certificate`);
  });

  test("says what is wrong", () => {
    const status = aStatus({
      threads: [
        { thread: 0, alive: true },
        { thread: 1, alive: false },
      ],
      reload: {
        succeeded: 1,
        refused: 2,
        succeededAt: "2026-01-01T00:00:00.000Z",
        triedAt: "2026-01-03T00:00:00.000Z",
        faults: [{ key: "timeout", problem: "\x1b[31m is not a duration" }],
      },
      warnings: ["the CA expires soon"],
      logLinesDropped: 1_234,
    });
    const page = statusPage(status, 120, now).join("\n");
    expect(page).toContain("last reload    refused 1d ago: timeout: \\u001b[31m is not a duration\n");
    expect(page).toContain("threads        2, silent: 1\n");
    expect(page).toContain("warning        the CA expires soon\n");
    expect(page).toContain("log            1,234 lines dropped\n");
  });

  test.each([20, 40, 60, 80, 120])("fits %i columns", (width) => {
    for (const each of statusPage(aStatus({ configFile: "x".repeat(500) }), width, now)) {
      expect(widthOf(each)).toBeLessThanOrEqual(width);
    }
  });
});

describe("the live screen", () => {
  const [busy, old, idle] = [
    aConnection({ id: "c", client: "c@x", bytesIn: 5_000, ageMs: 5_000, idleMs: 0 }),
    aConnection({ id: "a", client: "b@x", bytesIn: 9_000, ageMs: 9_000, idleMs: 1_000 }),
    aConnection({ id: "b", client: "a@x", bytesIn: 1_000, ageMs: 7_000, idleMs: 7_000 }),
  ] as const;
  const look = (at: number, connections: readonly ConnectionView[], totals = {}): Look => {
    const status = aStatus();
    return { at, status: { ...status, totals: { ...status.totals, ...totals } }, connections };
  };
  const before = look(1_000, [busy, old, idle]);
  const after = look(
    3_000,
    [
      { ...busy, bytesIn: 7_048 },
      { ...old, bytesIn: 9_100 },
      idle,
      aConnection({ id: "d", client: "d@x", bytesIn: 400, bytesOut: 0, ageMs: 1_000, idleMs: 0 }),
    ],
    { admitted: 12_024, refused: 346, bytesIn: 5_004_096 },
  );

  test("has rates from the second look on", () => {
    expect(viewOf(before, undefined).rates).toBeUndefined();
    const { rates, rows } = viewOf(after, before);
    expect(rates).toEqual({ admitted: 12, refused: 0.5, bytes: 2_048 });
    expect(rows.map(({ id, rate }) => [id, rate])).toEqual([
      ["c", 1_024],
      ["a", 50],
      ["b", 0],
      ["d", 200],
    ]);
  });

  test("shows no rate below zero after the proxy was replaced", () => {
    const { rates, rows } = viewOf({ ...before, at: 9_000 }, after);
    expect(Object.values(rates!).every((rate) => rate >= 0)).toBe(true);
    expect(rows.every(({ rate }) => rate! >= 0)).toBe(true);
  });

  test.each<[Sort, string]>([
    ["client", "bacd"],
    ["age", "abcd"],
    ["idle", "bacd"],
    ["bytes", "acbd"],
    ["rate", "cdab"],
  ])("sorts by %s", (sort, ids) => {
    const order = sorted(viewOf(after, before).rows, sort);
    expect(order.map(({ id }) => id).join("")).toBe(ids);
  });

  test("sorts by keys that are all different", () => {
    expect(new Set(SORT_NAMES.map((name) => name[0])).size).toBe(SORT_NAMES.length);
  });

  test("in 80 columns and 10 rows", () => {
    expect(frame(viewOf(after, before), "rate", { columns: 80, rows: 10 }).join("\n")).toBe(`\
tcpproxy 9.9.9, running for 3d4h
open 120 of 5,000   admitted 12/s   refused 0.5/s   carried 2.0 KiB/s
\x1b[7mID CLIENT FROM            TO                   AGE IDLE   BYTES      RATE       \x1b[27m
c  c@x    192.0.2.7:50123 orders 10.0.0.5:5432  5s   0s 7.2 KiB 1.0 KiB/s
d  d@x    192.0.2.7:50123 orders 10.0.0.5:5432  1s   0s   400 B   200 B/s
a  b@x    192.0.2.7:50123 orders 10.0.0.5:5432  9s   1s 9.2 KiB    50 B/s
b  a@x    192.0.2.7:50123 orders 10.0.0.5:5432  7s   7s 1.3 KiB     0 B/s


sort: client age idle bytes [rate]   q quit`);
  });

  test.each([
    [1, 1],
    [20, 3],
    [60, 6],
    [80, 24],
    [200, 60],
  ])("fits %i columns and %i rows, whatever names there are", (columns, rows) => {
    const evil = aConnection({ client: "\x1b[2J\x1b[1;1H\r\nmallory@x".repeat(5), remote: "漢".repeat(99) });
    const status = aStatus({
      reload: { ...aStatus().reload, faults: [{ key: "x\x1b[", problem: "y".repeat(300) }] },
    });
    const connections = Array.from({ length: 50 }, (_, i) => ({ ...evil, id: `\n${i}` }));
    const page = frame(viewOf({ at: 1, status, connections }, undefined), "rate", { columns, rows });
    expect(page.length).toBeLessThanOrEqual(rows);
    for (const each of page) {
      const text = each.replace("\x1b[7m", "").replace("\x1b[27m", "");
      expect(widthOf(text)).toBeLessThanOrEqual(columns);
      expect(text).not.toMatch(/[\x00-\x1f\x7f-\x9f]/);
    }
  });
});

describe("a stream", () => {
  /** The bytes of a text, cut at random. */
  async function* pieces(text: string, random: Random): AsyncGenerator<Uint8Array> {
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length;) {
      const size = random.int(1, 7);
      yield bytes.subarray(at, (at += size));
    }
  }

  test("of lines is the same in whatever pieces it comes, without a last one that was cut off", async () => {
    for (let seed = 0; seed < 50; seed++) {
      const coming = pieces('{"a":"漢字🙂"}\n\n{"b":1}\n{"cut', new Random(seed));
      expect(await Array.fromAsync(lines(coming))).toEqual(['{"a":"漢字🙂"}', '{"b":1}']);
    }
  });

  test("of events is the same in whatever pieces it comes, without remarks", async () => {
    const text =
      ": hello\n\nevent: log\ndata: 漢\n\ndata: 1\ndata:2\nid: 5\n\nevent: x\n\nevent: log\ndata: cut";
    for (let seed = 0; seed < 50; seed++) {
      expect(await Array.fromAsync(events(pieces(text, new Random(seed))))).toEqual([
        { name: "log", data: "漢" },
        { name: "message", data: "1\n2" },
      ]);
    }
  });
});
