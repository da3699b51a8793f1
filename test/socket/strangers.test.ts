// Clients without authorization must not delay or lock out the others: limits by source address.

import { generateKeyPairSync } from "node:crypto";
import { describe, expect, test } from "bun:test";
import { issue, makeAuthority, type Authority } from "../support/issue.ts";
import { cert, echoOrigin } from "../support/peer.ts";
import { startProxy, until, type TestProxy } from "../support/proxy.ts";
import { isServed, silent } from "../support/stranger.ts";

// Other systems have only one loopback address.
const onLinux = describe.skipIf(process.platform !== "linux");

const GOOD = "127.0.0.1";
const BAD = "127.0.0.2";
const stranger = { cert: cert("stranger.crt"), key: cert("key.pem") };

const refusals = (proxy: TestProxy, reason: string) =>
  proxy.log.lines.filter((line) => line.msg === "refused" && line.reason === reason).length;

async function fail(port: number, from: string, times: number): Promise<void> {
  for (let i = 0; i < times; i++) expect(await isServed(port, from, stranger)).toBe(false);
}

/** On a busy machine a failure may take more CPU time than usual, and count as more than one. */
function expectLimited(proxy: TestProxy, attempts: number, failures: number): void {
  const untrusted = refusals(proxy, "certificate_untrusted");
  expect(untrusted).toBeGreaterThanOrEqual(1);
  expect(untrusted).toBeLessThanOrEqual(failures);
  expect(untrusted + refusals(proxy, "source_limited")).toBe(attempts);
}

const atRest = ({ proxy }: TestProxy) =>
  until(() => {
    const { connections, upstreams } = proxy.stats();
    return connections === 0 && upstreams.every(({ targets }) => targets.every(({ open }) => open === 0));
  }, "nothing is held");

onLinux("silent connections", () => {
  test("silent connections that take all places do not keep a good client out", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { maxConnections: 40, handshakeTimeout: "1m" });
    const sockets = await Promise.all(Array.from({ length: 80 }, () => silent(proxy.port, BAD)));
    for (let i = 0; i < 5; i++) expect(await isServed(proxy.port, GOOD)).toBe(true);
    const many = await Promise.all(Array.from({ length: 15 }, () => isServed(proxy.port, GOOD)));
    expect(many).toEqual(Array(15).fill(true));
    for (const socket of sockets) socket.destroy();
    await atRest(proxy);
  });
});

onLinux("failures", () => {
  test("failures have their source refused, and no other", async () => {
    using origin = echoOrigin();
    const handshakes = { failures: 3, failuresRefill: "1h" };
    await using proxy = await startProxy([origin.target], { handshakes });
    await fail(proxy.port, BAD, 5);
    // An authorized client of that source is refused too: none was admitted from there before.
    expect(await isServed(proxy.port, BAD)).toBe(false);
    expect(await isServed(proxy.port, GOOD)).toBe(true);
    expect(await isServed(proxy.port, "127.0.0.3")).toBe(true);
    await atRest(proxy);
    // Closing writes the lines that count several refusals.
    await proxy.proxy.close();
    expectLimited(proxy, 6, 3);
  });

  test("failures never lock out a source of which a client was admitted lately", async () => {
    using origin = echoOrigin();
    const handshakes = { failures: 3, failuresRefill: "1h" };
    await using proxy = await startProxy([origin.target], { handshakes });
    expect(await isServed(proxy.port, BAD)).toBe(true);
    await fail(proxy.port, BAD, 10);
    for (let i = 0; i < 3; i++) expect(await isServed(proxy.port, BAD)).toBe(true);
    expect(refusals(proxy, "source_limited")).toBe(0);
    await atRest(proxy);
  });

  test("failures are not counted where the source is exempt, and a reload changes what is exempt", async () => {
    using origin = echoOrigin();
    const rule = { failures: 2, failuresRefill: "1h" };
    await using proxy = await startProxy([origin.target], {
      handshakes: { ...rule, exempt: ["127.0.0.2/31"] },
    });
    await fail(proxy.port, BAD, 5);
    expect(await isServed(proxy.port, BAD)).toBe(true);
    const { listener, upstreams } = {
      listener: { ...proxyFiles(proxy) },
      upstreams: [{ name: "test", targets: [origin.target], authorizedGroups: ["admin"] }],
    };
    await proxy.proxy.reload({ listener, upstreams, handshakes: rule });
    // Clients that were admitted while the source was exempt do not protect it.
    await fail(proxy.port, BAD, 2);
    expect(await isServed(proxy.port, BAD)).toBe(false);
    expect(refusals(proxy, "source_limited")).toBeGreaterThan(0);
    // The new rule allows more failures.
    await proxy.proxy.reload({ listener, upstreams, handshakes: { ...rule, failures: 1_000, perSource: 1 } });
    await fail(proxy.port, BAD, 1);
    expect(await isServed(proxy.port, BAD)).toBe(true);
    await proxy.proxy.reload({ listener, upstreams, handshakes: { ...rule, exempt: ["127.0.0.0/8"] } });
    await fail(proxy.port, BAD, 5);
    expect(await isServed(proxy.port, BAD)).toBe(true);
    await atRest(proxy);
  });

  test("failures are counted once for all workers", async () => {
    using origin = echoOrigin();
    const handshakes = { failures: 6, failuresRefill: "1h" };
    await using proxy = await startProxy([origin.target], { workers: 2, handshakes });
    await fail(proxy.port, BAD, 12);
    await proxy.proxy.close();
    expectLimited(proxy, 12, 6);
  });
});

onLinux("a chain of 99 certificates that are dear to verify", () => {
  test("a chain of 99 certificates gets its source one handshake, and no more", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    const chain = dearChain();
    for (let i = 0; i < 4; i++) expect(await isServed(proxy.port, BAD, chain)).toBe(false);
    expect(await isServed(proxy.port, GOOD)).toBe(true);
    await atRest(proxy);
    await proxy.proxy.close();
    expect(refusals(proxy, "source_limited")).toBe(3);
    expect(refusals(proxy, "certificate_untrusted") + refusals(proxy, "handshake_failed")).toBe(1);
  });
});

function proxyFiles({ proxy }: TestProxy) {
  const [listener] = proxy.config.listeners;
  const { ca, certificate, privateKey } = listener!;
  return { address: "127.0.0.1:0", ca, certificate, privateKey };
}

/** A leaf under 98 CAs that a stranger made, each with a P-521 key. */
function dearChain(): { cert: string; key: string } {
  const chain: Authority[] = [];
  for (let i = 0; i < 98; i++) {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-521" });
    const key = String(privateKey.export({ type: "pkcs8", format: "pem" }));
    chain.unshift(makeAuthority([["CN", `stranger ${i}`]], chain[0], { key }));
  }
  const leaf = issue("alice@admin", chain[0]);
  return { cert: leaf.cert + chain.map(({ cert }) => cert).join(""), key: leaf.key };
}
