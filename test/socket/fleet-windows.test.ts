// What operators see of a fleet, and blocks that hold in all of its proxies.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { ProxyConfig } from "tcpproxy";
import { seriesOf } from "../../src/admin/metrics-reading.ts";
import { STORE_ERRORS } from "../../src/fleet/measures.ts";
import { askSocket, change, SocketFolder, type Answered } from "../support/admin.ts";
import { certPath, connect, echoOrigin, type Origin } from "../support/peer.ts";
import { startProxy, testConfig, until, type TestProxy } from "../support/proxy.ts";
import { Redis, noRedis } from "../support/redis.ts";
import { monitoredAt, scrape } from "../support/scrape.ts";
import { crowd, echoes, isServed, messages, served } from "../support/served.ts";

const rateLimit = { capacity: 50, fillRate: "1h", maxConnections: 5 } as const;

const quick = (redis: Redis, more: Partial<NonNullable<ProxyConfig["fleet"]>> = {}) => ({
  store: redis.url,
  lease: "1s",
  heartbeat: "250ms",
  timeout: "250ms",
  ...more,
});

/** A proxy of the fleet, with a door for operators. */
class Node implements AsyncDisposable {
  readonly folder = new SocketFolder();
  readonly origin: Origin;
  readonly over: Omit<ProxyConfig, "listener">;
  proxy!: TestProxy;

  private constructor(origin: Origin, over: Omit<ProxyConfig, "listener">) {
    this.origin = origin;
    this.over = over;
  }

  static async start(
    origin: Origin,
    fleet: ProxyConfig["fleet"],
    over: Omit<ProxyConfig, "listener"> = {},
  ): Promise<Node> {
    const node = new Node(origin, { rateLimit, ...(fleet && { fleet }), ...over });
    await node.restart();
    return node;
  }

  async restart(): Promise<void> {
    await this.proxy?.[Symbol.asyncDispose]();
    const { socket } = this.folder;
    const admin = { socket, stateDirectory: this.folder.path("state") };
    this.proxy = await startProxy([this.origin.target], { admin, ...this.over });
  }

  get port(): number {
    return this.proxy.port;
  }

  ask(path: string): Promise<Answered> {
    return askSocket(this.folder.socket, path);
  }

  send(method: string, body: object, path = "/v1/blocks"): Promise<Answered> {
    return askSocket(this.folder.socket, path, { ...change(JSON.stringify(body)), method });
  }

  async blocks(): Promise<{ subject: string; fleet: boolean; published?: boolean }[]> {
    return (await this.ask("/v1/blocks")).json.blocks;
  }

  /** Waits until the node has so many blocks. */
  async whenBlocks(count: number): Promise<void> {
    for (let i = 0; (await this.blocks()).length !== count; i++) {
      if (i > 500) throw new Error(`the blocks are ${JSON.stringify(await this.blocks())} to the end`);
      await Bun.sleep(10);
    }
  }

  async [Symbol.asyncDispose]() {
    await this.proxy[Symbol.asyncDispose]();
    this.folder[Symbol.dispose]();
  }
}

/** Waits until what the store knows of clients is this. */
async function whenClients(node: Node, expected: unknown): Promise<void> {
  for (let i = 0; ; i++) {
    const { json } = await node.ask("/v1/clients?fleet");
    if (Bun.deepEquals(json.clients, expected)) return;
    if (i > 500) throw new Error(`the clients are ${JSON.stringify(json)} to the end`);
    await Bun.sleep(10);
  }
}

const alice = { subject: "alice@admin", fleet: true, reason: "left" };

describe.skipIf(noRedis).each([1, 2])("a fleet in the windows, with %i workers", (workers) => {
  test("the state, the metrics and the clients show it, and lose it with a reload", async () => {
    await using redis = await Redis.start(["--requirepass", "hush"], { password: "hush" });
    using origin = echoOrigin();
    const store = redis.url.replace("//", "//:hush@");
    const a = await Node.start(origin, quick(redis, { store, node: "a" }), {
      workers,
      metrics: { address: "127.0.0.1:0" },
    });
    await using _a = a;
    await using b = await Node.start(origin, quick(redis, { store, node: "b" }));
    const clients = [...(await crowd(a.port, 2)), ...(await crowd(b.port, 1))];
    await until(() => a.proxy.proxy.stats().fleet!.nodes.length === 2, "both have heard of each other");
    const { json, text } = await a.ask("/v1/status");
    expect(json.fleet).toMatchObject({ node: "a", store: redis.url, up: true, degraded: false });
    expect(json.fleet.nodes).toEqual(["a", "b"]);
    expect(json.fleet.lastLatencyMs).toBeGreaterThan(0);
    expect(json.fleet.errors).toMatchObject({ timeout: 0, connection: 0 });
    expect(text).not.toContain("hush");
    const metrics = await scrape(await monitoredAt(a.proxy.log));
    expect(metrics.all("fleet_store_up")).toMatchObject([{ value: 1 }]);
    expect(metrics.all("fleet_degraded")).toMatchObject([{ value: 0 }]);
    expect(metrics.all("fleet_nodes")).toMatchObject([{ value: 2 }]);
    expect(metrics.all("fleet_request_duration_seconds_count")).toMatchObject([{ value: 2 }]);
    expect(metrics.all("fleet_request_duration_seconds_bucket", { le: "0.00025" })).toHaveLength(1);
    expect(metrics.all("fleet_errors_total").map(({ labels }) => labels["kind"])).toEqual([...STORE_ERRORS]);
    // There is no revocation list.
    expect(metrics.series.length).toBe(seriesOf(a.proxy.proxy.config) - 1);
    await whenClients(a, [{ client: "alice@admin", open: { a: 2, b: 1 }, total: 3 }]);
    const { json: own } = await a.ask("/v1/clients");
    expect(own.clients).toMatchObject([{ client: "alice@admin", open: 2, maxConnections: 5 }]);
    await redis.kill();
    await until(() => a.proxy.proxy.stats().fleet!.degraded, "the store is lost");
    const { json: down } = await a.ask("/v1/status");
    expect(down.fleet).toMatchObject({ up: false, degraded: true });
    const lost = await scrape(await monitoredAt(a.proxy.log));
    expect([lost.sum("fleet_store_up"), lost.sum("fleet_degraded")]).toEqual([0, 1]);
    expect(lost.sum("fleet_errors_total")).toBeGreaterThan(0);
    const refused = await a.ask("/v1/clients?fleet");
    expect([refused.status, refused.json.error]).toEqual([409, "the fleet's store does not answer"]);
    for (const client of clients) expect(await echoes(client)).toBe(true);
    const { fleet: __, ...alone } = a.over;
    await a.proxy.proxy.reload(testConfig([origin.target], { ...alone, admin: { socket: a.folder.socket } }));
    await until(() => a.proxy.proxy.stats().fleet === undefined, "the fleet is left");
    expect((await a.ask("/v1/status")).json).not.toHaveProperty("fleet");
    expect(
      (await scrape(await monitoredAt(a.proxy.log))).series.filter(({ name }) => name.includes("fleet")),
    ).toEqual([]);
    expect((await a.ask("/v1/clients?fleet")).json.error).toBe("there is no fleet");
  });

  test("a block of the fleet closes and keeps out everywhere, also where there is no door", async () => {
    await using redis = await Redis.start();
    using origin = echoOrigin();
    await using a = await Node.start(origin, quick(redis, { node: "a" }), { workers });
    await using b = await Node.start(origin, quick(redis, { node: "b" }), { workers });
    await using doorless = await startProxy([origin.target], { rateLimit, workers });
    await doorless.proxy.reload(testConfig([origin.target], { rateLimit, workers, fleet: quick(redis) }));
    await doorless.log.line("fleet joined");
    const clients = await Promise.all([a, b, doorless].map(({ port }) => served(port)));
    const { json } = await a.send("PUT", { ...alice, for: "1h" });
    expect(json).toMatchObject({ closed: 1, kept: true, block: { fleet: true, published: true } });
    expect(json.block.actor).toEndWith(" at a");
    await Promise.all(clients.map((client) => client!.ended));
    for (const { log } of [a.proxy, b.proxy, doorless]) await log.line("closed", "blocked");
    for (const { port } of [a, b, doorless]) expect(await isServed(port)).toBe(false);
    expect(await isServed(b.port, "bob")).toBe(true);
    const [seen] = await b.blocks();
    const { until: end, ...rest } = json.block;
    expect(seen).toMatchObject(rest);
    expect(Math.abs(Date.parse((seen as unknown as typeof json.block).until) - Date.parse(end))).toBeLessThan(
      5_000,
    );
    expect(await b.proxy.log.line("fleet blocks changed")).toMatchObject({ blocks: 1, closed: 1 });

    const local = await b.send("DELETE", { subject: "alice@admin" });
    expect([local.status, local.json.error]).toEqual([
      404,
      '"alice@admin" is blocked by the fleet: unblock --fleet ends the block in all proxies',
    ]);
    const ended = await b.send("DELETE", { subject: "alice@admin", fleet: true });
    expect([ended.status, ended.json.block.fleet]).toEqual([200, true]);
    expect(await isServed(b.port)).toBe(true);
    await a.whenBlocks(0);
    expect(await isServed(a.port)).toBe(true);
    await until(() => messages(doorless.log, "fleet blocks changed").length === 2, "the other hears of it");
    expect(await isServed(doorless.port)).toBe(true);
  });
});

test.skipIf(noRedis)(
  "explain names the limits of the fleet, and what decides without its store",
  async () => {
    await using redis = await Redis.start();
    using origin = echoOrigin();
    await using a = await Node.start(origin, quick(redis, { node: "a", whenDown: "refuse" }));
    await using b = await Node.start(origin, quick(redis, { node: "b", whenDown: "share" }));
    await until(() => b.proxy.proxy.stats().fleet!.nodes.length === 2, "it has heard of the other");
    const fleetLine = async (node: Node) => {
      const certificate = readFileSync(certPath("alice.crt"), "utf8");
      const { json } = await node.send("POST", { certificate }, "/v1/explain");
      const line = json.steps.find(({ step }: { step: string }) => step === "fleet");
      return [line.text, json.reason];
    };
    expect(await fleetLine(b)).toEqual([
      "the store decides too: over 2 nodes together the client may have 5 connections, and 50 tokens, one back every 1h",
      undefined,
    ]);
    await redis.kill();
    for (const { proxy } of [a, b]) await proxy.log.line("fleet store unavailable");
    expect(await fleetLine(a)).toEqual([
      "the store does not answer, and a refuses all clients",
      "fleet_unavailable",
    ]);
    expect(await isServed(a.port)).toBe(false);
    expect(await fleetLine(b)).toEqual([
      "the store does not answer, and b decides alone: the client has one of 2 shares of 5 connections, and 50 tokens, one back every 1h",
      undefined,
    ]);
  },
);

describe.skipIf(noRedis)("a block of the fleet", () => {
  test("holds without the store, is told to it when it is back, and says so", async () => {
    await using redis = await Redis.start();
    using origin = echoOrigin();
    await using a = await Node.start(origin, quick(redis, { node: "a" }));
    await using b = await Node.start(origin, quick(redis, { node: "b" }));
    await redis.kill();
    for (const { proxy } of [a, b]) await proxy.log.line("fleet store unavailable");
    const { json } = await a.send("PUT", alice);
    expect(json.block).toMatchObject({ fleet: true, published: false });
    expect(await isServed(a.port)).toBe(false);
    expect(await isServed(b.port)).toBe(true);
    const ended = await a.send("DELETE", { subject: "alice@admin", fleet: true });
    expect(ended.status).toBe(409);
    expect(ended.json.error).toMatch(/store has not been told, and the block holds/);
    await a.restart();
    expect(await a.blocks()).toMatchObject([{ subject: "alice@admin", fleet: true, published: false }]);
    await redis.restart();
    await b.whenBlocks(1);
    expect(await isServed(b.port)).toBe(false);
    await until(() => messages(a.proxy.log, "fleet joined").length === 1, "it is back");
    expect((await a.blocks())[0]).toMatchObject({ published: true });
  });

  test("outlives restarts of its nodes, and the store's emptying", async () => {
    await using redis = await Redis.start();
    using origin = echoOrigin();
    await using a = await Node.start(origin, quick(redis, { node: "a" }));
    await using b = await Node.start(origin, quick(redis, { node: "b" }));
    await a.send("PUT", alice);
    await b.whenBlocks(1);
    await redis.send("FLUSHALL");
    await until(() => messages(b.proxy.log, "fleet store was emptied").length === 1, "it is noticed");
    // A node that has never heard of the block.
    await using c = await Node.start(origin, quick(redis, { node: "c" }));
    await c.whenBlocks(1);
    expect(await isServed(c.port)).toBe(false);
    // One that was away while the block ended.
    await b.proxy[Symbol.asyncDispose]();
    expect((await a.send("DELETE", { subject: "alice@admin", fleet: true })).status).toBe(200);
    await redis.send("FLUSHALL");
    await b.restart();
    for (const node of [a, b, c]) await node.whenBlocks(0);
    expect(await isServed(b.port)).toBe(true);
    // One that starts while the store is away knows what it knew.
    await a.send("PUT", alice);
    await b.whenBlocks(1);
    const kept = () => readFileSync(b.folder.path("state/tcpproxy.state"), "utf8");
    await until(() => kept().includes("alice@admin"), "it is recorded");
    await redis.kill();
    await b.restart();
    expect(await isServed(b.port)).toBe(false);
  });

  test("and one of the proxy alone are two: each ends by itself, and the one that ends last holds", async () => {
    await using redis = await Redis.start();
    using origin = echoOrigin();
    await using a = await Node.start(origin, quick(redis, { node: "a" }));
    await using b = await Node.start(origin, quick(redis, { node: "b" }));
    await b.send("PUT", { subject: "alice@admin" });
    await a.send("PUT", { ...alice, for: "1h" });
    await b.whenBlocks(2);
    const ended = await b.send("DELETE", { subject: "alice@admin" });
    expect(ended.json).toMatchObject({ block: { fleet: false }, still: { fleet: true } });
    expect(await isServed(b.port)).toBe(false);
    await b.send("PUT", { subject: "alice@admin" });
    await a.send("DELETE", { subject: "alice@admin", fleet: true });
    await b.whenBlocks(1);
    expect(await isServed(a.port)).toBe(true);
    expect(await isServed(b.port)).toBe(false);
    expect((await a.send("DELETE", alice)).status).toBe(400);
    const here = await b.send("DELETE", { subject: "alice@admin", fleet: true });
    expect(here.json.error).toMatch(/by this proxy alone/);
  });

  test("is refused where there is no fleet", async () => {
    using origin = echoOrigin();
    await using a = await Node.start(origin, undefined);
    const { status, json } = await a.send("PUT", alice);
    expect([status, json.error]).toEqual([400, "there is no fleet: [fleet] is not configured"]);
    expect(await a.blocks()).toEqual([]);
  });

  test("holds whatever else somebody writes into the store", async () => {
    await using redis = await Redis.start();
    using origin = echoOrigin();
    const write = (subject: string, data: string) =>
      redis.send("HSET", "tcpproxy:blocks", "", "9", subject, `9 0 ${data}`);
    await write("alice@admin", "no JSON\n\u001b[31m");
    await write("nobody", '{"reason":1,"since":-1}');
    await write("bob@admin", `{"reason":"${"x".repeat(10_000)}","actor":[],"since":1e300}`);
    await using a = await Node.start(origin, quick(redis, { node: "a" }));
    expect(await isServed(a.port)).toBe(false);
    const { json } = await a.ask("/v1/blocks");
    expect(json.blocks.map(({ subject }: { subject: string }) => subject).toSorted()).toEqual([
      "alice@admin",
      "bob@admin",
    ]);
    expect(json.blocks.every(({ reason }: { reason: string }) => reason.length <= 500)).toBe(true);
  });
});

/** Each connection that was admitted is open, has closed, or found no target; at rest nothing is open. */
async function expectRest(node: Node, totals: Record<string, number>): Promise<void> {
  await until(() => node.proxy.proxy.stats().connections === 0, "nothing is open");
  await whenClients(node, []);
  const { json } = await node.ask("/v1/status");
  expect(json.totals).toMatchObject(totals);
  expect(json.upstreams[0].open).toBe(0);
  expect(json.listeners[0].handshaking).toBe(0);
  const { admitted, closed } = json.totals;
  expect(admitted).toBe(closed + (json.refusals.no_target ?? 0));
}

describe.skipIf(noRedis).each([1, 2])("nothing stays counted, with %i workers,", (workers) => {
  test("where the fleet refuses, and where no target answers", async () => {
    await using redis = await Redis.start();
    const origin = echoOrigin();
    await using a = await Node.start(origin, quick(redis, { node: "a" }), { workers });
    await using b = await Node.start(origin, quick(redis, { node: "b" }));
    const clients = await crowd(b.port, 5);
    expect(await isServed(a.port)).toBe(false);
    await a.proxy.log.line("refused", "connection_limit");
    for (const client of clients) client.close();
    await expectRest(a, { accepted: 1, admitted: 0, refused: 1, closed: 0 });
    origin[Symbol.dispose]();
    expect(await isServed(a.port)).toBe(false);
    await a.proxy.log.line("refused", "no_target");
    await expectRest(a, { accepted: 2, admitted: 1, refused: 2, closed: 0 });
  });

  test("where clients come and go while the fleet comes and goes", async () => {
    await using redis = await Redis.start();
    using origin = echoOrigin();
    const limits = {
      rateLimit: { capacity: "unlimited" as const, maxConnections: 100 },
      // All of them come from one address, which is no stranger's.
      handshakes: { exempt: ["127.0.0.0/8"] },
    };
    await using a = await Node.start(origin, quick(redis, { node: "a" }), { workers, ...limits });
    const { fleet, ...alone } = a.over;
    const admin = { socket: a.folder.socket };
    let isOver = false;
    const coming = Array.from({ length: 8 }, async (_, i) => {
      while (!isOver) {
        const peer = await connect(a.port);
        if (i % 2 === 0) await echoes(peer);
        if (i % 3 === 0) peer.reset();
        else peer.close();
        await peer.ended;
      }
    });
    for (let i = 0; i < 4; i++) {
      const over = i % 2 === 0 ? alone : { ...alone, fleet: fleet! };
      await a.proxy.proxy.reload(testConfig([origin.target], { ...over, admin }));
      await a.send("POST", { client: "alice@admin" }, "/v1/kick");
      await a.send("PUT", { subject: "alice@admin" });
      await a.send("DELETE", { subject: "alice@admin" });
    }
    isOver = true;
    await Promise.all(coming);
    await until(() => a.proxy.proxy.stats().fleet?.up === true, "it is in the fleet");
    await expectRest(a, {});
    expect(a.proxy.proxy.stats().upstreams[0]!.targets[0]!.open).toBe(0);
  });
});

/** The block is in force before the store, which is stopped, has been told. */
async function blockSoon(node: Node): Promise<void> {
  void node.send("PUT", alice).catch(() => {});
  await node.proxy.log.line("closed", "blocked");
}

describe.skipIf(noRedis).each([1, 2])("while the store is asked, with %i workers", (workers) => {
  test.each<[string, (node: Node, redis: Redis) => Promise<unknown>, string]>([
    ["a kick", (node) => node.send("POST", { client: "alice@admin" }, "/v1/kick"), "kicked"],
    [
      "a kick with a grace",
      (node) => node.send("POST", { client: "alice@admin", grace: "1ms" }, "/v1/kick"),
      "kicked",
    ],
    ["a block of the fleet", (node) => blockSoon(node), "blocked"],
    ["a block", (node) => node.send("PUT", { subject: "alice@admin" }), "blocked"],
  ])("%s ends a connection, and nothing stays counted", async (_, act, reason) => {
    await using redis = await Redis.start();
    using origin = echoOrigin();
    const fleet = quick(redis, { timeout: "9s", heartbeat: "10s", lease: "20s" });
    await using node = await Node.start(origin, fleet, { workers });
    redis.stop();
    const client = await connect(node.port);
    await until(() => node.proxy.proxy.stats().clients === 1, "the client has a place");
    await act(node, redis);
    expect(await node.proxy.log.line("closed", reason)).toMatchObject({ endedBy: "proxy" });
    await client.ended;
    redis.goOn();
    await until(() => node.proxy.proxy.stats().fleet!.durations.sum > 0, "the store has answered");
    await whenClients(node, []);
    const { json } = await node.ask("/v1/status");
    expect(json.totals).toMatchObject({ accepted: 1, admitted: 1, refused: 0, closed: 1 });
    expect(json.upstreams[0]).toMatchObject({ open: 0 });
    expect(json.connections.open).toBe(0);
    expect(json.listeners[0].handshaking).toBe(0);
    expect(origin.accepted).toEqual([]);
  });
});
