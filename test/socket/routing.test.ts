// Which upstream a connection reaches: by its server name, and by its listener.

import { describe, expect, test } from "bun:test";
import { ConfigError, createLogger, createProxy, type Proxy, type ProxyConfig } from "tcpproxy";
import { issue, makeAuthority } from "../support/issue.ts";
import { cert, certPath, connect, Origin, type ClientOptions, type Peer } from "../support/peer.ts";
import { Log, REFUSAL_INTERVAL, testConfig, until } from "../support/proxy.ts";
import { visit } from "../support/visit.ts";

/** A server that sends its name first, then sends back what it receives. */
class Named extends Origin {
  readonly name: string;

  constructor(name: string) {
    super(async (peer) => {
      await peer.send(`${name}:`);
      for (let chunk = await peer.some(); chunk.length > 0; chunk = await peer.some()) {
        if (!(await peer.send(chunk))) return;
      }
      peer.close();
    });
    this.name = name;
  }
}

interface Running extends AsyncDisposable {
  readonly proxy: Proxy;
  readonly log: Log;
  readonly ports: number[];
  reload(config: ProxyConfig): Promise<void>;
}

async function start(config: ProxyConfig, log = new Log()): Promise<Running> {
  const proxy = createProxy({ watch: false, ...config }, { logger: log, refusalInterval: REFUSAL_INTERVAL });
  await proxy.listen();
  return {
    proxy,
    log,
    ports: proxy.addresses.map(({ port }) => port),
    reload: (next) => proxy.reload({ watch: false, ...next }),
    async [Symbol.asyncDispose]() {
      await proxy.close({ timeout: 0 });
    },
  };
}

const listener = (over: object = {}) => ({
  address: "127.0.0.1:0",
  ca: certPath("ca.crt"),
  certificate: certPath("server.crt"),
  privateKey: certPath("key.pem"),
  ...over,
});

const upstream = (origin: Named, serverNames?: string[], authorizedGroups = ["admin"]) => ({
  name: origin.name,
  targets: [origin.target],
  authorizedGroups,
  ...(serverNames && { serverNames }),
});

const generous = { rateLimit: { capacity: 1_000_000, fillRate: 1 } };
const single = (...upstreams: ReturnType<typeof upstream>[]): ProxyConfig =>
  testConfig([], { ...generous, upstreams });

/** Returns the name of the server that answers; empty if none does. */
async function answer(port: number, options: ClientOptions = {}): Promise<string> {
  const client = await connect(port, options);
  const name = await greeting(client);
  client.reset();
  return name;
}

async function greeting(client: Peer): Promise<string> {
  let text = "";
  for (let byte = await client.read(1); byte.length > 0; byte = await client.read(1)) {
    if (String(byte) === ":") return text;
    text += String(byte);
  }
  return "";
}

async function expectEcho(client: Peer): Promise<void> {
  await client.send("ping");
  expect(String(await client.read(4))).toBe("ping");
}

describe("by server name", () => {
  test.each([
    ["db.example.com", "db"],
    ["DB.EXAMPLE.com", "db"],
    ["db.example.com.", "db"],
    ["www.example.com", "web"],
    ["a.b.example.com", "web"],
    ["x.db.example.com", "shards"],
    ["example.com", "rest"],
    ["*.example.com", "rest"],
    ["localhost", "rest"],
    ["", "rest"],
  ])("a client that asks for %p reaches %s", async (serverName, name) => {
    using db = new Named("db");
    using web = new Named("web");
    using shards = new Named("shards");
    using rest = new Named("rest");
    await using proxy = await start(
      single(
        upstream(rest),
        upstream(web, ["*.example.com"]),
        upstream(shards, ["*.db.example.com"]),
        upstream(db, ["db.example.com"]),
      ),
    );
    expect(await answer(proxy.ports[0]!, { serverName })).toBe(name);
    expect((await proxy.log.line("closed")).upstream).toBe(name);
  });

  test("a name without an upstream is refused: no token, no dial, and the log has the name, escaped and short", async () => {
    using db = new Named("db");
    const written: string[] = [];
    const json = createLogger({ format: "json", write: (line) => void written.push(line) });
    const log = new Log();
    const both = Object.assign(new Log(), {
      info: (msg: string, fields: object) => (
        log.info(msg, fields as never),
        json.info(msg, fields as never)
      ),
      warn: (msg: string, fields: object) => (
        log.warn(msg, fields as never),
        json.warn(msg, fields as never)
      ),
    });
    await using proxy = await start(
      { ...single(upstream(db, ["db.example.com"])), rateLimit: { capacity: 1, fillRate: "1h" } },
      both,
    );
    const names = ["", "other.example.com", 'x"\n\u202e\u001b[2J.evil', `${"\u202e".repeat(80)}.evil`];
    // Each has a line of its own.
    const clients = ["alice", "bob", "carol", "alice-ops"];
    for (const [i, serverName] of names.entries()) {
      const { served } = await visit(proxy.ports[0]!, {
        serverName,
        identity: { cert: cert(`${clients[i]}.crt`), key: cert("key.pem") },
      });
      expect(served).toBe(false);
    }
    const refused = await log.count("refused", names.length);
    expect(refused.map(({ reason, client, upstream }) => [reason, client, upstream])).toEqual(
      ["alice@admin", "bob@admin", "carol@ops", "alice@ops"].map((client) => [
        "unknown_server_name",
        client,
        undefined,
      ]),
    );
    expect(refused.map(({ serverName }) => serverName)).toEqual([undefined, ...names.slice(1)]);
    expect(refused.map(({ detail }) => detail)).toEqual([undefined, ...names.slice(1)]);
    for (const line of written) {
      expect(line).toMatch(/^[\x20-\x7e]+\n$/);
      expect(line.length).toBeLessThan(2_000);
    }
    expect(db.accepted).toHaveLength(0);
    expect(proxy.proxy.stats().clients).toBe(0);
    expect(await answer(proxy.ports[0]!, { serverName: "db.example.com" })).toBe("db");
  });

  test("authorized groups belong to one upstream, limits to all of them", async () => {
    using db = new Named("db");
    using web = new Named("web");
    await using proxy = await start({
      ...single(upstream(db, ["db.test"], ["ops"]), upstream(web, ["web.test"], ["admin", "ops"])),
      rateLimit: { capacity: 3, fillRate: "1h", maxConnections: 2 },
    });
    const [port] = proxy.ports as [number];
    expect(await answer(port, { serverName: "db.test" })).toBe("");
    expect(await proxy.log.line("refused", "group_not_authorized")).toMatchObject({
      client: "alice@admin",
      upstream: "db",
    });
    const one = await connect(port, { name: "carol", serverName: "db.test" });
    const two = await connect(port, { name: "carol", serverName: "web.test" });
    expect([await greeting(one), await greeting(two)]).toEqual(["db", "web"]);
    expect(await answer(port, { name: "carol", serverName: "web.test" })).toBe("");
    expect(await proxy.log.line("refused", "connection_limit")).toMatchObject({ upstream: "web" });
    one.reset();
    await proxy.log.count("closed", 1);
    expect(await answer(port, { name: "carol", serverName: "web.test" })).toBe("web");
    await proxy.log.count("closed", 2);
    expect(await answer(port, { name: "carol", serverName: "db.test" })).toBe("");
    expect(await proxy.log.line("refused", "rate_limited")).toMatchObject({ upstream: "db" });
    expect(await answer(port, { serverName: "web.test" })).toBe("web");
    two.reset();
  });

  test("a name that moves takes new connections along; those that are open end", async () => {
    using blue = new Named("blue");
    using green = new Named("green");
    await using proxy = await start(single(upstream(blue, ["app.test"]), upstream(green, ["next.test"])));
    const [port] = proxy.ports as [number];
    const client = await connect(port, { serverName: "app.test" });
    expect(await greeting(client)).toBe("blue");
    await proxy.reload(single(upstream(green, ["app.test"]), upstream(blue, ["old.test"])));
    expect(await answer(port, { serverName: "app.test" })).toBe("green");
    expect(await answer(port, { serverName: "old.test" })).toBe("blue");
    expect(await answer(port, { serverName: "next.test" })).toBe("");
    expect(await proxy.log.line("closed", "authorization_revoked")).toMatchObject({
      upstream: "blue",
      detail: "upstream_changed",
    });
    await client.ended;
    client.close();
  });

  test("two upstreams that change names are not mixed up", async () => {
    using one = new Named("one");
    using two = new Named("two");
    await using proxy = await start(
      single(upstream(one, ["one.test"]), upstream(two, ["two.test"], ["ops"])),
    );
    const [port] = proxy.ports as [number];
    const client = await connect(port, { serverName: "one.test" });
    expect(await greeting(client)).toBe("one");
    await proxy.reload(
      single(
        { ...upstream(one, ["one.test"], ["ops"]), name: "two" },
        { ...upstream(two, ["two.test"]), name: "one" },
      ),
    );
    // An upstream is identified by its name, and the server name leads to the other upstream now.
    expect(await proxy.log.line("closed", "authorization_revoked")).toMatchObject({
      upstream: "one",
      detail: "upstream_changed",
    });
    expect(await answer(port, { serverName: "one.test" })).toBe("");
    expect(await answer(port, { serverName: "two.test" })).toBe("two");
    await client.ended;
    client.close();
    await until(() => proxy.proxy.stats().connections === 0, "nothing is open");
    for (const { targets } of proxy.proxy.stats().upstreams) expect(targets[0]!.open).toBe(0);
  });

  test.each([1, 2])("clients with %p workers each reach the upstream of their name", async (workers) => {
    using db = new Named("db");
    using web = new Named("web");
    await using proxy = await start({ ...single(upstream(db, ["db.test"]), upstream(web)), workers });
    const names = Array.from({ length: 16 }, (_, i) => (i % 2 ? "db" : "web"));
    const answers = await Promise.all(
      names.map((name) => answer(proxy.ports[0]!, { serverName: `${name}.test` })),
    );
    expect(answers).toEqual(names);
  });
});

describe("overlaps", () => {
  const one = { name: "a", targets: ["127.0.0.1:1"], authorizedGroups: ["admin"] };
  const faults = (config: ProxyConfig): string[] => {
    try {
      createProxy(config, { logger: new Log() });
      return [];
    } catch (error) {
      return (error as ConfigError).faults.map(({ key }) => key);
    }
  };

  test.each<[string, string[][], string[]]>([
    ["one name in two upstreams", [["a.b"], ["c.d", "a.b"]], ["upstreams[1].serverNames[1]"]],
    ["one name in two cases", [["a.b"], ["A.B."]], ["upstreams[1].serverNames[0]"]],
    ["one suffix in two upstreams", [["*.b"], ["*.B"]], ["upstreams[1].serverNames[0]"]],
    ["one name twice in one upstream", [["a.b", "a.b"]], ["upstreams[0].serverNames[1]"]],
    ["an empty list of names", [[]], ["upstreams[0].serverNames"]],
    [
      "a name that is invalid",
      [["*"], ["10.0.0.1"]],
      ["upstreams[0].serverNames[0]", "upstreams[1].serverNames[0]"],
    ],
  ])("a configuration with %s is refused", (_, names, keys) => {
    const upstreams = names.map((serverNames, i) => ({ ...one, name: `u${i}`, serverNames }));
    expect(faults(testConfig([], { upstreams }))).toEqual(keys);
  });

  test("a name and a suffix that covers it do not overlap", () => {
    const upstreams = [["a.b"], ["*.b"], ["*.a.b"]].map((serverNames, i) => ({
      ...one,
      name: `u${i}`,
      serverNames,
    }));
    expect(faults(testConfig([], { upstreams }))).toEqual([]);
  });

  test("two upstreams for the remaining names are refused, unless a listener is pinned to one", () => {
    const upstreams = [one, { ...one, name: "b" }];
    expect(faults(testConfig([], { upstreams }))).toEqual(["upstreams"]);
    const listeners = [listener(), listener({ upstream: "b" })];
    expect(faults({ upstreams, listeners })).toEqual([]);
  });

  test("a configuration with a pin to an unknown upstream, listeners beside a listener, or two listeners on one address is refused", () => {
    expect(faults({ upstreams: [one], listeners: [listener({ upstream: "x" })] })).toEqual([
      "listeners[0].upstream",
    ]);
    expect(faults({ upstreams: [one], listeners: [listener()], listener: listener() })).toEqual([
      "listeners",
    ]);
    const address = "127.0.0.1:1234";
    expect(faults({ upstreams: [one], listeners: [listener({ address }), listener({ address })] })).toEqual([
      "listeners[1].address",
    ]);
  });
});

describe("by listener", () => {
  test("several ports are one proxy: limits are over all, and closing closes all", async () => {
    using web = new Named("web");
    await using proxy = await start({
      upstreams: [upstream(web)],
      listeners: [listener(), listener(), listener()],
      rateLimit: { capacity: 3, fillRate: "1h" },
    });
    expect(new Set(proxy.ports).size).toBe(3);
    for (const port of proxy.ports) expect(await answer(port)).toBe("web");
    for (const port of proxy.ports) expect(await answer(port)).toBe("");
    expect(await proxy.log.count("refused", 3)).toHaveLength(3);
    await proxy.proxy.close();
    for (const port of proxy.ports) await expect(connect(port)).rejects.toThrow();
  });

  test("a pin takes all connections of its port, whatever they ask for, and authorization is the upstream's", async () => {
    using db = new Named("db");
    using web = new Named("web");
    await using proxy = await start({
      ...generous,
      upstreams: [upstream(db, ["db.test"], ["ops"]), upstream(web)],
      listeners: [listener(), listener({ upstream: "db" })],
    });
    const [free, pinned] = proxy.ports as [number, number];
    expect(await answer(free, { name: "carol", serverName: "db.test" })).toBe("db");
    expect(await answer(free)).toBe("web");
    for (const serverName of ["", "db.test", "web.test"]) {
      expect(await answer(pinned, { name: "carol", serverName })).toBe("db");
      expect(await answer(pinned, { serverName })).toBe("");
    }
    expect((await proxy.log.count("refused", 3)).map(({ reason }) => reason)).toEqual(
      Array(3).fill("group_not_authorized"),
    );
  });

  test("a pin that changes at a reload is for new connections, and ends the others", async () => {
    using blue = new Named("blue");
    using green = new Named("green");
    const config = (pin: string): ProxyConfig => ({
      ...generous,
      upstreams: [upstream(blue, ["blue.test"]), upstream(green, ["green.test"])],
      listeners: [listener({ upstream: pin })],
    });
    await using proxy = await start(config("blue"));
    const [port] = proxy.ports as [number];
    const client = await connect(port);
    expect(await greeting(client)).toBe("blue");
    await proxy.reload(config("green"));
    expect(await answer(port)).toBe("green");
    expect(await proxy.log.line("closed", "authorization_revoked")).toMatchObject({
      detail: "upstream_changed",
    });
    await client.ended;
    client.close();
  });

  test("a pin whose upstream is removed with it closes its connections", async () => {
    using blue = new Named("blue");
    using green = new Named("green");
    const config = (origin: Named): ProxyConfig => ({
      ...generous,
      upstreams: [upstream(origin)],
      listeners: [listener({ upstream: origin.name })],
    });
    await using proxy = await start(config(blue));
    const [port] = proxy.ports as [number];
    const client = await connect(port);
    expect(await greeting(client)).toBe("blue");
    await proxy.reload(config(green));
    expect(await proxy.log.line("closed")).toMatchObject({
      upstream: "blue",
      reason: "authorization_revoked",
      detail: "upstream_removed",
    });
    expect(await answer(port)).toBe("green");
    client.reset();
  });

  const stranger = { cert: cert("second-root.crt"), key: cert("key.pem") };
  const twoCas = (origin: Named, over: object = {}): ProxyConfig => ({
    ...generous,
    upstreams: [upstream(origin)],
    listeners: [listener(), listener({ ca: certPath("ca2.crt"), ...over })],
  });

  test("each listener has its own CA: a client of one is a stranger at the other", async () => {
    using web = new Named("web");
    await using proxy = await start(twoCas(web));
    const [first, second] = proxy.ports as [number, number];
    expect(await answer(first)).toBe("web");
    expect(await answer(second, { identity: stranger })).toBe("web");
    expect(await answer(second)).toBe("");
    expect(await answer(first, { identity: stranger })).toBe("");
    expect((await proxy.log.count("refused", 2)).map(({ reason }) => reason)).toEqual(
      Array(2).fill("certificate_untrusted"),
    );
  });

  test.each([1, 2])(
    "a ticket of one listener is worth nothing at the other, with %p workers",
    async (workers) => {
      using web = new Named("web");
      await using proxy = await start({ ...twoCas(web), workers });
      const [first, second] = proxy.ports as [number, number];
      for (let i = 0; i < 4; i++) {
        const one = await visit(first);
        expect([one.served, one.session]).toEqual([true, expect.any(Buffer)]);
        expect(await visit(second, { session: one.session })).toMatchObject({ served: false, reused: false });
        const two = await visit(second, { identity: stranger });
        expect([two.served, two.session]).toEqual([true, expect.any(Buffer)]);
        expect(await visit(first, { identity: stranger, session: two.session })).toMatchObject({
          served: false,
          reused: false,
        });
        one.leave();
        two.leave();
      }
      expect((await proxy.log.count("refused", 8)).map(({ reason }) => reason)).toEqual(
        Array(8).fill("certificate_untrusted"),
      );
    },
  );

  test("a ticket is valid only on its own port where two listeners are the same but for their CRL", async () => {
    using web = new Named("web");
    const revoked = { cert: cert("revoked.crt"), key: cert("key.pem") };
    await using proxy = await start({
      ...generous,
      upstreams: [upstream(web)],
      listeners: [listener(), listener({ crl: certPath("crl.pem") })],
    });
    const [lax, strict] = proxy.ports as [number, number];
    const one = await visit(lax, { identity: revoked });
    expect(one.served).toBe(true);
    expect(await visit(strict, { identity: revoked, session: one.session })).toMatchObject({
      served: false,
    });
    expect((await proxy.log.line("refused")).reason).toBe("certificate_revoked");
    one.leave();
  });

  test("a port whose listener is removed closes, and does not take over the trust of a new one", async () => {
    using web = new Named("web");
    const at = (hostname: string, ca: string) => listener({ address: `${hostname}:0`, ca: certPath(ca) });
    const config = (...listeners: object[]): ProxyConfig => ({
      ...generous,
      upstreams: [upstream(web)],
      listeners,
    });
    const second = at("127.0.0.2", "ca2.crt");
    await using proxy = await start(config(at("127.0.0.1", "ca.crt"), second));
    const [port] = proxy.ports as [number];
    await proxy.reload(config(second, at("127.0.0.3", "ca2.crt")));
    await expect(connect(port, { identity: stranger })).rejects.toThrow();
    expect(await proxy.log.line("listener removed")).toMatchObject({ address: "127.0.0.1:0" });
    expect(await proxy.log.line("needs a restart")).toMatchObject({
      key: "listeners[1].address",
      running: "none",
    });
  });

  test("a port whose listener has another address stays where it is, with all other changes", async () => {
    using web = new Named("web");
    const config = (...addresses: string[]): ProxyConfig => ({
      ...generous,
      upstreams: [upstream(web)],
      listeners: addresses.map((address) => listener({ address, ca: certPath("ca2.crt") })),
    });
    await using proxy = await start(twoCas(web, { address: "127.0.0.2:0" }));
    const [port] = proxy.ports as [number];
    await proxy.reload(config("127.0.0.3:0", "127.0.0.2:0"));
    expect(await answer(port, { identity: stranger })).toBe("web");
    expect(await proxy.log.line("needs a restart")).toMatchObject({
      key: "listeners[0].address",
      running: "127.0.0.1:0",
      configured: "127.0.0.3:0",
    });
  });

  test("a reload that removes a CA from one listener closes its clients, and no others", async () => {
    using web = new Named("web");
    const both = makeAuthority([["CN", "both"]]);
    const path = `${import.meta.dir}/../../out/test-both-${process.pid}.pem`;
    await Bun.write(path, both.cert);
    const config = (ca: string): ProxyConfig => ({
      ...generous,
      upstreams: [upstream(web)],
      listeners: [listener({ ca: path }), listener({ ca })],
    });
    await using proxy = await start(config(path));
    const identity = issue("alice@admin", both);
    const clients = await Promise.all(proxy.ports.map((port) => connect(port, { identity })));
    for (const client of clients) expect(await greeting(client)).toBe("web");
    await proxy.reload(config(certPath("ca.crt")));
    await Bun.file(path).delete();
    await clients[1]!.ended;
    await expectEcho(clients[0]!);
    expect(await proxy.log.count("closed", 1)).toMatchObject([{ reason: "authorization_revoked" }]);
    for (const client of clients) client.reset();
  });
});
