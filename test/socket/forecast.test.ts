// A dry run: what it foretells is what the reload right after it does, and it changes nothing itself.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { ConfigError, type Forecast } from "tcpproxy";
import { issue, revoke, testAuthority } from "../support/issue.ts";
import { cert, certPath, connect, echoOrigin, type Peer } from "../support/peer.ts";
import { startProxy, testConfig, until, type TestProxy } from "../support/proxy.ts";
import { echoes, messages } from "../support/served.ts";

let root: string;
beforeAll(() => void (root = mkdtempSync(`${tmpdir()}/tcpproxy-forecast-`)));
afterAll(() => rmSync(root, { recursive: true }));

const bob = issue("bob@ops", testAuthority, { serial: 701 });
const carol = issue("carol@admin", testAuthority, { serial: 702 });

/** Open connections, by the ids that the log has for them. */
async function admitted(proxy: TestProxy, count: number): Promise<Set<string>> {
  const lines = await proxy.log.count("admitted", count);
  return new Set(lines.map(({ id }) => String(id)));
}

/** Reads, writes and answers without pause until it is stopped. */
function traffic(peers: readonly Peer[]) {
  let stopped = false;
  let trips = 0;
  const running = peers.map(async (peer) => {
    while (!stopped && (await echoes(peer))) trips++;
  });
  return {
    trips: () => trips,
    async stop() {
      stopped = true;
      await Promise.all(running);
    },
  };
}

const reasonsOf = ({ endings }: Forecast) =>
  Object.fromEntries(endings.map(({ id, reason }) => [id, reason] as const));

describe.each([1, 2])("with %p workers, a dry run", (workers) => {
  test("foretells the connections that would be another client's by another kind of identity", async () => {
    using origin = echoOrigin();
    const over = { workers, logLevel: "debug" } as const;
    await using proxy = await startProxy([origin.target], over);
    const shown = ["admin/carol", "admin/eve"].map((path) =>
      issue("carol@admin", testAuthority, { names: [[0x86, `spiffe://x/${path}`]] }),
    );
    const clients = await Promise.all(shown.map((identity) => connect(proxy.port, { identity })));
    expect(await Promise.all(clients.map(echoes))).toEqual([true, true]);
    await admitted(proxy, 2);
    const identity = { from: "uri", pattern: "spiffe://x/{group}/{user}" } as const;
    const next = testConfig([origin.target], { ...over, listener: { identity } });
    const forecast = await proxy.proxy.forecast(next);
    expect(Object.values(reasonsOf(forecast))).toEqual(["identity_changed"]);
    expect(await Promise.all(clients.map(echoes))).toEqual([true, true]);
    await proxy.proxy.reload(next);
    expect(await proxy.log.line("closed")).toMatchObject({
      id: forecast.endings[0]!.id,
      detail: "identity_changed",
    });
    expect(await echoes(clients[0]!)).toBe(true);
    for (const client of clients) client.close();
  });

  test("foretells exactly the connections that the reload ends, under load", async () => {
    using origin = echoOrigin();
    const [db, cache] = ["db", "cache"].map((name) => ({
      name,
      targets: [origin.target],
      serverNames: [`${name}.test`],
    }));
    const groups = { authorizedGroups: ["admin", "ops"] };
    const over = { workers, logLevel: "debug", timeout: "1m" } as const;
    const upstreams = [
      { ...db!, ...groups },
      { ...cache!, ...groups },
    ];
    await using proxy = await startProxy([], { ...over, upstreams });
    const who = [undefined, bob, carol];
    const clients = await Promise.all(
      Array.from({ length: 36 }, (_, i) => {
        const identity = who[i % 3];
        const serverName = i % 2 === 0 ? "db.test" : "cache.test";
        return connect(proxy.port, { serverName, ...(identity && { identity }) });
      }),
    );
    expect(await Promise.all(clients.map(echoes))).toEqual(Array(36).fill(true));
    const open = await admitted(proxy, 36);
    const load = traffic(clients);
    // Others come and go meanwhile.
    let passing = true;
    const visitors = (async () => {
      while (passing) {
        const visitor = await connect(proxy.port, { serverName: "db.test" });
        await echoes(visitor);
        visitor.close();
        await visitor.ended;
      }
    })();

    const crl = `${root}/crl-${workers}.pem`;
    writeFileSync(crl, revoke([702]));
    const next = testConfig([], {
      ...over,
      upstreams: [
        { ...db!, authorizedGroups: ["admin"] },
        { ...cache!, ...groups, serverNames: ["cache.test", "other.test"] },
      ],
      listener: { crl },
    });
    const trips = load.trips();
    const forecast = await proxy.proxy.forecast(next);
    await until(() => load.trips() > trips + 36, "traffic goes on");
    expect(messages(proxy.log, "closed").filter(({ reason }) => reason !== "closed")).toEqual([]);

    await proxy.proxy.reload(next);
    const revoked = () =>
      messages(proxy.log, "closed").filter(({ reason }) => reason === "authorization_revoked");
    const foretold = reasonsOf(forecast);
    await until(() => revoked().length >= Object.keys(foretold).length, "the reload has ended them");
    passing = false;
    await visitors;
    await load.stop();
    expect(Object.fromEntries(revoked().map(({ id, detail }) => [id, detail]))).toEqual(foretold);
    // Carol's certificate is revoked everywhere; of bob's connections, those to the database lose their right.
    const counts = Map.groupBy(forecast.endings, ({ client, upstream, reason }) =>
      [client, upstream, reason].join(" "),
    );
    expect(Object.fromEntries(Array.from(counts, ([key, list]) => [key, list.length]))).toEqual({
      "bob@ops db group_not_authorized": 6,
      "carol@admin db certificate_revoked": 6,
      "carol@admin cache certificate_revoked": 6,
    });
    for (const client of clients.filter((_, i) => i % 3 === 0)) expect(await echoes(client)).toBe(true);
    expect(messages(proxy.log, "closed").filter(({ id }) => open.has(String(id))).length).toBe(18);
    for (const client of clients) client.close();
  });

  test("says what comes, what goes, what needs a restart, and changes nothing", async () => {
    using origin = echoOrigin();
    using other = echoOrigin();
    await using proxy = await startProxy([origin.target], { workers });
    const client = await connect(proxy.port);
    expect(await echoes(client)).toBe(true);
    const before = proxy.log.written.length;
    const next = testConfig([other.target], { workers: workers + 1, logLevel: "warn" });
    const forecast = await proxy.proxy.forecast(next);
    expect(forecast).toMatchObject({
      changed: { keys: ["workers", "logLevel", "upstreams[0].targets"], files: [] },
      targets: { added: [`test ${other.target}`], removed: [`test ${origin.target}`] },
      listeners: { added: [], removed: [] },
      restarts: [{ key: "workers", running: String(workers), configured: String(workers + 1) }],
      endings: [],
    });
    expect(proxy.log.written.length).toBe(before);
    expect(proxy.proxy.stats().upstreams[0]!.targets.map(({ address, open }) => [address, open])).toEqual([
      [origin.target, 1],
    ]);
    expect(await echoes(client)).toBe(true);
    expect(await echoes(await connect(proxy.port))).toBe(true);
    expect(origin.accepted.length).toBe(2);
  });

  test("refuses what a reload would refuse, with every fault", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { workers });
    const next = testConfig([], { workers, listener: { ca: certPath("none.crt") }, upstreams: [] });
    const fault = await proxy.proxy.forecast(next).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(fault).toBeInstanceOf(ConfigError);
    expect((fault as ConfigError).faults.map(({ key }) => key)).toEqual(["upstreams", "listener.ca"]);
    const many = Array.from({ length: 4_097 }, (_, i) => `127.0.0.1:${i + 1}`);
    await expect(proxy.proxy.forecast(testConfig(many, { workers }))).rejects.toThrow("4096");
    expect(messages(proxy.log, "reload refused")).toEqual([]);
    expect(await echoes(await connect(proxy.port))).toBe(true);
  });

  test("foretells an upstream that goes, a CA that goes, and a limit on the duration", async () => {
    using origin = echoOrigin();
    const both = { targets: [origin.target], authorizedGroups: ["admin"] };
    const upstreams = [
      { name: "a", ...both, serverNames: ["a.test"] },
      { name: "b", ...both, serverNames: ["b.test"] },
    ];
    await using proxy = await startProxy([], { workers, upstreams });
    const [a, b] = await Promise.all(
      ["a.test", "b.test"].map((serverName) => connect(proxy.port, { serverName })),
    );
    expect([await echoes(a!), await echoes(b!)]).toEqual([true, true]);
    const ask = async (over: Parameters<typeof testConfig>[1]) =>
      (await proxy.proxy.forecast(testConfig([], { workers, upstreams, ...over }))).endings
        .map(({ upstream, reason }) => `${upstream} ${reason}`)
        .sort();
    expect(await ask({})).toEqual([]);
    expect(await ask({ upstreams: upstreams.slice(0, 1) })).toEqual(["b upstream_removed"]);
    expect(await ask({ upstreams: [{ name: "c", ...both }, upstreams[0]!] })).toEqual(["b upstream_removed"]);
    expect(await ask({ upstreams: [upstreams[0]!, { ...upstreams[1]!, serverNames: ["b2.test"] }] })).toEqual(
      ["b unknown_server_name"],
    );
    expect(await ask({ listener: { ca: certPath("ca2.crt") } })).toEqual([
      "a certificate_untrusted",
      "b certificate_untrusted",
    ]);
    // Written anew, it is the same CA.
    writeFileSync(`${root}/same.crt`, `# the same\n${cert("ca.crt")}`);
    expect(await ask({ listener: { ca: `${root}/same.crt` } })).toEqual([]);
    expect(await ask({ maxConnectionDuration: "1ms" })).toEqual(["a max_duration", "b max_duration"]);
    expect([await echoes(a!), await echoes(b!)]).toEqual([true, true]);
    expect(messages(proxy.log, "closed")).toEqual([]);
  });
});
