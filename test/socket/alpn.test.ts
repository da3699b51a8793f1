// Protocols that a listener agrees on by ALPN (RFC 7301): with clients that speak TLS from the first byte, such as
// PostgreSQL's with sslnegotiation=direct.

import { describe, expect, test } from "bun:test";
import { TUNNEL_OFFER } from "../../src/lib/tunnel-protocol.ts";
import { certPath, connect, echoOrigin, Origin } from "../support/peer.ts";
import { startProxy, testConfig } from "../support/proxy.ts";
import { echoes, reasons } from "../support/served.ts";
import { postgres, startPostgres } from "../support/services.ts";

const offer = (...names: string[]) =>
  Buffer.concat(names.map((name) => Buffer.from([name.length, ...Buffer.from(name)])));
const POSTGRESQL = { alpn: ["postgresql"] };
const REFUSED = {
  reason: "handshake_failed",
  detail: "the client offers no protocol that listener.alpn lists (NO_APPLICATION_PROTOCOL)",
};
const openssl = Bun.which("openssl");

/** Connects with openssl as alice, and returns all that it prints. */
async function clientSays(port: number, ...args: string[]): Promise<string> {
  const alice = ["-cert", certPath("alice.crt"), "-key", certPath("key.pem")];
  const run = Bun.spawn([openssl!, "s_client", "-connect", `127.0.0.1:${port}`, ...alice, ...args], {
    stdin: "ignore",
    stderr: "pipe",
  });
  return (await Promise.all([run.stdout.text(), run.stderr.text()])).join("");
}

describe.each([1, 2])("with %p workers", (workers) => {
  test("a client that offers a listed protocol is answered, the preferred one first", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], {
      workers,
      listener: { alpn: ["postgresql", "mqtt"] },
    });
    const cases: [Buffer | undefined, string | false][] = [
      [offer("postgresql"), "postgresql"],
      [offer("h2", "mqtt", "postgresql"), "postgresql"],
      [offer("mqtt"), "mqtt"],
      [undefined, false],
    ];
    for (const [alpn, chosen] of cases) {
      const client = await connect(proxy.port, alpn && { alpn });
      expect(client.socket.alpnProtocol).toBe(chosen);
      expect(await echoes(client)).toBe(true);
      client.close();
    }
    expect(reasons(proxy.log)).toEqual([]);
  });

  test("a tunnel is answered beside the list, and told its status", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { workers, listener: POSTGRESQL });
    for (const alpn of [Buffer.from(TUNNEL_OFFER), offer("postgresql", "tcpproxy/1")]) {
      const client = await connect(proxy.port, { alpn });
      expect(client.socket.alpnProtocol).toBe("tcpproxy/1");
      expect([...(await client.read(3))]).toEqual([0, 0, 0]);
      client.close();
    }
  });

  test("a client that offers only other protocols is refused, with the reason in the log", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { workers, listener: POSTGRESQL });
    const client = await connect(proxy.port, { alpn: offer("h2", "postgresql2") });
    expect(String(await client.rest())).toBe("");
    expect(await proxy.log.line("refused")).toMatchObject(REFUSED);
  });

  test("a reload changes the list without a loss", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { workers, watch: false, listener: POSTGRESQL });
    const steady = await connect(proxy.port, { alpn: offer("postgresql") });
    expect(await echoes(steady)).toBe(true);
    const answer = async (alpn: Buffer) => {
      const client = await connect(proxy.port, { alpn });
      const chosen = client.socket.alpnProtocol;
      const served = await echoes(client);
      client.close();
      return served && chosen;
    };
    for (const [alpn, expected] of [
      [["mqtt"], [false, "mqtt"]],
      [undefined, [false, false]],
      [
        ["mqtt", "postgresql"],
        ["postgresql", "mqtt"],
      ],
    ] as const) {
      await proxy.proxy.reload(
        testConfig([origin.target], {
          workers,
          watch: false,
          listener: { ...(alpn && { alpn: [...alpn] }), address: `127.0.0.1:${proxy.port}` },
        }),
      );
      expect([await answer(offer("postgresql")), await answer(offer("mqtt"))]).toEqual([...expected]);
    }
    expect(await echoes(steady)).toBe(true);
    steady.close();
  });
});

test("the protocol is passed on in PROXY headers of version 2", async () => {
  using origin = new Origin();
  await using proxy = await startProxy([], {
    listener: POSTGRESQL,
    upstreams: [{ name: "db", targets: [origin.target], authorizedGroups: ["admin"], proxyProtocol: "v2" }],
  });
  const client = await connect(proxy.port, { alpn: offer("h2", "postgresql") });
  // A startup packet of PostgreSQL, protocol 3.0, in the first flight after the handshake.
  const startup = Buffer.from("\0\0\0\x0f\0\x03\0\0user\0a\0".slice(0, 15), "latin1");
  await client.send(startup);
  const server = await origin.next();
  const fixed = await server.read(16);
  const rest = await server.read(fixed.readUInt16BE(14));
  // PP2_TYPE_ALPN, its length, its value.
  expect(rest.includes(Buffer.from("\x01\0\x0apostgresql", "latin1"))).toBe(true);
  expect(await server.read(startup.length)).toEqual(startup);
  server.close();
  client.close();
});

/** A packet of PostgreSQL: its type, if it has one, its length, its contents. */
function packet(type: string, contents: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(4 + contents.length);
  return Buffer.concat([Buffer.from(type), length, contents]);
}

test.skipIf(postgres === undefined)(
  "a client of PostgreSQL that begins with TLS, as with sslnegotiation=direct, queries a real server",
  async () => {
    await using server = await startPostgres();
    await using proxy = await startProxy([server.target], { listener: POSTGRESQL });
    const client = await connect(proxy.port, { alpn: offer("postgresql") });
    expect(client.socket.alpnProtocol).toBe("postgresql");
    const about = Buffer.from("\0\x03\0\0user\0postgres\0database\0postgres\0\0", "latin1");
    await client.send(packet("", about));
    await client.send(packet("Q", Buffer.from("select 'answer ' || 6 * 7\0")));
    await client.send(packet("X", Buffer.alloc(0)));
    const said = await client.rest();
    // AuthenticationOk is first.
    expect(said.subarray(0, 9).toString("latin1")).toBe("R\0\0\0\x08\0\0\0\0");
    expect(said.toString("latin1")).toContain("answer 42");
    client.close();
  },
);

describe.skipIf(openssl === null)("openssl as the client", () => {
  test.each<[string, string[], RegExp]>([
    ["agrees on the listed protocol", ["-alpn", "h2,postgresql"], /ALPN protocol: postgresql/],
    ["goes on without ALPN", [], /No ALPN negotiated/],
    ["hears no_application_protocol for others", ["-alpn", "h2,http/1.1"], /alert no application protocol/],
  ])("%s", async (_, args, said) => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { listener: POSTGRESQL });
    expect(await clientSays(proxy.port, ...args)).toMatch(said);
  });

  test("goes on with any protocol where no list is set", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    expect(await clientSays(proxy.port, "-alpn", "h2")).toMatch(/No ALPN negotiated/);
  });
});
