// What the log says, and that nobody can make it say too much.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect as connectFrom } from "node:net";
import { RefusalLog } from "../../src/connection/refusal-log.ts";
import { cert, connect, connectPlain, echoOrigin, Origin, type Peer } from "../support/peer.ts";
import { issue } from "../support/issue.ts";
import { startProxy, testConfig, until, type Line, type TestProxy } from "../support/proxy.ts";

// How few lines there are is what is under test here: with the interval that users have.
const { intervalMs } = RefusalLog;
beforeAll(() => void (RefusalLog.intervalMs = 5_000));
afterAll(() => void (RefusalLog.intervalMs = intervalMs));

const refused = ({ log }: TestProxy) => log.written.filter(({ msg }) => msg === "refused");
const sum = (lines: Line[]) => lines.reduce((all, { count }) => all + Number(count ?? 1), 0);

async function probe(port: number, hostname?: string): Promise<void> {
  const peer = await connectPlain(port, hostname);
  peer.close();
  await peer.closed;
}

/** So many connections that close at once, a few at a time. */
async function flood(count: number, attempt: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < count) await attempt(next++);
  };
  await Promise.all(Array.from({ length: 20 }, worker));
}

describe.each([1, 2])("with %i workers", (workers) => {
  test("4,000 connections that close at once are a handful of lines, whose counts are 4,000", async () => {
    await using proxy = await startProxy(["127.0.0.1:1"], { workers });
    const began = Date.now();
    await flood(4_000, () => probe(proxy.port));
    await until(() => proxy.proxy.stats().connections === 0, "all have gone");
    await proxy.proxy.close();
    const lines = refused(proxy);
    expect(sum(lines)).toBe(4_000);
    // The first, one every five seconds, and the last.
    expect(lines.length).toBeLessThanOrEqual(workers * (3 + Math.ceil((Date.now() - began) / 5_000)));
    for (const { count, since } of lines) {
      if (count !== undefined) expect(Date.parse(String(since))).toBeGreaterThanOrEqual(began);
    }
  });
});

test("connections from many sources are a line or two each, exact", async () => {
  await using proxy = await startProxy(["127.0.0.1:1"], { listener: { address: "[::]:0" } });
  const local = (i: number) =>
    new Promise<void>((resolve, reject) => {
      const socket = connectFrom({
        host: "127.0.0.1",
        port: proxy.port,
        localAddress: `127.0.1.${(i % 50) + 1}`,
      });
      socket.on("connect", () => socket.end());
      socket.on("close", () => resolve());
      socket.on("error", reject);
      socket.resume();
    });
  await flood(500, local);
  await until(() => proxy.proxy.stats().connections === 0, "all have gone");
  await proxy.proxy.close();
  const lines = refused(proxy);
  expect(sum(lines)).toBe(500);
  const per = Map.groupBy(lines, ({ remote }) => String(remote).replace(/:\d+$/, ""));
  expect(per.size).toBe(50);
  for (const [source, own] of per) expect([source, sum(own)]).toEqual([source, 10]);
});

test("a refusal of a stranger says what its certificate claims, where it came in and what it asked for", async () => {
  await using proxy = await startProxy(["127.0.0.1:1"]);
  const client = await connect(proxy.port, { name: "stranger", serverName: "db.example.com" });
  await client.ended;
  client.close();
  const line = await proxy.log.line("refused");
  expect(line).toMatchObject({
    reason: "certificate_untrusted",
    listener: "127.0.0.1:0",
    serverName: "db.example.com",
    claimed: "alice@admin",
    serial: expect.stringMatching(/^[0-9A-F]+$/),
    issuer: expect.stringContaining("CN="),
    notAfter: expect.stringMatching(/^\d{4}-.*Z$/),
  });
  expect(line["client"]).toBeUndefined();
});

test("a refusal for want of room has an id and the listener", async () => {
  await using proxy = await startProxy(["127.0.0.1:1"], { maxConnections: 1 });
  const silent = await connectPlain(proxy.port);
  await until(() => proxy.proxy.stats().connections === 1, "it is full");
  await probe(proxy.port);
  expect(await proxy.log.line("refused", "overloaded")).toMatchObject({
    id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-z]+$/),
    listener: "127.0.0.1:0",
  });
  silent.reset();
});

describe("who ended first", () => {
  const cases: [string, string, string, (client: Peer, server: Peer, proxy: TestProxy) => void][] = [
    ["client", "closed", "a client's end", (client) => client.end()],
    ["client", "client_reset", "a client's reset", (client) => client.reset()],
    ["upstream", "closed", "a server's end", (_, server) => server.end()],
    ["upstream", "upstream_reset", "a server's reset", (_, server) => server.reset()],
    ["proxy", "shutdown", "a shutdown", (_, __, { proxy }) => void proxy.close({ timeout: 0 })],
  ];
  test.each(cases)("is the %s, reason %s: %s", async (endedBy, reason, _, end) => {
    // Each side ends when the other has.
    using origin = new Origin();
    await using proxy = await startProxy([origin.target]);
    const client = await connect(proxy.port);
    await client.send("x");
    const server = await origin.next();
    expect((await server.read(1)).length).toBe(1);
    await server.send("y");
    expect((await client.read(1)).length).toBe(1);
    end(client, server, proxy);
    void server.ended.then(() => server.close());
    void client.ended.then(() => client.close());
    expect(await proxy.log.line("closed")).toMatchObject({
      reason,
      endedBy,
      listener: "127.0.0.1:0",
      serverName: "localhost",
    });
  });
});

test("an upstream without a healthy target is one line, and so is its first healthy one; failures name the connection", async () => {
  const origin = echoOrigin();
  const { port, target } = origin;
  origin[Symbol.dispose]();
  await using proxy = await startProxy([target], { timeout: "1m", workers: 2 });
  const attempt = async () => {
    const client = await connect(proxy.port);
    await client.send("x");
    const answered = (await client.read(1)).length === 1;
    client.close();
    return answered;
  };
  for (let i = 0; i < 6; i++) expect(await attempt()).toBe(false);
  await proxy.log.count("target failed", 6);
  const out = await proxy.log.line("target ejected");
  expect(out).toMatchObject({ target, error: expect.stringContaining("ECONN") });
  expect(Date.parse(String(out["until"]))).toBeGreaterThan(Date.now() - 60_000);
  expect(await proxy.log.line("upstream has no healthy target")).toMatchObject({ upstream: "test" });
  for (const { id } of proxy.log.lines.filter(({ msg }) => msg === "target failed")) {
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-z-]+$/);
  }
  using back = echoOrigin({ port });
  expect(back.target).toBe(target);
  expect(await attempt()).toBe(true);
  await proxy.log.line("upstream has a healthy target again");
  for (const msg of [
    "target ejected",
    "upstream has no healthy target",
    "upstream has a healthy target again",
  ]) {
    expect(proxy.log.lines.filter((line) => line.msg === msg)).toHaveLength(1);
  }
});

test("a reload that adds a healthy target says that there is one again, one that takes it away that there is none", async () => {
  const gone = echoOrigin();
  gone[Symbol.dispose]();
  using origin = echoOrigin();
  await using proxy = await startProxy([gone.target]);
  for (let i = 0; i < 3; i++) {
    const client = await connect(proxy.port);
    await client.ended;
    client.close();
  }
  await proxy.log.line("upstream has no healthy target");
  await proxy.proxy.reload(testConfig([gone.target, origin.target]));
  expect(proxy.log.lines.filter(({ msg }) => msg === "upstream has a healthy target again")).toHaveLength(1);
  await proxy.proxy.reload(testConfig([gone.target]));
  expect(proxy.log.lines.filter(({ msg }) => msg === "upstream has no healthy target")).toHaveLength(2);
});

test.each([
  ["debug", false, ["debug"]],
  ["info", false, []],
  ["debug", true, ["info"]],
  ["info", true, ["info"]],
] as const)(
  "an admission is a line at debug, or at info where asked: level %s, asked %p, lines %p",
  async (logLevel, admissions, levels) => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { logLevel, log: { admissions } });
    const client = await connect(proxy.port, { identity: issue("erin@admin") });
    await client.send("x");
    await client.read(1);
    client.close();
    const { id } = await proxy.log.line("closed");
    const lines = proxy.log.lines.filter(({ msg }) => msg === "admitted");
    expect(lines).toEqual(
      levels.map((level) => ({
        level,
        msg: "admitted",
        id,
        client: "erin@admin",
        remote: expect.any(String),
        listener: "127.0.0.1:0",
        serverName: "localhost",
        upstream: "test",
      })),
    );
  },
);

describe.each([1, 2])("with %i workers", (workers) => {
  test("a connection that stays open says how far it is, as often as asked", async () => {
    using origin = echoOrigin();
    // The shortest of the times says how often connections are looked at.
    const over = { workers, connectTimeout: "1s", log: { progress: "100ms" } };
    await using proxy = await startProxy([origin.target], over);
    const client = await connect(proxy.port, { identity: issue("erin@admin") });
    await client.send("hello");
    await client.read(5);
    const lines = await proxy.log.count("progress", 3);
    client.close();
    const { id, remote } = await proxy.log.line("closed");
    for (const line of lines) {
      expect(line).toEqual({
        level: "info",
        msg: "progress",
        id,
        client: "erin@admin",
        remote,
        upstream: "test",
        target: origin.target,
        bytesIn: 5,
        bytesOut: 5,
        durationMs: expect.any(Number),
      });
    }
    const periods = lines.map(({ durationMs }) => Math.floor(Number(durationMs) / 100));
    expect(new Set(periods).size).toBe(periods.length);
    expect(periods[0]).toBeGreaterThan(0);
  });

  test("connections say nothing on their way where nobody has asked", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { workers, timeout: "200ms" });
    const client = await connect(proxy.port);
    await proxy.log.line("closed", "idle_timeout");
    client.close();
    expect(proxy.log.lines.filter(({ msg }) => msg === "progress")).toEqual([]);
  });
});

describe("a client that does not trust the proxy", () => {
  const openssl = Bun.which("openssl");
  const folder = new URL("../certs", import.meta.url).pathname;
  test.skipIf(openssl === null).each([
    ["openssl, for its CA", ["-CAfile", `${folder}/ca2.crt`]],
    ["openssl, for its name", ["-CAfile", `${folder}/ca.crt`, "-verify_hostname", "other.example.com"]],
  ])("shows as one: %s", async (_, trust) => {
    await using proxy = await startProxy(["127.0.0.1:1"]);
    const args = ["s_client", "-connect", `127.0.0.1:${proxy.port}`, "-verify_return_error", ...trust];
    const run = Bun.spawn([openssl!, ...args, "-cert", `${folder}/alice.crt`, "-key", `${folder}/key.pem`], {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "ignore",
    });
    await run.exited;
    expect(await proxy.log.line("refused")).toMatchObject({
      reason: "handshake_failed",
      detail: "the client most likely does not trust the proxy's certificate (TLS alert, BAD_PACKET_LENGTH)",
    });
  });

  test("shows as one that may not: a client of this runtime, which only leaves", async () => {
    await using proxy = await startProxy(["127.0.0.1:1"]);
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: proxy.port,
      tls: { ca: cert("ca2.crt"), cert: cert("alice.crt"), key: cert("key.pem"), serverName: "localhost" },
      socket: { data() {}, error() {}, handshake: (s, ok) => void (ok || s.end()) },
    });
    const line = await proxy.log.line("refused");
    socket.terminate();
    expect(line).toMatchObject({
      reason: "handshake_failed",
      detail: expect.stringContaining("saw the proxy's certificate"),
    });
  });
});
