// `listener.allow` and `listener.deny`: who is refused by address, before TLS, and what a reload of them does.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { connect as connectTls } from "node:tls";
import { connect, cert, echoOrigin } from "../support/peer.ts";
import { startProxy, testConfig, until, type TestProxy } from "../support/proxy.ts";
import { echoes, messages } from "../support/served.ts";
import { isServed, silent } from "../support/stranger.ts";

const GOOD = "127.0.0.3";
const BAD = "127.0.0.2";

let root: string;
beforeAll(() => void (root = mkdtempSync(`${tmpdir()}/tcpproxy-networks-`)));
afterAll(() => rmSync(root, { recursive: true }));

/** The TCP connection to the proxy is closed from its side, although the client sends nothing. */
async function isTurnedAway(port: number, from: string): Promise<void> {
  const socket = await silent(port, from);
  if (!socket.destroyed) await new Promise<void>((resolve) => socket.once("close", () => resolve()));
}

/** A client that stays, from a chosen address. */
async function stay(port: number, localAddress: string) {
  const raw = await silent(port, localAddress);
  const socket = connectTls({
    socket: raw,
    cert: cert("alice.crt"),
    key: cert("key.pem"),
    ca: cert("ca.crt"),
    servername: "localhost",
  });
  socket.on("error", () => {});
  const closed = new Promise<void>((resolve) => raw.once("close", () => resolve()));
  await new Promise<void>((resolve) => {
    socket.once("data", () => resolve());
    socket.once("close", () => resolve());
    socket.write("x");
  });
  return { closed, leave: () => void raw.destroy() };
}

const refused = ({ log }: TestProxy) =>
  messages(log, "refused").map(({ reason, detail }) => [reason, detail]);

// All of 127.0.0.0/8 belongs to the machine on Linux alone.
describe.skipIf(process.platform !== "linux").each([1, 2])("with %i workers,", (workers) => {
  test("a denied address is refused before TLS, and the sum over all lines is exact", async () => {
    using origin = echoOrigin();
    const listener = { deny: ["127.0.0.2", "10.0.0.0/8"] };
    await using proxy = await startProxy([origin.target], { workers, listener });
    await Promise.all(Array.from({ length: 30 }, () => isTurnedAway(proxy.port, BAD)));
    expect(await isServed(proxy.port, BAD)).toBe(false);
    expect(await isServed(proxy.port, GOOD)).toBe(true);
    await until(() => proxy.proxy.stats().connections === 0, "all are gone");
    await proxy.proxy.close();
    expect(refused(proxy)).toEqual(Array(31).fill(["address_denied", "in deny"]));
    const lines = proxy.log.written.filter(({ msg }) => msg === "refused");
    // One line at once for each thread, and one for what follows.
    expect(lines.length).toBeLessThan(31);
    expect(lines[0]).toMatchObject({ remote: expect.stringMatching(/^127\.0\.0\.2:\d+$/) });
    for (const field of ["client", "claimed", "serverName"]) expect(lines[0]![field]).toBeUndefined();
  });

  test("a list of allowed addresses refuses all others, and deny comes before allow", async () => {
    using origin = echoOrigin();
    const listener = { allow: ["127.0.0.2/31"], deny: [BAD] };
    await using proxy = await startProxy([origin.target], { workers, listener });
    expect(await isServed(proxy.port, GOOD)).toBe(true);
    await isTurnedAway(proxy.port, BAD);
    await isTurnedAway(proxy.port, "127.0.0.4");
    await proxy.log.count("refused", 2);
    expect(refused(proxy).sort()).toEqual([
      ["address_denied", "in deny"],
      ["address_denied", "not in allow"],
    ]);
  });

  test("a reload closes what is open from an address that is now denied, as a dry run foretells", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { workers });
    const denied = [await stay(proxy.port, BAD), await stay(proxy.port, BAD)];
    const other = await connect(proxy.port);
    expect(await echoes(other)).toBe(true);
    const next = testConfig([origin.target], { workers, listener: { deny: [BAD] } });
    const { endings, changed } = await proxy.proxy.forecast(next);
    expect(endings.map(({ reason }) => reason)).toEqual(["address_denied", "address_denied"]);
    expect(changed.keys).toEqual(["listener.deny"]);
    await proxy.proxy.reload(next);
    await Promise.all(denied.map(({ closed }) => closed));
    await proxy.log.count("closed", 2);
    expect(messages(proxy.log, "closed").map(({ reason, detail }) => [reason, detail])).toEqual(
      Array(2).fill(["authorization_revoked", "address_denied"]),
    );
    expect(await echoes(other)).toBe(true);
    expect(await isServed(proxy.port, BAD)).toBe(false);
    expect(await proxy.log.line("refused", "address_denied")).toMatchObject({ detail: "in deny" });
    await proxy.proxy.reload(testConfig([origin.target], { workers }));
    expect(await isServed(proxy.port, BAD)).toBe(true);
  });

  test("a client in its handshake is refused if a reload has denied its address", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { workers });
    const raw = await silent(proxy.port, BAD);
    await until(() => proxy.proxy.stats().connections === 1, "it is accepted");
    await proxy.proxy.reload(testConfig([origin.target], { workers, listener: { allow: [GOOD] } }));
    const socket = connectTls({
      socket: raw,
      cert: cert("alice.crt"),
      key: cert("key.pem"),
      rejectUnauthorized: false,
    });
    socket.on("error", () => {});
    expect(await proxy.log.line("refused")).toMatchObject({
      reason: "address_denied",
      detail: "not in allow",
    });
    raw.destroy();
    expect(origin.accepted).toEqual([]);
  });

  test("refusals by address do not count as failed handshakes", async () => {
    using origin = echoOrigin();
    const handshakes = { failures: 2, failuresRefill: "1h" };
    await using proxy = await startProxy([origin.target], { workers, handshakes, listener: { deny: [BAD] } });
    for (let i = 0; i < 10; i++) await isTurnedAway(proxy.port, BAD);
    await proxy.proxy.reload(testConfig([origin.target], { workers, handshakes }));
    expect(await isServed(proxy.port, BAD)).toBe(true);
  });

  test("an IPv4 address is denied by an IPv4 range on a listener for IPv4 and IPv6 too", async () => {
    using origin = echoOrigin();
    const listener = { address: ":0", deny: ["127.0.0.2/32", "::/0"] };
    await using proxy = await startProxy([origin.target], { workers, listener });
    await isTurnedAway(proxy.port, BAD);
    await proxy.log.line("refused", "address_denied");
    expect(await isServed(proxy.port, GOOD)).toBe(true);
  });

  test("a shadow says whom its lists would refuse, and refuses nobody", async () => {
    using origin = echoOrigin();
    const config = `${mkdtempSync(`${root}/`)}/next.json`;
    writeFileSync(config, JSON.stringify(testConfig([origin.target], { listener: { deny: [BAD] } })));
    await using proxy = await startProxy([origin.target], { workers, shadow: { config } });
    expect(await isServed(proxy.port, GOOD)).toBe(true);
    expect(await isServed(proxy.port, BAD)).toBe(true);
    expect(await proxy.log.line("shadow")).toMatchObject({
      remote: expect.stringMatching(/^127\.0\.0\.2:/),
      enforced: "allowed",
      shadow: "refused",
      reason: "address_denied",
      detail: "in deny",
    });
  });
});
