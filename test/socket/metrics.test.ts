// Metrics say what clients have counted: whatever became of their connections, over all threads, reloads and deaths.

import { afterAll, describe, expect, test } from "bun:test";
import { connect as connectFrom } from "node:net";
import { createProxy, type ProxyConfig } from "tcpproxy";
import { seriesOf } from "../../src/admin/metrics-reading.ts";
import { StartError } from "../../src/lib/errors.ts";
import { SocketFolder } from "../support/admin.ts";
import { CHANNEL, type Death, type Way } from "../support/mortal-worker.ts";
import { certPath, connect, connectPlain, echoOrigin, type Peer } from "../support/peer.ts";
import { Log, startProxy, testConfig, until } from "../support/proxy.ts";
import { Random } from "../support/random.ts";
import { monitoredAt, scrape, scrapeUntil, type Scrape } from "../support/scrape.ts";
import { crowd, echoes, messages } from "../support/served.ts";
import { startWorkerPool } from "../support/worker-pool.ts";

const metrics = { address: "127.0.0.1:0" };
/** All of these clients come from one address, and many fail: they would be locked out. */
const handshakes = { exempt: ["127.0.0.0/8"] };

/** Lets worker threads die, or hang, when they are told to. */
const { Worker: Usual } = globalThis;
const mortal = new URL("../support/mortal-worker.ts", import.meta.url).href;
globalThis.Worker = class extends Usual {
  constructor(module: string | URL, options?: WorkerOptions) {
    super(/\/src\/worker(\.ts)?$/.test(String(module)) ? mortal : module, options);
  }
};
afterAll(() => void (globalThis.Worker = Usual));

function tell(worker: number, way: Way): void {
  const channel = new BroadcastChannel(CHANNEL);
  channel.postMessage({ worker, way } satisfies Death);
  channel.close();
}

/** Every connection is counted once in each of two sums. */
function expectWhole(scraped: Scrape): void {
  const admitted = scraped.sum("admissions_total");
  const served = scraped.sum("refusals_total", { reason: "no_target" });
  const refused = scraped.sum("refusals_total") - served;
  expect(scraped.sum("connections_accepted_total")).toBe(
    refused + admitted + scraped.sum("handshakes_in_progress"),
  );
  expect(admitted).toBe(scraped.sum("connections_open") + scraped.sum("connections_closed_total") + served);
}

/** A target that nobody can come to listen on, as on a port that is free now. */
const nowhere = () => `unix:/nonexistent/${crypto.randomUUID()}`;

/** Nothing is in progress or open. */
const atRest = (scraped: Scrape) =>
  scraped.sum("handshakes_in_progress") === 0 && scraped.sum("connections_open") === 0;

/** Exchanges so many bytes with an echo server. */
async function exchange(client: Peer, bytes: number): Promise<void> {
  await client.send(Buffer.alloc(bytes, "x"));
  expect((await client.read(bytes)).length).toBe(bytes);
}

const isRefused = async (port: number, options: Parameters<typeof connect>[1]) => {
  const client = await connect(port, options);
  expect((await client.rest()).length).toBe(0);
  client.close();
};

describe.each([1, 2])("with %i workers", (workers) => {
  test("admissions, refusals by reason, bytes, what is open and what has closed are what clients counted", async () => {
    const origins = [echoOrigin(), echoOrigin()];
    const dead = nowhere();
    const upstreams = [
      { name: "echo", targets: origins.map(({ target }) => target), authorizedGroups: ["admin", "ops"] },
      {
        name: "closed",
        targets: origins.map(({ target }) => target),
        authorizedGroups: ["nobody"],
        serverNames: ["closed.example"],
      },
      { name: "dead", targets: [dead], authorizedGroups: ["admin"], serverNames: ["dead.example"] },
    ];
    const rateLimit = { capacity: 1_000, fillRate: "1ms", maxConnections: 8 };
    await using proxy = await startProxy([], { workers, metrics, handshakes, upstreams, rateLimit });
    const url = await monitoredAt(proxy.log);
    const { port } = proxy;

    const clients: Peer[] = [];
    for (let i = 1; i <= 8; i++) {
      const client = await connect(port);
      await exchange(client, i * 1_000);
      clients.push(client);
    }
    await isRefused(port, {});
    const ops = await connect(port, { name: "alice-ops" });
    await exchange(ops, 500);
    for (let i = 0; i < 3; i++) await isRefused(port, { serverName: "closed.example" });
    for (let i = 0; i < 2; i++) await isRefused(port, { name: "bob", serverName: "dead.example" });
    for (let i = 0; i < 4; i++) await isRefused(port, { name: "stranger" });
    for (let i = 0; i < 2; i++) await isRefused(port, { name: null });
    await isRefused(port, { name: "expired" });
    await isRefused(port, { name: "hostile-no-at" });
    const plain = await connectPlain(port);
    await plain.send("GET / HTTP/1.0\r\n\r\n");
    await plain.rest();
    const silent = await connectPlain(port);

    const live = await scrapeUntil(
      url,
      (each) => each.sum("connections_accepted_total") === 25 && each.sum("received_bytes_total") === 36_500,
      "all is counted",
    );
    expectWhole(live);
    expect(live.by("group", "admissions_total", { upstream: "echo" })).toEqual({ admin: 8, ops: 1 });
    expect(live.by("upstream", "admissions_total")).toEqual({ echo: 9, dead: 2 });
    expect(live.by("reason", "refusals_total", { upstream: "" })).toEqual({
      certificate_untrusted: 4,
      certificate_missing: 2,
      certificate_expired: 1,
      identity_invalid: 1,
      handshake_failed: 1,
    });
    expect(live.by("reason", "refusals_total", { upstream: "echo" })).toEqual({ connection_limit: 1 });
    expect(live.by("reason", "refusals_total", { upstream: "closed" })).toEqual({ group_not_authorized: 3 });
    expect(live.by("reason", "refusals_total", { upstream: "dead" })).toEqual({ no_target: 2 });
    expect(live.sum("handshakes_in_progress", { listener: "127.0.0.1:0" })).toBe(1);
    expect(live.by("upstream", "connections_open")).toEqual({ echo: 9 });
    expect(live.by("upstream", "sent_bytes_total")).toEqual({ echo: 36_500 });
    const [a, b] = origins.map(({ target }) =>
      live.sum("target_connections_open", { upstream: "echo", target }),
    );
    expect([a! + b!, Math.abs(a! - b!)]).toEqual([9, 1]);
    expect(live.sum("target_connect_duration_seconds_count", { upstream: "echo" })).toBe(9);
    expect(live.by("target", "target_connect_failures_total")).toEqual({ [dead]: 2 });
    expect(live.by("resumed", "handshake_duration_seconds_count")).toEqual({ false: 16 });
    expect(live.by("result", "reloads_total")).toEqual({});
    expect(live.sum("config_last_reload_successful")).toBe(1);
    expect(live.sum("clients_tracked")).toBeGreaterThanOrEqual(2);

    silent.reset();
    clients[0]!.reset();
    for (const client of [...clients.slice(1), ops]) client.close();
    const over = await scrapeUntil(url, atRest, "all have gone");
    expectWhole(over);
    expect(over.by("reason", "connections_closed_total")).toEqual({ closed: 8, client_reset: 1 });
    expect(over.by("upstream", "connection_duration_seconds_count")).toEqual({ echo: 9 });
    expect(over.by("reason", "refusals_total", { upstream: "" })).toMatchObject({ handshake_failed: 2 });
    expect(over.sum("connections_accepted_total")).toBe(25);
    // Series neither come nor go with what happens.
    expect(over.shape).toEqual(live.shape);
    for (const origin of origins) origin[Symbol.dispose]();
  });

  test("an upstream for everybody counts admissions under no group, and one for clients under theirs", async () => {
    using origin = echoOrigin();
    const upstreams = [
      { name: "all", targets: [origin.target], anyGroup: true },
      {
        name: "few",
        targets: [origin.target],
        authorizedClients: ["carol@ops", "dave@etl"],
        serverNames: ["few.example"],
      },
    ];
    await using proxy = await startProxy([], { workers, metrics, handshakes, upstreams });
    const url = await monitoredAt(proxy.log);
    const clients = [
      await connect(proxy.port),
      await connect(proxy.port, { name: "carol" }),
      await connect(proxy.port, { name: "carol", serverName: "few.example" }),
    ];
    for (const client of clients) await exchange(client, 10);
    await isRefused(proxy.port, { name: "alice-ops", serverName: "few.example" });
    const live = await scrapeUntil(url, (each) => each.sum("received_bytes_total") === 30, "all is counted");
    expect(live.by("group", "admissions_total", { upstream: "all" })).toEqual({ "": 2 });
    expect(live.by("group", "admissions_total", { upstream: "few" })).toEqual({ ops: 1 });
    expect(live.by("reason", "refusals_total", { upstream: "few" })).toEqual({ group_not_authorized: 1 });
    for (const client of clients) client.close();
  });

  test("hundreds of connections that break off in every phase leave the sums whole, and equal to the log", async () => {
    const origins = Array.from({ length: 3 }, () => echoOrigin());
    const targets = [...origins.map(({ target }) => target), nowhere()];
    await using proxy = await startProxy(targets, { workers, metrics, handshakes });
    const url = await monitoredAt(proxy.log);
    const random = new Random(workers);
    const one = async () => {
      const way = random.int(0, 7);
      if (way === 0) return (await connectPlain(proxy.port)).reset();
      if (way === 1) return (await connectPlain(proxy.port)).close();
      const name = random.pick(["alice", "bob", "stranger", null]);
      const client = await connect(proxy.port, { name });
      if (way === 2) return client.reset();
      await client.send("some bytes");
      if (way === 3) return client.reset();
      if (way === 4) client.end();
      await client.read(random.int(1, 10));
      if (way === 5) random.pick(origins).accepted.at(-1)?.reset();
      if (way === 6) return client.reset();
      client.close();
    };
    for (let i = 0; i < 400; i += 20) {
      await Promise.all(Array.from({ length: 20 }, one));
      // At any moment, where there is one thread; with more, a scrape reads while they count.
      if (workers === 1) expectWhole(await scrape(url));
    }
    const scraped = await scrapeUntil(
      url,
      (each) => atRest(each) && each.sum("connections_accepted_total") >= 400,
      "all have gone",
    );
    expectWhole(scraped);
    await until(() => {
      const ended = messages(proxy.log, "closed").length + messages(proxy.log, "refused").length;
      return ended === scraped.sum("connections_accepted_total");
    }, "each has its line");
    const counted = (msg: string) => {
      const found: Record<string, number> = {};
      for (const { reason = "" } of messages(proxy.log, msg)) found[reason] = (found[reason] ?? 0) + 1;
      return found;
    };
    expect(scraped.by("reason", "connections_closed_total")).toEqual(counted("closed"));
    expect(scraped.by("reason", "refusals_total")).toEqual(counted("refused"));
    const bytes = (key: string) =>
      messages(proxy.log, "closed").reduce((sum, line) => sum + Number(line[key]), 0);
    expect(scraped.sum("received_bytes_total")).toBe(bytes("bytesIn"));
    expect(scraped.sum("sent_bytes_total")).toBe(bytes("bytesOut"));
    expect(scraped.sum("target_connections_open")).toBe(0);
    for (const origin of origins) origin[Symbol.dispose]();
  });

  test("counters survive a reload; what the configuration no longer has is no longer there, and starts at zero when it is back", async () => {
    const origins = [echoOrigin(), echoOrigin()];
    const targets = origins.map(({ target }) => target);
    const upstreams = [
      { name: "stays", targets, authorizedGroups: ["admin"] },
      { name: "goes", targets, authorizedGroups: ["admin"], serverNames: ["goes.example"] },
    ];
    await using proxy = await startProxy([], { workers, metrics, upstreams });
    const url = await monitoredAt(proxy.log);
    const clients = [
      ...(await crowd(proxy.port, 4)),
      ...(await Promise.all([1, 2].map(() => connect(proxy.port, { serverName: "goes.example" })))),
    ];
    await Promise.all(clients.slice(4).map(echoes));
    const before = await scrape(url);
    expect(before.by("upstream", "admissions_total")).toEqual({ stays: 4, goes: 2 });

    const fewer = [{ ...upstreams[0]!, targets: [targets[0]!] }];
    await proxy.proxy.reload(testConfig([], { workers, metrics, upstreams: fewer }));
    await Promise.all(clients.slice(4).map((client) => client.rest()));
    const after = await scrape(url);
    expect(after.by("upstream", "admissions_total")).toEqual({ stays: 4 });
    expect(after.by("result", "reloads_total")).toEqual({ success: 1 });
    expect(JSON.stringify(after.series)).not.toContain("goes");
    expect(JSON.stringify(after.series)).not.toContain(targets[1]!);
    expect(after.sum("connections_accepted_total")).toBe(6);

    await expect(proxy.proxy.reload(testConfig([], { upstreams: [] }))).rejects.toThrow();
    expect((await scrape(url)).by("result", "reloads_total")).toEqual({ success: 1, refused: 1 });
    expect((await scrape(url)).sum("config_last_reload_successful")).toBe(0);

    await proxy.proxy.reload(testConfig([], { workers, metrics, upstreams }));
    const back = await scrape(url);
    expect(back.shape).toEqual(before.shape);
    expect(back.by("upstream", "admissions_total")).toEqual({ stays: 4 });
    expect(back.sum("config_last_reload_successful")).toBe(1);
    for (const client of clients) client.reset();
    for (const origin of origins) origin[Symbol.dispose]();
  });

  test("a flood of hostile names, addresses and server names adds no series", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], {
      workers,
      metrics,
      listener: { address: "[::]:0" },
    });
    const url = await monitoredAt(proxy.log);
    const { shape } = await scrape(url);
    const names = [
      "hostile-newline",
      "hostile-two-ats",
      "lookalike-escaped",
      "hostile-bidi",
      "stranger",
      "bob",
    ];
    await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        const serverName = `x${i}.evil.example`;
        const client = await connect(proxy.port, { name: names[i % names.length]!, serverName }).catch(
          () => undefined,
        );
        client?.reset();
      }),
    );
    await Promise.all(
      Array.from({ length: 60 }, (_, i) => {
        const from = connectFrom({ host: "127.0.0.1", port: proxy.port, localAddress: `127.0.2.${i + 1}` });
        return new Promise<void>((resolve) => {
          from.on("error", () => {});
          from.on("close", () => resolve());
          from.end("\x16\x03\x01 nonsense");
        });
      }),
    );
    const after = await scrapeUntil(
      url,
      (each) => each.sum("refusals_total") > 60 && atRest(each),
      "they are refused",
    );
    expect(after.shape).toEqual(shape);
    expectWhole(after);
  });

  test("the clients with the most connections are named where that is asked for, as many as that", async () => {
    using origin = echoOrigin();
    const top = { address: "127.0.0.1:0", topClients: 1 };
    await using proxy = await startProxy([origin.target], { workers, metrics: top });
    const url = await monitoredAt(proxy.log);
    const clients = await crowd(proxy.port, 5);
    const bob = await connect(proxy.port, { name: "bob" });
    await echoes(bob);
    expect((await scrape(url)).by("client", "top_client_connections_open")).toEqual({ "alice@admin": 5 });
    for (const client of [...clients, bob]) client.reset();
  });
});

test("a worker's death leaves the sums whole, and counts go on in the next one", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], { workers: 2, metrics, handshakes });
  const url = await monitoredAt(proxy.log);
  const clients = await crowd(proxy.port, 30);
  const silent = await Promise.all(Array.from({ length: 30 }, () => connectPlain(proxy.port)));
  const before = await scrapeUntil(
    url,
    (each) => each.sum("handshakes_in_progress") === 30,
    "all shake hands",
  );
  expectWhole(before);
  tell(0, "an error thrown in a timer");
  await proxy.log.line("worker died");
  const after = await scrape(url);
  expectWhole(after);
  expect(after.sum("connections_accepted_total")).toBe(60);
  const lost = 30 - after.sum("connections_open");
  expect(lost).toBeGreaterThan(0);
  expect(after.by("reason", "connections_closed_total")).toEqual({ internal_error: lost });
  expect(after.by("reason", "refusals_total")).toEqual({
    handshake_failed: 30 - after.sum("handshakes_in_progress"),
  });
  await proxy.log.line("worker replaced");
  const more = await crowd(proxy.port, 10);
  const next = await scrape(url);
  expectWhole(next);
  expect(next.sum("admissions_total")).toBe(40);
  for (const peer of [...clients, ...silent, ...more]) peer.reset();
  expectWhole(await scrapeUntil(url, atRest, "all have gone"));
});

test("deaths while connections come and go leave the sums whole", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], { workers: 2, metrics, handshakes });
  const url = await monitoredAt(proxy.log);
  let ended = false;
  const coming = Array.from({ length: 8 }, async (_, i) => {
    for (let n = i; !ended; n++) {
      const name = n % 3 === 0 ? "stranger" : "alice";
      const client = await connect(proxy.port, { name }).catch(() => undefined);
      if (client === undefined) continue;
      await client.send("x");
      await client.read(1);
      if (n % 2 === 0) client.close();
      else client.reset();
    }
  });
  const ways: Way[] = ["an error thrown in a timer", "its own end", "a stack that overflows"];
  for (const [i, way] of ways.entries()) {
    const { length } = proxy.log.lines;
    await until(() => proxy.log.lines.length > length + 40, "connections come and go");
    tell(i % 2, way);
    await proxy.log.count("worker replaced", i + 1);
  }
  ended = true;
  await Promise.all(coming);
  expectWhole(await scrapeUntil(url, atRest, "all have gone"));
});

test.each([1, 2])(
  "a proxy with %i workers that is closed while it starts has neither port open afterwards",
  async (workers) => {
    const log = new Log();
    const proxy = createProxy(testConfig([nowhere()], { metrics, workers }), { logger: log });
    const listening = proxy.listen().then(
      () => undefined,
      (error: unknown) => error,
    );
    await proxy.close();
    expect(String(await listening)).toMatch(/was closed while it was starting|has been closed/);
    const opened = messages(log, "metrics listening").map(({ address }) => String(address));
    for (const address of opened) await expect(fetch(`http://${address}/livez`)).rejects.toThrow();
    expect(messages(log, "listening")).toEqual([]);
  },
);

test("connections that a shutdown cuts leave the sums whole, those in their handshakes too", async () => {
  using origin = echoOrigin();
  await using crew = await startWorkerPool([origin.target], { handshakes });
  const { counters } = crew.ledger;
  const clients = await crowd(crew.port, 10);
  const silent = await Promise.all(Array.from({ length: 5 }, () => connectPlain(crew.port)));
  await until(() => counters.readListener(0).handshaking === 5, "all shake hands");
  await crew.crew.close();
  crew.crew.cut();
  await crew.crew.over;
  expect(counters.readListener(0)).toMatchObject({ accepted: 15, handshaking: 0 });
  const sum = (counts: number[]) => counts.reduce((all, each) => all + each, 0);
  const upstream = counters.readUpstream(0, 30);
  expect(upstream.open).toBe(0);
  expect([sum(upstream.closed), counters.readGroup(0)]).toEqual([10, 10]);
  expect(sum(counters.readRoute(0, 30)) + sum(counters.readRoute(1, 30))).toBe(5);
  for (const peer of [...clients, ...silent]) peer.reset();
});

test("a connection that an upstream at its cap refuses was not admitted, and the caps are metrics", async () => {
  using origin = echoOrigin();
  const target = { address: origin.target, maxConnections: 5 };
  await using proxy = await startProxy([], {
    metrics: { address: "127.0.0.1:0" },
    upstreams: [{ name: "one", targets: [target], authorizedGroups: ["admin"], maxConnections: 2 }],
  });
  await crowd(proxy.port, 2);
  await isRefused(proxy.port, {});
  const scraped = await scrape(await monitoredAt(proxy.log));
  expectWhole(scraped);
  expect(scraped.sum("admissions_total")).toBe(2);
  expect(scraped.by("reason", "refusals_total", { upstream: "one" })).toEqual({ connection_limit: 1 });
  expect(scraped.by("upstream", "upstream_connections_limit")).toEqual({ one: 2 });
  expect(scraped.by("target", "target_connections_limit")).toEqual({ [origin.target]: 5 });
});

test("there are never more series than the configuration says, and as many where nothing is missing", async () => {
  using origin = echoOrigin();
  const upstreams = [
    {
      name: "one",
      targets: [{ address: origin.target, maxConnections: 3 }, nowhere()],
      authorizedGroups: ["admin", "ops"],
      maxConnections: 7,
    },
    { name: "two", targets: [origin.target], authorizedGroups: ["admin"], serverNames: ["two.example"] },
  ];
  const top = { address: "127.0.0.1:0", topClients: 1 };
  const listener = { crl: certPath("crl.pem") };
  using folder = new SocketFolder();
  const admin = { socket: folder.socket };
  await using proxy = await startProxy([], { metrics: top, admin, upstreams, listener });
  const url = await monitoredAt(proxy.log);
  expect((await scrape(url)).series.length).toBe(seriesOf(proxy.proxy.config) - 1);
  const client = (await crowd(proxy.port, 1))[0]!;
  expect((await scrape(url)).series.length).toBe(seriesOf(proxy.proxy.config));
  client.reset();
});

test("each listener is shown by its address, two with the same one as one, and a listener that is removed no more", async () => {
  using origin = echoOrigin();
  const { listener, ...rest } = testConfig([origin.target], { metrics, handshakes });
  const at = (address: string) => ({ ...listener, address });
  const listeners = [at("127.0.0.1:0"), at("127.0.0.2:0"), at("127.0.0.1:0")];
  const log = new Log();
  const proxy = createProxy({ ...rest, listeners } as ProxyConfig, { logger: log });
  await proxy.listen();
  const url = await monitoredAt(log);
  const [a, b, c] = proxy.addresses.map(({ hostname, port }) => connect(port, { hostname }));
  const clients = await Promise.all([a!, b!, c!]);
  await Promise.all(clients.map(echoes));
  const before = await scrape(url);
  expect(before.by("listener", "connections_accepted_total")).toEqual({ "127.0.0.1:0": 2, "127.0.0.2:0": 1 });
  expect(before.by("listener", "handshake_duration_seconds_count")).toEqual({
    "127.0.0.1:0": 2,
    "127.0.0.2:0": 1,
  });
  expectWhole(before);

  await proxy.reload({ ...rest, listeners: [listeners[1]!] } as ProxyConfig);
  const after = await scrape(url);
  const shown = after.series.flatMap(({ labels }) => labels["listener"] ?? []);
  expect([...new Set(shown)]).toEqual(["127.0.0.2:0"]);
  expect(after.all("certificate_expiry_timestamp_seconds", { listener: "127.0.0.2:0" })).toHaveLength(2);
  expect(after.by("listener", "connections_accepted_total")).toEqual({ "127.0.0.2:0": 1 });
  for (const client of clients) client.reset();
  await proxy.close({ timeout: 0 });
});

test("the earliest end of each kind of file is shown for each listener, and the process's own numbers", async () => {
  const listener = { crl: certPath("crl.pem") };
  await using proxy = await startProxy([nowhere()], { metrics, listener });
  const shown = await scrape(await monitoredAt(proxy.log));
  for (const { kind, until: end } of proxy.proxy.expiries[0]!) {
    expect(shown.sum("certificate_expiry_timestamp_seconds", { kind })).toBeLessThanOrEqual(end / 1_000);
  }
  expect(Object.keys(shown.by("kind", "certificate_expiry_timestamp_seconds")).sort()).toEqual([
    "ca",
    "crl",
    "server",
  ]);
  const own = (name: string) => shown.series.find((each) => each.name === `process_${name}`)!.value;
  expect(own("resident_memory_bytes")).toBeGreaterThan(1_000_000);
  expect(own("cpu_seconds_total")).toBeGreaterThan(0);
  expect(own("start_time_seconds")).toBeLessThan(Date.now() / 1_000);
  if (process.platform !== "linux") return;
  expect(own("open_fds")).toBeGreaterThan(3);
  expect(own("open_fds")).toBeLessThan(own("max_fds"));
  expect(own("virtual_memory_bytes")).toBeGreaterThan(own("resident_memory_bytes"));
});

test("a port for monitoring that is in use keeps the proxy from starting, in one line, before it listens", async () => {
  using squatter = echoOrigin();
  const config = testConfig([nowhere()], { metrics: { address: `127.0.0.1:${squatter.port}` } });
  const log = new Log();
  const proxy = createProxy(config, { logger: log });
  const error: unknown = await proxy.listen().then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(StartError);
  expect((error as Error).message).toBe(
    `cannot listen on 127.0.0.1:${squatter.port} (metrics.address): the address is in use (EADDRINUSE)`,
  );
  expect(log.lines).toEqual([]);
  expect(proxy.addresses).toEqual([]);
  await proxy.close();
});

async function status(url: string): Promise<number> {
  return (await fetch(url)).status;
}

describe("health checks", () => {
  test("say that a proxy lives and is ready, whatever its targets do; asked about an upstream, that it has no healthy target", async () => {
    const upstreams = [
      { name: "echo", targets: [nowhere()], authorizedGroups: ["admin"] },
      {
        name: "other",
        targets: [nowhere()],
        authorizedGroups: ["admin"],
        serverNames: ["other.example"],
      },
    ];
    await using proxy = await startProxy([], { metrics, upstreams });
    const url = await monitoredAt(proxy.log);
    expect(await status(`${url}/readyz?upstream=echo`)).toBe(200);
    for (let i = 0; i < 3; i++) await isRefused(proxy.port, {});
    await proxy.log.line("target ejected");
    expect(await status(`${url}/readyz?upstream=echo`)).toBe(503);
    expect(await status(`${url}/readyz?upstream=other`)).toBe(200);
    expect(await status(`${url}/readyz`)).toBe(200);
    expect(await status(`${url}/livez`)).toBe(200);
    expect((await scrape(url)).by("upstream", "target_up")).toEqual({ other: 1 });
  });

  test.each([1, 2])(
    "say that a proxy with %i workers that drains is not ready, but lives",
    async (workers) => {
      using origin = echoOrigin();
      await using proxy = await startProxy([origin.target], { workers, metrics });
      const url = await monitoredAt(proxy.log);
      const client = (await crowd(proxy.port, 1))[0]!;
      expect(await (await fetch(`${url}/readyz?verbose`)).text()).toBe(
        "proxy is running\nupstream test has a healthy target\nok\n",
      );
      const closed = proxy.proxy.close({ timeout: 60_000 });
      await proxy.log.line("draining");
      const draining = await fetch(`${url}/readyz?verbose`);
      expect([draining.status, await draining.text()]).toEqual([
        503,
        "proxy is draining\nupstream test has a healthy target\nnot ok\n",
      ]);
      expect(await status(`${url}/livez`)).toBe(200);
      expectWhole(await scrape(url));
      client.close();
      expect(await closed).toEqual({ cut: 0 });
      await expect(fetch(`${url}/livez`)).rejects.toThrow();
    },
  );

  test("say that a proxy does not live while one of its threads hangs, and metrics go on", async () => {
    using origin = echoOrigin();
    const top = { address: "127.0.0.1:0", topClients: 5 };
    await using proxy = await startProxy([origin.target], { workers: 2, metrics: top });
    const url = await monitoredAt(proxy.log);
    // A reload that takes the key away changes nothing before a restart: the threads go on saying that they run.
    await proxy.proxy.reload(testConfig([origin.target], { workers: 2 }));
    expect(await proxy.log.line("needs a restart")).toMatchObject({
      key: "metrics.address",
      configured: "none",
    });
    expect(await status(`${url}/livez`)).toBe(200);
    tell(1, "a hang of eight seconds");
    let answer: Response;
    do answer = await fetch(`${url}/livez?verbose`);
    while (answer.status === 200 && (await answer.text()));
    expect(answer.status).toBe(503);
    expect(await answer.text()).toBe("worker 0 runs\nworker 1 has not answered for 5 s\nnot ok\n");
    expect((await scrape(url)).sum("connections_accepted_total")).toBe(0);
    expect(await status(`${url}/readyz`)).toBe(200);
    while ((await status(`${url}/livez`)) !== 200);
    // It shows how late the thread was.
    await scrapeUntil(
      url,
      (each) => each.sum("event_loop_lag_seconds_sum", { worker: "1" }) > 4,
      "the thread has told of its lag",
    );
  });
});
