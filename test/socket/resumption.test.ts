// Resumed sessions: no signature is made and no certificate is sent, but the client's identity and authorization are
// checked by the current rules and the current time.

import { expect, test } from "bun:test";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { issue, makeAuthority, revoke, testAuthority } from "../support/issue.ts";
import { cert, certPath, echoOrigin, Origin } from "../support/peer.ts";
import { startProxy, testConfig, until } from "../support/proxy.ts";
import { visit, type VisitOptions } from "../support/visit.ts";

class Folder implements AsyncDisposable {
  readonly path = mkdtempSync(`${tmpdir()}/tcpproxy-resumption-`);

  async file(name: string, text: string): Promise<string> {
    await Bun.write(`${this.path}/${name}`, text);
    return `${this.path}/${name}`;
  }

  async [Symbol.asyncDispose]() {
    await rm(this.path, { recursive: true, force: true });
  }
}

const calm = { watch: false };
/** A port that takes PROXY headers from others than the clients here: TLS begins later on it. */
const late = { acceptProxy: { from: ["127.0.0.9"] } };
const mallory = issue("mallory@admin", testAuthority, { serial: 800 });

/** Connects for the first time, is served, and returns the ticket. */
async function ticketFor(port: number, options: VisitOptions = {}): Promise<Buffer> {
  const first = await visit(port, options);
  expect(first.served).toBe(true);
  expect(first.reused).toBe(false);
  first.leave();
  if (first.session === undefined) throw new Error("there was no ticket");
  return first.session;
}

test("a client that comes back resumes its session, and is the same client", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], calm);
  let session = await ticketFor(proxy.port);
  for (let i = 0; i < 3; i++) {
    const again = await visit(proxy.port, { session });
    expect([again.served, again.reused]).toEqual([true, true]);
    session = again.session ?? session;
    again.leave();
  }
  const lines = await proxy.log.count("closed", 4);
  expect(lines.map(({ client }) => client)).toEqual(Array(4).fill("alice@admin"));
});

test("a ticket has the identity that it was issued to, whatever certificate comes with it", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], calm);
  const session = await ticketFor(proxy.port);
  const again = await visit(proxy.port, { identity: mallory, session });
  expect([again.served, again.reused]).toEqual([true, true]);
  again.leave();
  const [, second] = await proxy.log.count("closed", 2);
  expect(second!["client"]).toBe("alice@admin");
});

test("a chain with an intermediate is resumed too, also where there are revocation lists", async () => {
  await using folder = new Folder();
  const middle = makeAuthority([["CN", "middle"]], testAuthority);
  const leaf = issue("grace@admin", middle);
  const identity = { cert: leaf.cert + middle.cert, key: leaf.key };
  const crl = await folder.file("lists.pem", revoke([]) + revoke([], middle));
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], { ...calm, listener: { crl } });
  const session = await ticketFor(proxy.port, { identity });
  const again = await visit(proxy.port, { identity, session });
  expect([again.served, again.reused]).toEqual([true, true]);
  again.leave();
});

test.concurrent.each([true, false])(
  "a certificate that expires between two connections is refused on the second, with disconnectExpired = %p",
  async (disconnectExpired) => {
    using origin = new Origin(async (peer) => {
      await peer.send(await peer.some());
    });
    await using proxy = await startProxy([origin.target], { ...calm, disconnectExpired });
    // Three seconds are enough for a handshake on a busy machine. Dates in certificates are whole seconds.
    const notAfter = new Date(Math.ceil(Date.now() / 1_000 + 3) * 1_000);
    const identity = issue("mallory@admin", testAuthority, { notAfter });
    const session = await ticketFor(proxy.port, { identity });
    await until(() => Date.now() >= notAfter.getTime(), "it has expired");
    const again = await visit(proxy.port, { identity, session });
    expect(again.served).toBe(false);
    expect(await proxy.log.line("refused")).toMatchObject({
      reason: "certificate_expired",
      detail: "resumed session",
    });
    expect(origin.accepted).toHaveLength(1);
  },
);

test.concurrent("a revocation list that runs out between two connections refuses the second", async () => {
  await using folder = new Folder();
  const nextUpdate = new Date(Math.ceil(Date.now() / 1_000 + 3) * 1_000);
  const crl = await folder.file("crl.pem", revoke([], testAuthority, nextUpdate));
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], { ...calm, listener: { crl } });
  const session = await ticketFor(proxy.port);
  await until(() => Date.now() >= nextUpdate.getTime(), "it has run out");
  expect((await visit(proxy.port, { session })).served).toBe(false);
  expect(await proxy.log.line("refused")).toMatchObject({
    reason: "certificate_untrusted",
    detail: "resumed session",
  });
});

test("a certificate that is revoked between two connections is refused, and its ticket is worth nothing", async () => {
  await using folder = new Folder();
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], calm);
  const session = await ticketFor(proxy.port, { identity: mallory });
  const crl = await folder.file("crl.pem", revoke([800]));
  await proxy.proxy.reload(testConfig([origin.target], { ...calm, listener: { crl } }));
  const again = await visit(proxy.port, { identity: mallory, session });
  expect(again.served).toBe(false);
  expect(await proxy.log.line("refused")).toMatchObject({
    reason: "certificate_revoked",
    detail: "CERT_REVOKED",
  });
  expect(origin.accepted).toHaveLength(1);
});

test.each<[string, (folder: Folder) => Promise<object>]>([
  ["CRL", async (folder) => ({ crl: await folder.file("crl.pem", revoke([800])) })],
  ["CA", async (folder) => ({ ca: await folder.file("ca.pem", cert("ca2.crt") + cert("ca.crt")) })],
  [
    "certificate",
    async () => ({ certificate: certPath("server-ecdsa.crt"), privateKey: certPath("ecdsa.pem") }),
  ],
])(
  "tickets from before a change of the %s are invalid after it, and after its undoing",
  async (_, change) => {
    await using folder = new Folder();
    using origin = echoOrigin();
    for (const port of [{}, late]) {
      await using proxy = await startProxy([origin.target], { ...calm, listener: port });
      const session = await ticketFor(proxy.port);
      const first = await visit(proxy.port, { session });
      expect([first.served, first.reused]).toEqual([true, true]);
      first.leave();
      const listener = { ...port, ...(await change(folder)) };
      await proxy.proxy.reload(testConfig([origin.target], { ...calm, listener }));
      const second = await visit(proxy.port, { session });
      expect([second.served, second.reused]).toEqual([true, false]);
      second.leave();
      await proxy.proxy.reload(testConfig([origin.target], { ...calm, listener: port }));
      for (const old of [session, second.session]) {
        const third = await visit(proxy.port, { session: old });
        expect([third.served, third.reused]).toEqual([true, false]);
        third.leave();
      }
    }
  },
);

test("a reload that changes nothing of the TLS settings leaves tickets valid", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], calm);
  const session = await ticketFor(proxy.port);
  await proxy.proxy.reload(testConfig([origin.target], { ...calm, timeout: "10m" }));
  const again = await visit(proxy.port, { session });
  expect([again.served, again.reused]).toEqual([true, true]);
  again.leave();
});

test("a resumed session has the current group and upstream, not those of its first connection", async () => {
  using origin = echoOrigin();
  using other = echoOrigin();
  const upstreams = (group: string) => [
    { name: "one", targets: [origin.target], authorizedGroups: [group], serverNames: ["one.test"] },
    { name: "two", targets: [other.target], authorizedGroups: ["ops"], serverNames: ["two.test"] },
  ];
  await using proxy = await startProxy([], { ...calm, upstreams: upstreams("admin") });
  const session = await ticketFor(proxy.port, { serverName: "one.test" });
  // A session for one upstream gives no access to another.
  expect((await visit(proxy.port, { serverName: "two.test", session })).served).toBe(false);
  expect((await visit(proxy.port, { serverName: "three.test", session })).served).toBe(false);
  await proxy.proxy.reload(testConfig([], { ...calm, upstreams: upstreams("ops") }));
  expect((await visit(proxy.port, { serverName: "one.test", session })).served).toBe(false);
  const refused = await proxy.log.count("refused", 3);
  expect(refused.map(({ reason, upstream }) => [reason, upstream])).toEqual([
    ["group_not_authorized", "two"],
    ["unknown_server_name", undefined],
    ["group_not_authorized", "one"],
  ]);
  expect(other.accepted).toHaveLength(0);
});

test("a resumed session asks for its own server name, not for that of the first connection", async () => {
  using one = echoOrigin();
  using two = echoOrigin();
  const upstreams = [one, two].map(({ target }, i) => ({
    name: `u${i}`,
    targets: [target],
    authorizedGroups: ["admin"],
    serverNames: [`u${i}.test`],
  }));
  await using proxy = await startProxy([], { ...calm, upstreams });
  const session = await ticketFor(proxy.port, { serverName: "u0.test" });
  const again = await visit(proxy.port, { serverName: "u1.test", session });
  expect(again.served).toBe(true);
  again.leave();
  expect([one.accepted.length, two.accepted.length]).toEqual([1, 1]);
});

test("a resumed session counts against limits like any other", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], {
    ...calm,
    rateLimit: { capacity: 2, fillRate: "1h" },
  });
  const session = await ticketFor(proxy.port);
  const second = await visit(proxy.port, { session });
  expect([second.served, second.reused]).toEqual([true, true]);
  second.leave();
  expect((await visit(proxy.port, { session })).served).toBe(false);
  expect(await proxy.log.line("refused")).toMatchObject({ reason: "rate_limited", client: "alice@admin" });
});

test("a resumed connection that is open is judged at a reload like any other", async () => {
  await using folder = new Folder();
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], calm);
  const session = await ticketFor(proxy.port, { identity: mallory });
  const bad = await visit(proxy.port, { identity: mallory, session });
  const good = await visit(proxy.port, { session: await ticketFor(proxy.port) });
  expect([bad.reused, good.reused]).toEqual([true, true]);
  await proxy.log.count("closed", 2);
  const crl = await folder.file("crl.pem", revoke([800]));
  await proxy.proxy.reload(testConfig([origin.target], { ...calm, listener: { crl } }));
  expect((await proxy.log.count("closed", 3))[2]).toMatchObject({
    client: "mallory@admin",
    reason: "authorization_revoked",
    detail: "certificate_revoked",
  });
  expect(proxy.proxy.stats().connections).toBe(1);
  bad.leave();
  good.leave();
});

test.concurrent("a resumed session ends with its certificate like any other", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], calm);
  const notAfter = new Date(Math.ceil(Date.now() / 1_000 + 3) * 1_000);
  const identity = issue("mallory@admin", testAuthority, { notAfter });
  const session = await ticketFor(proxy.port, { identity });
  const again = await visit(proxy.port, { identity, session });
  expect([again.served, again.reused]).toEqual([true, true]);
  expect((await proxy.log.line("closed", "certificate_expired")).client).toBe("mallory@admin");
  expect(Date.now()).toBeGreaterThanOrEqual(notAfter.getTime());
  again.leave();
});

test("a proxy with sessionTickets = false issues no tickets", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], { ...calm, listener: { sessionTickets: false } });
  for (let i = 0; i < 2; i++) {
    const { served, session, leave } = await visit(proxy.port);
    expect([served, session]).toEqual([true, undefined]);
    leave();
  }
});

test("a reload turns tickets off, including those from before, and on again", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], calm);
  const session = await ticketFor(proxy.port);
  const off = { ...calm, listener: { sessionTickets: false } };
  await proxy.proxy.reload(testConfig([origin.target], off));
  const without = await visit(proxy.port, { session });
  expect([without.served, without.reused, without.session]).toEqual([true, false, undefined]);
  without.leave();
  await proxy.proxy.reload(testConfig([origin.target], calm));
  expect((await visit(proxy.port, { session })).reused).toBe(false);
  const again = await visit(proxy.port, { session: await ticketFor(proxy.port) });
  expect(again.reused).toBe(true);
  again.leave();
});

test("a damaged ticket does not give a client another identity", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], calm);
  const session = await ticketFor(proxy.port);
  // Part of the session is the client's own data: damage there leaves the ticket whole, and alice's session is resumed.
  for (let at = 0; at < session.length; at += 97) {
    const damaged = Buffer.from(session);
    damaged[at] = damaged[at]! ^ 0xff;
    const carol = { cert: cert("carol.crt"), key: cert("key.pem") };
    const { served, reused, leave } = await visit(proxy.port, { identity: carol, session: damaged });
    if (served) expect(reused).toBe(true);
    leave();
  }
  const lines = proxy.log.lines.filter(({ msg }) => msg === "internal error");
  expect(lines).toEqual([]);
});

test("a client that comes back is served with two workers, resumed or not", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], { ...calm, workers: 2 });
  let session = await ticketFor(proxy.port);
  for (let i = 0; i < 12; i++) {
    const again = await visit(proxy.port, { session });
    expect(again.served).toBe(true);
    session = again.session ?? session;
    again.leave();
  }
  expect((await proxy.log.count("closed", 13)).map(({ client }) => client)).toEqual(
    Array(13).fill("alice@admin"),
  );
});
