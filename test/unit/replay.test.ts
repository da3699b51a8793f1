// What a configuration would have said to the clients of a log, by the log's own clock.

import { describe, expect, test } from "bun:test";
import type { ProxyConfig } from "tcpproxy";
import { replayText } from "../../src/cli/replay-text.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { Replay } from "../../src/engine/replay.ts";
import { linesOf } from "../../src/lib/line-stream.ts";
import { small } from "../support/ledger.ts";
import { Random } from "../support/random.ts";

type Upstreams = NonNullable<ProxyConfig["upstreams"]>;

const DB: Upstreams[number] = { name: "db", targets: ["a:1"], authorizedGroups: ["admin"] };

function asking(over: Partial<ProxyConfig> = {}) {
  const faults: never[] = [];
  const config = resolveConfig(
    { upstreams: [DB], rateLimit: { capacity: "unlimited" }, ...over },
    { directory: "/", cores: 1 },
    faults,
  );
  expect(faults).toEqual([]);
  const replay = new Replay(config, small());
  let lines = 0;
  const add = (msg: string, at: number, fields: object) =>
    replay.add(
      JSON.stringify({
        time: new Date(1e12 + at).toISOString(),
        level: "info",
        msg,
        id: `x-${++lines}`,
        client: "alice@admin",
        remote: "10.0.0.1:5",
        listener: ":5000",
        upstream: "db",
        ...fields,
      }),
    );
  return { replay, add };
}

describe("a replay", () => {
  test("judges each client by its own limits, and leaves out what an upstream at its cap has refused", () => {
    const limits = [
      { match: "*@admin", capacity: 2, fillRate: "1h" },
      { match: "bob@admin", capacity: 3 },
    ];
    const { replay, add } = asking({ limits });
    for (let i = 0; i < 5; i++)
      for (const client of ["alice@admin", "bob@admin"]) add("admitted", i, { client });
    add("refused", 7, { client: "carol@admin", reason: "connection_limit", detail: "upstream db: 1" });
    for (let i = 0; i < 3; i++) add("admitted", 8, { client: "carol@admin" });
    expect(replay.result()).toMatchObject({
      admissions: 13,
      refusals: 0,
      refusedBy: [
        { client: "alice@admin", reason: "rate_limited", count: 3 },
        { client: "bob@admin", reason: "rate_limited", count: 2 },
        { client: "carol@admin", reason: "rate_limited", count: 1 },
      ],
    });
  });

  test("counts admissions that would be refused, by client, upstream and reason", () => {
    const { replay, add } = asking();
    for (let i = 0; i < 14; i++) add("admitted", i, { client: "bob@etl" });
    for (let i = 0; i < 3; i++) add("admitted", i, {});
    add("admitted", 9, { client: "carol@etl", upstream: "cache" });
    expect(replay.result()).toMatchObject({
      admissions: 18,
      refused: 15,
      limits: true,
      refusedBy: [
        { client: "bob@etl", upstream: "db", reason: "group_not_authorized", count: 14 },
        { client: "carol@etl", upstream: "cache", reason: "group_not_authorized", count: 1 },
      ],
    });
    expect(replayText(replay.result()).split("\n").slice(0, 3)).toEqual([
      "of 18 admissions 15 would be refused: bob@etl 14×, carol@etl 1×",
      "  14×  bob@etl    db     group_not_authorized",
      "   1×  carol@etl  cache  group_not_authorized",
    ]);
  });

  test("knows clients that are listed by name, and upstreams for everybody", () => {
    const { replay, add } = asking({
      upstreams: [
        { name: "db", targets: ["a:1"], authorizedClients: ["bob@etl"], serverNames: ["db.test"] },
        { name: "open", targets: ["a:1"], anyGroup: true },
      ],
    });
    for (const client of ["bob@etl", "eve@etl"]) {
      add("admitted", 0, { client, serverName: "db.test" });
      add("admitted", 1, { client, upstream: "open" });
    }
    expect(replay.result().refusedBy).toEqual([
      { client: "eve@etl", upstream: "db", reason: "group_not_authorized", count: 1 },
    ]);
  });

  test("routes by server name and listener, and says what would be routed elsewhere", () => {
    const listener = { ca: "a", certificate: "b", privateKey: "c" };
    const { replay, add } = asking({
      listeners: [
        { address: ":5000", ...listener },
        { address: ":6000", ...listener, upstream: "cache" },
      ],
      upstreams: [
        { ...DB, serverNames: ["db.test"] },
        { ...DB, name: "cache", serverNames: ["cache.test"] },
      ],
    });
    add("admitted", 0, { serverName: "db.test" });
    add("admitted", 1, { serverName: "cache.test" });
    add("admitted", 2, { serverName: "other.test" });
    add("admitted", 3, { serverName: "db.test", listener: ":6000" });
    add("admitted", 4, { serverName: "db.test", listener: ":7000" });
    const { refusedBy, movedTo, moved } = replay.result();
    expect(refusedBy.map(({ reason }) => reason).sort()).toEqual([
      "certificate_untrusted",
      "unknown_server_name",
    ]);
    expect([moved, movedTo]).toEqual([
      2,
      [{ client: "alice@admin", upstream: "db", reason: "cache", count: 2 }],
    ]);
  });

  test("runs buckets and open connections by the log's clock", () => {
    const { replay, add } = asking({ rateLimit: { capacity: 3, fillRate: "1s", maxConnections: 2 } });
    add("admitted", 0, { id: "a" });
    add("admitted", 0, { id: "b" });
    add("admitted", 0, { id: "c" });
    add("closed", 10, { id: "a" });
    add("admitted", 10, { id: "d" });
    add("closed", 20, { id: "b" });
    add("admitted", 20, { id: "e" });
    // The end of one that would not have been open changes nothing.
    add("closed", 30, { id: "c" });
    add("admitted", 1_020, { id: "f" });
    expect(replay.result()).toMatchObject({ admissions: 6, refused: 2 });
    expect(
      replay
        .result()
        .refusedBy.map(({ reason }) => reason)
        .sort(),
    ).toEqual(["connection_limit", "rate_limited"]);
  });

  test("gives back the token of a connection for which no target answered", () => {
    const { replay, add } = asking({ rateLimit: { capacity: 1, fillRate: "1h" } });
    add("admitted", 0, { id: "a" });
    add("refused", 1, { id: "a", reason: "no_target" });
    add("admitted", 2, { id: "b" });
    expect(replay.result()).toMatchObject({ admissions: 2, refused: 0 });
  });

  test("takes ends for admissions where the log has no others, and then runs no limits", () => {
    const { replay, add } = asking({ rateLimit: { capacity: 1, fillRate: "1h" } });
    for (let i = 0; i < 3; i++) add("closed", i, {});
    add("closed", 4, { client: "bob@etl" });
    expect(replay.result()).toMatchObject({ admissions: 4, refused: 1, limits: false });
    expect(replayText(replay.result())).toContain("limits are not replayed");
  });

  test("says which refusals would be admissions, and takes a line for as many as it stands for", () => {
    const { replay, add } = asking({ rateLimit: { capacity: 5, fillRate: "1h" } });
    add("refused", 0, { client: "alice@admin", reason: "rate_limited", count: 9, since: "x" });
    add("refused", 1, { client: "bob@etl", reason: "group_not_authorized" });
    add("refused", 2, { client: "carol@admin", reason: "group_not_authorized", count: 1e300 });
    add("refused", 3, { client: undefined, reason: "certificate_untrusted" });
    add("refused", 4, { reason: "blocked" });
    expect(replay.result()).toMatchObject({ admissions: 0, refused: 0, refusals: 11, admitted: 6 });
    const { replay: free, add: more } = asking();
    more("refused", 0, { reason: "rate_limited", count: Number.MAX_SAFE_INTEGER });
    expect(free.result().admitted).toBe(Number.MAX_SAFE_INTEGER);
  });

  test("lets nothing of a hostile log through, and does not fail over it", () => {
    const { replay, add } = asking();
    const random = new Random(5);
    const odd: unknown[] = [
      "",
      "x",
      "@",
      "a@",
      "*@admin",
      "a@b@c",
      "\u001b[2J@etl",
      null,
      1,
      {},
      [],
      "a\u202e@etl",
    ];
    for (let i = 0; i < 2_000; i++) {
      const fields = ["client", "remote", "listener", "serverName", "upstream", "id", "reason", "count"];
      add(random.pick(["admitted", "closed", "refused"]), random.int(-9, 9), {
        [random.pick(fields)]: random.pick(odd),
        [random.pick(fields)]: random.pick(odd),
      });
    }
    for (const line of [
      "{",
      "[]",
      "null",
      '"x"',
      "{}",
      '{"msg":"admitted"}',
      '{"msg":"admitted","time":"x"}',
    ]) {
      expect(replay.add(line)).toBe(false);
    }
    const { skipped, admissions, refusedBy } = replay.result();
    expect(skipped).toBe(7);
    expect(admissions).toBeGreaterThan(500);
    expect(refusedBy.map(({ client }) => client)).not.toContain("a\u202e@etl");
    // Other fields may hold anything, and are escaped.
    add("admitted", 0, { client: "bob@etl", upstream: "\u001b[2Jx\u202e" });
    expect(replayText(replay.result())).not.toMatch(/[\u001b\u202e]/);
  });

  test("tells ten thousand clients apart, and counts the others together", () => {
    const { replay, add } = asking();
    for (let i = 0; i < 10_050; i++) add("admitted", 0, { client: `u${i}@etl` });
    const { refused, refusedBy } = replay.result();
    expect([refused, refusedBy.length]).toEqual([10_050, 10_001]);
    expect(refusedBy[0]).toEqual({
      client: "others",
      upstream: "",
      reason: "group_not_authorized",
      count: 50,
    });
  });
});

describe("lines of a stream", () => {
  async function all(...chunks: (string | Uint8Array)[]): Promise<string[]> {
    const lines: string[] = [];
    async function* stream() {
      for (const chunk of chunks) yield typeof chunk === "string" ? Buffer.from(chunk) : chunk;
    }
    for await (const each of linesOf(stream())) lines.push(...each);
    return lines;
  }

  test("are whole, however the stream is cut", async () => {
    const text = "a\nbb\n\n€uro\nlast";
    const bytes = Buffer.from(text);
    for (let size = 1; size <= bytes.length; size++) {
      const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
        bytes.subarray(i * size, (i + 1) * size),
      );
      expect(await all(...chunks)).toEqual(text.split("\n"));
    }
    expect(await all("a\n")).toEqual(["a"]);
    expect(await all()).toEqual([]);
  });

  test("are dropped where they are longer than a megabyte", async () => {
    const half = "x".repeat(600_000);
    expect(await all("a\n", half, half, half, "\nb\n", half, "\n")).toEqual(["a", "", "b", half]);
    expect(await all(half, half)).toEqual([]);
  });
});
