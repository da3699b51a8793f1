// What a tunnel is told over ALPN, and what nobody else is.

import { describe, expect, test } from "bun:test";
import { ADMITTED, TUNNEL_OFFER, StatusReader, type Status } from "../../src/lib/tunnel-protocol.ts";
import { connect, echoOrigin, Origin, type ClientOptions, type Peer } from "../support/peer.ts";
import { startProxy, testConfig, until } from "../support/proxy.ts";

const tunnel: ClientOptions = { alpn: TUNNEL_OFFER };

async function status(peer: Peer): Promise<Status> {
  const found = new StatusReader().push(await peer.rest());
  if (typeof found !== "object") throw new Error(`no status: ${found}`);
  return found;
}

const closed = (port: number, options: ClientOptions) => connect(port, options).then((peer) => peer.rest());

describe("an admitted client", () => {
  test("has its status before the first byte of the upstream, and the upstream sees nothing of it", async () => {
    using origin = new Origin((peer) => peer.send("banner"));
    await using proxy = await startProxy([origin.target]);
    const client = await connect(proxy.port, tunnel);
    expect(client.socket.alpnProtocol).toBe("tcpproxy/1");
    expect([...(await client.read(ADMITTED.length + 6))]).toEqual([...ADMITTED, ...Buffer.from("banner")]);
    await client.send("hello");
    client.close();
    const server = await origin.next();
    expect(String(await server.rest())).toBe("hello");
    server.close();
    expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: 5, bytesOut: 6, reason: "closed" });
  });

  test("has its status once, where its target resets and another one takes over", async () => {
    using first = new Origin((peer) => peer.reset());
    using second = new Origin((peer) => peer.send("banner"));
    await using proxy = await startProxy([first.target, second.target]);
    const client = await connect(proxy.port, tunnel);
    expect([...(await client.read(ADMITTED.length + 6))]).toEqual([...ADMITTED, ...Buffer.from("banner")]);
    client.reset();
  });

  test.each<[string, Buffer | undefined, false]>([
    ["offers nothing", undefined, false],
    ["offers another protocol", Buffer.from("\x0apostgresql"), false],
    ["offers a longer name", Buffer.from("\x0btcpproxy/10"), false],
  ])("that %s sees no difference", async (_, alpn, chosen) => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    const client = await connect(proxy.port, alpn && { alpn });
    expect(client.socket.alpnProtocol).toBe(chosen);
    await client.send("hello");
    client.end();
    expect(String(await client.rest())).toBe("hello");
  });

  test("is answered among others, and after the certificate was replaced", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    for (const sessionTickets of [false, true]) {
      const alpn = Buffer.from("\x02h2\x0atcpproxy/1");
      const client = await connect(proxy.port, { alpn });
      expect(client.socket.alpnProtocol).toBe("tcpproxy/1");
      client.reset();
      const { listener, ...rest } = testConfig([origin.target]);
      await proxy.proxy.reload({
        ...rest,
        listener: { ...listener!, sessionTickets, address: `127.0.0.1:${proxy.port}` },
      });
    }
  });
});

describe("a refused client", () => {
  test.each([1, 2])(
    "that is identified is told the reason, and the id that is in the log, by %i workers",
    async (workers) => {
      using origin = echoOrigin();
      await using proxy = await startProxy([], {
        workers,
        upstreams: [{ name: "orders", targets: [origin.target], authorizedGroups: ["ops"] }],
      });
      const { refused } = await status(await connect(proxy.port, tunnel));
      const { id } = await proxy.log.line("refused", "group_not_authorized");
      expect(refused).toBe(`group_not_authorized (id ${id}): your group admin is not listed for orders`);
      expect(origin.accepted).toEqual([]);
    },
  );

  test("is told an id of the log also where one line stands for several refusals", async () => {
    await using proxy = await startProxy(["127.0.0.1:1"], {
      upstreams: [{ name: "orders", targets: ["127.0.0.1:1"], authorizedGroups: ["ops"] }],
    });
    const told: string[] = [];
    for (let i = 0; i < 4; i++) told.push((await status(await connect(proxy.port, tunnel))).refused!);
    await proxy.log.count("refused", 4);
    const ids = proxy.log.written.map(({ id }) => String(id));
    for (const text of told) expect(ids).toContain(/\(id (\S+)\)/.exec(text)![1]!);
  });

  test("learns that no server answers, and nothing about where they are", async () => {
    await using proxy = await startProxy(["127.0.0.1:1"]);
    const { refused } = await status(await connect(proxy.port, tunnel));
    expect(refused).toMatch(/^no_target \(id \S+\): no server of test answers$/);
  });

  test.each([
    [
      "the upstream",
      1,
      undefined,
      /^connection_limit \(id \S+\): test has as many connections open as it may have$/,
    ],
    ["every target", undefined, 1, /^no_target \(id \S+\): no server of test has room$/],
  ])("learns that %s is at its cap", async (_, maxConnections, most, text) => {
    using origin = echoOrigin();
    const target = { address: origin.target, ...(most && { maxConnections: most }) };
    const upstream = { name: "test", targets: [target], authorizedGroups: ["admin"] };
    await using proxy = await startProxy([], {
      upstreams: [{ ...upstream, ...(maxConnections && { maxConnections }) }],
    });
    const first = await connect(proxy.port, tunnel);
    await first.read(ADMITTED.length);
    expect((await status(await connect(proxy.port, tunnel))).refused).toMatch(text);
    first.reset();
  });

  test("learns of a limit", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], {
      rateLimit: { capacity: 1, fillRate: "1h" },
    });
    const first = await connect(proxy.port, tunnel);
    await first.read(ADMITTED.length);
    expect((await status(await connect(proxy.port, tunnel))).refused).toMatch(/^rate_limited \(id /);
    first.reset();
  });

  test.each<[string, ClientOptions, string]>([
    ["of another CA", { name: "stranger" }, "certificate_untrusted"],
    ["without a certificate", { name: null }, "handshake_failed"],
    ["with an expired certificate", { name: "expired" }, "certificate_expired"],
    ["without an identity", { name: "hostile-no-at" }, "identity_invalid"],
  ])("%s learns nothing", async (_, client) => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    expect(await closed(proxy.port, { ...client, ...tunnel })).toEqual(await closed(proxy.port, client));
    expect(await closed(proxy.port, { ...client, ...tunnel })).toHaveLength(0);
  });

  test("that does not ask learns nothing", async () => {
    await using proxy = await startProxy(["127.0.0.1:1"]);
    expect(await closed(proxy.port, {})).toHaveLength(0);
    expect(await closed(proxy.port, { alpn: Buffer.from("\x02h2") })).toHaveLength(0);
  });

  test("that reads nothing is not waited for", async () => {
    await using proxy = await startProxy(["127.0.0.1:1"], {
      upstreams: [{ name: "orders", targets: ["127.0.0.1:1"], authorizedGroups: ["ops"] }],
    });
    const client = await connect(proxy.port, tunnel);
    client.socket.pause();
    await proxy.log.line("refused");
    await until(() => proxy.proxy.stats().connections === 0, "the proxy has let it go");
    client.reset();
  });
});
