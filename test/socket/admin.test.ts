// The admin socket of a proxy that carries connections: what it answers, and that nothing it is asked stands in their way.

import { afterAll, describe, expect, test } from "bun:test";
import { connect as connectSocket } from "node:net";
import { rmSync, statSync, writeFileSync } from "node:fs";
import { AdminServer } from "../../src/admin/server.ts";
import { askSocket, change, linesOf, sendRaw, SocketFolder } from "../support/admin.ts";
import { certPath, connect, echoOrigin, type Peer } from "../support/peer.ts";
import { Log, startProxy, testConfig, until, type TestProxy } from "../support/proxy.ts";
import { Random } from "../support/random.ts";
import { createProxy } from "tcpproxy";

const { requestWaitMs } = AdminServer;
afterAll(() => void (AdminServer.requestWaitMs = requestWaitMs));

/** Elliptic curves: many handshakes take less of the machine. */
const LISTENER = { certificate: certPath("server-ecdsa.crt"), privateKey: certPath("ecdsa.pem") };

async function ping(peer: Peer): Promise<void> {
  await peer.send("ping");
  expect(String(await peer.read(4))).toBe("ping");
}

async function openMany(port: number, count: number): Promise<Peer[]> {
  const peers: Peer[] = [];
  const open = async () => {
    while (peers.length < count) {
      const peer = await connect(port, { name: "ecdsa", key: "ecdsa.pem" });
      peers.push(peer);
      await ping(peer);
    }
  };
  await Promise.all(Array.from({ length: 16 }, open));
  return peers;
}

/** Reads events of the stream until it has one that fits. */
async function eventsUntil(
  response: Response,
  fits: (event: string, data: any) => boolean,
): Promise<{ event: string; data: any }[]> {
  const events: { event: string; data: any }[] = [];
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of response.body as ReadableStream<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true });
    for (let end = text.indexOf("\n\n"); end !== -1; end = text.indexOf("\n\n")) {
      const [, event = "", data = "null"] = /^event: (.*)\ndata: (.*)$/s.exec(text.slice(0, end)) ?? [];
      text = text.slice(end + 2);
      if (event === "") continue;
      events.push({ event, data: JSON.parse(data) });
      if (fits(event, events.at(-1)?.data)) return events;
    }
  }
  throw new Error("the stream has ended");
}

describe.each([1, 2])("with %i workers", (workers) => {
  test("the status says what has happened", async () => {
    using folder = new SocketFolder();
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { workers, admin: { socket: folder.socket } });
    const alice = await connect(proxy.port);
    await ping(alice);
    const carol = await connect(proxy.port, { name: "carol" });
    await carol.ended;
    carol.close();
    await proxy.log.line("refused");
    // Bytes are counted now and then.
    await until(() => proxy.proxy.stats().connections === 1, "carol has gone");
    let status;
    do ({ json: status } = await askSocket(folder.socket, "/v1/status"));
    while (status.totals.bytesOut === 0);
    expect(status).toMatchObject({
      phase: "running",
      pid: process.pid,
      threads: Array.from({ length: workers }, (_, thread) => ({ thread, alive: true })),
      reload: { succeeded: 0, refused: 0, faults: [] },
      connections: { open: 1 },
      clients: { tracked: 1, limit: 262_144 },
      totals: { accepted: 2, admitted: 1, refused: 1, closed: 0, bytesIn: 4, bytesOut: 4 },
      listeners: [{ address: "127.0.0.1:0", accepted: 2, handshaking: 0 }],
      refusals: { group_not_authorized: 1 },
      upstreams: [
        {
          name: "test",
          open: 1,
          admitted: 1,
          refused: 1,
          bytesIn: 4,
          bytesOut: 4,
          targets: [{ target: origin.target, open: 1, health: "up", weight: 1, backup: false, failures: 0 }],
        },
      ],
      logLinesDropped: 0,
    });
    expect(status.certificates.map(({ kind }: { kind: string }) => kind)).toEqual(["server", "ca"]);
    const { json } = await askSocket(folder.socket, "/v1/targets");
    expect(json).toEqual({ targets: status.upstreams[0].targets });
  });

  test("connections are listed, and picked out by what is asked for", async () => {
    using folder = new SocketFolder();
    using origin = echoOrigin();
    const upstreams = [{ name: "test", targets: [origin.target], authorizedGroups: ["admin", "ops"] }];
    await using proxy = await startProxy([], { workers, upstreams, admin: { socket: folder.socket } });
    const names = ["alice", "alice", "bob", "carol"];
    for (const name of names) await ping(await connect(proxy.port, { name }));
    const list = async (query: string) =>
      linesOf(await askSocket(folder.socket, `/v1/connections${query}`)).map(({ client }) => client);
    const all = await askSocket(folder.socket, "/v1/connections");
    expect(all.headers.get("content-type")).toContain("application/x-ndjson");
    expect(linesOf(all).find(({ client }) => client === "bob@admin")).toMatchObject({
      group: "admin",
      upstream: "test",
      target: origin.target,
      phase: "relaying",
      bytesIn: 4,
      bytesOut: 4,
      listener: "127.0.0.1:0",
      serverName: "localhost",
      notAfter: "2120-01-01T00:00:00.000Z",
    });
    expect((await list("")).sort()).toEqual(["alice@admin", "alice@admin", "bob@admin", "carol@ops"]);
    expect(await list("?client=alice%40admin")).toEqual(["alice@admin", "alice@admin"]);
    expect(await list("?group=ops&from=127.0.0.0/8")).toEqual(["carol@ops"]);
    expect(await list("?from=10.0.0.0/8")).toEqual([]);
    expect(await list(`?target=${origin.target}&upstream=test`)).toHaveLength(4);
    expect(await list(`?id=${linesOf(all)[0].id}`)).toHaveLength(1);
    const { status, json } = await askSocket(folder.socket, "/v1/connections?from=nowhere");
    expect([status, json]).toEqual([400, { error: "from is an address or a range, such as 10.0.0.0/8" }]);
  });

  test("clients are listed, those nearest to a limit first", async () => {
    using folder = new SocketFolder();
    using origin = echoOrigin();
    const rateLimit = { capacity: 10, fillRate: "1h", maxConnections: 4 };
    await using proxy = await startProxy([origin.target], {
      workers,
      rateLimit,
      admin: { socket: folder.socket },
    });
    for (const name of ["bob", "alice", "alice", "alice"]) await ping(await connect(proxy.port, { name }));
    const { json } = await askSocket(folder.socket, "/v1/clients");
    expect(json).toEqual({
      clients: [
        {
          client: "alice@admin",
          open: 3,
          maxConnections: 4,
          tokens: 7,
          capacity: 10,
          bytesIn: 12,
          bytesOut: 12,
        },
        { client: "bob@admin", open: 1, maxConnections: 4, tokens: 9, capacity: 10, bytesIn: 4, bytesOut: 4 },
      ],
    });
  });

  test("a client is listed with the limits of its group, or with its own", async () => {
    using folder = new SocketFolder();
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], {
      workers,
      listener: LISTENER,
      rateLimit: { capacity: "unlimited" },
      limits: [
        { match: "*@admin", maxConnections: 9 },
        { match: "bob@admin", capacity: 3, fillRate: "1h" },
      ],
      admin: { socket: folder.socket },
    });
    for (const name of ["bob", "alice"]) await ping(await connect(proxy.port, { name }));
    const { json } = await askSocket(folder.socket, "/v1/clients");
    expect(json.clients).toEqual([
      expect.objectContaining({ client: "bob@admin", maxConnections: 9, tokens: 2, capacity: 3 }),
      expect.objectContaining({ client: "alice@admin", maxConnections: 9 }),
    ]);
    expect(json.clients[1]).not.toHaveProperty("capacity");
  });

  test("2,100 connections are listed while another one is served", async () => {
    using folder = new SocketFolder();
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], {
      workers,
      listener: LISTENER,
      admin: { socket: folder.socket },
    });
    const peers = await openMany(proxy.port, 2_100);
    const busy = peers[0]!;
    let listing = true;
    let pings = 0;
    const served = (async () => {
      while (listing) {
        await ping(busy);
        pings++;
      }
    })();
    const lines = linesOf(await askSocket(folder.socket, "/v1/connections"));
    listing = false;
    await served;
    expect(new Set(lines.map(({ id }) => id)).size).toBe(peers.length);
    expect(lines).toHaveLength(peers.length);
    expect(pings).toBeGreaterThan(1);
  });

  test("events come as they happen, with what a peer chose escaped", async () => {
    using folder = new SocketFolder();
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { workers, admin: { socket: folder.socket } });
    const response = await fetch("http://tcpproxy/v1/events", { unix: folder.socket });
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const reading = eventsUntil(response, (_, { reason }) => reason === "closed");
    const stranger = await connect(proxy.port, { name: "hostile-newline" });
    await stranger.ended;
    stranger.close();
    await proxy.log.line("refused");
    const alice = await connect(proxy.port);
    await ping(alice);
    alice.close();
    const events = await reading;
    const refusal = events.find(({ data }) => data.msg === "refused");
    expect(refusal).toMatchObject({
      event: "log",
      data: { level: "warn", reason: "identity_invalid", claimed: "alice@admin\\u000ax" },
    });
    expect(events.at(-1)).toMatchObject({
      event: "log",
      data: { level: "info", msg: "closed", client: "alice@admin", bytesIn: 4, bytesOut: 4 },
    });
  });

  test("the status comes with the events where it is asked for", async () => {
    using folder = new SocketFolder();
    await using _ = await startProxy(["127.0.0.1:1"], { workers, admin: { socket: folder.socket } });
    const response = await fetch("http://tcpproxy/v1/events?status", { unix: folder.socket });
    let seen = 0;
    const events = await eventsUntil(response, (event) => event === "status" && ++seen === 2);
    expect(events[0]).toMatchObject({ event: "status", data: { phase: "running", pid: process.pid } });
  });
});

describe("a change", () => {
  async function withFile(): Promise<TestProxy & { socket: string; write(timeout: string): void }> {
    const folder = new SocketFolder();
    const file = folder.path("proxy.json");
    const config = {
      listener: {
        address: "127.0.0.1:0",
        ca: certPath("ca.crt"),
        certificate: certPath("server.crt"),
        privateKey: certPath("key.pem"),
      },
      upstreams: [{ name: "test", targets: ["127.0.0.1:1"], authorizedGroups: ["admin"] }],
      admin: { socket: folder.socket },
      watch: false,
    };
    const write = (timeout: string) => writeFileSync(file, JSON.stringify({ ...config, timeout }));
    write("5m");
    const log = new Log();
    const source = async () => JSON.parse(await Bun.file(file).text());
    const proxy = createProxy(await source(), { logger: log, configFile: file, source });
    const { port } = await proxy.listen();
    return {
      proxy,
      port,
      log,
      socket: folder.socket,
      write,
      async [Symbol.asyncDispose]() {
        await proxy.close({ timeout: 0 });
        folder[Symbol.dispose]();
      },
    };
  }

  test("a reload answers with what has changed, and is in the log with its actor", async () => {
    await using proxy = await withFile();
    proxy.write("7m");
    const { status, json } = await askSocket(proxy.socket, "/v1/reload", change());
    expect([status, json.keys]).toEqual([200, "timeout"]);
    expect(json.files).toContain("proxy.json");
    expect(proxy.proxy.config.timeout).toBe(420_000);
    const line = await proxy.log.line("admin");
    expect(line).toMatchObject({
      level: "info",
      action: "reload",
      result: "ok",
      actor: `uid ${process.getuid?.()}`,
    });
  });

  test("a reload that is refused answers with every fault, and changes nothing", async () => {
    await using proxy = await withFile();
    proxy.write("soon");
    const { status, json } = await askSocket(proxy.socket, "/v1/reload", change("{}"));
    expect(status).toBe(409);
    expect(json).toMatchObject({ error: "the configuration was refused", faults: [{ key: "timeout" }] });
    expect(proxy.proxy.config.timeout).toBe(300_000);
    expect(await proxy.log.line("admin")).toMatchObject({ level: "warn", result: "refused" });
    expect((await askSocket(proxy.socket, "/v1/status")).json.reload).toMatchObject({
      succeeded: 0,
      refused: 1,
      faults: [{ key: "timeout" }],
    });
  });

  test("a change without its header is refused, and does nothing", async () => {
    await using proxy = await withFile();
    const { status } = await askSocket(proxy.socket, "/v1/reload", { method: "POST" });
    expect(status).toBe(403);
    expect(await proxy.log.line("admin")).toMatchObject({ action: "reload", result: "refused" });
    expect(proxy.log.lines.some(({ msg }) => msg === "reloaded")).toBe(false);
  });

  test.each([
    ["too large", `{"a":"${"a".repeat(70_000)}"}`, 413],
    ["no JSON", "reload!", 400],
    ["no object", "[1]", 400],
  ])("a body that is %s is refused", async (_, body, expected) => {
    await using proxy = await withFile();
    expect((await askSocket(proxy.socket, "/v1/reload", change(body))).status).toBe(expected);
    // In pieces of a size that is not told in advance, too.
    const head = "POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nx-tcpproxy: 1\r\nTransfer-Encoding: chunked";
    const chunk = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
    expect(await sendRaw(proxy.socket, `${head}\r\n\r\n${chunk}`)).toStartWith(`HTTP/1.1 ${expected} `);
    expect(proxy.log.lines.some(({ msg }) => msg === "reloaded")).toBe(false);
  });
});

describe("hostile bytes", () => {
  const request = "GET /v1/targets HTTP/1.1\r\nHost: localhost\r\n";

  test.each<[string, string, RegExp]>([
    ["that are no HTTP are answered with an error", "\x00\x01\x02\r\n\r\n", /^HTTP\/1.1 400 /],
    [
      "of a TLS client are answered with an error",
      "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
      /^HTTP\/1.1 400 /,
    ],
    ["of HTTP/2 are answered with an error", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", /^HTTP\/1.1 400 /],
    [
      "in very long headers are answered with an error",
      `${request}x: ${"a".repeat(100_000)}\r\n\r\n`,
      /^HTTP\/1.1 400 /,
    ],
    ["without an end are waited for in vain", `${request}x: a`, /^$/],
    ["that do not come are waited for in vain", "", /^$/],
    [
      "with two lengths are answered with an error",
      `${request}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`,
      /^HTTP\/1.1 400 /,
    ],
    [
      "with a length and chunks are answered with an error",
      `${request}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      /^HTTP\/1.1 400 /,
    ],
    [
      "of a GET with a body are answered with an error",
      `${request}Content-Length: 3\r\n\r\nabc`,
      /^HTTP\/1.1 400 [^]*GET takes no body/,
    ],
    [
      "with half a body are waited for in vain",
      "POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nx-tcpproxy: 1\r\nContent-Length: 10\r\n\r\n{",
      /^$/,
    ],
    [
      "of a tunnel are closed or answered with an error",
      "CONNECT evil:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
      /^(HTTP\/1.1 40\d [^]*)?$/,
    ],
    [
      "that want another protocol get none",
      `${request}Upgrade: websocket\r\nConnection: upgrade\r\n\r\n`,
      /^HTTP\/1.1 200 /,
    ],
    [
      "of many requests at once get one answer at most",
      `${request}\r\n`.repeat(1_000),
      /^(HTTP\/1.1 200 [^]*)?$/,
    ],
    [
      "with a host of evil are refused",
      "GET /v1/targets HTTP/1.1\r\nHost: evil.example\r\n\r\n",
      /^HTTP\/1.1 421 /,
    ],
    ["without a host are refused", "GET /v1/targets HTTP/1.1\r\n\r\n", /^HTTP\/1.1 400 /],
  ])("%s", async (_, bytes, expected) => {
    using folder = new SocketFolder();
    await using proxy = await startProxy(["127.0.0.1:1"], { admin: { socket: folder.socket } });
    AdminServer.requestWaitMs = 300;
    const answer = await sendRaw(folder.socket, Buffer.from(bytes, "latin1"));
    AdminServer.requestWaitMs = requestWaitMs;
    expect(answer).toMatch(expected);
    expect((answer.match(/HTTP\/1.1 200/g) ?? []).length).toBeLessThanOrEqual(1);
    expect((await askSocket(folder.socket, "/v1/status")).status).toBe(200);
    expect(proxy.log.lines.some(({ msg }) => msg === "internal error")).toBe(false);
  });

  test("of mutated requests are answered or closed, each within its time", async () => {
    using folder = new SocketFolder();
    await using proxy = await startProxy(["127.0.0.1:1"], { admin: { socket: folder.socket } });
    AdminServer.requestWaitMs = 100;
    const random = new Random(11);
    const whole = Buffer.from(
      "POST /v1/reload?a=b HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Length: 2\r\n\r\n{}",
    );
    const mutated = () => {
      const bytes = Buffer.from(whole);
      for (let i = random.int(1, 8); i > 0; i--) bytes[random.int(0, bytes.length - 1)] = random.int(0, 255);
      return bytes.subarray(0, random.int(1, bytes.length));
    };
    for (let round = 0; round < 20; round++) {
      await Promise.all(Array.from({ length: 20 }, () => sendRaw(folder.socket, mutated())));
    }
    AdminServer.requestWaitMs = requestWaitMs;
    expect((await askSocket(folder.socket, "/v1/status")).status).toBe(200);
    expect(proxy.log.lines.filter(({ msg }) => msg === "internal error")).toEqual([]);
    // None of them has the header that a change needs.
    expect(proxy.log.lines.some(({ msg }) => msg === "reloaded")).toBe(false);
  });

  test("connections beyond the limit are closed, and places that become free are taken again", async () => {
    using folder = new SocketFolder();
    await using _ = await startProxy(["127.0.0.1:1"], { admin: { socket: folder.socket } });
    const sockets = Array.from({ length: 100 }, () => connectSocket(folder.socket));
    let closed = 0;
    for (const socket of sockets) {
      socket.on("error", () => {});
      socket.on("close", () => closed++);
      socket.resume();
    }
    await until(() => closed === 68, "all but 32 are closed");
    for (const socket of sockets) socket.destroy();
    await until(() => closed === 100, "all are closed");
    let status;
    do status = await askSocket(folder.socket, "/v1/status").catch(() => undefined);
    while (status === undefined);
    expect(status.status).toBe(200);
  });
});

test("one request after the other is answered on one connection, until it is idle for too long", async () => {
  using folder = new SocketFolder();
  await using _ = await startProxy(["127.0.0.1:1"], { admin: { socket: folder.socket } });
  AdminServer.requestWaitMs = 300;
  const socket = connectSocket(folder.socket);
  const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
  for (let i = 0; i < 5; i++) {
    const answer = new Promise<string>((resolve) => {
      let text = "";
      const read = (chunk: Buffer) => {
        text += String(chunk);
        if (!text.endsWith("}\n")) return;
        socket.off("data", read);
        resolve(text);
      };
      socket.on("data", read);
    });
    socket.write("GET /v1/targets HTTP/1.1\r\nHost: localhost\r\n\r\n");
    expect(await answer).toStartWith("HTTP/1.1 200 ");
  }
  socket.resume();
  await closed;
  AdminServer.requestWaitMs = requestWaitMs;
});

test("a proxy that is closed while it opens leaves no socket", async () => {
  using folder = new SocketFolder();
  const proxy = createProxy(testConfig(["127.0.0.1:1"], { admin: { socket: folder.socket } }), {
    logger: new Log(),
  });
  const opening = proxy.listen().then(
    () => "open",
    () => "refused",
  );
  await proxy.close({ timeout: 0 });
  expect(await opening).toBe("refused");
  expect(() => statSync(folder.socket)).toThrow("ENOENT");
});

test("the socket goes with the proxy, and stays while it drains", async () => {
  using folder = new SocketFolder();
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], { admin: { socket: folder.socket } });
  const alice = await connect(proxy.port);
  await ping(alice);
  const over = proxy.proxy.close();
  expect((await askSocket(folder.socket, "/v1/status")).json.phase).toBe("draining");
  alice.close();
  await over;
  expect(() => statSync(folder.socket)).toThrow("ENOENT");
});

test("a proxy whose socket cannot be had opens no port", async () => {
  using folder = new SocketFolder();
  writeFileSync(folder.socket, "");
  const starting = startProxy(["127.0.0.1:1"], { admin: { socket: folder.socket } });
  expect(starting).rejects.toThrow("cannot open the admin socket");
  await starting.catch(() => {});
  rmSync(folder.socket);
});
