// `listener.acceptProxy`: balancers that name their callers in PROXY headers, and others that must not.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { SocketFolder, askSocket, change } from "../support/admin.ts";
import { Balancer, CALLER, type BalancerOptions } from "../support/balancer.ts";
import { encodeV1, encodeV2, rawV2, value } from "../support/header.ts";
import { connect, echoOrigin, Origin, type Origin as Server } from "../support/peer.ts";
import { startProxy, testConfig, until, type TestProxy } from "../support/proxy.ts";
import { messages } from "../support/served.ts";
import { silent } from "../support/stranger.ts";
import { crc32c, readProxyHeader } from "../../src/connection/proxy-header.ts";

const acceptProxy = { from: ["127.0.0.2", "127.0.0.8/29"] };
const REMOTE = `${CALLER.source}:${CALLER.sourcePort}`;

/** What a client gets through a balancer: its own bytes back, or nothing. */
async function echoed(proxy: TestProxy, options: BalancerOptions = {}, client = {}): Promise<string> {
  await using balancer = await Balancer.start(proxy.port, options);
  const peer = await connect(balancer.port, client);
  await peer.send("ping");
  const answer = await peer.read(4);
  peer.close();
  await peer.closed;
  return answer.toString();
}

/** The fields of the only line of this message that matter here. */
function only({ log }: TestProxy, msg: string) {
  const lines = messages(log, msg).map(({ remote, peer, reason, detail, client }) => ({
    ...{ remote, peer, reason },
    ...(detail !== undefined && { detail }),
    ...(client !== undefined && { client }),
  }));
  expect(lines).toHaveLength(1);
  return lines[0];
}

const send = (socket: string, path: string, method: string, body: object) =>
  askSocket(socket, path, { ...change(JSON.stringify(body)), method });

const closed = ({ log }: TestProxy) => until(() => messages(log, "closed").length > 0, "it is closed");
const refused = ({ log }: TestProxy) => until(() => messages(log, "refused").length > 0, "it is refused");

describe.skipIf(process.platform !== "linux")("a balancer's connection", () => {
  let origin: Server;
  beforeAll(() => void (origin = echoOrigin()));
  afterAll(() => origin[Symbol.dispose]());

  const start = (listener: object = {}, more: object = {}) =>
    startProxy([origin.target], { listener: { acceptProxy, ...listener }, ...more });

  const withSum = () => {
    const header = encodeV2(CALLER, [value(0x03, Buffer.alloc(4)), value(0xea, Buffer.from("x"))]);
    header.writeUInt32BE(crc32c(header), header.length - 8);
    return header;
  };
  const IPV6 = { ...CALLER, source: "2001:0db8:0000:0000:0000:0000:0000:0007", destination: "0".repeat(4) };
  const long = { ...IPV6, destination: Array(8).fill("0001").join(":") };
  const every = (header: Buffer, size: number) =>
    Array.from({ length: Math.ceil(header.length / size) }, (_, i) =>
      header.subarray(i * size, (i + 1) * size),
    );

  test.each<[string, readonly Uint8Array[], string]>([
    ["version 1", [encodeV1(CALLER)], REMOTE],
    ["version 2", [encodeV2(CALLER)], REMOTE],
    [
      "version 1 over IPv6",
      [encodeV1({ ...CALLER, source: "2001:db8::7", destination: "::1" })],
      "[2001:db8::7]:40001",
    ],
    ["version 2 over IPv6", [encodeV2(long)], "[2001:db8::7]:40001"],
    ["version 2 with values and a checksum", [withSum()], REMOTE],
    ["version 1 in pieces", every(encodeV1(CALLER), 7), REMOTE],
    ["version 2 in pieces of a byte", every(encodeV2(CALLER), 1), REMOTE],
    [
      "version 2 of 4 KiB in two pieces",
      every(encodeV2(CALLER, [value(0x04, Buffer.alloc(4_065))]), 2_048),
      REMOTE,
    ],
  ])("with a header of %s is its caller's", async (_, header, remote) => {
    for (const together of [false, true]) {
      await using proxy = await start();
      expect(await echoed(proxy, { header, together })).toBe("ping");
      await closed(proxy);
      expect(only(proxy, "closed")).toEqual({
        remote,
        peer: expect.stringMatching(/^127\.0\.0\.2:\d+$/),
        reason: "closed",
        client: "alice@admin",
      });
    }
  });

  test.each<[string, Buffer]>([
    ["LOCAL", rawV2(0x20, 0x00, Buffer.alloc(0))],
    ["UNKNOWN", Buffer.from("PROXY UNKNOWN\r\n")],
    ["a Unix socket", rawV2(0x21, 0x31, Buffer.alloc(216))],
    ["an unspecified address", rawV2(0x21, 0x00, Buffer.alloc(0))],
  ])("with a header that names %s is the balancer's own", async (_, header) => {
    await using proxy = await start();
    expect(await echoed(proxy, { header: [header] })).toBe("ping");
    await closed(proxy);
    const { remote, peer } = only(proxy, "closed")!;
    expect(remote).toMatch(/^127\.0\.0\.2:\d+$/);
    expect(peer).toBe(remote);
  });

  test.each<[string, readonly Uint8Array[], string, string]>([
    ["no header", [], "proxy_header_missing", "something else came first"],
    [
      "a request of HTTP first",
      [Buffer.from("GET / HTTP/1.1\r\n")],
      "proxy_header_missing",
      "something else",
    ],
    ["a wrong family", [rawV2(0x21, 0x12, Buffer.alloc(12))], "proxy_header_invalid", "0x12"],
    [
      "a line that does not end",
      [Buffer.from(`PROXY TCP4 ${"9".repeat(200)}`)],
      "proxy_header_invalid",
      "107",
    ],
    [
      "a length that lies",
      [rawV2(0x21, 0x11, Buffer.alloc(12), 60_000)],
      "proxy_header_invalid",
      "60016 bytes",
    ],
  ])("with %s is refused", async (_, header, reason, detail) => {
    await using proxy = await start();
    expect(await echoed(proxy, { header })).toBe("");
    await refused(proxy);
    expect(only(proxy, "refused")).toEqual({
      remote: expect.stringMatching(/^127\.0\.0\.2:\d+$/),
      peer: undefined,
      reason,
      detail: expect.stringContaining(detail),
    });
    expect(proxy.proxy.stats().connections).toBe(0);
  });

  test.each<[string, string, string]>([
    ["", "proxy_header_missing", "nothing came"],
    ["PROXY TCP4 192.0.2", "proxy_header_invalid", "it is cut short"],
  ])("that ends after %p is refused at once", async (text, reason, detail) => {
    await using proxy = await start();
    const socket = await silent(proxy.port, "127.0.0.2");
    socket.end(text);
    await refused(proxy);
    expect(only(proxy, "refused")).toMatchObject({ reason, detail });
    expect(proxy.proxy.stats().connections).toBe(0);
  });

  test.each<[string, string]>([
    ["", "proxy_header_missing"],
    ["PROXY TCP4 192.0.2", "proxy_header_invalid"],
  ])("that stays after %p is refused within handshakeTimeout", async (text, reason) => {
    await using proxy = await start({}, { handshakeTimeout: 300 });
    const socket = await silent(proxy.port, "127.0.0.2");
    const gone = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    socket.write(text);
    await gone;
    await refused(proxy);
    expect(only(proxy, "refused")).toMatchObject({ reason });
    expect(proxy.proxy.stats().connections).toBe(0);
  });

  test("has one handshakeTimeout for its header and its handshake", async () => {
    await using proxy = await start({}, { handshakeTimeout: 400 });
    const socket = await silent(proxy.port, "127.0.0.2");
    const began = performance.now();
    const gone = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    socket.write("P");
    await Bun.sleep(300);
    socket.write(encodeV1(CALLER).subarray(1));
    await gone;
    expect(performance.now() - began).toBeLessThan(700);
    await refused(proxy);
    expect(only(proxy, "refused")).toMatchObject({ reason: "handshake_timeout", remote: REMOTE });
  });

  test("that resets before its header is refused, and holds nothing", async () => {
    await using proxy = await start();
    const socket = await silent(proxy.port, "127.0.0.2");
    socket.write("PROXY ");
    await until(() => proxy.proxy.stats().connections === 1, "it waits");
    socket.resetAndDestroy();
    await refused(proxy);
    expect(only(proxy, "refused")).toMatchObject({ reason: expect.stringMatching(/^proxy_header_/) });
    expect(proxy.proxy.stats().connections).toBe(0);
  });

  test("with a certificate from elsewhere, or none, learns nothing and is refused for its caller", async () => {
    await using proxy = await start();
    expect(await echoed(proxy, {}, { name: "stranger" })).toBe("");
    expect(await echoed(proxy, {}, { name: null })).toBe("");
    await until(() => messages(proxy.log, "refused").length === 2, "both are refused");
    const lines = messages(proxy.log, "refused").map(({ reason, remote }) => [reason, remote]);
    expect(lines).toEqual([
      ["certificate_untrusted", REMOTE],
      ["certificate_missing", REMOTE],
    ]);
  });

  test("carries an end each way, and what was sent before it", async () => {
    using server = new Origin(async (peer) => {
      const all = await peer.rest();
      await peer.send(`${all.length} bytes`);
      peer.end();
    });
    await using proxy = await startProxy([server.target], { listener: { acceptProxy } });
    await using balancer = await Balancer.start(proxy.port, { together: true });
    const peer = await connect(balancer.port);
    expect(await peer.send(Buffer.alloc(3_000_000, 7))).toBe(true);
    peer.end();
    expect((await peer.rest()).toString()).toBe("3000000 bytes");
    peer.close();
  });

  test("is served before and after a reload that changes the TLS settings", async () => {
    await using proxy = await start();
    expect(await echoed(proxy)).toBe("ping");
    await proxy.proxy.reload(
      testConfig([origin.target], { listener: { acceptProxy, sessionTickets: false } }),
    );
    expect(await echoed(proxy)).toBe("ping");
  });

  test("from another source has its header never parsed", async () => {
    await using proxy = await start();
    expect(await echoed(proxy, { from: "127.0.0.3" })).toBe("");
    await refused(proxy);
    expect(only(proxy, "refused")).toMatchObject({
      reason: "handshake_failed",
      remote: expect.stringMatching(/^127\.0\.0\.3:\d+$/),
    });
    // Without a header it is served as itself.
    expect(await echoed(proxy, { from: "127.0.0.3", header: [] })).toBe("ping");
    await closed(proxy);
    expect(only(proxy, "closed")).toMatchObject({
      remote: expect.stringMatching(/^127\.0\.0\.3:/),
      peer: undefined,
    });
  });

  test("is let in by its caller's address: deny, allow, and limits for strangers", async () => {
    await using proxy = await start(
      { deny: ["203.0.113.0/25"] },
      { handshakes: { failures: 3, failuresRefill: 60_000 } },
    );
    expect(await echoed(proxy)).toBe("");
    await refused(proxy);
    expect(only(proxy, "refused")).toMatchObject({ reason: "address_denied", remote: REMOTE });
    const other = { ...CALLER, source: "203.0.113.200" };
    const third = { ...CALLER, source: "203.0.113.201" };
    const named = (caller: typeof CALLER) => ({ header: [encodeV2(caller)] });
    for (let i = 0; i < 4; i++) await echoed(proxy, named(other), { name: "stranger" });
    await until(
      () => messages(proxy.log, "refused").some(({ reason }) => reason === "source_limited"),
      "limited",
    );
    // A neighbour behind the same balancer does not pay for it.
    expect(await echoed(proxy, named(third))).toBe("ping");
  });

  test("shows targets the caller, by the PROXY protocol", async () => {
    for (const version of ["v1", "v2"] as const) {
      using server = new Origin();
      await using proxy = await startProxy([], {
        listener: { acceptProxy },
        upstreams: [
          { name: "one", targets: [server.target], authorizedGroups: ["admin"], proxyProtocol: version },
        ],
      });
      await using balancer = await Balancer.start(proxy.port);
      const peer = await connect(balancer.port);
      const header = await (await server.next()).some();
      expect(readProxyHeader(header)).toMatchObject({
        ends: {
          source: { hostname: CALLER.source, port: CALLER.sourcePort },
          destination: { hostname: CALLER.destination, port: CALLER.port },
        },
      });
      peer.close();
    }
  });

  test("ends when a reload trusts its balancer no more, and one without header when it has to have one", async () => {
    await using proxy = await start();
    await using balancer = await Balancer.start(proxy.port);
    await using direct = await Balancer.start(proxy.port, { from: "127.0.0.3", header: [] });
    const peers = await Promise.all([balancer, direct].map(({ port }) => connect(port)));
    for (const peer of peers) {
      await peer.send("ping");
      await peer.read(4);
    }
    const next = (from: string[]) => testConfig([origin.target], { listener: { acceptProxy: { from } } });
    await proxy.proxy.reload(next(["127.0.0.2", "127.0.0.4"]));
    expect(proxy.proxy.stats().connections).toBe(2);
    await proxy.proxy.reload(next(["127.0.0.3"]));
    await Promise.all(peers.map((peer) => peer.ended));
    await until(() => messages(proxy.log, "closed").length === 2, "both are closed");
    const ends = messages(proxy.log, "closed").map(({ reason, detail, peer }) => [
      reason,
      detail,
      typeof peer,
    ]);
    expect(ends.sort()).toEqual([
      ["authorization_revoked", "balancer_removed", "string"],
      ["authorization_revoked", "proxy_header_missing", "undefined"],
    ]);
    await proxy.proxy.reload(testConfig([origin.target]));
    expect(await echoed(proxy, { header: [] })).toBe("ping");
  });

  test("gives way to a newer one while its header is missing, when all places are taken", async () => {
    await using proxy = await start({}, { maxConnections: 3 });
    const waiting = await Promise.all([1, 2, 3].map(() => silent(proxy.port, "127.0.0.2")));
    for (const socket of waiting) socket.write("PROXY ");
    await until(() => proxy.proxy.stats().connections === 3, "all places are taken");
    await Bun.sleep(120);
    expect(await echoed(proxy)).toBe("ping");
    await refused(proxy);
    expect(only(proxy, "refused")).toMatchObject({
      reason: "overloaded",
      remote: expect.stringMatching(/^127\.0\.0\.2/),
    });
    for (const socket of waiting) socket.destroy();
  });

  test("is blocked by its caller's network, and its callers' connections end", async () => {
    using folder = new SocketFolder();
    await using proxy = await start({}, { admin: { socket: folder.socket } });
    const other = { header: [encodeV2({ ...CALLER, source: "203.0.112.1" })] };
    await using balancer = await Balancer.start(proxy.port);
    await using second = await Balancer.start(proxy.port, other);
    const [peer, spared] = await Promise.all([connect(balancer.port), connect(second.port)]);
    for (const each of [peer, spared]) {
      await each.send("ping");
      await each.read(4);
    }
    const answer = await send(folder.socket, "/v1/blocks", "PUT", {
      subject: "203.0.113.0/24",
      reason: "test",
    });
    expect(answer.status).toBe(200);
    await peer.ended;
    expect(await echoed(proxy)).toBe("");
    expect(await echoed(proxy, other)).toBe("ping");
    await spared.send("still");
    expect((await spared.read(5)).toString()).toBe("still");
    spared.close();
  });

  test("that is refused for its header is explained by its id", async () => {
    using folder = new SocketFolder();
    await using proxy = await start({}, { admin: { socket: folder.socket } });
    for (const [header, reason] of [
      [[], "proxy_header_missing"],
      [[rawV2(0x21, 0x12, Buffer.alloc(12))], "proxy_header_invalid"],
    ] as const) {
      expect(await echoed(proxy, { header })).toBe("");
      await until(() => messages(proxy.log, "refused").some((line) => line.reason === reason), "refused");
      const { id } = messages(proxy.log, "refused").find((line) => line.reason === reason)!;
      expect((await send(folder.socket, "/v1/explain", "POST", { id })).json).toMatchObject({ reason });
    }
  });

  test("that waits for its header may still finish while the proxy drains, and is cut at the end", async () => {
    await using proxy = await start();
    const [one, other] = await Promise.all([1, 2].map(() => silent(proxy.port, "127.0.0.2")));
    for (const socket of [one!, other!]) socket.write("PROXY ");
    await until(() => proxy.proxy.stats().connections === 2, "both wait");
    const over = proxy.proxy.close({ timeout: 400 });
    const gone = new Promise<void>((resolve) => other!.once("close", () => resolve()));
    one!.end("junk");
    await until(() => messages(proxy.log, "refused").length === 1, "the first is refused");
    await gone;
    expect(await over).toMatchObject({ cut: 1 });
    expect(messages(proxy.log, "refused").map(({ reason }) => reason)).toEqual([
      "proxy_header_invalid",
      "handshake_failed",
    ]);
  });

  test("works with several workers", async () => {
    await using proxy = await start({}, { workers: 2 });
    await using balancer = await Balancer.start(proxy.port);
    const answers = await Promise.all(
      Array.from({ length: 40 }, async () => {
        const peer = await connect(balancer.port);
        await peer.send("ping");
        const answer = await peer.read(4);
        peer.close();
        return answer.toString();
      }),
    );
    expect(answers).toEqual(Array(40).fill("ping"));
  });

  test("to set acceptProxy by a reload needs a restart, and until then no header is read", async () => {
    await using proxy = await startProxy([origin.target]);
    await proxy.proxy.reload(testConfig([origin.target], { listener: { acceptProxy } }));
    expect(messages(proxy.log, "needs a restart")).toMatchObject([
      { key: "listener.acceptProxy", running: "none", configured: "127.0.0.2, 127.0.0.8/29" },
    ]);
    expect(await echoed(proxy)).toBe("");
  });
});
