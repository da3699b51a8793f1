// Limits of one client and of all clients together, seen from outside.

import { describe, expect, test } from "bun:test";
import { connectPlain, echoOrigin, type Peer } from "../support/peer.ts";
import { startProxy, until } from "../support/proxy.ts";
import { reasons, served } from "../support/served.ts";

describe("the token bucket", () => {
  test("a token bucket admits its capacity at once, and then one connection per fill rate", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { rateLimit: { capacity: 3, fillRate: 400 } });
    const start = performance.now();
    for (let i = 0; i < 3; i++) expect(await served(proxy.port)).toBeDefined();
    expect(await served(proxy.port)).toBeUndefined();
    expect(reasons(proxy.log)).toEqual(["rate_limited"]);
    while ((await served(proxy.port)) === undefined);
    expect(performance.now() - start).toBeGreaterThanOrEqual(399);
    expect(origin.accepted).toHaveLength(4);
  });

  test("a connection that closes gives no tokens back", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { rateLimit: { capacity: 1, fillRate: "1h" } });
    (await served(proxy.port))!.close();
    await proxy.log.line("closed");
    expect(await served(proxy.port)).toBeUndefined();
  });

  test("a token bucket belongs to the whole name: another certificate of the same name shares it, another name does not", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([], {
      upstreams: [{ name: "both", targets: [origin.target], authorizedGroups: ["admin", "ops"] }],
      rateLimit: { capacity: 1, fillRate: "1h" },
    });
    expect(await served(proxy.port, "alice")).toBeDefined();
    expect(await served(proxy.port, "alice-again")).toBeUndefined();
    expect(await served(proxy.port, "alice-ops")).toBeDefined();
    expect(await served(proxy.port, "bob")).toBeDefined();
    expect(proxy.log.lines.filter(({ msg }) => msg === "refused")).toEqual([
      expect.objectContaining({ client: "alice@admin", upstream: "both", reason: "rate_limited" }),
    ]);
  });

  test("a token bucket admits exactly its capacity of a hundred connections at the same instant", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { rateLimit: { capacity: 17, fillRate: "1h" } });
    const clients = await Promise.all(Array.from({ length: 100 }, () => served(proxy.port)));
    expect(clients.filter((client) => client !== undefined)).toHaveLength(17);
    await proxy.log.count("refused", 83);
    expect(reasons(proxy.log)).toEqual(Array(83).fill("rate_limited"));
    expect(origin.accepted).toHaveLength(17);
  });

  test("a token bucket is forgotten when its client is gone and it is full again", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { rateLimit: { capacity: 5, fillRate: 50 } });
    const clients = await Promise.all(["alice", "bob", "dave"].map((name) => served(proxy.port, name)));
    expect(proxy.proxy.stats().clients).toBe(3);
    for (const client of clients) client!.close();
    await until(() => proxy.proxy.stats().clients === 0, "no client is stored");
  });
});

describe("open connections of a client", () => {
  test("a client's open connections are held to the cap, and the next one is admitted when one has gone", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], {
      rateLimit: { capacity: 100, fillRate: "1h", maxConnections: 2 },
    });
    const first = (await served(proxy.port))!;
    expect(await served(proxy.port)).toBeDefined();
    expect(await served(proxy.port)).toBeUndefined();
    expect(await served(proxy.port, "bob")).toBeDefined();
    expect(reasons(proxy.log)).toEqual(["connection_limit"]);
    first.close();
    await proxy.log.line("closed");
    expect(await served(proxy.port)).toBeDefined();
    expect(await served(proxy.port)).toBeUndefined();
  });

  test("a client's connections at the same instant are admitted up to the cap exactly", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], {
      rateLimit: { capacity: 1_000, fillRate: 1, maxConnections: 7 },
    });
    const clients = await Promise.all(Array.from({ length: 60 }, () => served(proxy.port)));
    expect(clients.filter((client) => client !== undefined)).toHaveLength(7);
  });

  test("a client's connections give their place back however they end", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], {
      rateLimit: { capacity: 1_000, fillRate: 1, maxConnections: 1 },
    });
    const ways: ((client: Peer) => void)[] = [
      (client) => client.close(),
      (client) => client.reset(),
      (client) => client.end(),
      () => origin.accepted.at(-1)!.reset(),
      (client) => {
        origin.accepted.at(-1)!.close();
        client.close();
      },
    ];
    for (const [i, way] of ways.entries()) {
      const client = await served(proxy.port);
      expect({ i, served: client !== undefined }).toEqual({ i, served: true });
      way(client!);
      await proxy.log.count("closed", i + 1);
      client!.reset();
    }
  });
});

describe("connections of all clients", () => {
  test("all connections together are held to maxConnections, handshaking ones included; the surplus is closed at once, and the proxy recovers", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { maxConnections: 3, handshakeTimeout: "1m" });
    const client = (await served(proxy.port))!;
    const silent = await connectPlain(proxy.port);
    const other = (await served(proxy.port, "bob"))!;
    await until(() => proxy.proxy.stats().connections === 3, "three are in");

    const surplus = await connectPlain(proxy.port);
    // The silent one, if it has been silent for long enough to lose its place: a slow machine takes that long.
    const gone = await Promise.race([surplus, silent].map(async (each) => (await each.ended, each)));
    expect(await proxy.log.line("refused")).toMatchObject({
      reason: "overloaded",
      remote: expect.any(String),
    });

    // The admitted clients notice nothing.
    await client.send("y");
    expect((await client.read(1)).toString()).toBe("y");
    (gone === surplus ? silent : surplus).reset();
    await proxy.log.line("refused", "handshake_failed");
    expect(await served(proxy.port)).toBeDefined();
    other.close();
  });

  test("all connections of a flood above maxConnections are refused, and afterwards everything is as before", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { maxConnections: 5, handshakeTimeout: "1m" });
    const flood = await Promise.allSettled(Array.from({ length: 300 }, () => connectPlain(proxy.port)));
    await proxy.log.count("refused", 295);
    expect(new Set(reasons(proxy.log))).toEqual(new Set(["overloaded"]));
    expect(proxy.proxy.stats().connections).toBe(5);
    for (const result of flood) if (result.status === "fulfilled") result.value.reset();
    await until(() => proxy.proxy.stats().connections === 0, "the flood has gone");
    expect(await served(proxy.port)).toBeDefined();
  });

  test("two proxies of one process share one budget of descriptors, and give it all back", async () => {
    const { processBudget } = await import("../../src/lib/descriptors.ts");
    const before = processBudget().used;
    using origin = echoOrigin();
    await using a = await startProxy([origin.target]);
    await using b = await startProxy([origin.target]);
    const clients = [await served(a.port), await served(b.port), await served(b.port)];
    expect(processBudget().used).toBe(before + 6);
    for (const client of clients) client!.close();
    await a.log.count("closed", 1);
    await b.log.count("closed", 2);
    expect(processBudget().used).toBe(before);
  });
});

describe("handshakes", () => {
  /** Clients of which one half is silent, and the other sends the beginning of a ClientHello byte by byte. */
  async function strangers(port: number, count: number) {
    const peers = await Promise.all(Array.from({ length: count }, () => connectPlain(port)));
    const hello = Uint8Array.of(22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, ...new Uint8Array(300));
    let at = 0;
    const trickle = setInterval(() => {
      for (const peer of peers.slice(count / 2)) peer.socket.write(hello.subarray(at, at + 1));
      at++;
    }, 20);
    const leave = () => {
      clearInterval(trickle);
      for (const peer of peers) peer.close();
    };
    return { peers, [Symbol.dispose]: leave };
  }

  test("handshakes that are silent or trickle in do not delay other clients", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { handshakeTimeout: "1m" });
    using _ = await strangers(proxy.port, 40);
    for (let i = 0; i < 5; i++) (await served(proxy.port))!.close();
    // All of them were connected meanwhile.
    await proxy.log.count("closed", 5);
    expect(proxy.proxy.stats().connections).toBe(40);
    expect(reasons(proxy.log)).toEqual([]);
  });

  test("handshakes that are silent or trickle in are cut at handshakeTimeout, and nothing is held", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { handshakeTimeout: 600 });
    const start = performance.now();
    {
      using there = await strangers(proxy.port, 40);
      await Promise.all(there.peers.map((peer) => peer.ended));
      expect(performance.now() - start).toBeGreaterThanOrEqual(599);
      await proxy.log.count("refused", 40);
      expect(reasons(proxy.log)).toEqual(Array(40).fill("handshake_timeout"));
    }
    await until(() => proxy.proxy.stats().connections === 0, "nothing is held");
  });
});
