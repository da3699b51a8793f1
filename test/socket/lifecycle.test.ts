// The library from outside: createProxy, listen and close, in any order, leave nothing behind.

import { describe, expect, test } from "bun:test";
import { statSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { ConfigError, StartError, createProxy } from "tcpproxy";
import { certPath, connect, connectPlain, echoOrigin, Origin } from "../support/peer.ts";
import { Log, startProxy, testConfig, until } from "../support/proxy.ts";

const quiet = { logger: new Log() };

/** Containers often have no IPv6, not even on loopback. */
const HAS_IPV6 = Object.values(networkInterfaces()).some((all) =>
  all?.some(({ address }) => address === "::1"),
);
const loopback = HAS_IPV6 ? ["127.0.0.1", "::1"] : ["127.0.0.1"];

describe("createProxy", () => {
  test("createProxy refuses a bad configuration with every fault, of shape and of files, in one error", () => {
    let error: unknown;
    try {
      createProxy(
        testConfig(["a"], {
          timeout: "soon",
          listener: { ca: "/no/such/ca.crt", privateKey: certPath("ecdsa.pem"), crl: certPath("ca.crt") },
          maxConnections: 1_000_000,
        }),
        quiet,
      );
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).faults.map(({ key }) => key)).toEqual([
      "timeout",
      "upstreams[0].targets[0]",
      "listener.ca",
      "listener.privateKey",
      "listener.crl",
      "maxConnections",
    ]);
    expect((error as ConfigError).message.split("\n")).toHaveLength(6);
  });

  test("createProxy takes relative paths from the directory it is given", () => {
    const config = testConfig(["127.0.0.1:1"], {
      listener: { ca: "ca.crt", certificate: "server.crt", privateKey: "./key.pem" },
    });
    expect(createProxy(config, { ...quiet, directory: certPath("") }).config.listeners[0]?.ca).toBe(
      certPath("ca.crt"),
    );
  });

  test("createProxy opens no port and leaves nothing running", () => {
    const proxy = createProxy(testConfig(["127.0.0.1:1"]), quiet);
    expect(proxy.stats()).toEqual({
      connections: 0,
      clients: 0,
      upstreams: [{ name: "test", targets: [{ address: "127.0.0.1:1", open: 0, health: "up" }] }],
    });
  });

  test("createProxy warns of a certificate that will not work as expected", () => {
    const readable = (statSync(certPath("key.pem")).mode & 0o077) !== 0;
    const config = testConfig(["127.0.0.1:1"], { listener: { certificate: certPath("expired.crt") } });
    expect(createProxy(config, quiet).warnings).toEqual([
      expect.stringMatching(/^the proxy's certificate expired on 2025-01-01T00:00:00/),
      expect.stringMatching(/not meant for servers/),
      ...(readable ? [expect.stringMatching(/private key .* can be read by other users/)] : []),
    ]);
  });
});

describe("listen", () => {
  test("listen called twice gives the same port", async () => {
    await using proxy = await startProxy(["127.0.0.1:1"]);
    expect((await proxy.proxy.listen()).port).toBe(proxy.port);
    expect(proxy.log.lines.filter(({ msg }) => msg === "listening")).toHaveLength(1);
  });

  test("listen on a port in use says so, and can be tried again", async () => {
    const blocker = new Origin();
    const proxy = createProxy(testConfig(["127.0.0.1:1"], { listener: { address: blocker.target } }), quiet);
    const failure = await proxy.listen().catch((error) => error);
    expect(failure).toBeInstanceOf(StartError);
    expect(failure.message).toBe(`cannot listen on ${blocker.target}: the address is in use (EADDRINUSE)`);
    blocker[Symbol.dispose]();
    expect(await proxy.listen()).toEqual({ hostname: "127.0.0.1", port: blocker.port });
    await proxy.close();
  });

  test("two proxies cannot share a port", async () => {
    await using first = await startProxy(["127.0.0.1:1"]);
    const second = createProxy(
      testConfig(["127.0.0.1:1"], { listener: { address: `127.0.0.1:${first.port}` } }),
      quiet,
    );
    await expect(second.listen()).rejects.toThrow(/in use/);
  });

  test("an address without a host means every interface, IPv4 and IPv6, and the log shows IPv4 clients as such", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { listener: { address: ":0" } });
    for (const hostname of loopback) {
      const client = await connect(proxy.port, { hostname });
      await client.send("x");
      expect((await client.read(1)).toString()).toBe("x");
      client.close();
    }
    const lines = await proxy.log.count("closed", loopback.length);
    expect(lines.map(({ remote }) => String(remote).replace(/\d+$/, "PORT"))).toEqual(
      HAS_IPV6 ? ["127.0.0.1:PORT", "[::1]:PORT"] : ["127.0.0.1:PORT"],
    );
  });

  test.if(HAS_IPV6)("targets may be IPv6", async () => {
    const v6 = Bun.listen({
      hostname: "::1",
      port: 0,
      socket: { data: (socket, chunk) => void socket.write(chunk) },
    });
    await using proxy = await startProxy([`[::1]:${v6.port}`]);
    const client = await connect(proxy.port);
    await client.send("x");
    expect((await client.read(1)).toString()).toBe("x");
    client.close();
    v6.stop(true);
  });
});

describe("close", () => {
  test("close before listening does nothing, and the proxy cannot be used afterwards", async () => {
    const proxy = createProxy(testConfig(["127.0.0.1:1"]), quiet);
    expect(await proxy.close()).toEqual({ cut: 0 });
    await expect(proxy.listen()).rejects.toThrow("the proxy has been closed");
  });

  test("close with nothing open is done at once, twice too, and frees the port", async () => {
    const { proxy, port } = await startProxy(["127.0.0.1:1"]);
    expect(await Promise.all([proxy.close(), proxy.close()])).toEqual([{ cut: 0 }, { cut: 0 }]);
    expect(await proxy.close()).toEqual({ cut: 0 });
    await expect(connectPlain(port)).rejects.toThrow();
  });

  test("close stops accepting, but lets open connections finish", async () => {
    using origin = new Origin();
    const { proxy, port, log } = await startProxy([origin.target]);
    const client = await connect(port);
    const server = await origin.next();
    const closing = proxy.close();
    await expect(connectPlain(port)).rejects.toThrow();
    const data = new Uint8Array(8 * 2 ** 20);
    const sent = server.send(data).then(() => server.close());
    expect(await client.rest()).toHaveLength(data.length);
    await sent;
    client.close();
    expect(await closing).toEqual({ cut: 0 });
    expect((await log.line("closed")).reason).toBe("closed");
  });

  test("close ends the remaining connections when the time is up, and says how many", async () => {
    using origin = new Origin();
    const { proxy, port, log } = await startProxy([origin.target], { shutdownTimeout: 200 });
    const clients = [await connect(port), await connect(port)];
    const servers = [await origin.next(), await origin.next()];
    const start = performance.now();
    expect(await proxy.close()).toEqual({ cut: 2 });
    expect(performance.now() - start).toBeGreaterThanOrEqual(199);
    await Promise.all(servers.map((server) => server.closed));
    await Promise.all(clients.map((client) => client.ended));
    for (const client of clients) client.close();
    expect((await log.count("closed", 2)).map(({ reason }) => reason)).toEqual(["shutdown", "shutdown"]);
    expect(proxy.stats().connections).toBe(0);
  });

  test("a second close can shorten the wait, and cannot lengthen it", async () => {
    using origin = new Origin();
    const { proxy, port } = await startProxy([origin.target]);
    const client = await connect(port);
    await origin.next();
    const first = proxy.close({ timeout: 60_000 });
    const second = proxy.close({ timeout: 0 });
    void proxy.close({ timeout: 60_000 });
    expect(await Promise.all([first, second])).toEqual([{ cut: 1 }, { cut: 1 }]);
    client.close();
  });

  test("close lets a handshake that has begun finish, and cuts one that does not", async () => {
    using origin = echoOrigin();
    const { proxy, port, log } = await startProxy([origin.target], { shutdownTimeout: 300 });
    const silent = await connectPlain(port);
    await until(() => proxy.stats().connections === 1, "it is accepted");
    expect(await proxy.close()).toEqual({ cut: 1 });
    await silent.ended;
    silent.close();
    expect(await log.line("refused")).toMatchObject({ reason: "handshake_failed", detail: "shutdown" });
  });
});

test("a logger that throws breaks nothing", async () => {
  using origin = echoOrigin();
  const fail = () => {
    throw new Error("the disk is full");
  };
  const logger = { debug: fail, info: fail, warn: fail, error: fail };
  const proxy = createProxy(testConfig([origin.target]), { logger });
  const { port } = await proxy.listen();
  const client = await connect(port);
  await client.send("x");
  expect((await client.read(1)).toString()).toBe("x");
  client.close();
  await until(() => proxy.stats().connections === 0, "it is released");
  expect(await proxy.close()).toEqual({ cut: 0 });
});

test("the console can be the logger", () => {
  expect(() => createProxy(testConfig(["127.0.0.1:1"]), { logger: console })).not.toThrow();
});
