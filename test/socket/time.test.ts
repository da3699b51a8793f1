// Timeouts: how long they last, and what restarts them.

import { describe, expect, test } from "bun:test";
import { Blackhole } from "../support/blackhole.ts";
import { connect, echoOrigin, Origin } from "../support/peer.ts";
import { startProxy } from "../support/proxy.ts";

/** A timeout may be late by 250 ms or 10 %, whichever is more, and is never early. A busy machine gets 250 ms more. */
function expectIdleFor(took: number, timeout: number) {
  expect(took).toBeGreaterThanOrEqual(timeout - 1);
  expect(took).toBeLessThanOrEqual(timeout + Math.max(250, timeout / 10) + 250);
}

describe("the idle timeout", () => {
  test.each([100, 700, 1_500])(
    "a connection without a byte is closed after %p ms, on both sides",
    async (timeout) => {
      using origin = new Origin();
      await using proxy = await startProxy([origin.target], { timeout });
      const client = await connect(proxy.port);
      const server = await origin.next();
      const start = performance.now();
      await Promise.all([client.ended, server.closed]);
      expectIdleFor(performance.now() - start, timeout);
      client.close();
      expect((await proxy.log.line("closed")).reason).toBe("idle_timeout");
    },
  );

  test.each(["the client", "the server"])("traffic from %s alone keeps a connection open", async (who) => {
    using origin = new Origin();
    await using proxy = await startProxy([origin.target], { timeout: 400 });
    const client = await connect(proxy.port);
    const server = await origin.next();
    const speaker = who === "the client" ? client : server;
    const start = performance.now();
    let last = start;
    while (last - start < 1_500) {
      expect(await speaker.send("x")).toBe(true);
      last = performance.now();
      await Bun.sleep(100);
    }
    await Promise.all([client.ended, server.closed]);
    expectIdleFor(performance.now() - last, 400);
    client.close();
  });

  test("a half-closed connection is closed by the idle timeout too", async () => {
    using origin = new Origin();
    await using proxy = await startProxy([origin.target], { timeout: 300 });
    // An end is not a byte: the time runs from the last byte, or from the beginning.
    const start = performance.now();
    const client = await connect(proxy.port);
    const server = await origin.next();
    client.end();
    await server.ended;
    await server.closed;
    expectIdleFor(performance.now() - start, 300);
    client.close();
    expect((await proxy.log.line("closed")).reason).toBe("idle_timeout");
  });

  test("a reader that has stopped for good is not waited for", async () => {
    using origin = new Origin((peer) => void peer.send(new Uint8Array(64 * 2 ** 20)));
    await using proxy = await startProxy([origin.target], { timeout: 300 });
    const client = await connect(proxy.port);
    client.socket.pause();
    expect((await proxy.log.line("closed")).reason).toBe("idle_timeout");
    expect(proxy.proxy.stats().connections).toBe(0);
    client.reset();
  });

  test("idle connections are all closed, each at its own time", async () => {
    using origin = new Origin();
    await using proxy = await startProxy([origin.target], { timeout: 500 });
    const started: number[] = [];
    const took = await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        await Bun.sleep(i * 5);
        const client = await connect(proxy.port);
        started.push(i);
        await origin.next();
        const start = performance.now();
        await client.ended;
        client.close();
        return performance.now() - start;
      }),
    );
    for (const each of took) expect(each).toBeGreaterThan(450);
    expect((await proxy.log.count("closed", 60)).map(({ reason }) => reason)).toEqual(
      Array(60).fill("idle_timeout"),
    );
  });
});

test("an attempt to connect is given up after connectTimeout", async () => {
  await using hole = await Blackhole.open();
  await using proxy = await startProxy([hole.target], { connectTimeout: 300 });
  const client = await connect(proxy.port);
  const start = performance.now();
  await client.ended;
  expectIdleFor(performance.now() - start, 290);
  client.close();
  expect((await proxy.log.line("refused")).reason).toBe("no_target");
});

test("two proxies each have their own timeout", async () => {
  using origin = echoOrigin();
  await using quick = await startProxy([origin.target], { timeout: 200 });
  await using slow = await startProxy([origin.target], { timeout: "1m" });
  const [a, b] = [await connect(quick.port), await connect(slow.port)];
  await a.ended;
  await b.send("x");
  expect((await b.read(1)).toString()).toBe("x");
  a.close();
  b.close();
});
