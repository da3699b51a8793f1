// TLS to the targets: which certificates the proxy accepts, and how connections end over TLS alone. The rest of the relay
// is in relay.test.ts.

import { afterEach, describe, expect, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import type { UpstreamConfig } from "tcpproxy";
import { Run } from "../support/binary.ts";
import { Folder } from "../support/folder.ts";
import { Front } from "../support/front.ts";
import { certPath, connect, echoOrigin, Origin, type OriginOptions, type Peer } from "../support/peer.ts";
import { startProxy, testConfig, until, type TestProxy } from "../support/proxy.ts";
import { echoes, pair } from "../support/served.ts";
import { Tap } from "../support/tap.ts";

type Tls = NonNullable<UpstreamConfig["tls"]>;
type Over = Parameters<typeof startProxy>[1];

/** An upstream over TLS. */
function upstream(targets: UpstreamConfig["targets"], tls: Partial<Tls> = {}): UpstreamConfig {
  return { name: "test", targets, authorizedGroups: ["admin"], tls: { ca: certPath("ca.crt"), ...tls } };
}

const start = (targets: UpstreamConfig["targets"], tls: Partial<Tls> = {}, over: Over = {}) =>
  startProxy([], { ...over, upstreams: [upstream(targets, tls)] });

const secure = (name = "server"): OriginOptions => ({ tls: { name } });

/** A TCP server that never answers the ClientHello. */
const mute = () => new Origin((peer) => void peer.discard());

describe("certificates of targets", () => {
  test("a target is accepted by name when its certificate holds the host that is dialled", async () => {
    using origin = echoOrigin(secure());
    await using proxy = await start([`localhost:${origin.port}`]);
    expect(await echoes(await connect(proxy.port))).toBe(true);
  });

  test("a target is accepted when its certificate holds the address that is dialled", async () => {
    using origin = echoOrigin(secure());
    await using proxy = await start([origin.target]);
    expect(await echoes(await connect(proxy.port))).toBe(true);
  });

  test("a target is accepted when its certificate holds the configured name, whatever its address", async () => {
    using origin = echoOrigin(secure("server-named"));
    await using proxy = await start([origin.target], { serverName: "db.example" });
    expect(await echoes(await connect(proxy.port))).toBe(true);
  });

  test("a target at a Unix socket is accepted when its certificate holds the configured name", async () => {
    using folder = new Folder();
    using origin = echoOrigin({ unix: folder.path("tls.sock"), tls: {} });
    await using proxy = await start([origin.target], { serverName: "localhost" });
    expect(await echoes(await connect(proxy.port))).toBe(true);
  });

  const wrong: [what: string, server: string, tls: Partial<Tls>, error: string][] = [
    ["by another CA", "server", { ca: certPath("ca2.crt") }, "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
    ["by a CA of the same name", "server", { ca: certPath("stranger-ca.crt") }, ""],
    ["expired", "server-expired", {}, "CERT_HAS_EXPIRED"],
    ["of a client", "alice", { serverName: "alice" }, "INVALID_PURPOSE"],
    ["for another name", "server", { serverName: "db.example" }, "ERR_TLS_CERT_ALTNAME_INVALID"],
    ["for a name, not an address", "server-named", {}, "ERR_TLS_CERT_ALTNAME_INVALID"],
    [
      "with a Common Name alone",
      "server-nameless",
      { serverName: "db.example" },
      "the certificate is for another name",
    ],
  ];
  test.each(wrong)("a target with a certificate %s is not accepted", async (_what, name, tls, error) => {
    using origin = echoOrigin(secure(name));
    await using proxy = await start([origin.target], tls);
    const client = await connect(proxy.port);
    await client.send("a secret");
    expect(await client.rest()).toHaveLength(0);
    client.close();
    await proxy.log.line("refused", "no_target");
    const line = await proxy.log.line("target failed");
    expect(line.error).toContain(error);
    expect(origin.accepted.map(({ received }) => received)).toEqual(origin.accepted.map(() => 0));
    expect(proxy.proxy.stats()).toMatchObject({ connections: 0, upstreams: [{ targets: [{ open: 0 }] }] });
  });

  test("a target that is not accepted is passed over for one that is", async () => {
    using bad = echoOrigin(secure("server-expired"));
    using good = echoOrigin(secure());
    await using proxy = await start([bad.target, good.target]);
    expect(await echoes(await connect(proxy.port))).toBe(true);
    expect(await proxy.log.line("target failed")).toMatchObject({ target: bad.target });
  });

  test("a plain server behind TLS is passed over", async () => {
    using bad = new Origin((peer) => void peer.send("220 ready\r\n"));
    using good = echoOrigin(secure());
    await using proxy = await start([bad.target, good.target]);
    expect(await echoes(await connect(proxy.port))).toBe(true);
    expect(await proxy.log.line("target failed")).toMatchObject({ target: bad.target });
  });

  test.each([
    ["ends", (peer: Peer) => peer.close()],
    ["resets", (peer: Peer) => peer.reset()],
  ])("a server that %s in the middle of the handshake is passed over", async (_, act) => {
    using bad = new Origin((peer) => void peer.some().then(() => act(peer)));
    using good = echoOrigin(secure());
    await using proxy = await start([bad.target, good.target]);
    expect(await echoes(await connect(proxy.port))).toBe(true);
    expect(await proxy.log.line("target failed")).toMatchObject({ target: bad.target });
  });

  test("a server that stalls in the handshake is given up after connectTimeout, and its socket closed", async () => {
    using bad = mute();
    using good = echoOrigin(secure());
    await using proxy = await start([bad.target, good.target], {}, { connectTimeout: 150 });
    expect(await echoes(await connect(proxy.port))).toBe(true);
    expect(await proxy.log.line("target failed")).toMatchObject({ target: bad.target, error: "ETIMEDOUT" });
    await bad.accepted[0]!.ended;
  });

  test("a client that leaves during the target's handshake takes the target's socket along", async () => {
    using origin = mute();
    await using proxy = await start([origin.target], {}, { connectTimeout: "1m" });
    const { client, server } = await pair(proxy, origin);
    await until(() => server.received > 0, "the handshake has begun");
    client.reset();
    expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: 0, reason: "client_reset" });
    await server.ended;
    expect(proxy.proxy.stats()).toMatchObject({ connections: 0, upstreams: [{ targets: [{ open: 0 }] }] });
  });
});

describe("the proxy's certificate as a client", () => {
  const own = { certificate: certPath("bob.crt"), privateKey: certPath("key.pem") };
  const demanding: OriginOptions = { tls: { clients: "ca" } };

  test("a proxy with a client certificate shows it to a target that demands one", async () => {
    using origin = echoOrigin(demanding);
    await using proxy = await start([origin.target], own);
    expect(await echoes(await connect(proxy.port))).toBe(true);
    expect(origin.clients).toEqual(["bob@admin"]);
  });

  test("a proxy without a client certificate passes over a target that demands one", async () => {
    using picky = echoOrigin(demanding);
    using easy = echoOrigin(secure());
    await using proxy = await start([picky.target, easy.target]);
    const client = await connect(proxy.port);
    // In TLS 1.3 a server refuses after the handshake. A client that has sent data by then is not passed to another target.
    await easy.next();
    await client.send("hello");
    expect((await client.read(5)).toString()).toBe("hello");
    expect(await proxy.log.line("target failed")).toMatchObject({ target: picky.target });
  });

  test("a client is refused when all targets demand a certificate that the proxy does not have", async () => {
    using origin = echoOrigin(demanding);
    await using proxy = await start([origin.target]);
    const client = await connect(proxy.port);
    expect(await client.rest()).toHaveLength(0);
    client.close();
    await proxy.log.line("refused", "no_target");
  });
});

describe("the environment", () => {
  test.each([
    ["NODE_TLS_REJECT_UNAUTHORIZED", "0"],
    ["NODE_EXTRA_CA_CERTS", certPath("ca.crt")],
    ["SSL_CERT_FILE", certPath("ca.crt")],
  ])("the environment variable %s=%s does not weaken the verification of targets", async (name, value) => {
    using origin = echoOrigin(secure());
    using expired = echoOrigin(secure("server-expired"));
    const refuse = async (target: string, tls: Partial<Tls>) => {
      using folder = new Folder();
      const config = { ...testConfig([]), upstreams: [upstream([target], tls)] };
      writeFileSync(folder.path("proxy.json"), JSON.stringify(config));
      await using run = await Run.start(["--config", folder.path("proxy.json"), "--log-format", "json"], {
        env: { [name]: value },
      });
      const client = await connect(await run.port());
      expect(await client.rest()).toHaveLength(0);
      client.close();
      await run.line("refused", "no_target");
    };
    await refuse(origin.target, { ca: certPath("ca2.crt") });
    await refuse(origin.target, { serverName: "db.example" });
    await refuse(expired.target, {});
    expect([...origin.accepted, ...expired.accepted].every(({ received }) => received === 0)).toBe(true);
  });
});

describe.each([
  ["", undefined],
  ["after a PROXY header, ", "v2"],
] as const)("%sover TLS", (_before, proxyProtocol) => {
  const fronts: Front[] = [];
  afterEach(() => fronts.splice(0).forEach((front) => front[Symbol.dispose]()));

  /** Starts a proxy in front of these servers, which do not read PROXY headers themselves. */
  const begin = (...origins: Origin[]): Promise<TestProxy> => {
    if (proxyProtocol === undefined) return start(origins.map(({ target }) => target));
    fronts.push(...origins.map(({ port }) => new Front(port)));
    const about = { ...upstream(fronts.map(({ target }) => target)), proxyProtocol };
    return startProxy([], { upstreams: [about] });
  };

  describe("early bytes", () => {
    test("bytes that a client sends before its target's handshake is done arrive", async () => {
      using origin = echoOrigin(secure());
      await using proxy = await begin(origin);
      using tap = new Tap(proxy.port);
      tap.hold();
      const client = await tap.client();
      await client.send("all I have to say");
      client.close();
      tap.release();
      const server = await origin.next();
      await server.ended;
      expect(server.received).toBe(17);
      expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: 17, bytesOut: 17, reason: "closed" });
    });
  });

  describe("half-close", () => {
    test.each([
      ["close_notify and FIN", (server: Peer) => server.close(), false],
      ["close_notify alone", (server: Peer) => server.end(), true],
    ])("the server's end (%s) is passed on as an end", async (_what, end, speaks) => {
      using origin = new Origin(() => {}, secure());
      await using proxy = await begin(origin);
      using tap = new Tap(proxy.port);
      const client = await tap.client();
      const server = await origin.next();
      await server.send("that is all");
      end(server);
      expect((await client.rest()).toString()).toBe("that is all");
      if (speaks) {
        await client.send("thank you");
        client.end();
        expect((await server.rest()).toString()).toBe("thank you");
      } else client.close();
      expect(await proxy.log.line("closed", "closed")).toMatchObject({ bytesOut: 11 });
      await tap.proxyEnded;
      expect(tap.endsWithCloseNotify).toBe(true);
      expect(proxy.proxy.stats().connections).toBe(0);
    });

    test("a server that ends with close_notify alone, and then only waits, is disconnected", async () => {
      using origin = new Origin((peer) => void peer.send("bye").then(() => peer.end()), secure());
      await using proxy = await begin(origin);
      const { client, server } = await pair(proxy, origin);
      expect((await client.rest()).toString()).toBe("bye");
      client.close();
      await proxy.log.line("closed", "closed");
      await server.closed;
      expect(proxy.proxy.stats().connections).toBe(0);
    });

    test("a server that answers the client's end with close_notify alone is disconnected", async () => {
      using origin = new Origin((peer) => void peer.ended.then(() => peer.end()), secure());
      await using proxy = await begin(origin);
      const { client, server } = await pair(proxy, origin);
      client.end();
      await client.ended;
      await proxy.log.line("closed", "closed");
      await server.closed;
      client.close();
    });
  });

  describe("targets that break off", () => {
    test("a request that a server has read before it broke off goes to no other server", async () => {
      using bad = new Origin((peer) => void peer.some().then(() => peer.reset()), secure());
      using good = echoOrigin(secure());
      await using proxy = await begin(bad, good);
      const client = await connect(proxy.port);
      await client.send("hello");
      expect(await client.rest()).toHaveLength(0);
      client.close();
      expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: 5, reason: "upstream_reset" });
      expect(good.accepted).toHaveLength(0);
    });

    test("a server that breaks off before anything was written to it is replaced by the next one", async () => {
      using bad = new Origin((peer) => peer.reset(), secure());
      using good = echoOrigin(secure());
      await using proxy = await begin(bad, good);
      const client = await connect(proxy.port);
      await good.next();
      await client.send("hello");
      expect((await client.read(5)).toString()).toBe("hello");
      client.close();
      expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: 5, bytesOut: 5, reason: "closed" });
    });
  });

  describe.if(process.platform === "linux")("descriptors", () => {
    const descriptors = () => readdirSync("/proc/self/fd").length;

    test("300 connections leave no descriptor behind, however they end", async () => {
      using origin = new Origin(async (peer) => {
        const said = (await peer.read(1)).toString();
        if (said === "n") peer.end();
        else if (said === "c") peer.close();
        else if (said === "r") peer.reset();
        else if (said === "e") {
          await peer.ended;
          peer.end();
        }
      }, secure());
      await using proxy = await begin(origin);
      await Promise.all([connect(proxy.port), origin.next()]).then(([client]) => client.reset());
      await proxy.log.count("closed", 1);
      await until(() => proxy.proxy.stats().connections === 0, "the first is gone");
      const before = descriptors();
      const end = async (client: Peer, how: string) => {
        await client.send(how === "!" ? "x" : how);
        if (how === "e") client.end();
        if (how === "!") client.reset();
        else await client.ended;
        client.close();
      };
      for (let i = 0; i < 300; i += 10) {
        const clients = await Promise.all(Array.from({ length: 10 }, () => connect(proxy.port)));
        await Promise.all(clients.map((client, j) => end(client, "ncre!"[j % 5]!)));
      }
      const over = () => proxy.log.lines.filter(({ msg }) => msg === "closed" || msg === "refused");
      await until(() => over().length === 301, "all are over");
      // A reset by the target before anything was written to it is a refusal, and a client that leaves at once may not
      // reach a target.
      const reasons = new Set(over().map(({ reason }) => reason));
      expect(
        reasons.isSubsetOf(
          new Set(["closed", "client_reset", "upstream_reset", "no_target", "handshake_failed"]),
        ),
      ).toBe(true);
      expect(proxy.proxy.stats()).toMatchObject({ connections: 0, upstreams: [{ targets: [{ open: 0 }] }] });
      await until(() => descriptors() <= before + 5, "descriptors are back");
    });
  });
});
