// Every byte arrives, in order, both ways, at any size and any pace; an end is passed on as an end, a reset as a reset. The
// same suite runs over every kind of target. upstream-tls.test.ts has what concerns TLS to a target alone.

import { afterEach, describe, expect, test } from "bun:test";
import { Blackhole } from "../support/blackhole.ts";
import { Folder } from "../support/folder.ts";
import { Front } from "../support/front.ts";
import { hash, KiB, MiB, payload } from "../support/payload.ts";
import {
  certPath,
  connect,
  connectPlain,
  echoOrigin,
  Origin,
  type OriginOptions,
  type Peer,
} from "../support/peer.ts";
import { startProxy, still, until, type TestProxy } from "../support/proxy.ts";
import { Random } from "../support/random.ts";
import { nextCall } from "../support/relay-events.ts";
import { pair } from "../support/served.ts";
import { Tap } from "../support/tap.ts";

const kinds = [
  { kind: "plain TCP" },
  { kind: "a Unix socket", unix: true },
  { kind: "TLS", tls: true },
  { kind: "TLS after a PROXY header", tls: true, proxyProtocol: "v2" },
  { kind: "plain TCP, from a port that takes PROXY headers", acceptProxy: true },
] as const satisfies Kind[];

interface Kind {
  kind: string;
  unix?: true;
  tls?: true;
  proxyProtocol?: "v2";
  /** TLS with the client begins on a plain socket. */
  acceptProxy?: true;
}

describe.each(kinds)("a relay over $kind", ({ unix, tls, proxyProtocol, acceptProxy }: Kind) => {
  const plain = !unix && !tls;
  /** A Unix socket shows a reset as an end. */
  const resets = !unix;
  const held: Disposable[] = [];
  afterEach(() => held.splice(0).forEach((each) => each[Symbol.dispose]()));

  const options = (): OriginOptions => {
    if (tls) return { tls: {} };
    if (!unix) return {};
    const folder = new Folder();
    held.push(folder);
    return { unix: folder.path("target.sock") };
  };
  const serve = (each?: (peer: Peer) => unknown) => new Origin(each, options());
  const echo = () => echoOrigin(options());

  /** Starts a proxy in front of this server, which does not read PROXY headers itself. */
  const begin = (origin: Origin): Promise<TestProxy> => {
    let { target } = origin;
    if (proxyProtocol !== undefined) {
      const front = new Front(origin.port);
      held.push(front);
      target = front.target;
    }
    const upstream = {
      name: "test",
      targets: [target],
      authorizedGroups: ["admin"],
      ...(tls && { tls: { ca: certPath("ca.crt") } }),
      ...(proxyProtocol && { proxyProtocol }),
    };
    return startProxy([], {
      upstreams: [upstream],
      ...(acceptProxy && { listener: { acceptProxy: { from: ["127.0.0.9"] } } }),
    });
  };

  describe("bytes of any size", () => {
    test.each([1, 16 * KiB - 1, 16 * KiB, 16 * KiB + 1, 128 * KiB, 512 * KiB + 1, 16 * MiB])(
      "%p bytes arrive there and back",
      async (length) => {
        using origin = echo();
        await using proxy = await begin(origin);
        const client = await connect(proxy.port);
        const data = payload(length);
        const sent = client.send(data);
        const back = await client.read(length);
        expect(await sent).toBe(true);
        expect(hash(back)).toBe(hash(data));
        client.end();
        expect(await client.rest()).toHaveLength(0);
        const line = await proxy.log.line("closed");
        expect(line).toMatchObject({ bytesIn: length, bytesOut: length, reason: "closed" });
      },
    );

    test("many small writes arrive, both ways at once", async () => {
      using origin = echo();
      await using proxy = await begin(origin);
      const client = await connect(proxy.port);
      const random = new Random(7);
      const parts = Array.from({ length: 2_000 }, () => random.bytes(random.int(1, 300)));
      const all = Buffer.concat(parts);
      const back = client.read(all.length);
      for (const part of parts) await client.send(part);
      expect(hash(await back)).toBe(hash(all));
      client.close();
    });
  });

  describe("slow readers", () => {
    test("a client that stops and starts reading gets every byte, and the server is held back meanwhile", async () => {
      using origin = serve();
      await using proxy = await begin(origin);
      const { client, server } = await pair(proxy, origin);
      const data = payload(64 * MiB);
      client.socket.pause();
      const sent = server.send(data).then(() => server.end());
      let stalled = true;
      void sent.then(() => (stalled = false));
      await still(() => server.sent, "the server is held back");
      expect(stalled).toBe(true);
      client.socket.resume();
      expect(hash(await client.rest())).toBe(hash(data));
      client.close();
      expect(await proxy.log.line("closed")).toMatchObject({ bytesOut: data.length, reason: "closed" });
    });

    test("a server that stops and starts reading gets every byte, and the client is held back meanwhile", async () => {
      using origin = serve((peer) => peer.socket.pause());
      await using proxy = await begin(origin);
      const { client, server } = await pair(proxy, origin);
      const data = payload(64 * MiB);
      const sent = client.send(data).then(() => client.end());
      let stalled = true;
      void sent.then(() => (stalled = false));
      await still(() => client.sent, "the client is held back");
      expect(stalled).toBe(true);
      server.socket.resume();
      expect(hash(await server.rest())).toBe(hash(data));
      server.close();
      await client.ended;
      expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: data.length, reason: "closed" });
    });

    test("a client whose pace changes all the time gets every byte, both ways", async () => {
      using origin = echo();
      await using proxy = await begin(origin);
      const client = await connect(proxy.port);
      const data = payload(24 * MiB);
      const random = new Random(3);
      const back = client.read(data.length);
      let done = false;
      // Nothing is waited for here: these pauses are the pace.
      const dither = (async () => {
        while (!done) {
          client.socket.pause();
          await Bun.sleep(random.int(0, 3));
          client.socket.resume();
          await Bun.sleep(random.int(0, 3));
        }
      })();
      await client.send(data);
      expect(hash(await back)).toBe(hash(data));
      done = true;
      await dither;
      client.close();
    });
  });

  describe("the first bytes", () => {
    test("the first bytes may come from the server", async () => {
      using origin = serve((peer) => void peer.send("220 ready\r\n"));
      await using proxy = await begin(origin);
      const client = await connect(proxy.port);
      expect((await client.read(11)).toString()).toBe("220 ready\r\n");
      client.close();
    });

    test("the first bytes may come from the client, before its target has been reached", async () => {
      using origin = echo();
      await using proxy = await begin(origin);
      const clients = await Promise.all(
        Array.from({ length: 20 }, async (_, i) => {
          const client = await connect(proxy.port);
          // The data follows the handshake at once: the proxy cannot have dialled yet.
          await client.send(`early ${i}`);
          client.end();
          return client;
        }),
      );
      for (const [i, client] of clients.entries())
        expect((await client.rest()).toString()).toBe(`early ${i}`);
      for (const client of clients) client.close();
      await proxy.log.count("closed", 20);
      expect(proxy.log.lines.filter(({ reason }) => reason !== "closed" && reason !== undefined)).toEqual([]);
    });
  });

  describe("half-close", () => {
    test("the client's close_notify ends the server's reading, and the answer still comes", async () => {
      using origin = serve();
      await using proxy = await begin(origin);
      const { client, server } = await pair(proxy, origin);
      await client.send("question");
      client.end();
      expect((await server.rest()).toString()).toBe("question");
      await server.send("answer");
      server.close();
      expect((await client.rest()).toString()).toBe("answer");
      client.close();
      expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: 8, bytesOut: 6, reason: "closed" });
      await until(() => proxy.proxy.stats().connections === 0, "it is released");
    });

    test("the server's FIN ends the client's reading, and the client can still speak", async () => {
      using origin = serve();
      await using proxy = await begin(origin);
      const { client, server } = await pair(proxy, origin);
      await server.send("that is all");
      server.end();
      expect((await client.rest()).toString()).toBe("that is all");
      await client.send("thank you");
      client.end();
      expect((await server.rest()).toString()).toBe("thank you");
      server.close();
      expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: 9, bytesOut: 11, reason: "closed" });
    });

    test("a long answer after the client's end, to a slow reader, arrives whole", async () => {
      using origin = serve();
      await using proxy = await begin(origin);
      const { client, server } = await pair(proxy, origin);
      await client.send("question");
      client.end();
      client.socket.pause();
      expect((await server.rest()).toString()).toBe("question");
      const data = payload(16 * MiB);
      const sent = server.send(data).then(() => server.close());
      await still(() => server.sent, "the answer is held up");
      client.socket.resume();
      expect(hash(await client.rest())).toBe(hash(data));
      await sent;
      client.close();
      expect(await proxy.log.line("closed")).toMatchObject({ bytesOut: data.length, reason: "closed" });
    });

    test("a long upload after the server's end, to a slow server, arrives whole", async () => {
      using origin = serve((peer) => {
        peer.end();
        peer.socket.pause();
      });
      await using proxy = await begin(origin);
      const { client, server } = await pair(proxy, origin);
      await client.ended;
      const data = payload(16 * MiB);
      const sent = client.send(data).then(() => client.close());
      await still(() => client.sent, "the upload is held up");
      server.socket.resume();
      expect(hash(await server.rest())).toBe(hash(data));
      await sent;
      server.close();
      expect((await proxy.log.line("closed")).reason).toBe("closed");
    });

    test("ends of both sides at the same time are orderly for both", async () => {
      using origin = serve();
      await using proxy = await begin(origin);
      for (let i = 0; i < 50; i++) {
        const { client, server } = await pair(proxy, origin);
        client.end();
        server.end();
        await Promise.all([client.ended, server.ended]);
        client.close();
        server.close();
      }
      const lines = await proxy.log.count("closed", 50);
      expect(new Set(lines.map(({ reason }) => reason))).toEqual(new Set(["closed"]));
      await until(() => proxy.proxy.stats().connections === 0, "all are released");
    });
  });

  describe.if(resets)("connections that are broken off", () => {
    test("a reset by the client reaches the server as a reset, not as an end", async () => {
      using origin = serve();
      await using proxy = await begin(origin);
      const { client, server } = await pair(proxy, origin);
      await client.send("half a mess");
      await server.read(11);
      client.reset();
      expect(await server.closed).toBe("ECONNRESET");
      expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: 11, reason: "client_reset" });
    });

    test("a reset by the server closes the client promptly, with what was sent before", async () => {
      using origin = serve();
      await using proxy = await begin(origin);
      const { client, server } = await pair(proxy, origin);
      await server.send("half a mess");
      await client.read(11);
      server.reset();
      await client.ended;
      client.close();
      expect(await proxy.log.line("closed")).toMatchObject({ bytesOut: 11, reason: "upstream_reset" });
    });

    test("a reset by the server, while the client is not reading and much is held for it, ends the connection", async () => {
      using origin = serve();
      await using proxy = await begin(origin);
      const { client, server } = await pair(proxy, origin);
      client.socket.pause();
      const sent = server.send(new Uint8Array(64 * MiB));
      await still(() => server.sent, "much is held");
      server.reset();
      expect(await sent).toBe(false);
      await proxy.log.line("closed", "upstream_reset");
      expect(proxy.proxy.stats().connections).toBe(0);
      client.reset();
    });

    test("a reset by the server does not wait for a client that is not reading", async () => {
      using origin = serve();
      await using proxy = await begin(origin);
      const all = await Promise.all(
        Array.from({ length: 8 }, async () => {
          const client = await connect(proxy.port);
          client.socket.pause();
          return client;
        }),
      );
      const servers = await Promise.all(all.map(() => origin.next()));
      // More than all kernel buffers on the way can hold.
      const much = new Uint8Array(128 * MiB);
      const sent = servers.map((server) => server.send(much));
      await still(() => servers.reduce((sum, server) => sum + server.sent, 0), "much is held");
      const start = performance.now();
      for (const server of servers) server.reset();
      expect(await Promise.all(sent)).toEqual(Array(8).fill(false));
      await proxy.log.count("closed", 8);
      // The runtime would wait for twelve seconds.
      expect(performance.now() - start).toBeLessThan(9_000);
      for (const client of all) client.reset();
    });

    test("a reset by the client, while the server is not reading and much is held for it, ends the connection", async () => {
      using origin = serve((peer) => peer.socket.pause());
      await using proxy = await begin(origin);
      const { client } = await pair(proxy, origin);
      const sent = client.send(new Uint8Array(64 * MiB));
      await still(() => client.sent, "much is held");
      client.reset();
      expect(await sent).toBe(false);
      await proxy.log.line("closed", "client_reset");
      expect(proxy.proxy.stats().connections).toBe(0);
    });

    test.if(plain)(
      "a reset by the server at the moment of a write to it is not taken for an end",
      async () => {
        // A failed write takes the socket's error, and a read after it sees only an end. Both have to happen in one turn
        // of the loop: the connection that triggers the server's reset is served in it just before the client's.
        using origin = serve((peer) => void peer.send("!"));
        using trigger = new Origin();
        await using proxy = await begin(origin);
        for (let i = 1; i <= 20; i++) {
          using tap = new Tap(proxy.port);
          const client = await tap.client();
          const server = await origin.next();
          await client.read(1);
          const pull = await connectPlain(trigger.port);
          const pulled = await trigger.next();
          void pulled.read(1).then(() => server.reset());
          tap.hold();
          client.socket.write("more");
          await until(() => tap.holding > 0, "the tap holds it");
          pull.socket.write("x");
          tap.release();
          expect((await proxy.log.count("closed", i))[i - 1]!.reason).toBe("upstream_reset");
          await client.ended;
          expect(tap.endsWithCloseNotify).toBe(false);
          pull.reset();
        }
      },
    );

    test("an answer is whole when the server resets after its end, while its client reads slowly", async () => {
      using origin = serve();
      await using proxy = await begin(origin);
      const { client, server } = await pair(proxy, origin);
      client.socket.pause();
      const data = payload(6 * MiB);
      await server.send(data);
      server.end();
      // No event tells whether the proxy has read the end, or seen the reset: it reads on only as its client does. Both
      // orders are right, and these pauses make the one with the end first likely.
      await Bun.sleep(50);
      server.reset();
      await Bun.sleep(50);
      client.socket.resume();
      const back = await client.rest();
      // If the reset overtook the end, the bytes on their way are lost, as they would be without a proxy.
      const line = await proxy.log.line("closed");
      expect(hash(back)).toBe(hash(data.subarray(0, back.length)));
      expect(line.bytesOut).toBeGreaterThanOrEqual(back.length);
      if (line.reason === "closed") expect(back.length).toBe(data.length);
      else expect(line.reason).toBe("upstream_reset");
      client.reset();
    });

    test("a request is whole when the client resets after its end, while its server reads slowly", async () => {
      using origin = serve((peer) => peer.socket.pause());
      await using proxy = await begin(origin);
      const { client, server } = await pair(proxy, origin);
      const data = payload(600 * KiB);
      // The proxy has to have read all of it: what its kernel still holds is lost with a reset.
      const read = nextCall("end");
      await client.send(data);
      client.end();
      await read;
      const lost = nextCall("abandon");
      client.reset();
      await lost;
      server.socket.resume();
      expect(hash(await server.rest())).toBe(hash(data));
      server.close();
      expect(await proxy.log.line("closed")).toMatchObject({
        bytesIn: data.length,
        reason: "client_reset",
      });
    });

    test("a client whose TLS turns to garbage makes the server see a reset", async () => {
      using origin = serve();
      await using proxy = await begin(origin);
      using tap = new Tap(proxy.port);
      await tap.client();
      const server = await origin.next();
      tap.inject(Uint8Array.of(23, 3, 3, 0, 32, ...new Uint8Array(32)));
      expect(await server.closed).toBe("ECONNRESET");
      expect((await proxy.log.line("closed")).reason).toBe("client_error");
    });

    test("a reset by the server closes the client with what was sent before and no close_notify", async () => {
      using origin = serve();
      await using proxy = await begin(origin);
      using tap = new Tap(proxy.port);
      const client = await tap.client();
      const server = await origin.next();
      await server.send("half a mess");
      await client.read(11);
      server.reset();
      await client.ended;
      client.close();
      expect(await proxy.log.line("closed")).toMatchObject({ bytesOut: 11, reason: "upstream_reset" });
      expect(tap.endsWithCloseNotify).toBe(false);
    });

    test("a reset by the server after the client's end is not an end either", async () => {
      using origin = serve();
      await using proxy = await begin(origin);
      using tap = new Tap(proxy.port);
      const client = await tap.client();
      const server = await origin.next();
      await client.send("question");
      client.end();
      await server.rest();
      await server.send("half an ans");
      await client.read(11);
      server.reset();
      await client.ended;
      expect(await proxy.log.line("closed")).toMatchObject({ bytesOut: 11, reason: "upstream_reset" });
      expect(tap.endsWithCloseNotify).toBe(false);
    });

    test("a reset by a client that had ended, while its server is still at work, releases the server", async () => {
      using origin = serve();
      await using proxy = await begin(origin);
      const { client, server } = await pair(proxy, origin);
      await client.send("question");
      client.end();
      await server.rest();
      client.reset();
      await proxy.log.line("closed", "client_reset");
      // A server that writes learns that the connection has no client any more.
      await until(() => server.socket.write("an answer") < 0, "the server's connection is closed");
      expect(proxy.proxy.stats().connections).toBe(0);
    });
  });

  describe("the wire", () => {
    test("an orderly end is a close_notify on the wire", async () => {
      using origin = serve((peer) => void peer.send("bye").then(() => peer.close()));
      await using proxy = await begin(origin);
      using tap = new Tap(proxy.port);
      const client = await tap.client();
      expect((await client.rest()).toString()).toBe("bye");
      client.close();
      await proxy.log.line("closed", "closed");
      await tap.proxyEnded;
      expect(tap.endsWithCloseNotify).toBe(true);
    });

    test.if(resets)("a stream that the server broke off does not look complete", async () => {
      using origin = serve((peer) => void peer.send("good b").then(() => peer.reset()));
      await using proxy = await begin(origin);
      using tap = new Tap(proxy.port);
      const client = await tap.client();
      await client.ended;
      expect((await proxy.log.line("closed")).reason).toBe("upstream_reset");
      client.reset();
      expect(tap.endsWithCloseNotify).toBe(false);
    });

    test.each([
      ["data", (client: Peer) => client.send("early")],
      ["data and close_notify", (client: Peer) => client.send("early").then(() => client.end())],
      ["data, close_notify and FIN", (client: Peer) => client.send("early").then(() => client.close())],
    ])("%s may come in the same segment as the end of the handshake", async (what, act) => {
      using origin = echo();
      await using proxy = await begin(origin);
      using tap = new Tap(proxy.port);
      tap.hold();
      const client = await tap.client();
      await act(client);
      await until(() => tap.holding > 0, "the tap holds the end of the handshake");
      // For the proxy, the handshake is not over: it must not dial. No event tells of a dial that does not happen.
      await Bun.sleep(20);
      expect(origin.accepted).toHaveLength(0);
      tap.release();
      const server = await origin.next();
      if (what === "data") expect((await client.read(5)).toString()).toBe("early");
      else {
        await server.ended;
        expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: 5, bytesOut: 5, reason: "closed" });
      }
    });

    test("a client that ends with a bare FIN ends all the same", async () => {
      using origin = serve();
      await using proxy = await begin(origin);
      using tap = new Tap(proxy.port);
      const client = await tap.client();
      const server = await origin.next();
      await client.send("hello");
      await server.read(5);
      tap.fin();
      await server.ended;
      await server.send("and good bye");
      server.close();
      expect((await client.rest()).toString()).toBe("and good bye");
      expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: 5, bytesOut: 12, reason: "closed" });
      await tap.proxyEnded;
      expect(tap.endsWithCloseNotify).toBe(true);
    });

    test("a client that ends with close_notify alone, and then only waits, is disconnected", async () => {
      using origin = echo();
      await using proxy = await begin(origin);
      const client = await connect(proxy.port);
      await client.send("hello");
      client.end();
      expect((await client.rest()).toString()).toBe("hello");
      // It does not close its socket; the proxy closes its own.
      await proxy.log.line("closed", "closed");
      expect(proxy.proxy.stats().connections).toBe(0);
      client.reset();
    });
  });
});

test("a client that leaves while its target is being dialled takes the dialled socket along", async () => {
  await using hole = await Blackhole.open();
  await using proxy = await startProxy([hole.target], { connectTimeout: "1m" });
  const client = await connect(proxy.port);
  await until(() => proxy.proxy.stats().upstreams[0]!.targets[0]!.open === 1, "it dials");
  client.reset();
  expect(await proxy.log.line("closed")).toMatchObject({ bytesIn: 0, bytesOut: 0, reason: "client_reset" });
  expect(proxy.proxy.stats()).toMatchObject({ connections: 0, upstreams: [{ targets: [{ open: 0 }] }] });
});
