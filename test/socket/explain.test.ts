// What `explain` says beforehand is what becomes of a real client: the same reason of refusal, or the same upstream.

import { X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createProxy, type Proxy, type ProxyConfig } from "tcpproxy";
import { presenting, type Explanation } from "../../src/connection/explanation.ts";
import { loadConfig } from "../../src/config/load.ts";
import { FileStamps } from "../../src/config/watch.ts";
import { explainOffline, offlineRules } from "../../src/engine/offline.ts";
import { PolicyError } from "../../src/engine/policy-tests.ts";
import { atOnce } from "../../src/lib/portions.ts";
import { DECIDED_REASONS } from "../../src/lib/reasons.ts";
import { readPem } from "../../src/auth/pem.ts";
import { Folder } from "../support/folder.ts";
import { issue, makeAuthority, revoke, testAuthority, type Identity } from "../support/issue.ts";
import { cert, certPath, echoOrigin, type Origin } from "../support/peer.ts";
import { Log, startProxy, testConfig, until } from "../support/proxy.ts";
import { rsaKey } from "../support/odd.ts";
import { visit } from "../support/visit.ts";

const shared = (name: string): Identity => ({ cert: cert(`${name}.crt`), key: cert("key.pem") });
const weakKey = String(rsaKey(1024).export({ type: "pkcs8", format: "pem" }));
const middle = makeAuthority([["CN", "middle"]], testAuthority);
const below = issue("alice@admin", middle);

/** Who comes, which server name they ask for, and what becomes of them. */
const CLIENTS: readonly (readonly [string, Identity, string | undefined, string])[] = [
  ["somebody who is authorized", shared("alice"), "db.example.com", "db"],
  ["somebody below an intermediate", { ...below, cert: below.cert + middle.cert }, "db.example.com", "db"],
  ["a CA", { cert: testAuthority.cert, key: testAuthority.key }, "db.example.com", "handshake_failed"],
  ["a stranger", shared("stranger"), "db.example.com", "certificate_untrusted"],
  ["somebody without the intermediate", below, "db.example.com", "certificate_untrusted"],
  ["a server", shared("server-only"), "db.example.com", "certificate_untrusted"],
  ["somebody too late", shared("expired"), "db.example.com", "certificate_expired"],
  ["somebody too early", shared("not-yet-valid"), "db.example.com", "certificate_expired"],
  [
    "somebody revoked",
    issue("eve@admin", testAuthority, { serial: 7 }),
    "db.example.com",
    "certificate_revoked",
  ],
  ["a weak key", issue("alice@admin", testAuthority, { key: weakKey }), "db.example.com", "certificate_weak"],
  ["two names", shared("hostile-two-cns"), "db.example.com", "identity_invalid"],
  ["no group", shared("hostile-no-at"), "db.example.com", "identity_invalid"],
  ["an unknown server name", shared("alice"), "bd.example.com", "unknown_server_name"],
  ["another group", shared("carol"), "db.example.com", "group_not_authorized"],
  ["a group in other letters", shared("lookalike-group-case"), "db.example.com", "group_not_authorized"],
  ["a name that fits no header", issue(`${"a".repeat(1_000)}@admin`), "told.example.com", "proxy_header"],
];

let folder: Folder;
let origin: Origin;
let config: ProxyConfig;
beforeAll(() => {
  folder = new Folder();
  origin = echoOrigin();
  writeFileSync(folder.path("crl.pem"), revoke([7]) + revoke([], middle));
  const { target } = origin;
  const upstream = { targets: [target], authorizedGroups: ["admin"] };
  config = testConfig([target], {
    watch: false,
    listener: { crl: folder.path("crl.pem") },
    upstreams: [
      { ...upstream, name: "db", serverNames: ["db.example.com"] },
      { ...upstream, name: "told", serverNames: ["told.example.com"], proxyProtocol: "v2" },
    ],
  });
});
afterAll(() => {
  origin[Symbol.dispose]();
  folder[Symbol.dispose]();
});

function offline(config: ProxyConfig, { cert: pem }: Identity, serverName: string | undefined): Explanation {
  const loaded = atOnce(loadConfig(config, { seen: new FileStamps() }));
  const from = presenting(readPem(pem).blocks.map(({ pem: each }) => new X509Certificate(each)));
  const asked = { listener: 0, from, serverName, address: "127.0.0.1", date: Date.now() };
  return explainOffline(offlineRules(loaded), asked);
}

describe("explain says offline what becomes of a real client:", () => {
  test.each(CLIENTS)("%s", async (_, identity, serverName, expected) => {
    const log = new Log();
    const proxy = createProxy(config, { logger: log });
    try {
      const { port } = await proxy.listen();
      const client = await visit(port, { identity, serverName: serverName ?? "" });
      const real = client.served ? "db" : (await log.line("refused")).reason;
      client.leave();
      const { upstream, reason, steps } = offline(config, identity, serverName);
      expect([real!, upstream ?? reason]).toEqual([expected, expected]);
      // Every step before the last one was passed, and a refusal says what would change it.
      expect(steps.slice(0, -1).every(({ ok }) => ok !== false)).toBe(true);
      if (reason !== undefined) expect(steps.at(-1)).toMatchObject({ ok: false, remedy: expect.any(String) });
    } finally {
      await proxy.close({ timeout: 0 });
    }
  });

  test("an address that is not allowed", async () => {
    const { listener, ...rest } = config;
    const from = { ...rest, listener: { ...listener, allow: ["::1", "127.0.0.2"] } };
    await using started = await startProxy([origin.target], from);
    const client = await visit(started.port, { serverName: "db.example.com" });
    expect(client.served).toBe(false);
    expect(await started.log.line("refused")).toMatchObject({ reason: "address_denied" });
    const { reason, steps } = offline(from, shared("alice"), "db.example.com");
    expect([reason, steps.at(-1)?.key]).toEqual(["address_denied", "listener.allow"]);
    const test = { client: "alice@admin", serverName: "db.example.com" };
    await started.proxy.reload({
      ...from,
      tests: [
        { ...test, from: "127.0.0.1", expect: "address_denied" },
        { ...test, from: "127.0.0.2", expect: "db" },
      ],
    });
    expect(started.proxy.tests.map(({ passed }) => passed)).toEqual([true, true]);
  });

  test.skipIf(process.platform !== "linux")("a balancer's address, without a header", async () => {
    const { listener, ...rest } = config;
    const behind = { ...rest, listener: { ...listener, acceptProxy: { from: ["127.0.0.1"] } } };
    await using started = await startProxy([origin.target], behind);
    const client = await visit(started.port, { serverName: "db.example.com" });
    expect(client.served).toBe(false);
    expect(await started.log.line("refused")).toMatchObject({ reason: "proxy_header_missing" });
    const { reason, steps } = offline(behind, shared("alice"), "db.example.com");
    expect([reason, steps.at(-1)?.key]).toEqual(["proxy_header_missing", "listener.acceptProxy.from"]);
  });

  test("there is a client for each reason that depends on the configuration alone", () => {
    const tried = new Set([
      ...CLIENTS.map(([, , , expected]) => expected),
      "address_denied",
      "proxy_header_missing",
    ]);
    expect(DECIDED_REASONS.filter((reason) => !tried.has(reason))).toEqual([]);
  });
});

describe("a test in the configuration that fails", () => {
  const good = { client: "alice@admin", serverName: "db.example.com", expect: "db" };
  const bad = { client: "alice@ops", serverName: "db.example.com", expect: "db" };

  test("keeps the proxy from being made, with a fault for each", () => {
    expect(() => createProxy({ ...config, tests: [good, bad, { ...bad, expect: "told" }] })).toThrow(
      'tests[1]: "alice@ops" to "db.example.com": expected "db", got "group_not_authorized": the group "ops" is not listed for "db" (upstreams[0].authorizedGroups)\n' +
        'tests[2]: "alice@ops" to "db.example.com": expected "told"',
    );
  });

  test("keeps a reload from coming into force", async () => {
    await using started = await startProxy([origin.target], config);
    const { proxy, log, port } = started;
    const upstreams = config.upstreams!.map((each) => ({ ...each, authorizedGroups: ["ops"] }));
    const reloaded = proxy.reload({ ...config, upstreams, tests: [good] });
    expect(await reloaded.catch((error: unknown) => error)).toBeInstanceOf(PolicyError);
    expect(await log.line("reload refused")).toMatchObject({ key: "tests[0]" });
    const client = await visit(port, { serverName: "db.example.com" });
    expect(client.served).toBe(true);
    client.leave();
    await proxy.reload({ ...config, tests: [good, { ...bad, expect: "group_not_authorized" }] });
    expect(proxy.tests.map(({ passed }) => passed)).toEqual([true, true]);
  });

  test.each<[string, (proxy: Proxy, files: Folder) => void]>([
    ["CA", (_, files) => writeFileSync(files.path("ca.pem"), cert("ca2.crt"))],
    ["revocation list", (_, files) => writeFileSync(files.path("crl.pem"), revoke([501]))],
  ])("keeps a reload from coming into force where only a %s has changed", async (what, change) => {
    using files = new Folder();
    writeFileSync(files.path("ca.pem"), cert("ca.crt"));
    writeFileSync(files.path("crl.pem"), revoke([]));
    writeFileSync(files.path("alice.crt"), issue("alice@admin", testAuthority, { serial: 501 }).cert);
    // The other CA has no list.
    const crl = what === "CA" ? {} : { crl: files.path("crl.pem") };
    const listener = { ...config.listener, ca: files.path("ca.pem"), crl: undefined, ...crl };
    const tests = [{ certificate: files.path("alice.crt"), serverName: "db.example.com", expect: "db" }];
    const log = new Log();
    const proxy = createProxy({ ...config, listener, tests, watch: true } as ProxyConfig, { logger: log });
    try {
      await proxy.listen();
      change(proxy, files);
      await until(() => log.lines.some(({ msg }) => msg === "reload refused"), "the reload is refused");
      expect(await log.line("reload refused")).toMatchObject({
        key: "tests[0]",
        problem: expect.stringContaining(`got "certificate_${what === "CA" ? "untrusted" : "revoked"}"`),
      });
    } finally {
      await proxy.close({ timeout: 0 });
    }
  });
});

test("a client's certificate in a test is a file whose change reloads", () => {
  const tests = [{ certificate: certPath("alice.crt"), serverName: "db.example.com", expect: "db" }];
  const { seen } = atOnce(loadConfig({ ...config, tests }, { seen: new FileStamps() }));
  expect(seen.files).toContain(certPath("alice.crt"));
});
