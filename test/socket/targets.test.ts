// Which target gets a connection: kinds of targets, weights, backups, and targets that fail.

import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import type { UpstreamConfig } from "tcpproxy";
import { Run } from "../support/binary.ts";
import { Blackhole, NarrowSocket } from "../support/blackhole.ts";
import { Folder } from "../support/folder.ts";
import { certPath, connect, echoOrigin, Origin, type OriginOptions, type Peer } from "../support/peer.ts";
import { startProxy, testConfig, until, type TestProxy } from "../support/proxy.ts";
import { closedTarget, crowd, health, messages, open } from "../support/served.ts";

type Over = Parameters<typeof startProxy>[1];

const start = (
  targets: UpstreamConfig["targets"],
  about: Partial<UpstreamConfig> = {},
  over: Over = {},
): Promise<TestProxy> =>
  startProxy([], { ...over, upstreams: [{ name: "test", targets, authorizedGroups: ["admin"], ...about }] });

describe("Unix sockets", () => {
  test("a Unix socket is a target like any other", async () => {
    using folder = new Folder();
    using origin = echoOrigin({ unix: folder.path("echo.sock") });
    await using proxy = await start([origin.target]);
    const [client] = await crowd(proxy.port, 1);
    client!.end();
    expect(await client!.rest()).toHaveLength(0);
    expect(await proxy.log.line("closed")).toMatchObject({
      target: `unix:${folder.path("echo.sock")}`,
      bytesIn: 1,
      bytesOut: 1,
      reason: "closed",
    });
    expect(open(proxy)).toEqual([0]);
    client!.close();
  });

  test("a Unix socket that does not exist is passed over, and used once it does", async () => {
    using folder = new Folder();
    using good = echoOrigin();
    await using proxy = await start([`unix:${folder.path("late.sock")}`, good.target]);
    const clients = await crowd(proxy.port, 1);
    expect(await proxy.log.line("target failed")).toMatchObject({
      target: `unix:${folder.path("late.sock")}`,
      error: "ENOENT",
    });
    using late = echoOrigin({ unix: folder.path("late.sock") });
    await until(() => health(proxy)[0] === "up", "its time has passed");
    clients.push(...(await crowd(proxy.port, 3)));
    expect(late.accepted.length).toBeGreaterThan(0);
    for (const client of clients) client.close();
  });
});

describe.if(process.platform === "linux")("Unix sockets whose queue is full", () => {
  test("a Unix socket whose queue is full is waited for", async () => {
    using folder = new Folder();
    using narrow = new NarrowSocket(folder.path("narrow.sock"));
    await using proxy = await start([narrow.target]);
    const [first, second] = [await connect(proxy.port), await connect(proxy.port)];
    await until(() => open(proxy)[0] === 2, "both are dialled");
    for (let i = 0; i < 2; i++) await until(() => narrow.take(), "one is connected");
    await Promise.all([first.ended, second.ended]);
    first.close();
    second.close();
    await proxy.log.count("closed", 2);
    expect(messages(proxy.log, "target failed")).toEqual([]);
  });

  test("a Unix socket whose queue is full is waited for until connectTimeout, and then passed over", async () => {
    using folder = new Folder();
    using narrow = new NarrowSocket(folder.path("narrow.sock"));
    using good = echoOrigin();
    await using proxy = await start(
      [narrow.target, { address: good.target, backup: true }],
      {},
      { connectTimeout: 150 },
    );
    const first = await connect(proxy.port);
    await until(() => open(proxy)[0] === 1, "the queue is full");
    const [second] = await crowd(proxy.port, 1);
    expect(await proxy.log.line("target failed")).toMatchObject({
      target: narrow.target,
      error: "ETIMEDOUT",
    });
    first.close();
    second!.close();
  });
});

/** A server in a process of its own that sends the same bytes to each client and closes at once. */
async function quick(path: string, length: number): Promise<Disposable> {
  const script = `
    const bytes = new Uint8Array(${length}).fill(120);
    const go = (socket) => {
      socket.data = bytes.subarray(bytes.length - socket.data.length + socket.write(socket.data));
      if (socket.data.length === 0) socket.end();
    };
    Bun.listen({ unix: ${JSON.stringify(path)}, socket: {
      open: (socket) => { socket.data = bytes; go(socket); }, drain: go, data() {},
    } });
    console.log("ready");`;
  const server = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" });
  await server.stdout.getReader().read();
  return { [Symbol.dispose]: () => server.kill() };
}

describe("bytes of Unix sockets", () => {
  test("all bytes and an orderly end arrive from 400 servers at Unix sockets that answer and close at once", async () => {
    using folder = new Folder();
    using _ = await quick(folder.path("quick.sock"), 4);
    await using proxy = await start([`unix:${folder.path("quick.sock")}`]);
    const visits = Array.from({ length: 10 }, async () => {
      for (let i = 0; i < 40; i++) {
        const client = await connect(proxy.port);
        expect((await client.rest()).toString()).toBe("xxxx");
        client.close();
      }
    });
    await Promise.all(visits);
    const lines = await proxy.log.count("closed", 400);
    expect(new Set(lines.map(({ bytesOut, reason }) => `${bytesOut} ${reason}`))).toEqual(
      new Set(["4 closed"]),
    );
    expect(messages(proxy.log, "target failed")).toEqual([]);
  });

  test("all of the megabytes from a Unix socket arrive at a slow reader when the server has long closed", async () => {
    using folder = new Folder();
    const length = 5_000_000;
    using _ = await quick(folder.path("quick.sock"), length);
    await using proxy = await start([`unix:${folder.path("quick.sock")}`]);
    const visits = Array.from({ length: 8 }, async () => {
      const client = (await connect(proxy.port)).discard();
      let over = false;
      void client.ended.then(() => (over = true));
      while (!over) {
        client.socket.pause();
        await Bun.sleep(3);
        client.socket.resume();
        await Bun.sleep(1);
      }
      expect(client.received).toBe(length);
      client.close();
    });
    await Promise.all(visits);
    const lines = await proxy.log.count("closed", 8);
    expect(new Set(lines.map(({ reason }) => reason))).toEqual(new Set(["closed"]));
  });

  test.if(process.platform === "linux")(
    "servers at Unix sockets that answer and close leave no descriptor behind, with two workers either",
    async () => {
      using folder = new Folder();
      using _ = await quick(folder.path("quick.sock"), 4);
      await using proxy = await start([`unix:${folder.path("quick.sock")}`], {}, { workers: 2 });
      const descriptors = () => readdirSync("/proc/self/fd").length;
      const before = descriptors();
      for (let i = 1; i <= 100; i++) {
        const client = await connect(proxy.port);
        expect((await client.rest()).toString()).toBe("xxxx");
        client.close();
      }
      const lines = await proxy.log.count("closed", 100);
      expect(new Set(lines.map(({ reason }) => reason))).toEqual(new Set(["closed"]));
      await until(() => descriptors() <= before + 5, "descriptors are back");
    },
  );

  test("bytes go on to a server at a Unix socket after the client has its end, and the other way round", async () => {
    using folder = new Folder();
    using origin = new Origin(() => {}, { unix: folder.path("half.sock") });
    await using proxy = await start([origin.target]);
    const pair = async () => [await connect(proxy.port), await origin.next()] as const;
    const long = "long ".repeat(200_000);

    const [asking, answering] = await pair();
    await asking.send("question");
    asking.end();
    expect((await answering.rest()).toString()).toBe("question");
    await answering.send(long);
    answering.close();
    expect((await asking.rest()).toString() === long).toBe(true);
    asking.close();

    const [listening, telling] = await pair();
    await telling.send("that is all");
    telling.end();
    expect((await listening.rest()).toString()).toBe("that is all");
    await listening.send(long);
    listening.end();
    expect((await telling.rest()).toString() === long).toBe(true);
    telling.close();
    listening.close();

    const lines = await proxy.log.count("closed", 2);
    expect(lines.map(({ bytesIn, bytesOut, reason }) => [bytesIn, bytesOut, reason])).toEqual([
      [8, long.length, "closed"],
      [long.length, 11, "closed"],
    ]);
  });

  test("a server at a Unix socket that has not read everything resets the client, and its answer arrives", async () => {
    using folder = new Folder();
    using origin = new Origin(
      (peer) => {
        peer.socket.pause();
        void peer.send("busy").then(() => setTimeout(() => peer.close(), 50));
      },
      { unix: folder.path("busy.sock") },
    );
    await using proxy = await start([origin.target]);
    const client = await connect(proxy.port);
    await client.send("question");
    expect((await client.rest()).toString()).toBe("busy");
    client.close();
    expect(await proxy.log.line("closed")).toMatchObject({ bytesOut: 4, reason: "upstream_reset" });
    expect(messages(proxy.log, "target failed")).toEqual([]);
  });

  test("an answer is whole when a server at a Unix socket has left before the client's bytes arrive", async () => {
    using folder = new Folder();
    using origin = new Origin((peer) => void peer.send("bye").then(() => peer.close()), {
      unix: folder.path("bye.sock"),
    });
    await using proxy = await start([origin.target]);
    const client = await connect(proxy.port);
    expect((await client.rest()).toString()).toBe("bye");
    await client.send("one more thing");
    expect(await proxy.log.line("closed")).toMatchObject({
      bytesIn: 0,
      bytesOut: 3,
      reason: "upstream_reset",
    });
    expect(open(proxy)).toEqual([0]);
    client.close();
  });
});

describe("weights", () => {
  test("weights of 3 to 1 divide 8 open connections into 6 and 2", async () => {
    using a = echoOrigin();
    using b = echoOrigin();
    await using proxy = await start([{ address: a.target, weight: 3 }, b.target]);
    await crowd(proxy.port, 8);
    expect(open(proxy)).toEqual([6, 2]);
    expect([a.accepted.length, b.accepted.length]).toEqual([6, 2]);
  });

  test("weights of 3 to 1 hold for connections one after the other, and again after some have left", async () => {
    using a = echoOrigin();
    using b = echoOrigin();
    await using proxy = await start([a.target, { address: b.target, weight: 3 }]);
    const clients: Peer[] = [];
    for (let i = 0; i < 8; i++) clients.push(...(await crowd(proxy.port, 1)));
    expect(open(proxy)).toEqual([2, 6]);
    for (const client of clients.splice(0, 4)) client.close();
    await proxy.log.count("closed", 4);
    await crowd(proxy.port, 4);
    expect(open(proxy)).toEqual([2, 6]);
  });

  const equal: [string, Over, OriginOptions, Partial<UpstreamConfig>][] = [
    ["with two workers", { workers: 2 }, {}, {}],
    ["over TLS", {}, { tls: {} }, { tls: { ca: certPath("ca.crt") } }],
    ["with two workers over TLS", { workers: 2 }, { tls: {} }, { tls: { ca: certPath("ca.crt") } }],
  ];
  test.each(equal)(
    "40 clients at once are spread over 4 equal targets as 10 each, %s",
    async (_, over, options, about) => {
      const origins = Array.from({ length: 4 }, () => echoOrigin(options));
      await using proxy = await start(
        origins.map(({ target }) => target),
        about,
        over,
      );
      const clients = await crowd(proxy.port, 40);
      expect(origins.map(({ accepted }) => accepted.length)).toEqual([10, 10, 10, 10]);
      expect(open(proxy)).toEqual([10, 10, 10, 10]);
      for (const client of clients) client.close();
      await proxy.log.count("closed", 40);
      expect(open(proxy)).toEqual([0, 0, 0, 0]);
      for (const origin of origins) origin[Symbol.dispose]();
    },
  );
});

describe("backups", () => {
  test("a backup gets nothing while another target is healthy", async () => {
    using main = echoOrigin();
    using backup = echoOrigin();
    await using proxy = await start([{ address: backup.target, backup: true }, main.target]);
    await crowd(proxy.port, 6);
    expect(open(proxy)).toEqual([0, 6]);
  });

  test("a backup gets everything while no other target is healthy, and nothing more once one is back", async () => {
    const main = closedTarget();
    using backup = echoOrigin();
    await using proxy = await start([main, { address: backup.target, backup: true }]);
    await crowd(proxy.port, 4);
    expect(open(proxy)).toEqual([0, 4]);
    using back = echoOrigin({ port: Number(main.split(":")[1]) });
    await until(() => health(proxy)[0] === "up", "its time has passed");
    // The first connection proves that the target is back, and then the others use it.
    await crowd(proxy.port, 1);
    await crowd(proxy.port, 4);
    expect(open(proxy)).toEqual([5, 4]);
    expect(back.accepted).toHaveLength(5);
  });

  test("a backup that fails is no better than a main target that fails: each is tried", async () => {
    const [main, backup] = [closedTarget(), closedTarget()];
    await using proxy = await start([main, { address: backup, backup: true }]);
    const client = await connect(proxy.port);
    await client.ended;
    client.close();
    await proxy.log.line("refused", "no_target");
    expect(messages(proxy.log, "target failed").map(({ target }) => target)).toEqual([main, backup]);
  });
});

describe("targets that fail again and again", () => {
  test("a target is ejected after `fall` failures in a row, which is logged once, and so is its return", async () => {
    const bad = closedTarget();
    await using proxy = await start([bad], { healthCheck: { interval: "1h", fall: 2 } });
    for (let i = 1; i <= 4; i++) {
      const client = await connect(proxy.port);
      await client.ended;
      client.close();
      await proxy.log.count("refused", i);
      expect(health(proxy)).toEqual([i < 2 ? "suspect" : "ejected"]);
    }
    expect(messages(proxy.log, "target failed")).toHaveLength(4);
    expect(messages(proxy.log, "target ejected")).toEqual([
      expect.objectContaining({ level: "warn", upstream: "test", target: bad }),
    ]);
    using back = echoOrigin({ port: Number(bad.split(":")[1]) });
    // It is tried although it may still be ejected: there is no other target.
    await crowd(proxy.port, 3);
    expect(messages(proxy.log, "target is back")).toEqual([
      expect.objectContaining({ level: "info", upstream: "test", target: bad }),
    ]);
    expect(health(proxy)).toEqual(["up"]);
    expect(back.accepted).toHaveLength(3);
  });

  test("a target gets no connections while it is ejected", async () => {
    const bad = closedTarget();
    using good = echoOrigin();
    await using proxy = await start([bad, good.target], { healthCheck: { interval: "1h", fall: 1 } });
    await crowd(proxy.port, 1);
    await proxy.log.line("target ejected");
    await crowd(proxy.port, 10);
    expect(messages(proxy.log, "target failed")).toHaveLength(1);
    expect(open(proxy)).toEqual([0, 11]);
  });

  test("a target comes back with a growing share where there is a slow start", async () => {
    const bad = closedTarget();
    using good = echoOrigin();
    await using proxy = await start([bad, good.target], {
      healthCheck: { interval: "1h", fall: 1 },
      slowStart: "1h",
    });
    await crowd(proxy.port, 1);
    await proxy.log.line("target ejected");
    using back = echoOrigin({ port: Number(bad.split(":")[1]) });
    good.stop();
    // It is the only target that is left.
    await crowd(proxy.port, 1);
    await proxy.log.line("target is back");
    expect(health(proxy)[0]).toBe("starting");
    expect(back.accepted).toHaveLength(1);
  });

  test("a target that fails for a whole flood of connections is ejected once", async () => {
    using good = echoOrigin();
    const bad = closedTarget();
    await using proxy = await start([bad, good.target], { healthCheck: { interval: "1h", fall: 1 } });
    await crowd(proxy.port, 30);
    expect(messages(proxy.log, "target ejected")).toHaveLength(1);
  });
});

describe("upstreams whose targets are all ejected", () => {
  test("the least bad target is tried when all are ejected", async () => {
    await using hole = await Blackhole.open();
    const bad = closedTarget();
    await using proxy = await start(
      [hole.target, bad],
      { healthCheck: { interval: "1h", fall: 1 } },
      { connectTimeout: 100 },
    );
    for (let i = 1; i <= 2; i++) {
      const client = await connect(proxy.port);
      await client.ended;
      client.close();
      await proxy.log.count("refused", i);
    }
    expect(health(proxy)).toEqual(["ejected", "ejected"]);
    using back = echoOrigin({ port: Number(bad.split(":")[1]) });
    await crowd(proxy.port, 1);
    expect(back.accepted).toHaveLength(1);
    expect(health(proxy)[1]).toBe("up");
  });
});

describe("names of targets", () => {
  test("a name that does not resolve is a warning at the start, and its neighbour serves", async () => {
    using good = echoOrigin();
    await using proxy = await start(["no-such-host.invalid:1", good.target]);
    await until(
      () =>
        proxy.log.lines.some(({ level, msg }) => level === "warn" && msg.includes('"no-such-host.invalid"')),
      "the log says so",
      20_000,
    );
    await crowd(proxy.port, 3);
    expect(open(proxy)).toEqual([0, 3]);
  });

  test("`proxy check` warns of a name that does not resolve, and finds nothing wrong", async () => {
    using folder = new Folder();
    await Bun.write(
      folder.path("proxy.json"),
      JSON.stringify(testConfig(["no-such-host.invalid:1", "localhost:1"])),
    );
    await using run = await Run.start(["check", "--config", folder.path("proxy.json")]);
    expect(await run.exit()).toBe(0);
    const text = `${await run.stdout}${run.stderr}`;
    expect(text).toContain('the target host "no-such-host.invalid" does not resolve');
    expect(text).not.toContain('"localhost" does not resolve');
  });

  test("a name that has several addresses is reached at the one that answers", async () => {
    // "localhost" may be ::1 too; this server listens on 127.0.0.1 only.
    using origin = echoOrigin();
    await using proxy = await start([`localhost:${origin.port}`]);
    await crowd(proxy.port, 5);
    expect(messages(proxy.log, "target failed")).toEqual([]);
  });
});
