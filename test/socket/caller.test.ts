// The PROXY headers that targets get: byte by byte, and as real programs read them.

import { afterEach, describe, expect, test } from "bun:test";
import { connect as tlsConnect } from "node:tls";
import type { UpstreamConfig } from "tcpproxy";
import { consumers, readingOf, REQUEST, type Reading } from "../support/consumers.ts";
import { Folder } from "../support/folder.ts";
import { Front, lengthOf } from "../support/front.ts";
import { issue } from "../support/issue.ts";
import {
  cert,
  certPath,
  connect,
  echoOrigin,
  Origin,
  type OriginOptions,
  type Peer,
} from "../support/peer.ts";
import { startProxy, type TestProxy } from "../support/proxy.ts";
import { Tap } from "../support/tap.ts";

type Over = Parameters<typeof startProxy>[1];

const start = (
  targets: UpstreamConfig["targets"],
  about: Partial<UpstreamConfig> = {},
  over: Over = {},
): Promise<TestProxy> =>
  startProxy([], {
    ...over,
    upstreams: [{ name: "test", targets, authorizedGroups: ["admin"], proxyProtocol: "v2", ...about }],
  });

/** The contents of a header of version 2 (HAProxy's proxy-protocol.txt, section 2.2). */
interface Told {
  source: string;
  sourcePort: number;
  destination: string;
  destinationPort: number;
  /** The bits of PP2_TYPE_SSL, and the result of the certificate's verification. */
  bits: number;
  verify: number;
  values: Record<number, string>;
}

const SIGNATURE = "0d0a0d0a000d0a515549540a";

/** Reads the header at the beginning of a connection, and nothing after it. */
async function header(peer: Peer): Promise<Buffer> {
  let bytes = await peer.read(16);
  for (let length = lengthOf(bytes); bytes.length !== length; length = lengthOf(bytes)) {
    const more = await peer.read(length === undefined ? 1 : length - bytes.length);
    if (more.length === 0) throw new Error(`a header that ends early: ${bytes.toString("hex")}`);
    bytes = Buffer.concat([bytes, more]);
  }
  return bytes;
}

/** Parses a header of version 2. */
function told(bytes: Buffer): Told {
  expect(bytes.subarray(0, 12).toString("hex")).toBe(SIGNATURE);
  expect([bytes[12], bytes[13]]).toEqual([0x21, 0x11]);
  const rest = bytes.subarray(16);
  const values: Told["values"] = {};
  let bits = 0;
  let verify = -1;
  const take = (at: number, end: number): void => {
    for (; at < end; at += 3 + rest.readUInt16BE(at + 1)) {
      const value = at + 3;
      const over = value + rest.readUInt16BE(at + 1);
      if (rest[at] === 0x20) {
        bits = rest[value]!;
        verify = rest.readUInt32BE(value + 1);
        take(value + 5, over);
      } else values[rest[at]!] = rest.subarray(value, over).toString();
    }
  };
  take(12, rest.length);
  return {
    source: rest.subarray(0, 4).join("."),
    destination: rest.subarray(4, 8).join("."),
    sourcePort: rest.readUInt16BE(8),
    destinationPort: rest.readUInt16BE(10),
    bits,
    verify,
    values,
  };
}

const AUTHORITY = 0x02;
const UNIQUE_ID = 0x05;
const VERSION = 0x21;
const CN = 0x22;
const CIPHER = 0x23;

/** TLS, a certificate on this connection, a certificate in this session. */
const FULL = 0b111;
const RESUMED = 0b101;

describe.each([
  ["plain TCP", {}, {}],
  ["TLS", { tls: {} }, { tls: { ca: certPath("ca.crt") } }],
] as [string, OriginOptions, Partial<UpstreamConfig>][])("PROXY headers over %s", (_, options, about) => {
  // With TLS, the header comes before the handshake, so a front removes it.
  const fronts: Front[] = [];
  afterEach(() => fronts.splice(0).forEach((front) => front[Symbol.dispose]()));

  /** Starts a proxy in front of these servers. */
  const begin = (origins: Origin[], more: Partial<UpstreamConfig> = {}): Promise<TestProxy> => {
    if (about.tls !== undefined) fronts.push(...origins.map(({ port }) => new Front(port)));
    return start(
      (about.tls === undefined ? origins : fronts).map(({ target }) => target),
      { ...about, ...more },
    );
  };
  /** The header of the next connection to the first server. */
  const headerTo = (server: Peer, place = 0): Promise<Buffer> =>
    about.tls === undefined ? header(server) : fronts[place]!.header();

  test("a header of version 1 is a line with both addresses before the client's bytes", async () => {
    using origin = new Origin(() => {}, options);
    await using proxy = await begin([origin], { proxyProtocol: "v1" });
    const client = await connect(proxy.port);
    const server = await origin.next();
    const line = `PROXY TCP4 127.0.0.1 127.0.0.1 ${client.socket.localPort} ${proxy.port}\r\n`;
    expect((await headerTo(server)).toString()).toBe(line);
    await client.send("hello");
    expect((await server.read(5)).toString()).toBe("hello");
    client.end();
    expect(await server.rest()).toHaveLength(0);
    server.close();
    expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: 5, bytesOut: 0, reason: "closed" });
    client.close();
  });

  test("a header of version 2 says who is calling, over what, and by which name in the log", async () => {
    using origin = new Origin(() => {}, options);
    await using proxy = await begin([origin]);
    const client = await connect(proxy.port);
    const server = await origin.next();
    const { values, ...rest } = told(await headerTo(server));
    expect(rest).toEqual({
      source: "127.0.0.1",
      sourcePort: client.socket.localPort,
      destination: "127.0.0.1",
      destinationPort: proxy.port,
      bits: FULL,
      verify: 0,
    });
    expect(values).toEqual({
      [AUTHORITY]: "localhost",
      [UNIQUE_ID]: expect.any(String),
      [VERSION]: "TLSv1.3",
      [CN]: "alice@admin",
      [CIPHER]: expect.stringMatching(/^TLS_AES_\d+_GCM_SHA\d+$/),
    });
    await client.send("hello");
    expect((await server.read(5)).toString()).toBe("hello");
    server.close();
    client.close();
    const line = await proxy.log.line("closed");
    expect(line).toMatchObject({ bytesIn: 5, bytesOut: 0 });
    expect(line.id).toBe(values[UNIQUE_ID]);
  });

  test("a header comes before bytes that had been waiting, together with the client's end", async () => {
    using origin = new Origin(() => {}, options);
    await using proxy = await begin([origin]);
    using tap = new Tap(proxy.port);
    tap.hold();
    const client = await tap.client();
    await client.send("all I have to say");
    client.end();
    tap.release();
    const server = await origin.next();
    expect(told(await headerTo(server)).values[CN]).toBe("alice@admin");
    expect((await server.rest()).toString()).toBe("all I have to say");
    server.close();
    expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: 17, reason: "closed" });
    client.close();
  });

  test("a header is sent again, and is the same, to the next target when the first one breaks off after it", async () => {
    const first = Promise.withResolvers<Buffer>();
    using bad = new Origin(async (peer) => {
      first.resolve(await headerTo(peer));
      peer.reset();
    }, options);
    using good = new Origin(() => {}, options);
    await using proxy = await begin([bad, good]);
    const client = await connect(proxy.port);
    const server = await good.next();
    await client.send("hello");
    expect(await headerTo(server, 1)).toEqual(await first.promise);
    expect((await server.read(5)).toString()).toBe("hello");
    server.close();
    client.close();
    expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: 5 });
    expect(good.accepted).toHaveLength(1);
  });

  test("a header reaches a server that speaks first and closes, too", async () => {
    using origin = new Origin((peer) => void peer.send("bye").then(() => peer.end()), options);
    await using proxy = await begin([origin]);
    const client = await connect(proxy.port);
    expect((await client.rest()).toString()).toBe("bye");
    client.close();
    const server = await origin.next();
    expect(told(await headerTo(server)).values[CN]).toBe("alice@admin");
  });
});

describe("the unique id", () => {
  test("the unique id is another one for each connection, with two workers as well", async () => {
    const ids = new Set<string>();
    using origin = new Origin(async (peer) => {
      ids.add(told(await header(peer)).values[UNIQUE_ID]!);
      await peer.send("!");
      peer.close();
    });
    await using proxy = await start([origin.target], {}, { workers: 2 });
    const clients = await Promise.all(Array.from({ length: 30 }, () => connect(proxy.port)));
    for (const client of clients) {
      expect((await client.rest()).toString()).toBe("!");
      client.close();
    }
    const lines = await proxy.log.count("closed", 30);
    expect(ids.size).toBe(30);
    expect(new Set(lines.map(({ id }) => id))).toEqual(new Set(ids));
  });
});

describe("names", () => {
  test.each([
    ["alice", "alice@admin"],
    ["bob", "bob@admin"],
    ["dave", "dave@admin"],
    ["chained", "grace@admin"],
  ])("the client with the certificate %s is announced as %s", async (name, client) => {
    using origin = new Origin();
    await using proxy = await start([origin.target]);
    const peer = await connect(proxy.port, { name });
    expect(told(await header(await origin.next())).values[CN]).toBe(client);
    peer.close();
  });
});

describe("a Unix socket", () => {
  test("a target at a Unix socket is told the addresses of the client's connection", async () => {
    using folder = new Folder();
    using origin = new Origin(() => {}, { unix: folder.path("origin.sock") });
    await using proxy = await start([origin.target]);
    const client = await connect(proxy.port);
    expect(told(await header(await origin.next()))).toMatchObject({
      source: "127.0.0.1",
      sourcePort: client.socket.localPort,
      destinationPort: proxy.port,
    });
    client.close();
  });
});

describe("a resumed session", () => {
  test("a header of a resumed session says that no certificate was shown on this connection", async () => {
    using origin = new Origin((peer) => void peer.send("!"));
    await using proxy = await start([origin.target]);
    /** Connects with node:tls, which can keep a session. Returns the session after the first byte. */
    const visit = async (session?: Buffer): Promise<{ reused: boolean; session: Buffer }> => {
      const socket = tlsConnect({
        host: "127.0.0.1",
        port: proxy.port,
        ca: cert("ca.crt"),
        cert: cert("alice.crt"),
        key: cert("key.pem"),
        servername: "localhost",
        ...(session && { session }),
      });
      const ticket = Promise.withResolvers<Buffer>();
      const byte = Promise.withResolvers<void>();
      socket.on("session", ticket.resolve);
      socket.on("data", () => byte.resolve());
      socket.on("error", ticket.reject);
      await byte.promise;
      const next = session ?? (await ticket.promise);
      const reused = socket.isSessionReused();
      socket.destroy();
      return { reused, session: next };
    };
    const first = await visit();
    expect(told(await header(await origin.next()))).toMatchObject({ bits: FULL, verify: 0 });
    const again = await visit(first.session);
    expect(again.reused).toBe(true);
    const { bits, verify, values } = told(await header(await origin.next()));
    expect({ bits, verify, client: values[CN] }).toEqual({
      bits: RESUMED,
      verify: 0,
      client: "alice@admin",
    });
  });
});

describe("names that are too long", () => {
  const long = `${"a".repeat(1_000)}@admin`;
  const asLong = async (port: number): Promise<Peer> => {
    using folder = new Folder();
    await Bun.write(folder.path("long.crt"), issue(long).cert);
    for (const name of ["ca.crt", "key.pem"]) await Bun.write(folder.path(name), cert(name));
    return connect(port, { name: "long", folder: folder.path(".") });
  };

  test("a client whose name does not fit the header is refused: no token taken, no target dialled, no target told less", async () => {
    using origin = echoOrigin();
    await using proxy = await start([origin.target], {}, { rateLimit: { capacity: 1, fillRate: "1h" } });
    for (let i = 1; i <= 3; i++) {
      const client = await asLong(proxy.port);
      expect(await client.rest()).toHaveLength(0);
      client.close();
      await proxy.log.count("refused", i);
    }
    for (const line of proxy.log.lines.filter(({ msg }) => msg === "refused")) {
      expect(line).toMatchObject({ reason: "proxy_header", client: long, upstream: "test" });
    }
    expect(origin.accepted).toHaveLength(0);
    expect(proxy.proxy.stats()).toMatchObject({ connections: 0, clients: 0 });
  });

  test("a header of version 1 has no name in it and lets a client with a name that is too long in", async () => {
    using origin = new Origin();
    await using proxy = await start([origin.target], { proxyProtocol: "v1" });
    const client = await asLong(proxy.port);
    expect((await (await origin.next()).read(6)).toString()).toBe("PROXY ");
    client.close();
  });
});

for (const consumer of consumers) {
  describe.if(consumer.available)(consumer.name, () => {
    test.each([
      ["v1", "plain TCP", false],
      ["v2", "plain TCP", false],
      ...(consumer.secure
        ? ([
            ["v1", "TLS", true],
            ["v2", "TLS", true],
          ] as const)
        : []),
    ] as const)(
      `${consumer.name} reads the caller from a header %s, over %s`,
      async (proxyProtocol, _, tls) => {
        await using running = await consumer.start({ tls });
        await using proxy = await start([running.target], {
          proxyProtocol,
          ...(tls && { tls: { ca: certPath("ca.crt") } }),
        });
        const client = await connect(proxy.port, { name: "bob" });
        // A closed socket has no address any more.
        const sourcePort = String(client.socket.localPort);
        await client.send(REQUEST);
        const reading = readingOf((await client.rest()).toString());
        client.close();
        const line = await proxy.log.line("closed");
        const expected: Reading = {
          source: "127.0.0.1",
          sourcePort,
          destination: "127.0.0.1",
          destinationPort: String(proxy.port),
          client: "bob@admin",
          tlsVersion: "TLSv1.3",
          verify: "0",
          serverName: "localhost",
          uniqueId: String(line.id),
        };
        const addresses = ["source", "sourcePort", "destination", "destinationPort"];
        const fields = Object.keys(expected).filter(
          (field) =>
            addresses.includes(field) || (proxyProtocol === "v2" && consumer.reads(field as keyof Reading)),
        );
        for (const field of fields as (keyof Reading)[])
          expect(reading).toHaveProperty(field, expected[field]!);
        if (proxyProtocol === "v1") expect(reading.client).toBeUndefined();
      },
    );
  });
}
