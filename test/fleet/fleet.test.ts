// Nodes that share a real Redis: limits over all of them, and what they do without it.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { TestNode } from "../support/fleet-node.ts";
import { until } from "../support/proxy.ts";
import { Redis, noRedis } from "../support/redis.ts";

setDefaultTimeout(30_000);

const HOUR = 3_600_000;
const cap = (maxConnections: number) => ({ capacity: Infinity, fillRate: 1, maxConnections });
const bucket = (capacity: number) => ({ capacity, fillRate: HOUR });

/** The longest that a client may wait for the store: `timeout` and a little, here with what a busy machine adds. */
const LONGEST = 50 + 50;

async function nodes(redis: Redis, names: readonly string[], options: object): Promise<TestNode[]> {
  const all = [];
  for (const node of names) all.push(await TestNode.start({ store: redis.url, node, ...options }));
  return all;
}

describe.skipIf(noRedis)("with the store", () => {
  test("a bucket and a cap hold over all nodes together, at the same instant", async () => {
    await using redis = await Redis.start();
    const [a, b, c] = (await nodes(redis, ["a", "b", "c"], {
      rule: { ...bucket(10), maxConnections: 7 },
    })) as [TestNode, TestNode, TestNode];
    const granted = await Promise.all([a, b, c].map((node) => node.granted(50)));
    expect(granted.reduce((x, y) => x + y)).toBe(7);
    for (const node of [a, b, c]) node.release(7);
    await a.whenCounts({});
    const more = await Promise.all([a, b, c].map((node) => node.granted(50)));
    expect(more.reduce((x, y) => x + y)).toBe(3);
    expect((await a.ask()).refusal).toBe("rate_limited");
    for (const node of [a, b, c]) await node.fleet.close();
  });

  test("a place is free for another node at once when it is given back, a token only where it is cancelled", async () => {
    await using redis = await Redis.start();
    await using a = await TestNode.start({
      store: redis.url,
      node: "a",
      rule: { ...bucket(2), maxConnections: 1 },
    });
    await using b = await TestNode.start({
      store: redis.url,
      node: "b",
      rule: { ...bucket(2), maxConnections: 1 },
    });
    expect(await a.granted(1)).toBe(1);
    expect((await b.ask()).refusal).toBe("connection_limit");
    a.held.get("alice@admin")!.pop()!.cancel();
    await b.whenCounts({});
    expect(await b.granted(1)).toBe(1);
    b.release(1);
    await a.whenCounts({});
    expect(await a.granted(1)).toBe(1);
    a.release(1);
    await a.whenCounts({});
    expect((await a.ask()).refusal).toBe("rate_limited");
  });

  test("a node that stops counts no more, at once", async () => {
    await using redis = await Redis.start();
    const a = await TestNode.start({ store: redis.url, node: "a", rule: cap(5), lease: 60_000 });
    await using b = await TestNode.start({ store: redis.url, node: "b", rule: cap(5) });
    expect(await a.granted(5)).toBe(5);
    expect((await b.ask()).refusal).toBe("connection_limit");
    await a.fleet.close();
    expect(await b.granted(9)).toBe(5);
    expect(await redis.send("HKEYS", "tcpproxy:nodes")).toEqual(["b"]);
  });

  test("two namespaces do not see each other", async () => {
    await using redis = await Redis.start();
    await using a = await TestNode.start({
      store: redis.url,
      namespace: "one",
      rule: { ...bucket(3), maxConnections: 3 },
    });
    await using b = await TestNode.start({
      store: redis.url,
      namespace: "two",
      rule: { ...bucket(3), maxConnections: 3 },
    });
    expect(await Promise.all([a.granted(9), b.granted(9)])).toEqual([3, 3]);
    expect(a.fleet.status()!.nodes).toHaveLength(1);
    expect(await a.counts()).not.toEqual({});
    expect((await redis.keys("one:*")).length).toBe(3);
  });

  test.each(["x".repeat(60_000) + "@admin", "{a}{b}@ad{min", "e\n*?[é]🦀@admin"])(
    "a client is one client (case %#)",
    async (client) => {
      await using redis = await Redis.start();
      await using a = await TestNode.start({
        store: redis.url,
        node: "a",
        rule: { ...bucket(4), maxConnections: 3 },
      });
      await using b = await TestNode.start({
        store: redis.url,
        node: "b",
        rule: { ...bucket(4), maxConnections: 3 },
      });
      expect((await a.granted(2, client)) + (await b.granted(9, client))).toBe(3);
      expect((await b.ask(`${client}2`)).refusal).toBeUndefined();
      expect(await a.counts(client.slice(0, 255))).not.toEqual({});
      for (const key of await redis.keys()) expect(key).toMatch(/^tcpproxy:(nodes|\{[0-9a-f]{32}\}:[bo])$/);
    },
  );

  test("a second node of the same name says so and takes another", async () => {
    await using redis = await Redis.start();
    await using a = await TestNode.start({ store: redis.url, node: "a" });
    await using b = await TestNode.start({ store: redis.url, node: "a", rule: cap(3) });
    expect(b.messages("fleet node name is taken")).toEqual([
      expect.objectContaining({ level: "warn", node: "a", instead: "a-2" }),
    ]);
    await b.granted(1);
    expect(await a.counts()).toEqual({ "a-2": 1 });
    expect(a.messages("fleet node name is taken")).toEqual([]);
  });

  test("a reload changes the limits, keeps the counts, and moves them to another namespace", async () => {
    await using redis = await Redis.start();
    await using a = await TestNode.start({ store: redis.url, node: "a", rule: cap(2), lease: 60_000 });
    await using b = await TestNode.start({ store: redis.url, node: "b", rule: cap(4), namespace: "other" });
    expect(await a.granted(9)).toBe(2);
    await a.configure({ rule: cap(3) });
    expect(await a.granted(9)).toBe(1);
    await a.configure({ rule: cap(4), namespace: "other" });
    await b.whenCounts({ a: 3 });
    expect(await b.granted(9)).toBe(1);
    expect(await redis.send("HKEYS", "tcpproxy:nodes")).toEqual([]);
    await a.configure(null);
    await b.whenCounts({ b: 1 });
    // Alone, only its own limits count, which are not here.
    expect(await a.granted(9)).toBe(9);
    expect(a.fleet.status()).toBeUndefined();
    await a.configure({});
    await b.whenCounts({ a: 12, b: 1 });
  });

  test("a connection from before there was a fleet is counted when it is adopted", async () => {
    await using redis = await Redis.start();
    await using a = await TestNode.start({ store: redis.url, node: "a", rule: cap(2) });
    const lease = a.fleet.adopt("alice@admin");
    await a.whenCounts({ a: 1 });
    expect(await a.granted(9)).toBe(1);
    lease.release();
    await a.whenCounts({ a: 1 });
  });

  test("blocks are published and fetched, and nodes hear of a change", async () => {
    await using redis = await Redis.start();
    await using a = await TestNode.start({ store: redis.url, node: "a" });
    await using b = await TestNode.start({ store: redis.url, node: "b" });
    const heard: number[] = [];
    a.fleet.followBlocks((version) => heard.push(version));
    const change = (node: TestNode, subject: string, data?: string, lasting = 0) =>
      node.fleet.publishBlock({ subject, data, lasting, above: 0 });
    const first = await change(a, "eve@ops", '{"reason":"left"}');
    const second = await change(b, "bob@ops", "{}", 60_000);
    const third = await change(b, "eve@ops");
    expect([first, second, third].toSorted((x, y) => x - y)).toEqual([first, second, third]);
    expect(new Set([first, second, third]).size).toBe(3);
    await until(() => heard.includes(third), "the other node hears of it");
    const { version, blocks } = await a.fleet.blocks();
    expect(version).toBe(third);
    expect(blocks.find(({ subject }) => subject === "eve@ops")).toMatchObject({
      version: third,
      data: undefined,
    });
    expect(blocks.find(({ subject }) => subject === "bob@ops")).toMatchObject({
      version: second,
      data: "{}",
    });
    await redis.kill();
    await a.whenUp(false);
    await expect(a.fleet.blocks()).rejects.toThrow("does not answer");
  });
});

describe.skipIf(noRedis)("without the store", () => {
  test("share gives each node its part, and what it has", async () => {
    await using redis = await Redis.start();
    await using a = await TestNode.start({ store: redis.url, node: "a", rule: cap(6) });
    await using b = await TestNode.start({ store: redis.url, node: "b", rule: cap(6) });
    expect(await a.granted(4)).toBe(4);
    // Both know of both.
    await b.whenCounts({ a: 4 });
    while (a.fleet.status()!.nodes.length < 2) await Bun.sleep(5);
    await redis.kill();
    for (const node of [a, b]) await node.whenUp(false);
    expect(await b.granted(9)).toBe(3);
    expect((await a.ask()).refusal).toBe("connection_limit");
    a.release(2);
    expect(await a.granted(9)).toBe(2);
    expect(a.fleet.status()).toMatchObject({ up: false, degraded: true, nodes: ["a", "b"] });
  });

  test("local gives the whole limit, and refuse nothing", async () => {
    await using redis = await Redis.start();
    await using a = await TestNode.start({ store: redis.url, node: "a", rule: cap(6), whenDown: "local" });
    await using b = await TestNode.start({ store: redis.url, node: "b", rule: cap(6), whenDown: "refuse" });
    await redis.kill();
    for (const node of [a, b]) await node.whenUp(false);
    expect(await a.granted(9)).toBe(6);
    expect(await b.ask()).toMatchObject({ refusal: "fleet_unavailable" });
  });

  test("the bucket goes on where the store left it, and the store where the node did", async () => {
    await using redis = await Redis.start();
    const rule = { capacity: 4, fillRate: 600_000 };
    await using a = await TestNode.start({ store: redis.url, node: "a", rule });
    expect(await a.granted(3)).toBe(3);
    await redis.kill();
    await a.whenUp(false);
    expect(await a.granted(9)).toBe(1);
    await redis.restart();
    await a.whenUp();
    expect((await a.ask()).refusal).toBe("rate_limited");
    await a.whenCounts({ a: 4 });
  });

  test.each(["share", "refuse"] as const)(
    "an unreachable store at the start is said once, and %s is in force",
    async (whenDown) => {
      const redis = await Redis.start();
      await redis.kill();
      await using a = await TestNode.start({ store: redis.url, node: "a", rule: cap(3), whenDown });
      expect(a.up).toBe(false);
      expect(await a.granted(9)).toBe(whenDown === "share" ? 3 : 0);
      await Bun.sleep(500);
      expect(a.messages("fleet store unavailable")).toEqual([
        expect.objectContaining({ level: "warn", store: redis.url, error: "ECONNREFUSED", whenDown }),
      ]);
      await redis.restart();
      await a.whenUp();
      await a.whenCounts(whenDown === "share" ? { a: 3 } : {});
      expect(a.messages("fleet joined")).toHaveLength(1);
      await redis[Symbol.asyncDispose]();
    },
  );
});

describe.skipIf(noRedis)("a store in trouble", () => {
  const rule = { ...bucket(1_000), maxConnections: 6 };

  /** Two nodes that have three connections each; what happens then; whether the counts are right within two heartbeats of the return. */
  async function through(
    trouble: (redis: Redis, a: TestNode, b: TestNode) => Promise<void>,
    timeout = 50,
  ): Promise<void> {
    await using redis = await Redis.start();
    await using a = await TestNode.start({ store: redis.url, node: "a", rule, timeout, heartbeat: 250 });
    await using b = await TestNode.start({ store: redis.url, node: "b", rule, timeout, heartbeat: 250 });
    await a.granted(3);
    await b.granted(3);
    expect((await a.ask()).refusal).toBe("connection_limit");
    while (a.fleet.status()!.nodes.length < 2) await Bun.sleep(5);
    await trouble(redis, a, b);
    for (const node of [a, b]) await node.whenUp();
    const returned = performance.now();
    await a.whenCounts({ a: a.held.get("alice@admin")!.length, b: b.held.get("alice@admin")!.length });
    // Two heartbeats, and what a busy machine adds.
    expect(performance.now() - returned).toBeLessThan(2 * 250 + 500);
    expect((await a.ask()).refusal).toBe("connection_limit");
  }

  /** Every node answers in time, and gives one client no more than its share. */
  async function judgedAlone(...all: TestNode[]): Promise<void> {
    for (const node of all) {
      const { refusal, ms } = await node.ask();
      expect(refusal).toBe("connection_limit");
      expect(ms).toBeLessThan(LONGEST);
      node.release(1);
      const again = await node.ask();
      expect(again.refusal).toBeUndefined();
      expect(again.ms).toBeLessThan(LONGEST);
    }
  }

  test("that is killed and comes back empty", () =>
    through(async (redis, a, b) => {
      await redis.kill();
      await judgedAlone(a, b);
      await redis.restart();
    }));

  test("that is stopped, and goes on with the questions of then", () =>
    through(async (redis, a, b) => {
      redis.stop();
      for (let i = 0; i < 3; i++) await judgedAlone(a, b);
      for (const node of [a, b]) await node.whenUp(false);
      expect((await a.ask()).ms).toBeLessThan(20);
      expect(a.fleet.status()!.errors.timeout).toBeGreaterThan(0);
      redis.goOn();
    }));

  test("that is emptied", () =>
    through(async (redis, a) => {
      await redis.send("FLUSHALL");
      await a.log.line("fleet store was emptied");
    }));

  test("that is emptied forgets no token for longer than a heartbeat", async () => {
    await using redis = await Redis.start();
    await using a = await TestNode.start({ store: redis.url, node: "a", rule: bucket(5) });
    await using b = await TestNode.start({ store: redis.url, node: "b", rule: bucket(5) });
    expect(await a.granted(4)).toBe(4);
    await redis.send("FLUSHALL");
    await a.log.line("fleet store was emptied");
    await a.whenCounts({ a: 4 });
    expect(await b.granted(9)).toBe(1);
  });

  test("that forgets its scripts", () =>
    through(async (redis, a) => {
      await redis.send("SCRIPT", "FLUSH");
      a.release(1);
      expect((await a.ask()).refusal).toBeUndefined();
      expect(a.fleet.status()!.errors).toMatchObject({ timeout: 0, other: 0 });
    }));

  test("that is slow", () =>
    through(async (redis, a, b) => {
      await redis.send("CLIENT", "PAUSE", 400, "ALL");
      await judgedAlone(a, b);
    }));

  test("that hiccups once is not given up, and a late answer heals", () =>
    through(async (redis, a) => {
      a.release(1);
      await a.whenCounts({ a: 2, b: 3 });
      // The store keeps it up for as much as 100 ms more.
      await redis.send("CLIENT", "PAUSE", 300, "ALL");
      expect((await a.ask()).refusal).toBeUndefined();
      expect(a.fleet.status()!.errors.timeout).toBe(1);
      await redis.send("PING");
      expect(a.messages("fleet store unavailable")).toEqual([]);
    }, 250));

  test("that takes the rights away", () =>
    through(async (redis, a, b) => {
      await redis.send("ACL", "SETUSER", "default", "-evalsha", "-eval");
      await judgedAlone(a, b);
      for (const node of [a, b]) await node.whenUp(false);
      expect(a.fleet.status()!.errors.refused).toBeGreaterThan(0);
      await redis.send("ACL", "SETUSER", "default", "+@all");
    }));

  test("that is full", () =>
    through(async (redis, a, b) => {
      await redis.send("CONFIG", "SET", "maxmemory", 1);
      await judgedAlone(a, b);
      for (const node of [a, b]) await node.whenUp(false);
      expect(a.fleet.status()!.errors.full).toBeGreaterThan(0);
      await redis.send("CONFIG", "SET", "maxmemory", 0);
    }));

  test("with a key of another type in the way is in trouble for one client only", async () => {
    await using redis = await Redis.start();
    await using a = await TestNode.start({ store: redis.url, node: "a", rule: cap(3) });
    await a.granted(1);
    const key = (await redis.keys("*:o"))[0]!;
    a.release(1);
    await a.whenCounts({});
    await redis.send("SET", key, "something else");
    for (let i = 0; i < 5; i++) {
      expect(await a.granted(9)).toBe(3);
      a.release(3);
    }
    expect(await a.granted(9, "bob@admin")).toBe(3);
    await Bun.sleep(450);
    expect(a.up).toBe(true);
    const told = a.messages("fleet key holds something else");
    expect(told.length).toBeWithin(1, 3);
    expect(told[0]).toMatchObject({ level: "error" });
    expect(String(told[0]!["key"])).toContain(key.slice(0, -2));
  });
});

describe.skipIf(noRedis)("a store that does not fit", () => {
  async function errorOf(store: string, password?: string): Promise<unknown> {
    await using a = await TestNode.start({ store, node: "a", ...(password !== undefined && { password }) });
    expect(a.up).toBe(false);
    const lines = a.messages("fleet store unavailable");
    expect(lines).toHaveLength(1);
    expect(JSON.stringify(a.log.lines)).not.toContain("secret");
    return lines[0]!["error"];
  }

  test("is told its password, or says what is wrong with it", async () => {
    await using redis = await Redis.start([], { password: "secret" });
    const host = `127.0.0.1:${redis.port}`;
    await using a = await TestNode.start({ store: redis.url, password: "secret", node: "a" });
    await using b = await TestNode.start({ store: `redis://default:secret@${host}/3`, node: "a" });
    expect([a.up, b.up]).toEqual([true, true]);
    // Another database: nobody has the name there.
    expect(b.messages("fleet node name is taken")).toEqual([]);
    expect(await errorOf(redis.url)).toBe("the store wants a password");
    expect(await errorOf(`redis://:not-the-secret@${host}`)).toMatch(
      /^the store refused the password: WRONGPASS/,
    );
    expect(await errorOf(`redis://nobody:secret@${host}`)).toMatch(
      /^the store refused the password: WRONGPASS/,
    );
  });

  test("lets an ACL user with the rights of the page do everything", async () => {
    await using redis = await Redis.start();
    const page = await Bun.file(`${import.meta.dir}/../../src/fleet/README.md`).text();
    const rights = /ACL SETUSER proxy ([^`]*)/
      .exec(page)![1]!
      .replace("PASSWORD", "secret")
      .trim()
      .split(/\s+/);
    await redis.send("ACL", "SETUSER", "proxy", ...rights);
    const store = `redis://proxy:secret@127.0.0.1:${redis.port}`;
    await using a = await TestNode.start({ store, node: "a", rule: { ...bucket(5), maxConnections: 3 } });
    expect(await a.granted(9)).toBe(3);
    a.release(1);
    a.held.get("alice@admin")!.pop()!.cancel();
    await a.whenCounts({ a: 1 });
    expect(await a.fleet.publishBlock({ subject: "x@y", data: "{}", lasting: 0, above: 0 })).toBeGreaterThan(
      0,
    );
    expect((await a.fleet.blocks()).blocks).toHaveLength(1);
    expect(Object.values(a.fleet.status()!.errors)).toEqual([0, 0, 0, 0, 0, 0]);
  });

  test("is used over a socket in the file system, with a password", async () => {
    await using redis = await Redis.start([], { password: "secret" });
    const path = redis.folder.path("r.sock");
    await redis.send("CONFIG", "SET", "unixsocket", path).catch(() => {});
    await using local = await Redis.start(["--unixsocket", path], { password: "secret" });
    await using a = await TestNode.start({
      store: `redis+unix://${path}?db=1`,
      password: "secret",
      node: "a",
      rule: cap(2),
    });
    expect(a.up).toBe(true);
    expect(await a.granted(9)).toBe(2);
    expect(local.url).not.toBe(redis.url);
  });

  test("is warned of where it may drop counts", async () => {
    await using redis = await Redis.start(["--maxmemory-policy", "allkeys-lru"]);
    await using a = await TestNode.start({ store: redis.url, node: "a" });
    expect(a.up).toBe(true);
    expect(a.log.lines.find(({ msg }) => msg.includes("maxmemory-policy"))).toMatchObject({ level: "warn" });
  });

  test("is a cluster", async () => {
    await using redis = await Redis.start(["--cluster-enabled", "yes"]);
    expect(await errorOf(redis.url)).toBe("the store is a Redis Cluster, which is not supported");
  });

  test.each([
    ["HTTP/1.1 400 Bad Request\r\n\r\n", "the store does not speak the protocol of Redis"],
    [
      "$40\r\nredis_version:5.0.14\r\nredis_mode:standalone\r\n",
      "the store is Redis 5.0.14; Redis 6 or later is needed, or Valkey",
    ],
    ["", "no answer"],
  ])("answers %j", async (answer, error) => {
    using server = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: { data: (socket) => void socket.write(answer) },
    });
    expect(await errorOf(`redis://127.0.0.1:${server.port}`)).toBe(error);
  });
});
