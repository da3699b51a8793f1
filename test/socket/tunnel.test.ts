// The tunnel on real sockets, through a real proxy, both inside the test's own process.

import { describe, expect, setSystemTime, test } from "bun:test";
import { copyFileSync, existsSync, lstatSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:tls";
import { ADMITTED } from "../../src/lib/tunnel-protocol.ts";
import { Folder } from "../support/folder.ts";
import { cert, certPath, connectPlain, echoOrigin, Origin, Peer } from "../support/peer.ts";
import { startProxy, until } from "../support/proxy.ts";
import { MiB, hash, payload } from "../support/payload.ts";
import { Random } from "../support/random.ts";
import { startTunnel } from "../support/tunnel.ts";

async function connectSocket(path: string): Promise<Peer> {
  const peer = new Peer();
  const options = { data: peer, allowHalfOpen: true, socket: Peer.handlers };
  peer.socket = await Bun.connect<Peer>({ ...options, unix: path });
  return peer;
}

describe("the bytes", () => {
  test("arrive in order and whole, both ways at once", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    using tunnel = await startTunnel(proxy.port);
    const data = payload(24 * MiB);
    const client = await connectPlain(tunnel.port);
    const sending = client.send(data).then(() => client.end());
    expect(hash(await client.rest())).toBe(hash(data));
    await sending;
    client.close();
    expect(await tunnel.log.line("closed")).toMatchObject({ sent: data.length, received: data.length });
    expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: data.length, reason: "closed" });
  });

  test("of a server that speaks first need no word of the program", async () => {
    using origin = new Origin((peer) => peer.send("banner"));
    await using proxy = await startProxy([origin.target]);
    using tunnel = await startTunnel(proxy.port);
    const client = await connectPlain(tunnel.port);
    expect(String(await client.read(6))).toBe("banner");
  });

  test("of the program that came before the proxy's answer are delivered, and so is its end", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    using tunnel = await startTunnel(proxy.port);
    const client = await connectPlain(tunnel.port);
    await client.send("hello");
    client.end();
    expect(String(await client.rest())).toBe("hello");
  });

  test("go on one way after the other has ended, at either end", async () => {
    using origin = new Origin();
    await using proxy = await startProxy([origin.target]);
    using tunnel = await startTunnel(proxy.port);
    const client = await connectPlain(tunnel.port);
    await client.send("a");
    const server = await origin.next();
    await server.read(1);
    server.end();
    await client.ended;
    await client.send("still there");
    expect(String(await server.read(11))).toBe("still there");
    client.close();
    await server.ended;
  });

  test.each<["program" | "server"]>([["program"], ["server"]])(
    "are bounded where the %s does not read",
    async (slow) => {
      using origin = new Origin();
      await using proxy = await startProxy([origin.target]);
      using tunnel = await startTunnel(proxy.port);
      const client = await connectPlain(tunnel.port);
      await client.send("x");
      const server = await origin.next();
      await server.read(1);
      const [reader, writer] = slow === "program" ? [client, server] : [server, client];
      reader.socket.pause();
      // Until nothing is taken any more: both ends, the tunnel and the proxy are full.
      const block = payload(MiB / 4);
      let sent = 0;
      for (let written = 1; written > 0;) {
        const before = sent;
        do {
          written = writer.socket.write(block);
          sent += Math.max(0, written);
        } while (written === block.length);
        await Bun.sleep(200);
        if (sent > before) written = 1;
      }
      expect(sent).toBeLessThan(64 * MiB);
      reader.discard().socket.resume();
      const before = reader.received;
      await until(() => reader.received >= before + sent, "all of it has come", 20_000);
    },
  );

  test("break off at the other end where one end resets", async () => {
    using origin = new Origin();
    await using proxy = await startProxy([origin.target]);
    using tunnel = await startTunnel(proxy.port);
    const client = await connectPlain(tunnel.port);
    await client.send("x");
    const server = await origin.next();
    await server.read(1);
    client.reset();
    expect(await server.closed).toBe("ECONNRESET");
    expect(await tunnel.log.line("closed")).toMatchObject({ brokenBy: "local" });
    expect(await proxy.log.line("closed")).toMatchObject({ reason: "client_reset" });
  });
});

describe("a refusal", () => {
  test("is a line with the reason and the id that the proxy's log has", async () => {
    await using proxy = await startProxy(["127.0.0.1:1"], {
      upstreams: [{ name: "orders", targets: ["127.0.0.1:1"], authorizedGroups: ["ops"] }],
    });
    using tunnel = await startTunnel(proxy.port);
    const client = await connectPlain(tunnel.port);
    await client.send("secret");
    await client.closed;
    const { id } = await proxy.log.line("refused");
    expect((await tunnel.log.line("no connection"))["why"]).toBe(
      `127.0.0.1:${proxy.port} refused: group_not_authorized (id ${id}): your group admin is not listed for orders`,
    );
    expect(tunnel.tunnel.connections).toBe(0);
  });

  test.each([
    ["stranger", "closed the connection without a reason"],
    ["hostile-no-at", "closed the connection without a reason"],
  ])("of %s has no reason", async (name, why) => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    using tunnel = await startTunnel(proxy.port, { certificate: certPath(`${name}.crt`) });
    const client = await connectPlain(tunnel.port);
    await client.closed;
    expect((await tunnel.log.line("no connection"))["why"]).toContain(why);
  });

  test.each<[string, object, string]>([
    ["with another CA", { ca: certPath("ca2.crt") }, "is not signed by a CA in"],
    ["with another name", { serverName: "db.example" }, 'another name than "db.example"'],
  ])("is ours for a server %s, and it gets nothing of the program", async (_, over, why) => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    using tunnel = await startTunnel(proxy.port, over);
    const client = await connectPlain(tunnel.port);
    await client.send("secret");
    await client.closed;
    expect((await tunnel.log.line("no connection"))["why"]).toContain(why);
    expect(origin.accepted).toEqual([]);
  });

  test("is ours for an address that is not in the certificate", async () => {
    using origin = new Origin(() => {}, { tls: { name: "server-named" } });
    using tunnel = await startTunnel(origin.port, { serverName: "127.0.0.1" });
    await (
      await connectPlain(tunnel.port)
    ).closed;
    expect((await tunnel.log.line("no connection"))["why"]).toContain('another name than "127.0.0.1"');
  });

  test("is ours for a certificate that is not meant for servers", async () => {
    using origin = new Origin(() => {}, { tls: { name: "alice" } });
    using tunnel = await startTunnel(origin.port);
    await (
      await connectPlain(tunnel.port)
    ).closed;
    expect((await tunnel.log.line("no connection"))["why"]).toContain("is not meant for servers");
  });

  test("is ours for a server that does not speak TLS 1.3", async () => {
    const old = createServer({ cert: cert("server.crt"), key: cert("key.pem"), maxVersion: "TLSv1.2" });
    await new Promise<void>((done) => old.listen(0, "127.0.0.1", done));
    using tunnel = await startTunnel((old.address() as AddressInfo).port);
    await (
      await connectPlain(tunnel.port)
    ).closed;
    old.close();
    expect((await tunnel.log.line("no connection"))["why"]).toContain(
      "does not speak TLS 1.3: it is no proxy",
    );
  });

  test("is ours for a server that is no proxy", async () => {
    using origin = new Origin(() => {}, { tls: {} });
    using tunnel = await startTunnel(origin.port);
    await (
      await connectPlain(tunnel.port)
    ).closed;
    expect((await tunnel.log.line("no connection"))["why"]).toContain("is no proxy: it speaks TLS, but not");
  });

  test("is ours for a server that does not speak TLS", async () => {
    using origin = new Origin((peer) => peer.send("SSH-2.0-none\r\n"));
    using tunnel = await startTunnel(origin.port);
    await (
      await connectPlain(tunnel.port)
    ).closed;
    expect((await tunnel.log.line("no connection"))["why"]).toContain("does not speak TLS");
  });
});

describe("the connection that is made in advance", () => {
  test("tells at the start what is wrong with the server", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    using tunnel = await startTunnel(proxy.port, { ca: certPath("ca2.crt") });
    expect(await tunnel.tunnel.tryOut()).toMatchObject({ kind: "untrusted" });
  });

  test("is the first program's", async () => {
    using origin = new Origin((peer) => peer.send("banner"));
    await using proxy = await startProxy([origin.target]);
    using tunnel = await startTunnel(proxy.port);
    expect(await tunnel.tunnel.tryOut()).toBeUndefined();
    const clients = [await connectPlain(tunnel.port), await connectPlain(tunnel.port)];
    for (const client of clients) expect(String(await client.read(6))).toBe("banner");
    expect(origin.accepted).toHaveLength(2);
  });

  test("is given up in peace where nobody wants it", async () => {
    using origin = new Origin();
    await using proxy = await startProxy([origin.target]);
    using tunnel = await startTunnel(proxy.port);
    await tunnel.tunnel.tryOut();
    tunnel.tunnel.stop();
    const server = await origin.next();
    await server.ended;
    server.close();
    expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: 0, reason: "closed" });
    await tunnel.tunnel.drained(10_000);
    expect(tunnel.tunnel.connections).toBe(0);
    expect(tunnel.log.lines.map(({ msg }) => msg)).toEqual(["listening"]);
  });

  test("is not the first program's where the server has ended it", async () => {
    const served: Peer[] = [];
    using origin = new Origin((peer) => (served.push(peer) === 1 ? peer.close() : peer.send("banner")));
    await using proxy = await startProxy([origin.target]);
    using tunnel = await startTunnel(proxy.port);
    await tunnel.tunnel.tryOut();
    await until(() => tunnel.tunnel.connections === 0, "the tunnel has seen its end");
    const client = await connectPlain(tunnel.port);
    expect(String(await client.read(6))).toBe("banner");
  });
});

describe("certificates", () => {
  test("are read anew; with a fault, those of before stay in force", async () => {
    using folder = new Folder();
    const files = { certificate: folder.path("me.crt"), privateKey: folder.path("me.key") };
    copyFileSync(certPath("carol.crt"), files.certificate);
    copyFileSync(certPath("key.pem"), files.privateKey);
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    using tunnel = await startTunnel(proxy.port, files);
    await (
      await connectPlain(tunnel.port)
    ).closed;
    expect(await proxy.log.line("refused")).toMatchObject({ client: "carol@ops" });
    copyFileSync(certPath("alice.crt"), files.certificate);
    tunnel.tunnel.reload();
    const echoed = async () => {
      const client = await connectPlain(tunnel.port);
      await client.send("hello");
      client.end();
      return String(await client.rest());
    };
    expect(await echoed()).toBe("hello");
    writeFileSync(files.certificate, "junk");
    tunnel.tunnel.reload();
    expect(await tunnel.log.line("reload refused")).toMatchObject({
      problem: expect.stringContaining("me.crt"),
    });
    expect(await echoed()).toBe("hello");
  });

  test("are warned of once, a day before they expire, and once they have expired", async () => {
    using tunnel = await startTunnel(1);
    try {
      for (const date of ["2119-12-30", "2119-12-31T12:00", "2119-12-31T13:00", "2120-01-02", "2120-01-03"]) {
        setSystemTime(new Date(`${date}Z`.replace(/^(.{10})Z$/, "$1T00:00Z")));
        tunnel.tunnel.checkCertificate();
      }
    } finally {
      setSystemTime();
    }
    const said = tunnel.log.lines.slice(1).map(({ level, msg }) => `${level} ${msg.replace(/".*"/, "it")}`);
    expect(said).toEqual([
      "warn the certificate it expires on 2120-01-01T00:00:00.000Z: renew it",
      "error the certificate it expired on 2120-01-01T00:00:00.000Z: renew it",
    ]);
  });

  test("that have expired are not even shown", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    using tunnel = await startTunnel(proxy.port, { certificate: certPath("expired.crt") });
    await (
      await connectPlain(tunnel.port)
    ).closed;
    await (
      await connectPlain(tunnel.port)
    ).closed;
    const said = tunnel.log.lines.filter(({ level }) => level === "error");
    expect(said).toHaveLength(1);
    expect(said[0]!.msg).toMatch(/expired\.crt" expired on 2025-01-01T00:00:00.000Z: renew it$/);
    expect(proxy.log.lines.filter(({ msg }) => msg === "refused")).toEqual([]);
    expect(tunnel.tunnel.connections).toBe(0);
  });
});

describe("a Unix socket", () => {
  test("is its owner's alone, carries bytes, and goes with the tunnel", async () => {
    using folder = new Folder();
    const unix = folder.path("t.sock");
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    using tunnel = await startTunnel(proxy.port, { listen: { unix } });
    expect(lstatSync(unix).mode & 0o777).toBe(0o600);
    const client = await connectSocket(unix);
    await client.send("hello");
    client.end();
    expect(String(await client.rest())).toBe("hello");
    client.close();
    await tunnel.log.line("closed");
    tunnel.tunnel.stop();
    expect(existsSync(unix)).toBe(false);
  });

  test("that a dead process left is replaced", async () => {
    using folder = new Folder();
    const unix = folder.path("t.sock");
    const script = `Bun.listen({ unix: ${JSON.stringify(unix)}, socket: { data() {} } }); process.kill(process.pid, "SIGKILL")`;
    await Bun.spawn([process.execPath, "-e", script]).exited;
    expect(lstatSync(unix).isSocket()).toBe(true);
    using tunnel = await startTunnel(1, { listen: { unix } });
    expect(tunnel.tunnel.address).toEqual({ unix });
  });

  test("that somebody listens on is refused, and left as it is", async () => {
    using folder = new Folder();
    const unix = folder.path("t.sock");
    using origin = new Origin((peer) => peer.send("mine"), { unix });
    expect(startTunnel(1, { listen: { unix } })).rejects.toThrow(/another process listens there/);
    expect(String(await (await connectSocket(unix)).read(4))).toBe("mine");
    expect(origin.accepted.length).toBeGreaterThan(0);
  });

  test("does not take the place of a file, nor of a link", async () => {
    using folder = new Folder();
    writeFileSync(folder.path("file"), "precious");
    symlinkSync(folder.path("file"), folder.path("link"));
    for (const name of ["file", "link"]) {
      const unix = folder.path(name);
      expect(startTunnel(1, { listen: { unix } })).rejects.toThrow(/no socket; it is left alone/);
    }
    expect(readFileSync(folder.path("file"), "utf8")).toBe("precious");
  });
});

test.each([1, 2, 3])("connections leave nothing behind, however they end: seed %i", async (seed) => {
  const random = new Random(seed);
  const acts: ((peer: Peer) => unknown)[] = [
    (peer) => peer.reset(),
    (peer) => peer.end(),
    (peer) => peer.close(),
    (peer) => peer.send(payload(random.int(1, 300_000))),
    async (peer) => {
      await peer.some();
      peer.close();
    },
    async (peer) => {
      await peer.send("x");
      peer.reset();
    },
  ];
  const live = (peer: Peer) => {
    if (random.int(0, 3) === 0) peer.discard();
    for (let i = random.int(0, 2); i > 0; i--) void random.pick(acts)(peer);
  };
  using origin = new Origin(live);
  // Handshakes that break off would count as a stranger's, and others would wait for their turn.
  await using proxy = await startProxy([origin.target], { handshakes: { exempt: ["127.0.0.1"] } });
  using tunnel = await startTunnel(proxy.port);
  const clients: Peer[] = [];
  for (let i = 0; i < 60; i++) {
    const client = await connectPlain(tunnel.port);
    clients.push(client);
    live(client);
  }
  // What stays open by choice ends now; a server may still be accepting.
  const isOver = () => {
    for (const peer of [...clients, ...origin.accepted]) peer.reset();
    return tunnel.tunnel.connections === 0;
  };
  await until(isOver, "the tunnel has let all of them go", 20_000);
  await until(() => proxy.proxy.stats().connections === 0, "so has the proxy", 30_000);
  expect(tunnel.log.lines.filter(({ msg }) => msg === "internal error")).toEqual([]);
  expect(tunnel.log.lines.filter(({ msg }) => msg === "closed" || msg === "no connection")).toHaveLength(60);
});

test("a proxy's status is never a program's", async () => {
  using origin = new Origin((peer) => peer.send(ADMITTED));
  await using proxy = await startProxy([origin.target]);
  using tunnel = await startTunnel(proxy.port);
  const client = await connectPlain(tunnel.port);
  // What the upstream sends is passed on, even where it looks like a status.
  expect([...(await client.read(3))]).toEqual([...ADMITTED]);
  await (await origin.next()).send("y");
  expect(String(await client.read(1))).toBe("y");
});
