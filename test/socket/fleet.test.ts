// Proxies that share a store: what clients and targets see of it.

import { describe, expect, test } from "bun:test";
import { createProxy, type ProxyConfig } from "tcpproxy";
import { connect, certPath, echoOrigin, Origin } from "../support/peer.ts";
import { Log, startProxy, testConfig, until, type TestProxy } from "../support/proxy.ts";
import { Random } from "../support/random.ts";
import { Redis, noRedis } from "../support/redis.ts";
import { echoes, messages, reasons, served } from "../support/served.ts";

type FleetKeys = NonNullable<ProxyConfig["fleet"]>;

const quick = (redis: Redis, more: Partial<FleetKeys> = {}): FleetKeys => ({
  store: redis.url,
  lease: "1s",
  heartbeat: "250ms",
  ...more,
});

/** How long the churn goes on: three seconds, or as told. */
const CHURN_MS = Number(Bun.env["FLEET_CHURN_MS"] ?? 3_000);

/** Three proxies, one of them with two worker threads. */
async function three(targets: string[], over: Omit<ProxyConfig, "listener">): Promise<TestProxy[]> {
  // All of them come from one address, which is no stranger's.
  const handshakes = { exempt: ["127.0.0.0/8"] };
  return Promise.all([1, 2, 1].map((workers) => startProxy(targets, { ...over, handshakes, workers })));
}

async function end(proxies: readonly TestProxy[]): Promise<void> {
  for (const proxy of proxies) await proxy[Symbol.asyncDispose]();
}

/** What the store knows of a client's connections, by node. */
async function counts(redis: Redis): Promise<number[]> {
  const keys = await redis.keys("*:o");
  const all = await Promise.all(keys.map((key) => redis.send("HGETALL", key) as Promise<string[]>));
  return all.flatMap((fields) =>
    fields.flatMap((field, i) => (field.startsWith("n:") ? [Number(fields[i + 1]!.split(" ")[2])] : [])),
  );
}

/** Waits until the store knows of so many connections, over all nodes and clients. */
async function known(redis: Redis, total: number): Promise<void> {
  for (let i = 0; ; i++) {
    const all = await counts(redis);
    if (all.reduce((a, b) => a + b, 0) === total) return;
    if (i > 1_000) throw new Error(`the store knows of ${all.join(", ")}`);
    await Bun.sleep(10);
  }
}

describe.skipIf(noRedis)("three proxies, with one and two workers", () => {
  test("admit exactly the tokens of one bucket to 200 clients at once", async () => {
    await using redis = await Redis.start();
    using origin = echoOrigin();
    const proxies = await three([origin.target], {
      fleet: quick(redis, { timeout: "250ms" }),
      rateLimit: { capacity: 10, fillRate: "1h" },
    });
    const clients = await Promise.all(Array.from({ length: 200 }, (_, i) => served(proxies[i % 3]!.port)));
    expect(clients.filter((client) => client !== undefined)).toHaveLength(10);
    expect(origin.accepted).toHaveLength(10);
    const why = new Set(proxies.flatMap(({ log }) => reasons(log)));
    expect([...why]).toEqual(["rate_limited"]);
    await end(proxies);
  });

  test("share the limits of a group and of a client, each over all of them", async () => {
    await using redis = await Redis.start();
    using origin = echoOrigin();
    const proxies = await three([origin.target], {
      fleet: quick(redis, { timeout: "250ms" }),
      rateLimit: { capacity: "unlimited" },
      limits: [
        { match: "*@admin", maxConnections: 4 },
        { match: "bob@admin", capacity: 6, fillRate: "1h", maxConnections: 50 },
      ],
    });
    const among = async (name: string) => {
      const all = Array.from({ length: 30 }, (_, i) => served(proxies[i % 3]!.port, name));
      return (await Promise.all(all)).filter((client) => client !== undefined).length;
    };
    expect([await among("alice"), await among("bob")]).toEqual([4, 6]);
    await end(proxies);
  });

  test(
    "never have more connections of a client open than its cap, over a time of coming and going",
    async () => {
      await using redis = await Redis.start();
      let open = 0;
      let most = 0;
      using origin = new Origin(async (peer) => {
        open++;
        void peer.closed.then(() => open--);
        // A connection whose end has come in by now, beside the new one, is none any more.
        await new Promise(setImmediate);
        most = Math.max(most, open);
        for (let chunk = await peer.some(); chunk.length > 0; chunk = await peer.some())
          await peer.send(chunk);
        peer.close();
      });
      const proxies = await three([origin.target], {
        // Nothing is decided without the store, however busy the machine.
        fleet: quick(redis, { timeout: "2s", heartbeat: "2s", lease: "10s" }),
        rateLimit: { capacity: "unlimited", maxConnections: 5 },
      });
      const until = performance.now() + CHURN_MS;
      let admitted = 0;
      const client = async (seed: number) => {
        const random = new Random(seed);
        while (performance.now() < until) {
          const peer = await served(random.pick(proxies).port);
          if (peer === undefined) {
            await Bun.sleep(random.int(5, 50));
            continue;
          }
          admitted++;
          await Bun.sleep(random.int(0, 20));
          if (random.int(0, 3) === 0) peer.reset();
          else peer.close();
          await peer.closed;
        }
      };
      await Promise.all(Array.from({ length: 40 }, (_, seed) => client(seed)));
      expect(proxies.map(({ proxy }) => proxy.stats().fleet!.errors.timeout)).toEqual([0, 0, 0]);
      expect(most).toBe(5);
      expect(admitted).toBeGreaterThan(20);
      expect(new Set(proxies.flatMap(({ log }) => reasons(log)))).toEqual(new Set(["connection_limit"]));
      await known(redis, 0);
      await end(proxies);
    },
    CHURN_MS + 30_000,
  );
});

describe.skipIf(noRedis)("a proxy in a fleet", () => {
  test("gives back its own place and token where the fleet refuses", async () => {
    await using redis = await Redis.start();
    using origin = echoOrigin();
    const rateLimit = { capacity: 2, fillRate: "1h", maxConnections: 1 };
    await using a = await startProxy([origin.target], { fleet: quick(redis), rateLimit });
    await using b = await startProxy([origin.target], { fleet: quick(redis), rateLimit });
    const first = (await served(a.port))!;
    for (let i = 0; i < 5; i++) expect(await served(b.port)).toBeUndefined();
    await b.log.count("refused", 5);
    expect(reasons(b.log)).toEqual(Array(5).fill("connection_limit"));
    expect(messages(b.log, "refused")[0]).toMatchObject({ client: "alice@admin", upstream: "test" });
    first.close();
    await known(redis, 0);
    expect(await served(b.port)).toBeDefined();
  });

  test("gives the token back where no target answers", async () => {
    await using redis = await Redis.start();
    const origin = echoOrigin();
    const rateLimit = { capacity: 1, fillRate: "1h" };
    await using a = await startProxy([origin.target], { fleet: quick(redis), rateLimit });
    origin[Symbol.dispose]();
    for (let i = 0; i < 3; i++) {
      expect(await served(a.port)).toBeUndefined();
      await until(() => reasons(a.log).length === i + 1, "it is refused");
      await known(redis, 0);
    }
    expect(reasons(a.log)).toEqual(Array(3).fill("no_target"));
  });

  test("leaves no trace without a fleet", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    expect(await served(proxy.port)).toBeDefined();
    expect(proxy.proxy.stats()).not.toHaveProperty("fleet");
    expect(proxy.log.lines.filter(({ msg }) => msg.startsWith("fleet"))).toEqual([]);
  });

  test("counts connections from before a reload put it into one, and goes on after it was taken out", async () => {
    await using redis = await Redis.start();
    using origin = echoOrigin();
    const rateLimit = { capacity: "unlimited" as const, maxConnections: 3 };
    for (const workers of [1, 2]) {
      await using proxy = await startProxy([origin.target], { rateLimit, workers });
      const before = (await served(proxy.port))!;
      const over = { rateLimit, workers, fleet: quick(redis) };
      await proxy.proxy.reload(testConfig([origin.target], over));
      await known(redis, 1);
      await proxy.log.line("fleet joined");
      const after = (await served(proxy.port))!;
      await known(redis, 2);
      before.close();
      await known(redis, 1);
      await proxy.proxy.reload(testConfig([origin.target], { rateLimit, workers }));
      await known(redis, 0);
      expect(await echoes(after)).toBe(true);
      expect(await served(proxy.port)).toBeDefined();
      // Both are counted once it is in a fleet again.
      await proxy.proxy.reload(testConfig([origin.target], over));
      await known(redis, 2);
    }
    await known(redis, 0);
  });

  test("closes nothing that is open when the store dies, and serves clients in time", async () => {
    await using redis = await Redis.start();
    using origin = echoOrigin();
    const rateLimit = { capacity: "unlimited" as const, maxConnections: 3 };
    const proxies = await three([origin.target], { fleet: quick(redis, { whenDown: "refuse" }), rateLimit });
    const clients = await Promise.all(proxies.map(({ port }) => served(port)));
    await redis.kill();
    for (const { log } of proxies) await log.line("fleet store unavailable");
    for (const client of clients) expect(await echoes(client!)).toBe(true);
    for (const { port, log } of proxies) {
      expect(await served(port)).toBeUndefined();
      await log.line("refused", "fleet_unavailable");
    }
    await redis.restart();
    for (const { log } of proxies) await log.line("fleet store is back");
    await known(redis, 3);
    for (const { port } of proxies) expect(await served(port)).toBeUndefined();
    clients[0]!.close();
    await known(redis, 2);
    expect(await served(proxies[1]!.port)).toBeDefined();
    await end(proxies);
  });
});

describe.skipIf(noRedis).each([1, 2])("while the store is asked, with %i workers", (workers) => {
  /** A proxy whose next client waits for the store; `goOn` has the store answer. */
  async function asking(over: Omit<ProxyConfig, "listener"> = {}) {
    const redis = await Redis.start();
    const origin = echoOrigin();
    const fleet = quick(redis, { timeout: "9s", heartbeat: "10s", lease: "20s" });
    const config = { rateLimit: { capacity: 5, fillRate: "1h", maxConnections: 5 }, fleet, workers, ...over };
    const proxy = await startProxy([origin.target], config);
    redis.stop();
    const client = await connect(proxy.port);
    await until(() => proxy.proxy.stats().clients === 1, "the client has a place");
    return {
      redis,
      origin,
      proxy,
      client,
      config,
      async [Symbol.asyncDispose]() {
        redis.goOn();
        await proxy[Symbol.asyncDispose]();
        await redis[Symbol.asyncDispose]();
        origin[Symbol.dispose]();
      },
    };
  }

  test("a client's bytes, and its end, wait for the target", async () => {
    await using it = await asking();
    await it.client.send("early");
    it.client.end();
    await Bun.sleep(20);
    expect(it.origin.accepted).toEqual([]);
    it.redis.goOn();
    expect(String(await it.client.rest())).toBe("early");
    expect(await it.proxy.log.line("closed")).toMatchObject({ reason: "closed", bytesIn: 5, bytesOut: 5 });
    await known(it.redis, 0);
  });

  test("a client that leaves reaches no target, and what it is granted is given back", async () => {
    await using it = await asking();
    it.client.reset();
    expect(await it.proxy.log.line("closed")).toMatchObject({ reason: "client_reset", endedBy: "client" });
    expect(it.proxy.proxy.stats().connections).toBe(0);
    it.redis.goOn();
    await until(() => it.proxy.proxy.stats().fleet!.durations.sum > 0, "the store has answered");
    await known(it.redis, 0);
    expect(it.origin.accepted).toEqual([]);
    expect((await served(it.proxy.port)) !== undefined).toBe(true);
  });

  test("a client that a reload revokes is closed at once", async () => {
    await using it = await asking();
    const upstreams = [{ name: "test", targets: [it.origin.target], authorizedGroups: ["others"] }];
    await it.proxy.proxy.reload(testConfig([], { ...it.config, upstreams }));
    expect(await it.proxy.log.line("closed")).toMatchObject({ reason: "authorization_revoked" });
    expect(await it.client.rest()).toHaveLength(0);
    it.redis.goOn();
    await until(() => it.proxy.proxy.stats().fleet!.durations.sum > 0, "the store has answered");
    await known(it.redis, 0);
    expect(it.origin.accepted).toEqual([]);
  });

  test("a shutdown cuts it, and the fleet is left", async () => {
    await using it = await asking();
    const closing = it.proxy.proxy.close({ timeout: 0 });
    expect(await it.proxy.log.line("closed")).toMatchObject({ reason: "shutdown" });
    it.redis.goOn();
    expect(await closing).toEqual({ cut: 1 });
    await known(it.redis, 0);
    expect(await it.redis.send("EXISTS", "tcpproxy:nodes")).toBe(0);
  });

  test("a reload that takes the fleet out lets it in", async () => {
    await using it = await asking();
    const { fleet: _, ...config } = it.config;
    await it.proxy.proxy.reload(testConfig([it.origin.target], config));
    expect(await echoes(it.client)).toBe(true);
    it.redis.goOn();
    await known(it.redis, 0).catch(() => {});
  });

  test("limits of a group and of a client are in force for the next question", async () => {
    await using it = await asking();
    const limits = [
      { match: "*@admin", capacity: 1 },
      { match: "bob@admin", capacity: 2 },
    ];
    await it.proxy.proxy.reload(testConfig([it.origin.target], { ...it.config, limits }));
    it.redis.goOn();
    expect(await echoes(it.client)).toBe(true);
    expect(await served(it.proxy.port)).toBeUndefined();
    for (let i = 0; i < 2; i++) expect(await served(it.proxy.port, "bob")).toBeDefined();
    expect(await served(it.proxy.port, "bob")).toBeUndefined();
  });

  test("another capacity is in force for the next question", async () => {
    await using it = await asking();
    const rateLimit = { capacity: 1, fillRate: "1h" };
    await it.proxy.proxy.reload(testConfig([it.origin.target], { ...it.config, rateLimit }));
    it.redis.goOn();
    expect(await echoes(it.client)).toBe(true);
    expect(await served(it.proxy.port)).toBeUndefined();
    await it.proxy.log.line("refused", "rate_limited");
  });
});

describe.skipIf(noRedis)("a store with TLS", () => {
  const files = ["--tls-cert-file", certPath("server.crt"), "--tls-key-file", certPath("key.pem")];
  const mutual = ["--tls-ca-cert-file", certPath("ca.crt"), "--tls-auth-clients", "yes"];

  async function secure(): Promise<{ redis: Redis; port: number }> {
    const { freePort } = await import("../support/free-port.ts");
    const port = freePort();
    return { redis: await Redis.start(["--tls-port", String(port), ...files, ...mutual]), port };
  }

  async function joins(fleet: FleetKeys): Promise<unknown> {
    const log = new Log();
    const proxy = createProxy(testConfig(["127.0.0.1:9"], { fleet }), { logger: log });
    await proxy.listen();
    const [line] = log.lines.filter(({ msg }) => msg.startsWith("fleet"));
    await proxy.close({ timeout: 0 });
    return line!.msg === "fleet joined" ? true : line!["error"];
  }

  test("is verified by its CA and name, and verifies the proxy", async () => {
    const { redis, port } = await secure();
    await using _ = redis;
    const own = { certificate: certPath("alice.crt"), privateKey: certPath("key.pem") };
    const ca = certPath("ca.crt");
    expect(await joins({ store: `rediss://localhost:${port}`, tls: { ca, ...own } })).toBe(true);
    expect(await joins({ store: `rediss://127.0.0.1:${port}`, tls: { ca, ...own } })).toBe(true);
    expect(await joins({ store: `rediss://127.0.0.2:${port}`, tls: { ca, ...own } })).not.toBe(true);
    expect(await joins({ store: `rediss://localhost:${port}`, tls: { ca } })).not.toBe(true);
    const stranger = { ca: certPath("stranger-ca.crt"), ...own };
    const env = Bun.env["NODE_TLS_REJECT_UNAUTHORIZED"];
    Bun.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0";
    expect(await joins({ store: `rediss://localhost:${port}`, tls: stranger })).not.toBe(true);
    if (env === undefined) delete Bun.env["NODE_TLS_REJECT_UNAUTHORIZED"];
  });
});
