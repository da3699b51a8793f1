// A shadow: another configuration decides on everything beside the one in force, without effect, and the log says where
// the two differ.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { ConfigError, createProxy, type ProxyConfig } from "tcpproxy";
import { freePort } from "../support/free-port.ts";
import { issue, makeAuthority, revoke, testAuthority } from "../support/issue.ts";
import { cert, certPath, connect, echoOrigin } from "../support/peer.ts";
import { Log, startProxy, testConfig, until, type Line, type TestProxy } from "../support/proxy.ts";
import { startWorkerPool, type TestWorkerPool } from "../support/worker-pool.ts";
import { shadowCounts } from "../../src/connection/shadow-counts.ts";
import { crowd, echoes, isServed, messages, served } from "../support/served.ts";

let root: string;
beforeAll(() => void (root = mkdtempSync(`${tmpdir()}/tcpproxy-shadow-`)));
afterAll(() => rmSync(root, { recursive: true }));

/** What the counters of all threads say, as `upstream enforced shadow reason`. */
function counted({ ledger, snapshot }: TestWorkerPool): Record<string, number> {
  const counts = shadowCounts(ledger.counters, snapshot.rows.upstreams);
  return Object.fromEntries(
    counts.map(({ upstream, enforced, shadow, reason, count }) => [
      [upstream, enforced, shadow, reason].join(" ").trim(),
      count,
    ]),
  );
}

/** Writes a configuration file with what differs from the one in force. */
function shadowFile(targets: string[], over: Parameters<typeof testConfig>[1] = {}): string {
  const path = `${mkdtempSync(`${root}/`)}/next.json`;
  writeFileSync(path, JSON.stringify(testConfig(targets, over)));
  return path;
}

const ops = (target: string) => [{ name: "test", targets: [target], authorizedGroups: ["ops"] }];

/** The lines that say where the two differ, without what is different in each run. */
function differences({ log }: TestProxy): unknown[] {
  return messages(log, "shadow").map(({ client, upstream, enforced, shadow, reason, detail }: Line) =>
    [client, upstream, `${enforced} ${shadow}`, reason, detail]
      .filter((each) => each !== undefined)
      .join(" "),
  );
}

test("the counters of a shadow are exact over threads, and a dead thread's connections are open no more", async () => {
  using origin = echoOrigin();
  const rateLimit = { capacity: 1_000, fillRate: "1h", maxConnections: 12 };
  const config = shadowFile([origin.target], { rateLimit });
  await using pool = await startWorkerPool([origin.target], { workers: 4, shadow: { config } });
  const first = await crowd(pool.port, 20);
  const strangers = Array.from({ length: 6 }, () => connect(pool.port, { name: "stranger" }));
  await Promise.all((await Promise.all(strangers)).map(({ ended }) => ended));
  expect(counted(pool)).toEqual({
    "refused refused certificate_untrusted": 6,
    "test allowed allowed": 12,
    "test allowed refused connection_limit": 8,
  });
  for (const worker of [0, 1, 2, 3]) pool.kill(worker);
  await Promise.all(first.map(({ ended }) => ended));
  await pool.log.count("worker replaced", 4);
  await crowd(pool.port, 12);
  expect(counted(pool)).toMatchObject({
    "test allowed allowed": 24,
    "test allowed refused connection_limit": 8,
  });
});

test("the lines of a shadow are bounded, and add up", async () => {
  using origin = echoOrigin();
  const config = shadowFile([], { upstreams: ops(origin.target) });
  await using proxy = await startProxy([origin.target], { shadow: { config } });
  await crowd(proxy.port, 60);
  await proxy.log.count("shadow", 60);
  expect(proxy.log.written.filter(({ msg }) => msg === "shadow").length).toBeLessThan(40);
});

describe.each([1, 2])("with %p workers, a shadow", (workers) => {
  const start = (target: string, next: string, over: Partial<ProxyConfig> = {}) =>
    startProxy([target], { workers, shadow: { config: next }, ...(over as object) });

  test("judges every admission, and says only where it would refuse, or allow, another client", async () => {
    using origin = echoOrigin();
    const next = shadowFile([], { upstreams: ops(origin.target) });
    const upstreams = [{ name: "test", targets: [origin.target], authorizedGroups: ["admin"] }];
    await using proxy = await start(origin.target, next, { upstreams });
    // Both refuse a stranger, and say nothing.
    expect(await isServed(proxy.port, "stranger")).toBe(false);
    const alice = (await served(proxy.port))!;
    const aliceOps = issue("alice@ops", testAuthority);
    const refused = await connect(proxy.port, { identity: aliceOps });
    await refused.ended;
    await proxy.log.count("shadow", 2);
    expect(differences(proxy)).toEqual([
      "alice@admin test allowed refused group_not_authorized",
      "alice@ops test refused allowed group_not_authorized",
    ]);
    const { id, remote, listener, serverName, level } = messages(proxy.log, "shadow")[0]!;
    expect({ listener, serverName, level }).toEqual({
      listener: "127.0.0.1:0",
      serverName: "localhost",
      level: "info",
    });
    expect(remote).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(id).toBeString();
    expect(await echoes(alice)).toBe(true);
  });

  test("has limits of groups and clients of its own", async () => {
    using origin = echoOrigin();
    const limits = [{ match: "*@admin", maxConnections: 1 }];
    const next = shadowFile([origin.target], { rateLimit: { capacity: "unlimited" }, limits });
    await using proxy = await start(origin.target, next);
    expect(await served(proxy.port)).toBeDefined();
    expect(await served(proxy.port)).toBeDefined();
    await proxy.log.count("shadow", 1);
    expect(differences(proxy)).toEqual(["alice@admin test allowed refused connection_limit"]);
  });

  test("has buckets and open counts of its own", async () => {
    using origin = echoOrigin();
    const rateLimit = { capacity: 4, fillRate: "1h", maxConnections: 2 };
    const next = shadowFile([origin.target], { rateLimit });
    await using proxy = await start(origin.target, next);
    const first = (await served(proxy.port))!;
    const second = (await served(proxy.port))!;
    expect(differences(proxy)).toEqual([]);
    const third = (await served(proxy.port))!;
    await proxy.log.count("shadow", 1);
    // The third was not admitted by the shadow: two leave, two may come, and then its bucket is empty.
    for (const each of [first, second, third]) {
      each.close();
      await each.ended;
    }
    await proxy.log.count("closed", 3);
    for (let i = 0; i < 3; i++) {
      expect(await isServed(proxy.port)).toBe(true);
      await proxy.log.count("closed", 4 + i);
    }
    await proxy.log.count("shadow", 2);
    expect(differences(proxy)).toEqual([
      "alice@admin test allowed refused connection_limit",
      "alice@admin test allowed refused rate_limited",
    ]);
  });

  test("judges certificates by its own CAs and revocation lists, also those that TLS has refused", async () => {
    using origin = echoOrigin();
    const other = makeAuthority([["CN", "a new CA"]]);
    const folder = mkdtempSync(`${root}/`);
    writeFileSync(`${folder}/ca.crt`, `${cert("ca.crt")}\n${other.cert}`);
    writeFileSync(`${folder}/crl.pem`, `${revoke([901])}\n${revoke([902], other)}`);
    const next = shadowFile([origin.target], {
      listener: { ca: `${folder}/ca.crt`, crl: `${folder}/crl.pem` },
    });
    await using proxy = await start(origin.target, next);
    const come = async (name: string, authority = testAuthority, serial = 1_000) => {
      const peer = await connect(proxy.port, { identity: issue(name, authority, { serial }) });
      const isIn = await echoes(peer);
      peer.close();
      return isIn;
    };
    expect(await come("good@admin")).toBe(true);
    expect(await come("revoked@admin", testAuthority, 901)).toBe(true);
    expect(await come("new@admin", other)).toBe(false);
    expect(await come("new-revoked@admin", other, 902)).toBe(false);
    expect(await come("new@ops", other)).toBe(false);
    expect(await come("forged@admin", makeAuthority([["CN", "a new CA"]]))).toBe(false);
    await proxy.log.count("refused", 4);
    await until(() => messages(proxy.log, "shadow").length >= 2, "both differences are written");
    expect(differences(proxy).sort()).toEqual([
      "new@admin test refused allowed certificate_untrusted UNABLE_TO_VERIFY_LEAF_SIGNATURE",
      "revoked@admin test allowed refused certificate_revoked CERT_REVOKED",
    ]);
  });

  test("judges what is open when it is loaded and when it changes, and ends nothing", async () => {
    using origin = echoOrigin();
    const next = shadowFile([origin.target]);
    const config = (over: object) => testConfig([origin.target], { workers, ...over });
    await using proxy = await startProxy([origin.target], { workers });
    const clients = await Promise.all([served(proxy.port), served(proxy.port)]);
    await proxy.proxy.reload(config({ shadow: { config: next } }));
    // A bucket of its own that is full, and two connections that count as open.
    const rateLimit = { capacity: 1_000, fillRate: "1h", maxConnections: 3 };
    writeFileSync(`${next}.new`, JSON.stringify(testConfig([origin.target], { rateLimit })));
    renameSync(`${next}.new`, next);
    await proxy.proxy.reload(config({ shadow: { config: next } }));
    const third = await served(proxy.port);
    expect(differences(proxy)).toEqual([]);
    const fourth = await served(proxy.port);
    await proxy.log.count("shadow", 1);
    expect(differences(proxy)).toEqual(["alice@admin test allowed refused connection_limit"]);
    const elsewhere = [{ name: "elsewhere", targets: [origin.target], authorizedGroups: ["admin"] }];
    writeFileSync(`${next}.new`, JSON.stringify(testConfig([], { upstreams: elsewhere })));
    renameSync(`${next}.new`, next);
    await proxy.proxy.reload(config({ shadow: { config: next } }));
    await proxy.log.count("shadow", 5);
    expect(differences(proxy).slice(1)).toEqual(
      Array(4).fill("alice@admin test allowed refused upstream_removed"),
    );
    expect(await isServed(proxy.port)).toBe(true);
    await proxy.log.count("shadow", 6);
    expect(differences(proxy).at(-1)).toBe("alice@admin test allowed allowed upstream_changed elsewhere");
    for (const each of [...clients, third, fourth]) expect(await echoes(each!)).toBe(true);
    await proxy.log.count("closed", 1);
    expect(messages(proxy.log, "closed").map(({ reason }) => reason)).toEqual(["closed"]);
    // Without a shadow, nothing is said any more.
    await proxy.proxy.reload(config({}));
    expect(await isServed(proxy.port)).toBe(true);
    expect(messages(proxy.log, "shadow").length).toBe(6);
  });

  test("that does not validate refuses a start, but not a reload", async () => {
    using origin = echoOrigin();
    const next = shadowFile([origin.target], { rateLimit: { capacity: 0, fillRate: "5" } as never });
    const bad = testConfig([origin.target], { workers, shadow: { config: next } });
    let fault: unknown;
    try {
      createProxy(bad);
    } catch (error) {
      fault = error;
    }
    expect(fault).toBeInstanceOf(ConfigError);
    expect((fault as ConfigError).faults.map(({ key }) => key)).toEqual(["shadow.config"]);
    expect(String(fault)).toContain("rateLimit.capacity: 0 is not");
    expect(String(fault)).toContain("and 1 more");
    const missing = testConfig([origin.target], { shadow: { config: `${root}/none.toml` } });
    expect(() => createProxy(missing)).toThrow("there is no such file");
    writeFileSync(`${root}/torn.toml`, "[[upstreams]\n");
    expect(() =>
      createProxy(testConfig([origin.target], { shadow: { config: `${root}/torn.toml` } })),
    ).toThrow(/^shadow.config: ".*torn.toml": /);

    const good = shadowFile([], { upstreams: ops(origin.target) });
    await using proxy = await start(origin.target, good);
    await proxy.proxy.reload({ ...bad, timeout: "7m" });
    expect(proxy.proxy.config.timeout).toBe(420_000);
    expect(await proxy.log.line("shadow refused")).toMatchObject({ level: "error", config: next });
    expect(await isServed(proxy.port)).toBe(true);
    expect(differences(proxy)).toEqual([]);
    expect((await proxy.proxy.forecast(bad)).warnings.join()).toContain("shadow refused");
  });

  test("is watched like the configuration in force", async () => {
    using origin = echoOrigin();
    const next = shadowFile([origin.target]);
    await using proxy = await start(origin.target, next);
    const client = (await served(proxy.port))!;
    writeFileSync(`${next}.new`, JSON.stringify(testConfig([], { upstreams: ops(origin.target) })));
    renameSync(`${next}.new`, next);
    expect(await proxy.log.line("shadow")).toMatchObject({ reason: "group_not_authorized" });
    expect(await echoes(client)).toBe(true);
  });

  test("trusts a listener's clients as its own listener of that address does", async () => {
    using origin = echoOrigin();
    copyFileSync(certPath("ca2.crt"), `${root}/other.crt`);
    const { listener, ...rest } = testConfig([origin.target], { workers });
    const [a, b] = [freePort(), freePort()].map((port) => ({ ...listener, address: `127.0.0.1:${port}` }));
    const path = `${mkdtempSync(`${root}/`)}/next.json`;
    // In another order, and with another CA for the second.
    const listeners = [{ ...b!, ca: `${root}/other.crt` }, a!];
    writeFileSync(path, JSON.stringify({ ...rest, listeners }));
    const log = new Log();
    const proxy = createProxy({ ...rest, listeners: [a!, b!], shadow: { config: path } } as never, {
      logger: log,
      refusalInterval: 50,
    });
    await proxy.listen();
    const [one, two] = proxy.addresses.map(({ port }) => port);
    expect(await isServed(one!)).toBe(true);
    expect(await isServed(two!)).toBe(true);
    await log.count("shadow", 1);
    expect(messages(log, "shadow").map(({ listener: address, reason }) => [address, reason])).toEqual([
      [`127.0.0.1:${two}`, "certificate_untrusted"],
    ]);
    await proxy.close({ timeout: 0 });
  });
});

test("a shadow with another kind of identity says who would be refused, and which open connections would be another client's", async () => {
  using origin = echoOrigin();
  const named = (path: string) => ({
    identity: issue("carol@admin", testAuthority, { names: [[0x86, `spiffe://x/${path}`]] }),
  });
  const identity = { from: "uri", pattern: "spiffe://x/{group}/{user}" } as const;
  const over = { shadow: { config: shadowFile([origin.target], { listener: { identity } }) } };
  await using proxy = await startProxy([origin.target], { watch: false });
  const clients = [
    await connect(proxy.port, named("admin/carol")),
    await connect(proxy.port, named("admin/eve")),
  ];
  for (const client of clients) expect(await echoes(client)).toBe(true);
  await proxy.proxy.reload(testConfig([origin.target], { watch: false, ...over }));
  await proxy.log.line("shadow");
  expect(differences(proxy)).toEqual(["carol@admin test allowed refused identity_changed"]);
  for (const path of ["admin/carol", "admin/eve", "ops/carol", "x"]) {
    const client = await connect(proxy.port, named(path));
    expect(await echoes(client)).toBe(true);
    clients.push(client);
  }
  for (const client of clients) client.close();
  await proxy.log.count("closed", clients.length);
  expect(differences(proxy).slice(1)).toEqual([
    "carol@admin test allowed refused group_not_authorized",
    "carol@admin test allowed refused identity_invalid",
  ]);
});
