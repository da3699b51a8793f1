// Several worker threads act as one proxy: limits and balancing are exact over all of them.

import { describe, expect, test } from "bun:test";
import { connect as connectTls } from "node:tls";
import { createProxy } from "tcpproxy";
import { processBudget } from "../../src/lib/descriptors.ts";
import { cert, connect, connectPlain, echoOrigin } from "../support/peer.ts";
import { Log, startProxy, testConfig, until, type TestProxy } from "../support/proxy.ts";
import { Random } from "../support/random.ts";
import { open, reasons, served } from "../support/served.ts";

const many = (count: number, proxy: TestProxy, name?: string) =>
  Promise.all(Array.from({ length: count }, () => served(proxy.port, name)));

/** Which worker threads have written such lines: what stands before a connection's number. */
const writers = (proxy: TestProxy, msg: string) =>
  new Set(
    proxy.log.lines.filter((line) => line.msg === msg).map(({ id }) => String(id).replace(/-[^-]*$/, "")),
  );

describe.each([2, 3])("limits, with %i workers", (workers) => {
  test("40 clients at the same instant are spread over 4 targets as 10 each, and none is counted once they have left", async () => {
    const origins = Array.from({ length: 4 }, () => echoOrigin());
    const targets = origins.map(({ target }) => target);
    await using proxy = await startProxy(targets, { workers });
    const clients = (await many(40, proxy)).filter((client) => client !== undefined);
    expect(origins.map(({ accepted }) => accepted.length)).toEqual([10, 10, 10, 10]);
    expect(open(proxy)).toEqual([10, 10, 10, 10]);
    expect(proxy.proxy.stats()).toMatchObject({ connections: 40, clients: 1 });
    for (const client of clients) client.close();
    await proxy.log.count("closed", 40);
    expect(open(proxy)).toEqual([0, 0, 0, 0]);
    expect(proxy.proxy.stats().connections).toBe(0);
    // All workers took part: the chance that one of three gets none of 40 connections is 1 in ten million.
    expect(writers(proxy, "closed").size).toBe(workers);
    for (const origin of origins) origin[Symbol.dispose]();
  });

  test("a bucket of 3 admits 3 clients, whichever workers accept them", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], {
      workers,
      rateLimit: { capacity: 3, fillRate: "1h" },
    });
    expect((await many(30, proxy)).filter((client) => client !== undefined)).toHaveLength(3);
    expect((await many(30, proxy, "bob")).filter((client) => client !== undefined)).toHaveLength(3);
    await proxy.log.count("refused", 54);
    expect(reasons(proxy.log)).toEqual(Array(54).fill("rate_limited"));
    expect(writers(proxy, "refused").size).toBe(workers);
    expect(proxy.proxy.stats().clients).toBe(2);
  });

  test("a client's cap of open connections is one for all workers, and a place is free again at once", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], {
      workers,
      rateLimit: { capacity: 1_000, fillRate: 1, maxConnections: 5 },
    });
    const clients = (await many(40, proxy)).filter((client) => client !== undefined);
    expect(clients).toHaveLength(5);
    await proxy.log.count("refused", 35);
    expect(reasons(proxy.log)).toEqual(Array(35).fill("connection_limit"));
    clients[0]!.close();
    await proxy.log.count("closed", 1);
    expect((await many(20, proxy)).filter((client) => client !== undefined)).toHaveLength(1);
  });

  test("maxConnections is one for all workers, handshaking ones included", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], {
      workers,
      maxConnections: 7,
      handshakeTimeout: "1m",
    });
    const flood = await Promise.allSettled(Array.from({ length: 200 }, () => connectPlain(proxy.port)));
    await proxy.log.count("refused", 193);
    expect(new Set(reasons(proxy.log))).toEqual(new Set(["overloaded"]));
    expect(proxy.proxy.stats().connections).toBe(7);
    for (const result of flood) if (result.status === "fulfilled") result.value.reset();
    await until(() => proxy.proxy.stats().connections === 0, "the flood has gone");
    expect((await many(7, proxy)).filter((client) => client !== undefined)).toHaveLength(7);
  });

  test("hundreds of short connections, cut at random, leave every count at zero", async () => {
    const origins = Array.from({ length: 3 }, () => echoOrigin());
    const targets = origins.map(({ target }) => target);
    const before = processBudget().used;
    await using proxy = await startProxy(targets, {
      workers,
      rateLimit: { capacity: 1_000, fillRate: 1 },
      // All of these clients have one address, and many break off: the limits of a source would delay them.
      handshakes: { exempt: ["127.0.0.0/8"] },
    });
    const random = new Random(workers);
    const one = async () => {
      const way = random.int(0, 5);
      if (way === 0) return (await connectPlain(proxy.port)).reset();
      const client = await connect(proxy.port, { name: random.pick(["alice", "bob", "carol"]) });
      if (way === 1) return client.reset();
      await client.send("some bytes");
      if (way === 2) return client.reset();
      if (way === 3) client.end();
      await client.read(random.int(1, 10));
      if (way === 4) random.pick(origins).accepted.at(-1)?.reset();
      client.close();
    };
    for (let i = 0; i < 600; i += 30) await Promise.all(Array.from({ length: 30 }, one));
    const ended = () => proxy.log.lines.filter(({ msg }) => msg === "closed" || msg === "refused").length;
    await until(() => ended() === 600, "each of 600 has its line", 20_000);
    expect(proxy.proxy.stats().connections).toBe(0);
    expect(open(proxy)).toEqual([0, 0, 0]);
    expect(processBudget().used).toBe(before);
    // Once the buckets are full again, no client is stored.
    await until(() => proxy.proxy.stats().clients === 0, "no client is stored");
    expect(proxy.log.lines.filter(({ level }) => level === "error")).toEqual([]);
    const ids = proxy.log.lines.filter(({ msg }) => msg === "closed").map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const origin of origins) origin[Symbol.dispose]();
  });
});

test("a ticket is accepted by every worker: resumed or not, the client is served", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], { workers: 2 });
  let session: Buffer | undefined;
  for (let i = 0; i < 20; i++) {
    const socket = connectTls({
      host: "127.0.0.1",
      port: proxy.port,
      servername: "localhost",
      ca: cert("ca.crt"),
      cert: cert("alice.crt"),
      key: cert("key.pem"),
      ...(session && { session }),
    });
    const ticket = new Promise<Buffer>((resolve) => socket.once("session", resolve));
    const answer = new Promise<Buffer>((resolve, reject) => {
      socket.once("data", resolve);
      socket.once("error", reject);
      socket.once("close", () => reject(new Error(`connection ${i} was closed`)));
    });
    socket.write("hello");
    expect((await answer).toString()).toBe("hello");
    session = await ticket;
    socket.destroy();
  }
  expect(origin.accepted).toHaveLength(20);
});

describe("a proxy that is closed while its workers start", () => {
  test.each([0, 5, 20, 40])(
    "a proxy that is closed %i ms after its start leaves no workers behind",
    async (ms) => {
      const proxy = createProxy(testConfig(["127.0.0.1:1"], { workers: 3 }), { logger: new Log() });
      const listening = proxy.listen().then(
        ({ port }) => port,
        (error: unknown) => error,
      );
      if (ms > 0) await Bun.sleep(ms);
      await proxy.close();
      const port = await listening;
      if (typeof port !== "number")
        expect(String(port)).toContain("the proxy was closed while it was starting");
      else await expect(connectPlain(port)).rejects.toThrow();
    },
  );
});
