// Active health checks: what takes a target down and up, how connections use the result, and when checks end.

import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import type { UpstreamConfig } from "tcpproxy";
import { Blackhole } from "../support/blackhole.ts";
import { Folder } from "../support/folder.ts";
import { Front } from "../support/front.ts";
import { certPath, echoOrigin, Origin } from "../support/peer.ts";
import { startProxy, testConfig, until, type TestProxy } from "../support/proxy.ts";
import { closedTarget, crowd, health, messages, open } from "../support/served.ts";

type Over = Parameters<typeof startProxy>[1];
type Check = NonNullable<UpstreamConfig["healthCheck"]>;

/** Often, but not so often that a good target fails on a busy machine. */
const OFTEN: Check = { interval: 20, timeout: "10s", rise: 2, fall: 2 };
const SECURE = { ca: certPath("ca.crt") };

const upstream = (
  targets: UpstreamConfig["targets"],
  about: Partial<UpstreamConfig> = {},
): UpstreamConfig => ({ name: "test", targets, authorizedGroups: ["admin"], healthCheck: OFTEN, ...about });

const start = (
  targets: UpstreamConfig["targets"],
  about: Partial<UpstreamConfig> = {},
  over: Over = {},
): Promise<TestProxy> => startProxy([], { ...over, upstreams: [upstream(targets, about)] });

const portOf = (target: string) => Number(target.split(":")[1]);

/** Waits until a server has been checked this many times more. */
async function asked(origin: Origin, times: number): Promise<void> {
  const before = origin.accepted.length;
  await until(() => origin.accepted.length >= before + times, `it is asked ${times} times more`);
}

describe("health checks", () => {
  test("a target goes down after `fall` checks and up after `rise`, and each is logged once", async () => {
    const bad = new Origin((peer) => peer.reset());
    const rule = { ...OFTEN, fall: 4, rise: 3 };
    await using proxy = await start([bad.target], { healthCheck: rule, tls: SECURE });
    const down = await proxy.log.line("target is down");
    expect(bad.accepted).toHaveLength(4);
    expect(down).toMatchObject({ level: "warn", upstream: "test", target: bad.target });
    expect(down.error).toBeString();
    expect(health(proxy)).toEqual(["down"]);
    await asked(bad, 3);
    bad[Symbol.dispose]();
    using good = echoOrigin({ port: bad.port, tls: {} });
    const up = await proxy.log.line("target is up");
    expect(up).toMatchObject({ level: "info", upstream: "test", target: bad.target });
    expect(up.error).toBeUndefined();
    // The server completes the handshake a moment after the client.
    expect(good.accepted.length).toBeGreaterThanOrEqual(2);
    expect(health(proxy)).toEqual(["up"]);
    await asked(good, 3);
    expect(messages(proxy.log, "target is down")).toHaveLength(1);
    expect(messages(proxy.log, "target is up")).toHaveLength(1);
  });

  test("a single failed check among successful ones takes no target down", async () => {
    let count = 0;
    using flaky = new Origin((peer) => (++count % 2 === 0 ? peer.reset() : peer.close()));
    using origin = echoOrigin();
    await using proxy = await start([origin.target, flaky.target], { healthCheck: { ...OFTEN, fall: 2 } });
    // Over plain TCP, a connection is enough: neither a reset nor an end is a failure.
    await asked(flaky, 6);
    expect(messages(proxy.log, "target is down")).toEqual([]);
  });

  test("a target that is down is skipped, without a connection to find out", async () => {
    await using hole = await Blackhole.open();
    using good = echoOrigin();
    await using proxy = await start([hole.target, good.target], {
      healthCheck: { ...OFTEN, timeout: 100, fall: 1 },
    });
    expect(await proxy.log.line("target is down")).toMatchObject({
      target: hole.target,
      error: "ETIMEDOUT",
    });
    // On a busy machine the good target may be late now and then, but not for a minute.
    await until(() => health(proxy)[1] === "up", "the good one is up");
    await crowd(proxy.port, 6);
    expect(messages(proxy.log, "target failed")).toEqual([]);
    expect(open(proxy)).toEqual([0, 6]);
  });

  test("one target is tried when all are down", async () => {
    const target = closedTarget();
    await using proxy = await start([target], { healthCheck: { ...OFTEN, rise: 100 } });
    expect(await proxy.log.line("target is down")).toMatchObject({ error: "ECONNREFUSED" });
    using back = echoOrigin({ port: portOf(target) });
    await crowd(proxy.port, 1);
    expect(health(proxy)).toEqual(["down"]);
    expect(back.accepted.length).toBeGreaterThan(0);
  });

  test("a backup is used while the others are down", async () => {
    using backup = echoOrigin();
    await using proxy = await start([closedTarget(), { address: backup.target, backup: true }]);
    await proxy.log.line("target is down");
    await crowd(proxy.port, 3);
    expect(open(proxy)).toEqual([0, 3]);
    expect(messages(proxy.log, "target failed")).toEqual([]);
  });

  test("a Unix socket that goes and comes is noticed by health checks", async () => {
    using folder = new Folder();
    const unix = folder.path("echo.sock");
    const gone = echoOrigin({ unix });
    await using proxy = await start([`unix:${unix}`]);
    await asked(gone, 2);
    gone[Symbol.dispose]();
    expect(await proxy.log.line("target is down")).toMatchObject({ target: `unix:${unix}` });
    using back = echoOrigin({ unix });
    await proxy.log.line("target is up");
    await crowd(proxy.port, 1);
    expect(back.accepted.length).toBeGreaterThan(0);
  });

  test("workers all follow the health checks of the main thread", async () => {
    const target = closedTarget();
    using good = echoOrigin();
    await using proxy = await start([target, good.target], {}, { workers: 2 });
    await proxy.log.line("target is down");
    await crowd(proxy.port, 20);
    expect(open(proxy)).toEqual([0, 20]);
    expect(messages(proxy.log, "target failed")).toEqual([]);
    using back = echoOrigin({ port: portOf(target) });
    await proxy.log.line("target is up");
    await crowd(proxy.port, 20);
    expect(open(proxy)).toEqual([20, 20]);
    expect(back.accepted.length).toBeGreaterThanOrEqual(20);
  });
});

describe("slow start", () => {
  test("a target that comes up begins with a small share", async () => {
    const target = closedTarget();
    using steady = echoOrigin();
    await using proxy = await start([target, steady.target], { slowStart: "1h" });
    await proxy.log.line("target is down");
    using back = echoOrigin({ port: portOf(target) });
    await proxy.log.line("target is up");
    expect(health(proxy)).toEqual(["starting", "up"]);
    await crowd(proxy.port, 20);
    const [starting = 0, up = 0] = open(proxy);
    // Its share is one tenth, or has just become two tenths.
    expect(starting).toBeOneOf([1, 2]);
    expect(up).toBe(20 - starting);
    expect(back.accepted.length).toBeGreaterThan(0);
  });

  test("a slow start ends with the full share", async () => {
    const target = closedTarget();
    using steady = echoOrigin();
    await using proxy = await start([target, steady.target], { slowStart: 300 });
    await proxy.log.line("target is down");
    using back = echoOrigin({ port: portOf(target) });
    await until(() => health(proxy)[0] === "starting", "it comes up");
    await until(() => health(proxy)[0] === "up", "its slow start is over");
    await crowd(proxy.port, 20);
    expect(open(proxy)).toEqual([10, 10]);
    expect(back.accepted.length).toBeGreaterThan(0);
  });

  test("a slow start does not apply to a target that was up from the start", async () => {
    using a = echoOrigin();
    using b = echoOrigin();
    await using proxy = await start([a.target, b.target], { slowStart: "1h" });
    await asked(a, 3);
    await crowd(proxy.port, 10);
    expect(open(proxy)).toEqual([5, 5]);
  });
});

describe("health checks over TLS", () => {
  test.each([
    ["expired", "server-expired", {}, "CERT_HAS_EXPIRED"],
    ["of another CA", "server", { ca: certPath("ca2.crt") }, "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
    ["for another name", "server", { serverName: "db.example" }, "ERR_TLS_CERT_ALTNAME_INVALID"],
  ])("a target with a certificate %s goes down", async (_, name, tls, error) => {
    using origin = echoOrigin({ tls: { name } });
    await using proxy = await start([origin.target], { tls: { ...SECURE, ...tls } });
    expect(await proxy.log.line("target is down")).toMatchObject({ target: origin.target, error });
  });

  test("a target that stalls in the handshake goes down, and holds no sockets", async () => {
    using origin = new Origin((peer) => void peer.discard());
    await using proxy = await start([origin.target], { healthCheck: { ...OFTEN, timeout: 50 }, tls: SECURE });
    expect(await proxy.log.line("target is down")).toMatchObject({ error: "ETIMEDOUT" });
    await Promise.all(origin.accepted.slice(0, 2).map(({ ended }) => ended));
  });

  test("a target with a good certificate stays up", async () => {
    using origin = echoOrigin({ tls: {} });
    await using proxy = await start([origin.target], { tls: SECURE });
    await asked(origin, 4);
    expect(health(proxy)).toEqual(["up"]);
    expect(messages(proxy.log, "target is down")).toEqual([]);
  });
});

describe("what a health check sends", () => {
  test("a health check over plain TCP sends nothing: it connects and ends", async () => {
    using origin = new Origin();
    await using proxy = await start([origin.target]);
    const peer = await origin.next();
    expect(await peer.rest()).toHaveLength(0);
    expect(messages(proxy.log, "target is down")).toEqual([]);
  });

  const own = {
    v1: Buffer.from("PROXY UNKNOWN\r\n"),
    v2: Buffer.from("0d0a0d0a000d0a515549540a20000000", "hex"),
  };
  test.each(["v1", "v2"] as const)(
    "a health check sends a PROXY header %s that names no client",
    async (proxyProtocol) => {
      using origin = new Origin();
      await using proxy = await start([origin.target], { proxyProtocol });
      const peer = await origin.next();
      expect((await peer.rest()).toString("hex")).toBe(own[proxyProtocol].toString("hex"));
      expect(messages(proxy.log, "target is down")).toEqual([]);
    },
  );

  test.each(["v1", "v2"] as const)(
    "a health check over TLS sends its PROXY header %s before TLS",
    async (proxyProtocol) => {
      using origin = echoOrigin({ tls: {} });
      using front = new Front(origin.port);
      await using proxy = await start([front.target], { proxyProtocol, tls: SECURE });
      expect((await front.header()).toString("hex")).toBe(own[proxyProtocol].toString("hex"));
      await asked(origin, 3);
      expect(messages(proxy.log, "target is down")).toEqual([]);
    },
  );

  test.if(process.platform === "linux")("a health check leaves no descriptor behind", async () => {
    const descriptors = () => readdirSync("/proc/self/fd").length;
    using plain = echoOrigin();
    using secure = echoOrigin({ tls: {} });
    await using proxy = await startProxy([], {
      upstreams: [
        upstream([plain.target], { healthCheck: { ...OFTEN, interval: 2 }, serverNames: ["plain"] }),
        upstream([secure.target], { name: "secure", healthCheck: { ...OFTEN, interval: 2 }, tls: SECURE }),
      ],
    });
    await Promise.all([asked(plain, 5), asked(secure, 5)]);
    const before = descriptors();
    await Promise.all([asked(plain, 50), asked(secure, 50)]);
    await until(() => descriptors() <= before + 5, "descriptors are back");
    expect(messages(proxy.log, "target is down")).toEqual([]);
  });

  test.if(process.platform === "linux")(
    "a health check of a target that never answers holds few descriptors",
    async () => {
      const descriptors = () => readdirSync("/proc/self/fd").length;
      await using hole = await Blackhole.open();
      const before = descriptors();
      await using proxy = await startProxy([hole.target], {
        upstreams: [upstream([hole.target], { healthCheck: { interval: 2, timeout: 2, rise: 1, fall: 40 } })],
      });
      // By then there have been forty checks.
      await proxy.log.line("target is down");
      expect(descriptors()).toBeLessThan(before + 20);
    },
  );
});

describe("the end of health checks", () => {
  /** Counts the checks in a time that is enough for many. That there is none, no event tells. */
  async function counted(origin: Origin): Promise<number> {
    // One may be under way still.
    await Bun.sleep(50);
    const before = origin.accepted.length;
    await Bun.sleep(300);
    return origin.accepted.length - before;
  }

  test("health checks end when the proxy is closed, though connections are still open", async () => {
    using origin = echoOrigin();
    await using proxy = await start([origin.target]);
    const [client] = await crowd(proxy.port, 1);
    await asked(origin, 2);
    const closed = proxy.proxy.close();
    expect(await counted(origin)).toBe(0);
    client!.close();
    expect(await closed).toEqual({ cut: 0 });
  });

  test("health checks end when the proxy is closed in the middle of one", async () => {
    await using hole = await Blackhole.open();
    await using proxy = await start([hole.target], { healthCheck: { ...OFTEN, interval: 1, timeout: "1h" } });
    await Bun.sleep(30);
    expect(await proxy.proxy.close()).toEqual({ cut: 0 });
    expect(messages(proxy.log, "target is down")).toEqual([]);
  });

  test("health checks of a target end when a reload removes it", async () => {
    using gone = echoOrigin();
    using stays = echoOrigin();
    await using proxy = await start([gone.target, stays.target]);
    await Promise.all([asked(gone, 2), asked(stays, 2)]);
    await proxy.proxy.reload(testConfig([], { upstreams: [upstream([stays.target])] }));
    expect(await counted(gone)).toBe(0);
    await asked(stays, 2);
  });

  test("health checks end when a reload removes them, and their results are forgotten", async () => {
    const target = closedTarget();
    await using proxy = await start([target]);
    await proxy.log.line("target is down");
    await proxy.proxy.reload(testConfig([target]));
    expect(health(proxy)).toEqual(["up"]);
    using origin = echoOrigin({ port: portOf(target) });
    expect(await counted(origin)).toBe(0);
  });

  test("health checks begin when a reload adds them, at the interval that it sets", async () => {
    using origin = echoOrigin();
    await using proxy = await start([origin.target], { healthCheck: { interval: "1h" } });
    await proxy.proxy.reload(testConfig([], { upstreams: [upstream([origin.target])] }));
    await asked(origin, 3);
  });

  test("a reload that changes nothing about a target leaves it down", async () => {
    const target = closedTarget();
    using good = echoOrigin();
    await using proxy = await start([target, good.target]);
    await proxy.log.line("target is down");
    await proxy.proxy.reload();
    expect(health(proxy)).toEqual(["down", "up"]);
    await asked(good, 3);
    expect(messages(proxy.log, "target is down")).toHaveLength(1);
    expect(messages(proxy.log, "target is up")).toEqual([]);
  });
});
