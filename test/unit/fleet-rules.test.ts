// The rules of a fleet that need no store: when one is given up, what a node decides alone, how blocks are merged.

import { describe, expect, test } from "bun:test";
import { mergeBlocks, type FleetBlock } from "../../src/fleet/blocks.ts";
import { Circuit } from "../../src/fleet/circuit.ts";
import { Unfit, judgeInfo } from "../../src/fleet/greeting.ts";
import { FleetLink, WorkerGate, type FleetReply } from "../../src/fleet/link.ts";
import { countsOf } from "../../src/fleet/listing.ts";
import { Measures, kindOf } from "../../src/fleet/measures.ts";
import { ReplyReader, StoreFault, encode } from "../../src/fleet/resp.ts";
import { Nodes, judge } from "../../src/fleet/shares.ts";
import type { FleetRefusal, Lease } from "../../src/connection/fleet-gate.ts";
import { Random } from "../support/random.ts";

describe("the circuit", () => {
  test("opens at the third miss in a row", () => {
    const circuit = new Circuit();
    expect([0, 50, 100].map((at) => circuit.missed(at, 50))).toEqual([false, false, true]);
  });

  test("counts misses of one moment as one", () => {
    const circuit = new Circuit();
    expect([0, 1, 2, 3, 4, 60].map((at) => circuit.missed(at, 50))).toEqual(Array(6).fill(false));
    expect(circuit.missed(120, 50)).toBe(true);
  });

  test("begins anew after an answer in time", () => {
    const circuit = new Circuit();
    circuit.missed(0, 50);
    circuit.missed(50, 50);
    circuit.answered();
    expect([100, 150, 200].map((at) => circuit.missed(at, 50))).toEqual([false, false, true]);
  });
});

describe("a node alone", () => {
  const rule = { capacity: 10, fillRate: 1_000, maxConnections: 9 };
  const known = { open: 0, agreed: 0, fullAt: 0 };

  test.each([
    ["gives a third of the connections", { ...known, open: 2 }, 3, true],
    ["gives no more than that", { ...known, open: 3 }, 3, false],
    ["keeps as many as the store agreed to", { ...known, open: 5, agreed: 6 }, 3, true],
    ["and no more", { ...known, open: 6, agreed: 6 }, 3, false],
    ["gives at least one", known, 100, true],
    ["and no second one of a share that is less than one", { ...known, open: 1 }, 100, false],
    ["gives the whole limit where it does not share", { ...known, open: 8 }, 1, true],
  ])("%s", (_, client, nodes, admitted) => {
    expect(typeof judge(client, rule, nodes, 0) === "number").toBe(admitted);
  });

  test.each([1, 2, 3, 5, 10, 11, 40])(
    "gives of a full bucket its part, at least one token, with %i nodes",
    (nodes) => {
      let fullAt = 0;
      let taken = 0;
      for (;;) {
        const next = judge({ ...known, fullAt }, { capacity: 10, fillRate: 1_000 }, nodes, 0);
        if (typeof next === "string") break;
        fullAt = next;
        taken++;
      }
      expect(taken).toBe(Math.max(1, Math.floor(10 / nodes)));
      expect(
        judge({ ...known, fullAt }, { capacity: 10, fillRate: 1_000 }, nodes, 1_000 * nodes),
      ).toBeNumber();
    },
  );

  test("goes on with the bucket that the store has left empty", () => {
    const rule = { capacity: 10, fillRate: 1_000 };
    expect(judge({ ...known, fullAt: 10_000 }, rule, 2, 0)).toBe("rate_limited");
    expect(judge({ ...known, fullAt: 10_000 }, rule, 2, 1_999)).toBe("rate_limited");
    expect(judge({ ...known, fullAt: 10_000 }, rule, 2, 2_000)).toBeNumber();
  });

  test("shares among nodes gives no more than one bucket, over any schedule", () => {
    for (let seed = 1; seed <= 100; seed++) {
      const random = new Random(seed);
      const nodes = random.int(1, 6);
      const rule = { capacity: random.int(nodes, 20), fillRate: random.int(1, 50) };
      const fullAt = Array<number>(nodes).fill(0);
      let admitted = 0;
      let now = 0;
      for (let step = 0; step < 300; step++) {
        now += random.pick([0, 0, 0, 1, random.int(0, 3 * rule.fillRate)]);
        const node = random.int(0, nodes - 1);
        const next = judge({ ...known, fullAt: fullAt[node]! }, rule, nodes, now);
        if (typeof next === "string") continue;
        fullAt[node] = next;
        admitted++;
      }
      expect(admitted, `seed ${seed}`).toBeLessThanOrEqual(rule.capacity + Math.floor(now / rule.fillRate));
    }
  });

  test("has no bucket where there is none", () => {
    expect(judge(known, { capacity: Infinity, fillRate: 1 }, 3, 0)).toBe(0);
  });

  test("counts a node for a lease after it was heard of, and is at least one", () => {
    const nodes = new Nodes();
    expect(nodes.count()).toBe(1);
    nodes.saw(["a", "b", "c"], 0);
    nodes.saw(["a"], 90);
    nodes.forget(100, 90);
    expect(nodes.names).toEqual(["a", "b", "c"]);
    nodes.forget(100, 101);
    expect([nodes.count(), nodes.names]).toEqual([1, ["a"]]);
  });
});

describe("replies of the store", () => {
  const all = Buffer.from(
    "+OK\r\n:42\r\n$5\r\nh\u00e9\r\n\r\n$-1\r\n*3\r\n:-1\r\n*1\r\n$0\r\n\r\n-ERR no\r\n-WRONGTYPE it\r\n*-1\r\n",
  );
  const expected = [
    "OK",
    42,
    "h\u00e9\r\n",
    null,
    [-1, [""], new StoreFault("ERR no")],
    new StoreFault("WRONGTYPE it"),
    null,
  ];

  test("are the same however they are cut", () => {
    for (let seed = 0; seed < 50; seed++) {
      const random = new Random(seed);
      const reader = new ReplyReader();
      const replies: unknown[] = [];
      for (let at = 0; at < all.length;) {
        const length = random.int(1, 9);
        reader.push(all.subarray(at, at + length));
        at += length;
        for (let reply = reader.next(); reply !== undefined; reply = reader.next()) replies.push(reply);
      }
      expect(replies).toEqual(expected);
    }
  });

  test.each(["HTTP/1.1 400 Bad\r\n", ":x\r\n", "$1e3\r\n", "*1\r\n".repeat(20)])("%j is none", (text) => {
    const reader = new ReplyReader();
    reader.push(Buffer.from(text));
    expect(() => reader.next()).toThrow();
  });

  test("commands are counted in bytes", () => {
    expect(encode(["SET", "k\u00e9y", 7])).toBe("*3\r\n$3\r\nSET\r\n$4\r\nk\u00e9y\r\n$1\r\n7\r\n");
  });
});

describe("what a store says of itself", () => {
  test.each([
    ["redis_version:5.0.14", /Redis 5\.0\.14; Redis 6 or later/],
    ["redis_version:7.0.15\r\ncluster_enabled:1", /Cluster/],
    ["redis_version:7.0.15\r\nredis_mode:sentinel", /Sentinel/],
    ["redis_version:7.0.15\r\nrole:slave", /replica/],
  ])("%j is refused", (info, why) => {
    expect(() => judgeInfo(info)).toThrow(why);
    expect(() => judgeInfo(info)).toThrow(Unfit);
  });

  test.each([
    ["redis_version:6.0.16\r\nmaxmemory_policy:noeviction\r\ncluster_enabled:0\r\nrole:master", false],
    ["redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1", false],
    ["redis_version:7.0.15\r\nmaxmemory_policy:allkeys-lru", true],
    ["", false],
  ])("%j is taken", (info, warns) => {
    expect(judgeInfo(info) !== undefined).toBe(warns);
  });
});

test("errors of the store have kinds", () => {
  const kinds = [
    "OOM command not allowed when used memory > 'maxmemory'. script: 1, on @user_script:3.",
    "WRONGTYPE Operation against a key",
    "NOPERM this user has no permissions",
    "ERR The user executing the script can't run this command or subcommand script: x",
    "READONLY You can't write",
  ].map((message) => kindOf(new StoreFault(message)));
  expect(kinds).toEqual(["full", "wrong_type", "refused", "refused", "other"]);
  expect([kindOf(new Unfit("x")), kindOf(new Error("x"))]).toEqual(["refused", "connection"]);
});

test("durations go into the bucket whose bound they do not pass", () => {
  const measures = new Measures();
  for (const ms of [0.05, 0.1, 0.3, 60, 1_000]) measures.took(ms);
  expect(measures.counts).toEqual([2, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
  expect(measures.sum).toBeCloseTo(1.06045);
});

test("a client's counts are those of nodes that live", () => {
  const fields = [
    "client",
    "alice@admin",
    "n:a",
    "i 1 2 200",
    "n:b",
    "i 9 3 100",
    "n:c",
    "i 4 0 200",
    "n:d",
    "junk",
  ];
  expect(countsOf(fields, 100)).toEqual({ client: "alice@admin", open: { a: 2 }, total: 2 });
  expect(countsOf(fields, 200)).toBeUndefined();
});

describe("blocks", () => {
  const block = (subject: string, version: number, data?: string): FleetBlock => ({
    subject,
    version,
    left: 0,
    data,
  });
  const by = (...blocks: FleetBlock[]) => new Map(blocks.map((each) => [each.subject, each]));

  test("of two changes the later one counts, whoever has it", () => {
    const known = by(block("a", 3, "old"), block("b", 5, "ours"));
    const { merged, missing } = mergeBlocks(known, {
      version: 7,
      blocks: [block("a", 7), block("b", 4, "theirs")],
    });
    expect(merged).toEqual(by(block("a", 7), block("b", 5, "ours")));
    expect(missing).toEqual([block("b", 5, "ours")]);
  });

  test("stay in force where the store was emptied, and are told again", () => {
    const known = by(block("a", 3, "x"));
    const { merged, missing } = mergeBlocks(known, { version: 0, blocks: [] });
    expect([merged, missing]).toEqual([known, [block("a", 3, "x")]]);
  });
});

describe("a worker's door to the fleet", () => {
  /** A gate that admits everybody, or nobody, when it is told to. */
  class Gate {
    readonly asked: { client: string; answered: (answer: Lease | FleetRefusal) => void }[] = [];
    released = 0;
    cancelled = 0;
    readonly lease = { release: () => void this.released++, cancel: () => void this.cancelled++ };
    ask(client: string, answered: (answer: Lease | FleetRefusal) => void) {
      this.asked.push({ client, answered });
    }
    adopt = () => this.lease;
  }

  function pair() {
    const gate = new Gate();
    const link: FleetLink = new FleetLink(gate, (reply: FleetReply) => worker.heard(structuredClone(reply)));
    const worker: WorkerGate = new WorkerGate((request) => link.heard(structuredClone(request)));
    return { gate, link, worker };
  }

  test("passes questions, answers and releases on, each lease once", () => {
    const { gate, worker } = pair();
    const answers: (Lease | FleetRefusal)[] = [];
    for (const client of ["a@x", "b@x"]) worker.ask(client, (answer) => answers.push(answer));
    gate.asked[1]!.answered("rate_limited");
    gate.asked[0]!.answered(gate.lease);
    expect(gate.asked.map(({ client }) => client)).toEqual(["a@x", "b@x"]);
    expect(answers[0]).toBe("rate_limited");
    const lease = answers[1] as Lease;
    lease.release();
    lease.cancel();
    worker.adopt("c@x").cancel();
    expect([gate.released, gate.cancelled]).toEqual([1, 1]);
  });

  test("gives back what a dead worker had, and what it is granted later", () => {
    const { gate, link, worker } = pair();
    worker.ask("a@x", () => {});
    worker.ask("b@x", () => {});
    gate.asked[0]!.answered(gate.lease);
    link.close();
    expect(gate.released).toBe(1);
    gate.asked[1]!.answered(gate.lease);
    expect(gate.released).toBe(2);
  });
});
