// Which open connections stay: after a reload that changes the rules, when a certificate expires, and at the end of
// maxConnectionDuration.

import { describe, expect, test } from "bun:test";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import type { ProxyConfig } from "tcpproxy";
import { Blackhole } from "../support/blackhole.ts";
import { issue, makeAuthority, revoke, testAuthority, type Identity } from "../support/issue.ts";
import { cert, certPath, connect, echoOrigin, Origin, type Peer } from "../support/peer.ts";
import { startProxy, testConfig, until, type TestProxy } from "../support/proxy.ts";
import { Tap } from "../support/tap.ts";

/** A folder for the files of a test. */
class Folder implements AsyncDisposable {
  readonly path = mkdtempSync(`${tmpdir()}/tcpproxy-authorization-`);

  async file(name: string, text: string): Promise<string> {
    await Bun.write(`${this.path}/${name}`, text);
    return `${this.path}/${name}`;
  }

  async [Symbol.asyncDispose]() {
    await rm(this.path, { recursive: true, force: true });
  }
}

type Over = Parameters<typeof testConfig>[1];

/** Authorizes all clients of test/certs: the tests are about the loss of authorization. */
function config(target: string, over: Over = {}): ProxyConfig {
  return testConfig([target], {
    upstreams: [{ name: "test", targets: [target], authorizedGroups: ["admin", "ops"] }],
    watch: false,
    ...over,
  });
}

async function start(target: string, over: Over = {}): Promise<TestProxy> {
  const { listener, ...rest } = config(target, over);
  return startProxy([target], { ...rest, listener });
}

async function expectServed(client: Peer): Promise<void> {
  await client.send("still there?");
  expect(String(await client.read(12))).toBe("still there?");
}

/** Expects that no connection is left. */
async function expectNothing({ proxy }: TestProxy): Promise<void> {
  await until(() => proxy.stats().connections === 0, "nothing is held");
  for (const { targets } of proxy.stats().upstreams) for (const { open } of targets) expect(open).toBe(0);
}

const listing = (...serials: number[]) => revoke(serials);
const revoked = { identity: issue("mallory@admin", testAuthority, { serial: 900 }) };

describe("a reload that withdraws authorization", () => {
  const other = (target: string) => ({ name: "other", targets: [target], authorizedGroups: ["admin"] });

  test.each<[string, string, (target: string, folder: Folder) => Promise<Over>]>([
    [
      "whose certificate is revoked",
      "certificate_revoked",
      async (_, folder) => ({ listener: { crl: await folder.file("crl.pem", listing(900)) } }),
    ],
    ["whose CA is gone", "certificate_untrusted", async () => ({ listener: { ca: certPath("ca2.crt") } })],
    [
      "whose CA has another key by now, under the same name",
      "certificate_untrusted",
      async () => ({ listener: { ca: certPath("stranger-ca.crt") } }),
    ],
    [
      "whose group is not authorized any more",
      "group_not_authorized",
      async (target) => ({ upstreams: [{ name: "test", targets: [target], authorizedGroups: ["ops"] }] }),
    ],
    [
      "that is not one of the listed clients any more",
      "group_not_authorized",
      async (target) => ({
        upstreams: [{ name: "test", targets: [target], authorizedClients: ["alice@admin", "mallory@ops"] }],
      }),
    ],
    ["whose upstream is gone", "upstream_removed", async (target) => ({ upstreams: [other(target)] })],
  ])("a reload closes a connection %s, at once and on both sides", async (_, detail, change) => {
    await using folder = new Folder();
    using origin = echoOrigin();
    await using proxy = await start(origin.target);
    const client = await connect(proxy.port, revoked);
    await expectServed(client);
    await proxy.proxy.reload(config(origin.target, await change(origin.target, folder)));
    expect(await proxy.log.line("closed")).toMatchObject({
      client: "mallory@admin",
      upstream: "test",
      reason: "authorization_revoked",
      detail,
      bytesIn: 12,
      bytesOut: 12,
    });
    await client.ended;
    expect(await origin.accepted[0]!.closed).toBe("ECONNRESET");
    client.close();
    await expectNothing(proxy);
    expect(await proxy.log.line("connections lost their authorization")).toMatchObject({ connections: 1 });
  });

  test("a reload keeps a connection that is still authorized, whatever else has changed", async () => {
    await using folder = new Folder();
    using origin = echoOrigin();
    await using proxy = await start(origin.target);
    const middle = makeAuthority([["CN", "middle"]], testAuthority);
    const leaf = issue("grace@admin", middle);
    const chained = { cert: leaf.cert + middle.cert, key: leaf.key };
    const clients = [
      await connect(proxy.port),
      await connect(proxy.port, { name: "carol" }),
      await connect(proxy.port, { identity: chained }),
    ];
    for (const client of clients) await expectServed(client);
    const roots = await folder.file("roots.pem", cert("ca2.crt") + cert("ca.crt"));
    const lists = await folder.file("lists.pem", listing(900) + revoke([], middle));
    for (const over of [
      { listener: { crl: lists } },
      { listener: { crl: lists, ca: roots } },
      { listener: { ca: roots } },
      {},
      {
        timeout: "10m",
        listener: { certificate: certPath("server-ecdsa.crt"), privateKey: certPath("ecdsa.pem") },
      },
      { listener: { sessionTickets: false } },
      {
        upstreams: [
          {
            name: "test",
            targets: [origin.target],
            authorizedGroups: ["ops"],
            authorizedClients: ["alice@admin", "grace@admin"],
          },
        ],
      },
      { upstreams: [{ name: "test", targets: [origin.target], anyGroup: true }] },
    ]) {
      await proxy.proxy.reload(config(origin.target, over));
      for (const client of clients) await expectServed(client);
    }
    for (const client of clients) client.close();
    const lines = await proxy.log.count("closed", 3);
    expect(lines.map(({ reason }) => reason)).toEqual(["closed", "closed", "closed"]);
    expect(proxy.log.lines.filter(({ msg }) => msg.startsWith("connections lost"))).toEqual([]);
  });

  test("a reload closes a connection whose intermediate CA is revoked", async () => {
    await using folder = new Folder();
    const middle = makeAuthority([["CN", "middle"]], testAuthority, { serial: 77 });
    const leaf = issue("grace@admin", middle);
    using origin = echoOrigin();
    await using proxy = await start(origin.target);
    const client = await connect(proxy.port, { identity: { cert: leaf.cert + middle.cert, key: leaf.key } });
    await expectServed(client);
    const crl = await folder.file("lists.pem", listing(77) + revoke([], middle));
    await proxy.proxy.reload(config(origin.target, { listener: { crl } }));
    expect(await proxy.log.line("closed")).toMatchObject({
      reason: "authorization_revoked",
      detail: "certificate_revoked",
    });
    client.close();
  });

  test("a reload closes no connection for a revocation that was taken back before, or for a CRL that is gone", async () => {
    await using folder = new Folder();
    using origin = echoOrigin();
    const crl = await folder.file("crl.pem", listing(901));
    await using proxy = await start(origin.target, { listener: { crl } });
    const client = await connect(proxy.port, revoked);
    await expectServed(client);
    await proxy.proxy.reload(config(origin.target));
    await expectServed(client);
    const back = await connect(proxy.port, { identity: issue("x@admin", testAuthority, { serial: 901 }) });
    await expectServed(back);
    client.close();
    back.close();
    expect(proxy.log.lines.filter(({ msg }) => msg === "refused")).toEqual([]);
  });
});

describe("a loss of authorization in each phase of a connection", () => {
  /** Revokes mallory's certificate. */
  async function revokeAll(proxy: TestProxy, target: string, folder: Folder, over: Over = {}) {
    const crl = await folder.file("crl.pem", listing(900));
    await proxy.proxy.reload(config(target, { ...over, listener: { crl } }));
  }

  test.each([0, "1h"])(
    "a connection that loses its authorization while it dials is closed at once, with a grace of %p too",
    async (grace) => {
      await using folder = new Folder();
      await using hole = await Blackhole.open();
      await using proxy = await start(hole.target, { connectTimeout: "1m" });
      const client = await connect(proxy.port, revoked);
      await until(() => proxy.proxy.stats().upstreams[0]!.targets[0]!.open === 1, "it dials");
      await revokeAll(proxy, hole.target, folder, { revocationGrace: grace, connectTimeout: "1m" });
      expect(await proxy.log.line("closed")).toMatchObject({
        reason: "authorization_revoked",
        target: hole.target,
        bytesIn: 0,
      });
      await client.ended;
      client.close();
      await expectNothing(proxy);
    },
  );

  test("a connection whose upstream is removed while it dials is closed, and dials no other", async () => {
    await using hole = await Blackhole.open();
    using origin = echoOrigin();
    await using proxy = await start(hole.target, { connectTimeout: "1m" });
    const client = await connect(proxy.port);
    await until(() => proxy.proxy.stats().upstreams[0]!.targets[0]!.open === 1, "it dials");
    await proxy.proxy.reload(
      config(origin.target, {
        upstreams: [{ name: "new", targets: [origin.target], authorizedGroups: ["admin"] }],
      }),
    );
    expect(await proxy.log.line("closed")).toMatchObject({ upstream: "test", detail: "upstream_removed" });
    await client.ended;
    client.close();
    await expectNothing(proxy);
    expect(origin.accepted).toHaveLength(0);
  });

  test("a handshake that is under way during a reload is judged by the new rules at its end", async () => {
    await using folder = new Folder();
    using origin = echoOrigin();
    await using proxy = await start(origin.target);
    using tap = new Tap(proxy.port);
    tap.hold();
    const connecting = tap.client(revoked);
    await until(() => tap.fromProxy.length > 0, "the proxy has answered the first flight");
    await revokeAll(proxy, origin.target, folder);
    const client = await connecting;
    tap.release();
    expect(await proxy.log.line("refused")).toMatchObject({
      reason: "certificate_revoked",
      detail: "after a reload",
    });
    await client.ended;
    client.close();
    expect(origin.accepted).toHaveLength(0);
    expect(proxy.proxy.stats().clients).toBe(0);
  });

  test("a handshake that is under way during a reload is completed if the client is still authorized", async () => {
    await using folder = new Folder();
    using origin = echoOrigin();
    await using proxy = await start(origin.target);
    using tap = new Tap(proxy.port);
    tap.hold();
    const connecting = tap.client();
    await until(() => tap.fromProxy.length > 0, "the proxy has answered the first flight");
    await revokeAll(proxy, origin.target, folder);
    const client = await connecting;
    tap.release();
    await expectServed(client);
    client.close();
  });

  test.each(["the client", "the server", "nobody"])(
    "a connection that loses its authorization after %s has ended its half is closed",
    async (who) => {
      await using folder = new Folder();
      using origin = new Origin();
      await using proxy = await start(origin.target);
      const client = await connect(proxy.port, revoked);
      const server = await origin.next();
      if (who === "the client") client.end();
      if (who === "the client") await server.ended;
      if (who === "the server") server.end();
      if (who === "the server") await client.ended;
      await revokeAll(proxy, origin.target, folder);
      expect(await proxy.log.line("closed")).toMatchObject({
        reason: "authorization_revoked",
        detail: "certificate_revoked",
      });
      await server.closed;
      client.close();
      await expectNothing(proxy);
    },
  );

  test.each(["the client", "the server"])(
    "a connection that is still authorized stays open after %s has ended its half",
    async (who) => {
      await using folder = new Folder();
      using origin = new Origin();
      await using proxy = await start(origin.target);
      const client = await connect(proxy.port);
      const server = await origin.next();
      const [first, second] = who === "the client" ? [client, server] : [server, client];
      first.end();
      await second.ended;
      await revokeAll(proxy, origin.target, folder);
      await second.send("the rest");
      expect(String(await first.read(8))).toBe("the rest");
      second.close();
      first.close();
      expect((await proxy.log.line("closed")).reason).toBe("closed");
    },
  );

  test("a connection that loses its authorization during a transfer to a client that does not read is closed", async () => {
    await using folder = new Folder();
    using origin = new Origin((peer) => void peer.send(new Uint8Array(64 * 2 ** 20)));
    await using proxy = await start(origin.target);
    const client = await connect(proxy.port, revoked);
    client.socket.pause();
    const server = await origin.next();
    await revokeAll(proxy, origin.target, folder);
    expect(await proxy.log.line("closed")).toMatchObject({ reason: "authorization_revoked" });
    await server.closed;
    await expectNothing(proxy);
    client.reset();
  });

  test("a connection that loses its authorization during a transfer to a server that does not read is closed", async () => {
    await using folder = new Folder();
    using origin = new Origin((peer) => peer.socket.pause());
    await using proxy = await start(origin.target);
    const client = await connect(proxy.port, revoked);
    const sending = client.send(new Uint8Array(64 * 2 ** 20));
    await origin.next();
    await revokeAll(proxy, origin.target, folder);
    expect(await proxy.log.line("closed")).toMatchObject({ reason: "authorization_revoked" });
    expect(await sending).toBe(false);
    await expectNothing(proxy);
    client.reset();
  });

  test("a connection whose upstream is removed while the last bytes of a client that has left are on their way is closed", async () => {
    using origin = new Origin((peer) => peer.socket.pause());
    await using proxy = await start(origin.target);
    const client = await connect(proxy.port);
    void client.send(new Uint8Array(32 * 2 ** 20)).then(() => client.close());
    await origin.next();
    await until(() => proxy.proxy.stats().connections === 1, "it is open");
    await proxy.proxy.reload(
      config(origin.target, {
        upstreams: [{ name: "new", targets: [origin.target], authorizedGroups: ["admin"] }],
      }),
    );
    expect(await proxy.log.line("closed")).toMatchObject({ detail: "upstream_removed" });
    await expectNothing(proxy);
    client.reset();
  });
});

describe.each([1, 2])("many connections, with %p workers", (workers) => {
  test("a reload closes exactly the connections that have lost their authorization, and the counts are exact", async () => {
    await using folder = new Folder();
    using origin = echoOrigin();
    await using proxy = await start(origin.target, { workers });
    const ones = await Promise.all(Array.from({ length: 50 }, () => connect(proxy.port, revoked)));
    const carols = await Promise.all(
      Array.from({ length: 50 }, () => connect(proxy.port, { name: "carol" })),
    );
    const alices = await Promise.all(Array.from({ length: 100 }, () => connect(proxy.port)));
    await Promise.all([...ones, ...carols, ...alices].map(expectServed));
    expect(proxy.proxy.stats().connections).toBe(200);
    const crl = await folder.file("crl.pem", listing(900));
    await proxy.proxy.reload(
      config(origin.target, {
        workers,
        listener: { crl },
        upstreams: [{ name: "test", targets: [origin.target], authorizedGroups: ["admin"] }],
      }),
    );
    const lines = await proxy.log.count("closed", 100);
    await Promise.all([...ones, ...carols].map((client) => client.ended));
    await until(() => proxy.proxy.stats().connections === 100, "the others are left");
    expect(proxy.proxy.stats().upstreams[0]!.targets[0]!.open).toBe(100);
    await Promise.all(alices.map(expectServed));
    const details = lines.map(({ client, reason, detail }) => `${client} ${reason} ${detail}`);
    expect(details.filter((each) => each.startsWith("mallory"))).toEqual(
      Array(50).fill("mallory@admin authorization_revoked certificate_revoked"),
    );
    expect(details.filter((each) => each.startsWith("carol"))).toEqual(
      Array(50).fill("carol@ops authorization_revoked group_not_authorized"),
    );
    for (const client of alices) client.close();
    expect((await proxy.log.count("closed", 200)).slice(100).map(({ reason }) => reason)).toEqual(
      Array(100).fill("closed"),
    );
    for (const client of [...ones, ...carols]) client.close();
    await expectNothing(proxy);
  });
});

describe("a grace period", () => {
  const gone = (target: string, grace: string | number): ProxyConfig =>
    config(target, {
      revocationGrace: grace,
      upstreams: [{ name: "test", targets: [target], authorizedGroups: ["ops"] }],
    });

  test("a grace period spreads the closing of connections, which are served until then", async () => {
    using origin = echoOrigin();
    await using proxy = await start(origin.target);
    const clients = await Promise.all(Array.from({ length: 40 }, () => connect(proxy.port)));
    await Promise.all(clients.map(expectServed));
    const started = performance.now();
    const times: number[] = [];
    const ends = clients.map(async (client) => {
      await client.ended;
      times.push(performance.now() - started);
      client.close();
    });
    await proxy.proxy.reload(gone(origin.target, "2s"));
    expect(await proxy.log.line("connections lost their authorization")).toMatchObject({ connections: 40 });
    await Promise.all(ends);
    for (const line of await proxy.log.count("closed", 40)) expect(line.reason).toBe("authorization_revoked");
    times.sort((a, b) => a - b);
    // The chance that all 40 fall into one half of the time is 1 in 5 * 10^11.
    expect(times.at(-1)! - times[0]!).toBeGreaterThan(500);
    await expectNothing(proxy);
  });

  test("a later reload without a grace period closes the connections at once", async () => {
    using origin = echoOrigin();
    await using proxy = await start(origin.target);
    const client = await connect(proxy.port);
    await expectServed(client);
    await proxy.proxy.reload(gone(origin.target, "1h"));
    await expectServed(client);
    await proxy.proxy.reload(gone(origin.target, 0));
    expect(await proxy.log.line("closed")).toMatchObject({
      reason: "authorization_revoked",
      detail: "group_not_authorized",
    });
    client.close();
    const said = proxy.log.lines.filter(({ msg }) => msg === "connections lost their authorization");
    expect(said).toHaveLength(1);
  });

  test("a later reload that does not restore the authorization does not postpone the closing", async () => {
    using origin = echoOrigin();
    await using proxy = await start(origin.target);
    const client = await connect(proxy.port);
    await expectServed(client);
    await proxy.proxy.reload(gone(origin.target, 1_000));
    await proxy.proxy.reload(gone(origin.target, "24h"));
    expect((await proxy.log.line("closed")).reason).toBe("authorization_revoked");
    client.close();
  });

  test("a later reload that restores the authorization keeps the connection open", async () => {
    await using folder = new Folder();
    using origin = echoOrigin();
    await using proxy = await start(origin.target);
    const client = await connect(proxy.port, revoked);
    await expectServed(client);
    const crl = await folder.file("crl.pem", listing(900));
    await proxy.proxy.reload(config(origin.target, { revocationGrace: "1h", listener: { crl } }));
    await proxy.log.line("connections lost their authorization");
    // The listener does not change here, and the certificate is still revoked.
    await proxy.proxy.reload(
      config(origin.target, { revocationGrace: "1h", timeout: "10m", listener: { crl } }),
    );
    await proxy.proxy.reload(config(origin.target));
    await expectServed(client);
    await proxy.proxy.reload(config(origin.target, { listener: { crl } }));
    expect((await proxy.log.line("closed")).detail).toBe("certificate_revoked");
    client.close();
  });

  test("a certificate that was rejected stays rejected when something else is reloaded", async () => {
    await using folder = new Folder();
    using origin = echoOrigin();
    await using proxy = await start(origin.target);
    const client = await connect(proxy.port, revoked);
    await expectServed(client);
    const crl = await folder.file("crl.pem", listing(900));
    await proxy.proxy.reload(config(origin.target, { revocationGrace: "1h", listener: { crl } }));
    await proxy.proxy.reload(config(origin.target, { timeout: "10m", listener: { crl } }));
    expect((await proxy.log.line("closed")).detail).toBe("certificate_revoked");
    client.close();
  });

  test("a target that fails during the grace period is not replaced by another", async () => {
    // Accepts the connection, and resets it on command.
    using bad = new Origin();
    using good = echoOrigin();
    const upstreams = (group: string) => [
      {
        name: "test",
        targets: [bad.target, { address: good.target, backup: true }],
        authorizedGroups: [group],
      },
    ];
    await using proxy = await start(bad.target, { upstreams: upstreams("admin") });
    const client = await connect(proxy.port);
    const server = await bad.next();
    await proxy.proxy.reload(config(bad.target, { revocationGrace: "1h", upstreams: upstreams("ops") }));
    server.reset();
    expect((await proxy.log.line("closed")).reason).toBe("authorization_revoked");
    expect(good.accepted).toHaveLength(0);
    client.close();
  });
});

test("a lower limit of open connections closes none, and admits none until there are fewer", async () => {
  using origin = echoOrigin();
  await using proxy = await start(origin.target);
  const limit = (maxConnections: number) => ({
    rateLimit: { capacity: 1_000_000, fillRate: 1, maxConnections },
  });
  const clients = await Promise.all(Array.from({ length: 4 }, () => connect(proxy.port)));
  await Promise.all(clients.map(expectServed));
  await proxy.proxy.reload(config(origin.target, limit(2)));
  for (const left of [4, 3, 2]) {
    const refused = await connect(proxy.port);
    await refused.ended;
    refused.close();
    await until(() => proxy.proxy.stats().connections === left, `${left} are left`);
    await Promise.all(clients.map(expectServed));
    clients.pop()!.close();
    await until(() => proxy.proxy.stats().connections === left - 1, "one less");
  }
  const admitted = await connect(proxy.port);
  await expectServed(admitted);
  await proxy.log.count("refused", 3);
  expect(proxy.log.lines.filter(({ reason }) => reason === "connection_limit")).toHaveLength(3);
  for (const client of [...clients, admitted]) client.close();
});

describe("a certificate that expires", () => {
  /** Valid for some seconds: enough for a handshake on a busy machine. Dates in certificates are whole seconds. */
  function shortLived(seconds = 3): Identity & { notAfter: number } {
    const notAfter = new Date(Math.ceil(Date.now() / 1_000 + seconds) * 1_000);
    return { ...issue("mallory@admin", testAuthority, { notAfter }), notAfter: notAfter.getTime() };
  }

  test("an expiring certificate ends its connection on time and on both sides, and no other connection", async () => {
    using origin = echoOrigin();
    await using proxy = await start(origin.target);
    const identity = shortLived();
    const client = await connect(proxy.port, { identity });
    const alice = await connect(proxy.port);
    await expectServed(client);
    await client.ended;
    const late = Date.now() - identity.notAfter;
    expect(late).toBeGreaterThanOrEqual(0);
    expect(late).toBeLessThan(2_000);
    expect(await proxy.log.line("closed")).toMatchObject({
      client: "mallory@admin",
      reason: "certificate_expired",
    });
    expect(await origin.accepted[0]!.closed).toBe("ECONNRESET");
    await expectServed(alice);
    client.close();
    alice.close();
  });

  test("an expiring certificate ends a connection that never stops sending", async () => {
    using origin = echoOrigin();
    await using proxy = await start(origin.target);
    const identity = shortLived();
    const client = await connect(proxy.port, { identity });
    // It sends again as soon as the echo of what it sent before begins to arrive.
    while (await client.send(new Uint8Array(65_536))) if ((await client.some()).length === 0) break;
    expect(Date.now()).toBeGreaterThanOrEqual(identity.notAfter);
    expect((await proxy.log.line("closed")).reason).toBe("certificate_expired");
    client.reset();
  });

  test("an expired certificate keeps its connection with disconnectExpired = false, also through a reload that checks certificates", async () => {
    await using folder = new Folder();
    using origin = echoOrigin();
    const lenient = { disconnectExpired: false };
    await using proxy = await start(origin.target, lenient);
    const identity = shortLived();
    const client = await connect(proxy.port, { identity });
    await expectServed(client);
    await until(() => Date.now() > identity.notAfter + 600, "it has run out");
    await expectServed(client);
    const crl = await folder.file("crl.pem", listing(900));
    await proxy.proxy.reload(config(origin.target, { ...lenient, listener: { crl } }));
    await expectServed(client);
    // New connections with it are refused all the same.
    const second = await connect(proxy.port, { identity });
    await second.ended;
    second.close();
    expect((await proxy.log.line("refused")).reason).toBe("certificate_expired");
    await proxy.proxy.reload(config(origin.target, { listener: { crl } }));
    expect((await proxy.log.line("closed")).reason).toBe("certificate_expired");
    client.close();
  });
});

describe("maxConnectionDuration", () => {
  test("maxConnectionDuration ends every connection, busy or not, within its last tenth", async () => {
    using origin = echoOrigin();
    await using proxy = await start(origin.target, { maxConnectionDuration: 2_000 });
    const clients = await Promise.all(Array.from({ length: 20 }, () => connect(proxy.port)));
    await Promise.all(
      clients.map(async (client, i) => {
        client.discard();
        // Half of them are busy: they send a byte fifty times a second.
        if (i % 2 === 0) while (await client.send("x")) await Bun.sleep(20);
        await client.ended;
        client.close();
      }),
    );
    for (const { reason, durationMs } of await proxy.log.count("closed", 20)) {
      expect(reason).toBe("max_duration");
      expect(durationMs).toBeGreaterThanOrEqual(1_800);
      expect(durationMs).toBeLessThan(4_000);
    }
  });

  test("maxConnectionDuration counts from the beginning of connections that were open before it was set", async () => {
    using origin = echoOrigin();
    await using proxy = await start(origin.target);
    const client = await connect(proxy.port);
    await expectServed(client);
    // The connection has to grow old before the reload; no event tells its age.
    await Bun.sleep(500);
    await proxy.proxy.reload(config(origin.target, { maxConnectionDuration: 1_000 }));
    const { reason, durationMs } = await proxy.log.line("closed");
    expect(reason).toBe("max_duration");
    expect(durationMs).toBeGreaterThanOrEqual(900);
    client.close();
  });

  test("maxConnectionDuration ends no connection after a reload has removed it", async () => {
    using origin = echoOrigin();
    await using proxy = await start(origin.target, { maxConnectionDuration: 1_500 });
    const client = await connect(proxy.port);
    await expectServed(client);
    await proxy.proxy.reload(config(origin.target));
    // The connection must not end: its old duration and a moment have to pass, of which no event tells.
    await Bun.sleep(1_800);
    await expectServed(client);
    client.close();
    expect((await proxy.log.line("closed")).reason).toBe("closed");
  });
});
