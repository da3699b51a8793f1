// Several certificates on one listener, by server name: each client sees its own, and none gets in that would not get in
// by the listener's own certificate.

import { X509Certificate } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect as netConnect } from "node:net";
import { tmpdir } from "node:os";
import { connect as tlsConnect } from "node:tls";
import type { ListenerConfig } from "tcpproxy";
import { issue, makeAuthority, testAuthority, type AltName } from "../support/issue.ts";
import { cert, certPath, connect, echoOrigin, type ClientOptions, type Peer } from "../support/peer.ts";
import { startProxy, testConfig, until, type TestProxy } from "../support/proxy.ts";
import { monitoredAt, scrape } from "../support/scrape.ts";
import { echoes, reasons } from "../support/served.ts";
import { Tap } from "../support/tap.ts";
import { visit } from "../support/visit.ts";

let root: string;
beforeAll(() => void (root = mkdtempSync(`${tmpdir()}/tcpproxy-names-`)));
afterAll(() => rmSync(root, { recursive: true }));

const DNS = 0x82;
const authority = makeAuthority([["CN", "servers"]]);
const ECDSA = { certificate: certPath("server-ecdsa.crt"), privateKey: certPath("ecdsa.pem") };

/** A new certificate for these DNS names. */
function file(...names: string[]): { certificate: string; privateKey: string; print: string } {
  const made = issue("proxy", authority, { names: names.map((name): AltName => [DNS, name]) });
  const folder = mkdtempSync(`${root}/`);
  writeFileSync(`${folder}/crt`, made.cert);
  writeFileSync(`${folder}/key`, made.key);
  const print = new X509Certificate(made.cert).fingerprint256;
  return { certificate: `${folder}/crt`, privateKey: `${folder}/key`, print };
}

const files = ({ certificate, privateKey }: ReturnType<typeof file>) => ({ certificate, privateKey });
const OWN = new X509Certificate(cert("server.crt")).fingerprint256;
const print = (client: Peer) => client.socket.getPeerX509Certificate()?.fingerprint256;

/** The certificate that a client sees; undefined if it is not served. */
async function shown(port: number, options: ClientOptions = {}): Promise<string | undefined> {
  const client = await connect(port, options);
  const seen = print(client);
  const served = await echoes(client);
  client.close();
  return served ? seen : undefined;
}

describe.each([1, 2])("with %p workers", (workers) => {
  const start = (targets: string[], listener: ListenerConfig) =>
    startProxy(targets, { workers, watch: false, listener });
  const reload = (proxy: TestProxy, targets: string[], listener: ListenerConfig) =>
    proxy.proxy.reload(
      testConfig(targets, {
        workers,
        watch: false,
        listener: { ...listener, address: `127.0.0.1:${proxy.port}` },
      }),
    );

  test("a client sees the certificate of its server name: exact before wildcard, and the listener's own otherwise", async () => {
    using origin = echoOrigin();
    const [exact, wide, given] = [file("db.a.test", "other.test"), file("*.a.test"), file("unused.test")];
    await using proxy = await start([origin.target], {
      certificates: [
        files(wide),
        files(exact),
        { ...files(given), serverNames: ["given.test", "*.b.a.test"] },
      ],
    });
    const seen = async (serverName: string) => shown(proxy.port, { serverName });
    expect(await seen("db.a.test")).toBe(exact.print);
    expect(await seen("DB.A.test")).toBe(exact.print);
    expect(await seen("other.test")).toBe(exact.print);
    expect(await seen("x.a.test")).toBe(wide.print);
    expect(await seen("x.b.a.test")).toBe(given.print);
    expect(await seen("given.test")).toBe(given.print);
    for (const name of ["localhost", "a.test", "unused.test", "elsewhere.test", ""])
      expect(await seen(name)).toBe(OWN);
  });

  test("nobody gets in by another server name who does not get in without one", async () => {
    using origin = echoOrigin();
    const other = file("other.test");
    await using proxy = await start([origin.target], { certificates: [files(other)] });
    /** One whom the CA of the servers vouches for, and not that of the clients. */
    const ofServers = issue("alice@admin", authority);
    const hostile: [string, ClientOptions][] = [
      ["certificate_missing", { name: null }],
      ["certificate_untrusted", { name: "stranger" }],
      ["certificate_untrusted", { identity: ofServers }],
      ["certificate_untrusted", { name: "server-only" }],
      ["certificate_expired", { name: "expired" }],
      ["identity_invalid", { name: "hostile-no-at" }],
      ["group_not_authorized", { name: "carol" }],
    ];
    const round = async () => {
      for (const [reason, options] of hostile) {
        for (const serverName of ["localhost", "other.test"]) {
          const before = reasons(proxy.log).length;
          expect(await shown(proxy.port, { ...options, serverName })).toBeUndefined();
          await until(() => reasons(proxy.log).length > before, "the refusal is logged");
          expect([serverName, reasons(proxy.log).at(-1)]).toEqual([serverName, reason]);
        }
      }
      expect(await shown(proxy.port, { serverName: "other.test" })).toBeDefined();
    };
    await round();
    // The same holds for contexts that a reload has made.
    await reload(proxy, [origin.target], { certificates: [files(file("other.test"))] });
    await round();
  });

  test("TLS 1.2 is refused by any server name", async () => {
    using origin = echoOrigin();
    await using proxy = await start([origin.target], { certificates: [files(file("other.test"))] });
    for (const servername of ["localhost", "other.test"]) {
      const socket = tlsConnect({
        host: "127.0.0.1",
        port: proxy.port,
        servername,
        cert: cert("alice.crt"),
        key: cert("key.pem"),
        rejectUnauthorized: false,
        maxVersion: "TLSv1.2",
      });
      const code = await new Promise((resolve) =>
        socket
          .once("error", (error: NodeJS.ErrnoException) => resolve(error.code))
          .once("secureConnect", resolve),
      );
      expect(code).toBeString();
      socket.destroy();
    }
    await proxy.log.count("refused", 2);
    expect(reasons(proxy.log)).toEqual(["handshake_failed", "handshake_failed"]);
  });

  test("a reload adds, replaces and removes certificates, and new CAs apply to every server name", async () => {
    using origin = echoOrigin();
    await using proxy = await start([origin.target], {});
    const seen = (name = "alice") => shown(proxy.port, { name, serverName: "other.test" });
    expect(await seen()).toBe(OWN);
    const [first, second] = [file("other.test"), file("other.test")];
    for (const each of [first, second]) {
      await reload(proxy, [origin.target], { certificates: [files(each)] });
      expect(await seen()).toBe(each.print);
    }
    expect(await seen("second-root")).toBeUndefined();
    await reload(proxy, [origin.target], { ca: certPath("ca2.crt"), certificates: [files(second)] });
    expect(await seen("second-root")).toBe(second.print);
    expect(await seen()).toBeUndefined();
    await reload(proxy, [origin.target], {});
    expect(await seen()).toBe(OWN);
  });

  test("a reload that TLS or the check refuses leaves every certificate as it was", async () => {
    using origin = echoOrigin();
    const [first, second] = [file("other.test"), file("other.test")];
    await using proxy = await start([origin.target], { certificates: [files(first)] });
    const broken = { ...files(second), privateKey: certPath("ecdsa.pem") };
    const attempt = reload(proxy, [origin.target], { ...ECDSA, certificates: [broken] });
    expect(attempt).rejects.toThrow("is not the key of listener.certificates[0].certificate");
    await attempt.catch(() => {});
    expect(await shown(proxy.port, { serverName: "other.test" })).toBe(first.print);
    expect(await shown(proxy.port)).toBe(OWN);
  });

  test("a handshake that is under way by a server name is judged by the rules at its end", async () => {
    using origin = echoOrigin();
    const [old, next] = [file("other.test"), file("other.test")];
    const both = `${mkdtempSync(`${root}/`)}/roots.pem`;
    writeFileSync(both, `${cert("ca.crt")}\n${cert("ca2.crt")}`);
    await using proxy = await start([origin.target], { ca: both, certificates: [files(old)] });
    const held = async (name: string) => {
      const tap = new Tap(proxy.port);
      tap.hold();
      return { tap, client: await tap.client({ name, serverName: "other.test" }) };
    };
    const handshakes = await Promise.all(["alice", "second-root", "stranger"].map(held));
    await reload(proxy, [origin.target], { certificates: [files(next)] });
    const outcomes: unknown[] = [];
    for (const { tap, client } of handshakes) {
      tap.release();
      expect(print(client)).toBe(old.print);
      outcomes.push(await echoes(client));
      client.close();
      tap[Symbol.dispose]();
    }
    expect(outcomes).toEqual([true, false, false]);
  });

  test("a connection from before a reload whose handshake begins after it gets in by the new CAs only", async () => {
    using origin = echoOrigin();
    const [old, next] = [file("other.test"), file("other.test")];
    await using proxy = await start([origin.target], { certificates: [files(old)] });
    const connected = async (name: string) => {
      const socket = netConnect(proxy.port, "127.0.0.1");
      await once(socket, "connect");
      return { socket, name };
    };
    const early = await Promise.all(["alice", "second-root", "stranger"].map(connected));
    // With one worker each of them is accepted now: this handshake came later.
    expect(await shown(proxy.port)).toBe(OWN);
    await reload(proxy, [origin.target], { ca: certPath("ca2.crt"), certificates: [files(next)] });
    const outcomes: Record<string, boolean> = {};
    for (const { socket, name } of early) {
      const tls = tlsConnect({
        socket,
        servername: "other.test",
        cert: cert(`${name}.crt`),
        key: cert("key.pem"),
        rejectUnauthorized: false,
      });
      tls.on("error", () => {});
      tls.on("secureConnect", () => void tls.write("x"));
      outcomes[name] = await new Promise<boolean>((resolve) =>
        tls.once("data", () => resolve(true)).once("close", () => resolve(false)),
      );
      tls.destroy();
    }
    expect(outcomes["alice"]).toBe(false);
    expect(outcomes["stranger"]).toBe(false);
    expect(await shown(proxy.port, { name: "second-root", serverName: "other.test" })).toBe(next.print);
  });

  test("clients that connect without pause during reloads are each served, with the old certificate or the new", async () => {
    using origin = echoOrigin();
    const pair = [file("other.test"), file("other.test")] as const;
    await using proxy = await start([origin.target], { certificates: [files(pair[0])] });
    const outcomes = new Set<string | undefined>();
    let [count, stop] = [0, false];
    const connecting = Array.from({ length: 4 }, async () => {
      while (!stop) {
        outcomes.add(await shown(proxy.port, { serverName: "other.test" }));
        count++;
      }
    });
    for (let i = 1; i <= 30; i++) {
      await reload(proxy, [origin.target], { certificates: [files(pair[i % 2]!)] });
      const enough = count + 6;
      await until(() => count >= enough, "some more have connected");
    }
    stop = true;
    await Promise.all(connecting);
    expect([...outcomes].sort()).toEqual([pair[0].print, pair[1].print].sort());
    expect(reasons(proxy.log)).toEqual([]);
  });
});

test("a tunnel is answered by any server name", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], {
    listener: { certificates: [files(file("other.test"))] },
  });
  for (const serverName of ["localhost", "other.test"]) {
    const client = await connect(proxy.port, { serverName, alpn: Buffer.from("\x0atcpproxy/1") });
    expect(client.socket.alpnProtocol).toBe("tcpproxy/1");
    client.reset();
  }
});

test("a ticket is good for the certificate of its server name only", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], {
    watch: false,
    listener: { certificates: [files(file("a.test", "a2.test")), files(file("b.test"))] },
  });
  const first = await visit(proxy.port, { serverName: "a.test" });
  first.leave();
  const reused: Record<string, boolean> = {};
  for (const serverName of ["a.test", "b.test", "localhost"]) {
    const again = await visit(proxy.port, { serverName, session: first.session });
    expect(again.served).toBe(true);
    reused[serverName] = again.reused;
    again.leave();
  }
  expect(reused).toEqual({ "a.test": true, "b.test": false, localhost: false });
});

const openssl = Bun.which("openssl");
test.skipIf(openssl === null)(
  "a server name that has an RSA and an ECDSA certificate shows the one that the client can verify",
  async () => {
    using origin = echoOrigin();
    const rsa = { certificate: certPath("server.crt"), privateKey: certPath("key.pem") };
    const certificates = [rsa, ECDSA].map((each) => ({ ...each, serverNames: ["both.test"] }));
    await using proxy = await startProxy([origin.target], { listener: { certificates } });
    const kind = async (client: string[], algorithms: string) => {
      const args = ["s_client", "-connect", `127.0.0.1:${proxy.port}`, "-servername", "both.test"];
      const run = Bun.spawn([openssl!, ...args, ...client, "-sigalgs", algorithms], {
        stdin: "ignore",
        stderr: "ignore",
      });
      return /Peer signature type: (\S+)/.exec(await run.stdout.text())?.[1];
    };
    const alice = ["-cert", certPath("alice.crt"), "-key", certPath("key.pem")];
    expect(await kind(alice, "RSA-PSS+SHA256")).toBe("RSA-PSS");
    expect(await kind(alice, "ECDSA+SHA256:RSA-PSS+SHA256")).toBe("ECDSA");
    const eve = ["-cert", certPath("ecdsa.crt"), "-key", certPath("ecdsa.pem")];
    expect(await kind(eve, "ECDSA+SHA256")).toBe("ECDSA");
  },
);

test("a ticket from one server name reaches no more by another than its client may, and nothing after a reload", async () => {
  using origin = echoOrigin();
  const certificates = [files(file("other.test"))];
  const listener = { certificates };
  const upstreams = [
    { name: "all", targets: [origin.target], anyGroup: true },
    { name: "closed", targets: [origin.target], serverNames: ["other.test"], authorizedGroups: ["ops"] },
  ];
  await using proxy = await startProxy([], { watch: false, upstreams, listener });
  const first = await visit(proxy.port);
  first.leave();
  expect([first.served, first.reused]).toEqual([true, false]);
  const there = await visit(proxy.port, { session: first.session, serverName: "other.test" });
  expect(there.served).toBe(false);
  expect(await proxy.log.line("refused", "group_not_authorized")).toMatchObject({ client: "alice@admin" });
  await proxy.proxy.reload(
    testConfig([], {
      watch: false,
      upstreams,
      listener: { certificates: [files(file("other.test"))], address: `127.0.0.1:${proxy.port}` },
    }),
  );
  const after = await visit(proxy.port, { session: first.session });
  expect([after.served, after.reused]).toEqual([true, false]);
  after.leave();
});

test("a ticket from another server name does not outlive its client's certificate or CA", async () => {
  using origin = echoOrigin();
  const other = files(file("other.test"));
  await using proxy = await startProxy([origin.target], {
    watch: false,
    listener: { certificates: [other] },
  });
  const identity = issue("alice@admin", testAuthority);
  const first = await visit(proxy.port, { identity, serverName: "other.test" });
  first.leave();
  expect(first.served).toBe(true);
  await proxy.proxy.reload(
    testConfig([origin.target], {
      watch: false,
      listener: {
        certificates: [other],
        ca: certPath("ca2.crt"),
        address: `127.0.0.1:${proxy.port}`,
      },
    }),
  );
  const after = await visit(proxy.port, { identity, serverName: "other.test", session: first.session });
  expect([after.served, after.reused]).toEqual([false, false]);
});

test("the metric of expiries has the earliest end of the listener's certificates", async () => {
  const notAfter = new Date("2099-01-01T00:00:00Z");
  const made = issue("proxy", authority, { notAfter, names: [[DNS, "other.test"]] });
  const other = file("other.test");
  writeFileSync(other.certificate, made.cert);
  await using proxy = await startProxy(["127.0.0.1:1"], {
    metrics: { address: "127.0.0.1:0" },
    listener: { certificates: [files(other)] },
  });
  const shown = await scrape(await monitoredAt(proxy.log));
  expect(shown.sum("certificate_expiry_timestamp_seconds", { kind: "server" })).toBe(
    notAfter.getTime() / 1_000,
  );
});

test("a certificate's file that changes is read anew", async () => {
  using origin = echoOrigin();
  const [first, second] = [file("other.test"), file("other.test")];
  await using proxy = await startProxy([origin.target], { listener: { certificates: [files(first)] } });
  expect(await shown(proxy.port, { serverName: "other.test" })).toBe(first.print);
  writeFileSync(first.certificate, await Bun.file(second.certificate).text());
  await proxy.log.line("reloaded");
  expect(await shown(proxy.port, { serverName: "other.test" })).toBe(second.print);
});
