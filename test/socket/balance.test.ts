// Which target a connection reaches, and what happens when a target fails: the client notices nothing.

import { describe, expect, test } from "bun:test";
import { PENALTY_MS } from "../../src/state/balancer.ts";
import { Blackhole } from "../support/blackhole.ts";
import { connect, echoOrigin, Origin, type Peer } from "../support/peer.ts";
import { startProxy, until } from "../support/proxy.ts";
import { freePort } from "../support/free-port.ts";
import { echoes, open } from "../support/served.ts";

describe("least connections", () => {
  test("40 clients at the same instant are spread over 4 targets as 10 each, and none is counted once they have left", async () => {
    const origins = Array.from({ length: 4 }, () => echoOrigin());
    await using proxy = await startProxy(origins.map(({ target }) => target));
    const clients = await Promise.all(Array.from({ length: 40 }, () => connect(proxy.port)));
    expect(await Promise.all(clients.map(echoes))).toEqual(Array(40).fill(true));
    expect(origins.map(({ accepted }) => accepted.length)).toEqual([10, 10, 10, 10]);
    expect(open(proxy)).toEqual([10, 10, 10, 10]);
    for (const client of clients) client.close();
    await proxy.log.count("closed", 40);
    expect(open(proxy)).toEqual([0, 0, 0, 0]);
    for (const origin of origins) origin[Symbol.dispose]();
  });

  test("a target whose clients have left gets the next ones", async () => {
    using a = echoOrigin();
    using b = echoOrigin();
    await using proxy = await startProxy([a.target, b.target]);
    const clients: Peer[] = [];
    for (let i = 0; i < 6; i++) {
      clients.push(await connect(proxy.port));
      expect(await echoes(clients[i]!)).toBe(true);
    }
    expect(open(proxy)).toEqual([3, 3]);
    // Those of the second target leave.
    for (const i of [1, 3, 5]) clients[i]!.close();
    await proxy.log.count("closed", 3);
    for (let i = 0; i < 3; i++) await echoes(await connect(proxy.port));
    expect(open(proxy)).toEqual([3, 3]);
    expect(b.accepted).toHaveLength(6);
  });
});

describe("targets that are passed over", () => {
  test("a target that refuses the connection is passed over", async () => {
    using good = echoOrigin();
    const bad = freePort();
    await using proxy = await startProxy([`127.0.0.1:${bad}`, good.target]);
    const clients = await Promise.all(Array.from({ length: 10 }, () => connect(proxy.port)));
    expect(await Promise.all(clients.map(echoes))).toEqual(Array(10).fill(true));
    expect(await proxy.log.line("target failed")).toMatchObject({
      upstream: "test",
      target: `127.0.0.1:${bad}`,
      error: "ECONNREFUSED",
    });
    expect(open(proxy)).toEqual([0, 10]);
  });

  test("a target that resets as soon as it is reached is passed over", async () => {
    using good = echoOrigin();
    using bad = new Origin((peer) => peer.reset());
    await using proxy = await startProxy([bad.target, good.target]);
    const client = await connect(proxy.port);
    await good.next();
    expect(await echoes(client)).toBe(true);
    expect(bad.accepted).toHaveLength(1);
    expect(open(proxy)).toEqual([0, 1]);
  });

  test("a target that resets long after it was reached, before the client has sent anything, is passed over", async () => {
    using good = echoOrigin();
    using bad = new Origin();
    await using proxy = await startProxy([bad.target, good.target], { timeout: "1m", connectTimeout: 200 });
    const client = await connect(proxy.port);
    const server = await bad.next();
    // connectTimeout has to pass without an effect; no event tells of that.
    await Bun.sleep(300);
    server.reset();
    await good.next();
    expect(await echoes(client)).toBe(true);
    expect(await proxy.log.line("target failed")).toMatchObject({ target: bad.target, error: "ECONNRESET" });
    expect(open(proxy)).toEqual([0, 1]);
    client.close();
    expect(await proxy.log.line("closed")).toMatchObject({ target: good.target, bytesIn: 1, bytesOut: 1 });
  });

  test("a target that never answers is passed over", async () => {
    using good = echoOrigin();
    await using hole = await Blackhole.open();
    await using proxy = await startProxy([hole.target, good.target], { connectTimeout: 200 });
    const client = await connect(proxy.port);
    expect(await echoes(client)).toBe(true);
    expect(await proxy.log.line("target failed")).toMatchObject({ target: hole.target, error: "ETIMEDOUT" });
    // From then on, no client waits for it.
    const start = performance.now();
    for (let i = 0; i < 5; i++) expect(await echoes(await connect(proxy.port))).toBe(true);
    expect(performance.now() - start).toBeLessThan(200);
    expect(open(proxy)).toEqual([0, 6]);
  });

  test("a target whose name does not resolve is passed over", async () => {
    using good = echoOrigin();
    await using proxy = await startProxy(["no-such-host.invalid:1", good.target]);
    expect(await echoes(await connect(proxy.port))).toBe(true);
    expect(await proxy.log.line("target failed")).toMatchObject({
      error: expect.stringMatching(/^(ENOTFOUND|EAI_AGAIN|ESERVFAIL)$/),
    });
  });

  test("a target that breaks off is passed over before it has sent anything, and not after, as the client would see it twice", async () => {
    using good = echoOrigin();
    using bad = new Origin((peer) => void peer.send("hello").then(() => peer.reset()));
    await using proxy = await startProxy([bad.target, good.target]);
    const client = await connect(proxy.port);
    await client.rest();
    await proxy.log.line("closed", "upstream_reset");
    expect(good.accepted).toHaveLength(0);
  });

  test("a target that breaks off is passed over, and one that ends at once is not, as an end is its answer", async () => {
    using good = echoOrigin();
    using bad = new Origin((peer) => peer.close());
    await using proxy = await startProxy([bad.target, good.target]);
    const client = await connect(proxy.port);
    expect(await client.rest()).toHaveLength(0);
    client.close();
    expect((await proxy.log.line("closed")).reason).toBe("closed");
    expect(good.accepted).toHaveLength(0);
  });
});

describe("requests", () => {
  test.each([0, 20])(
    "a target that reads a request and resets after %p ms is the only one to see it",
    async (ms) => {
      using good = echoOrigin();
      using bad = new Origin(async (peer) => {
        await peer.read(4);
        // Not a wait: the delay is what this test varies.
        await Bun.sleep(ms);
        peer.reset();
      });
      await using proxy = await startProxy([bad.target, good.target]);
      const client = await connect(proxy.port);
      await client.send("work");
      expect(await client.rest()).toHaveLength(0);
      client.close();
      expect(await proxy.log.line("closed")).toMatchObject({
        target: bad.target,
        bytesIn: 4,
        bytesOut: 0,
        reason: "upstream_reset",
      });
      expect([bad.accepted.length, good.accepted.length]).toEqual([1, 0]);
    },
  );

  test("an end that was passed on is not passed on again", async () => {
    using good = echoOrigin();
    using bad = new Origin((peer) => void peer.ended.then(() => peer.reset()));
    await using proxy = await startProxy([bad.target, good.target]);
    const client = await connect(proxy.port);
    client.end();
    await client.ended;
    client.close();
    expect((await proxy.log.line("closed")).reason).toBe("upstream_reset");
    expect(good.accepted).toHaveLength(0);
  });

  test("a request reaches one target at most, whenever a target resets, and whole where it is answered", async () => {
    // Some of the targets that reset at once have been written to by then.
    const seen: string[] = [];
    const note = async (peer: Peer) => void seen.push((await peer.some()).toString());
    using bad = new Origin((peer) => {
      void note(peer);
      peer.reset();
    });
    using good = new Origin(async (peer) => {
      const request = (await peer.rest()).toString();
      seen.push(request);
      await peer.send(request);
      peer.close();
    });
    await using proxy = await startProxy([bad.target, good.target], {
      upstreams: [
        {
          name: "test",
          targets: [bad.target, good.target],
          authorizedGroups: ["admin"],
          healthCheck: { interval: "1h", fall: 100 },
        },
      ],
    });
    for (let i = 0; i < 40; i++) {
      const client = await connect(proxy.port);
      await client.send(`request ${i}`);
      client.end();
      expect((await client.rest()).toString()).toBeOneOf(["", `request ${i}`]);
      client.close();
    }
    await until(() => proxy.proxy.stats().connections === 0, "all are over");
    const requests = seen.filter((request) => request !== "");
    expect(new Set(requests).size).toBe(requests.length);
  });
});

describe("failures that a client causes", () => {
  test("clients whose garbage makes the server reset do not make it ejected, nor suspect", async () => {
    using server = new Origin(async (peer) => {
      const said = (await peer.some()).toString();
      if (said === "garbage") peer.reset();
      else await peer.send(said);
    });
    await using proxy = await startProxy([], {
      upstreams: [
        {
          name: "test",
          targets: [server.target],
          authorizedGroups: ["admin"],
          healthCheck: { interval: "1h", fall: 2 },
        },
      ],
    });
    for (let i = 1; i <= 12; i++) {
      const client = await connect(proxy.port);
      await client.send("garbage");
      await client.ended;
      client.close();
      await proxy.log.count("closed", i);
      expect(proxy.proxy.stats().upstreams[0]!.targets[0]!.health).toBe("up");
    }
    expect(proxy.log.lines.filter(({ msg }) => msg.startsWith("target"))).toEqual([]);
    expect(await echoes(await connect(proxy.port))).toBe(true);
  });

  test("resets before anything was written are held against a target, and repeated ones make it ejected", async () => {
    using bad = new Origin((peer) => peer.reset());
    using good = echoOrigin();
    await using proxy = await startProxy([], {
      upstreams: [
        {
          name: "test",
          targets: [bad.target, { address: good.target, backup: true }],
          authorizedGroups: ["admin"],
          healthCheck: { interval: "1h", fall: 1 },
        },
      ],
    });
    const client = await connect(proxy.port);
    await good.next();
    expect(await echoes(client)).toBe(true);
    expect(await proxy.log.line("target ejected")).toMatchObject({ target: bad.target });
  });
});

describe("upstreams without a working target", () => {
  test("each target is tried once when none answers, then the client is closed and its token given back", async () => {
    await using hole = await Blackhole.open();
    const ports = [freePort(), freePort()];
    const targets = [...ports.map((port) => `127.0.0.1:${port}`), hole.target];
    await using proxy = await startProxy(targets, {
      connectTimeout: 150,
      rateLimit: { capacity: 1, fillRate: "1h" },
    });
    for (let i = 1; i <= 3; i++) {
      const client = await connect(proxy.port);
      await client.ended;
      client.close();
      await proxy.log.count("refused", i);
      const failed = proxy.log.lines.filter(({ msg }) => msg === "target failed").map(({ target }) => target);
      expect(new Set(failed.slice(-3))).toEqual(new Set(targets));
      expect(failed).toHaveLength(3 * i);
    }
    expect(proxy.log.lines.filter(({ msg }) => msg === "refused")).toEqual(
      Array(3).fill(
        expect.objectContaining({ client: "alice@admin", upstream: "test", reason: "no_target" }),
      ),
    );
    expect(open(proxy)).toEqual([0, 0, 0]);
    expect(proxy.proxy.stats().connections).toBe(0);
  });
});

describe("targets that recover", () => {
  test("a target that is back is used again, by itself", async () => {
    using steady = echoOrigin();
    const port = freePort();
    await using proxy = await startProxy([`127.0.0.1:${port}`, steady.target]);
    expect(await echoes(await connect(proxy.port))).toBe(true);
    await proxy.log.line("target failed");
    using back = echoOrigin({ port });
    const deadline = performance.now() + PENALTY_MS + 5_000;
    while (back.accepted.length === 0 && performance.now() < deadline) {
      const client = await connect(proxy.port);
      expect(await echoes(client)).toBe(true);
      client.close();
    }
    expect(back.accepted.length).toBeGreaterThan(0);
  });
});
