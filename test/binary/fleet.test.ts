// Binaries in a fleet, with a real Redis: what becomes of the counts of one that stops or dies, and what is never printed.

import { expect, test } from "bun:test";
import { Run } from "../support/binary.ts";
import { Folder } from "../support/folder.ts";
import { certPath, echoOrigin } from "../support/peer.ts";
import { until } from "../support/proxy.ts";
import { Redis, noRedis } from "../support/redis.ts";
import { echoes, served } from "../support/served.ts";

const LEASE_MS = 1_000;
const HEARTBEAT_MS = 250;

/** A configuration file in which a client may have five connections, over the fleet. */
async function configured(
  folder: Folder,
  target: string,
  store: string,
  { workers = 1, whenDown = "share" } = {},
): Promise<string> {
  const path = folder.path(`proxy-${workers}.toml`);
  await Bun.write(
    path,
    `
    workers = ${workers}
    [listener]
    address = "127.0.0.1:0"
    ca = "${certPath("ca.crt")}"
    certificate = "${certPath("server.crt")}"
    privateKey = "${certPath("key.pem")}"
    [[upstreams]]
    name = "echo"
    targets = ["${target}"]
    authorizedGroups = ["admin"]
    [rateLimit]
    capacity = "unlimited"
    maxConnections = 5
    [fleet]
    store = ${store}
    lease = "${LEASE_MS}ms"
    heartbeat = "${HEARTBEAT_MS}ms"
    timeout = "${HEARTBEAT_MS}ms"
    whenDown = "${whenDown}"
    `,
  );
  return path;
}

async function start(config: string): Promise<Run & { port: number }> {
  const run = await Run.start(["--config", config, "--log-format", "json"]);
  return Object.assign(run, { port: await run.port() });
}

/** Takes all five places of the client at one proxy. */
async function fill(port: number) {
  const clients = [];
  for (let i = 0; i < 5; i++) clients.push((await served(port))!);
  expect(await served(port)).toBeUndefined();
  return clients;
}

test.skipIf(noRedis)("a proxy that is killed counts until its lease is over, and then no more", async () => {
  await using redis = await Redis.start();
  using folder = new Folder();
  using origin = echoOrigin();
  const store = `"${redis.url}"`;
  for (const workers of [1, 2]) {
    // A proxy that the machine has kept waiting lets nobody in by itself.
    const config = await configured(folder, origin.target, store, { workers, whenDown: "refuse" });
    await using a = await start(config);
    await using b = await start(config);
    expect(a.lines().some(({ msg }) => msg === "fleet joined")).toBe(true);
    await fill(a.port);
    expect(await served(b.port)).toBeUndefined();
    const killed = performance.now();
    a.child.kill("SIGKILL");
    await a.exit();
    let admitted = await served(b.port);
    expect(admitted).toBeUndefined();
    while (admitted === undefined) {
      await Bun.sleep(20);
      admitted = await served(b.port);
    }
    expect(performance.now() - killed).toBeGreaterThan(LEASE_MS - HEARTBEAT_MS - 100);
    b.child.kill("SIGTERM");
    admitted.close();
    expect(await b.exit()).toBe(0);
    const names = (await redis.send("HKEYS", "tcpproxy:nodes")) as string[];
    expect(names.filter((name) => name.endsWith(`-${b.child.pid}`))).toEqual([]);
  }
});

test.skipIf(noRedis)("a proxy that is stopped counts no more from its end on", async () => {
  await using redis = await Redis.start();
  using folder = new Folder();
  using origin = echoOrigin();
  const config = await configured(folder, origin.target, `"${redis.url}"`, { whenDown: "refuse" });
  await using a = await start(config);
  await using b = await start(config);
  const clients = await fill(a.port);
  a.child.kill("SIGTERM");
  await a.line("draining");
  // What is still open counts.
  expect(await echoes(clients[0]!)).toBe(true);
  expect(await served(b.port)).toBeUndefined();
  a.child.kill("SIGTERM");
  expect(await a.exit()).toBe(1);
  expect(await served(b.port)).toBeDefined();
});

test.skipIf(noRedis)("the store's password is read from a file, and never printed", async () => {
  await using redis = await Redis.start([], { password: "s3cret" });
  using folder = new Folder();
  using origin = echoOrigin();
  await Bun.write(folder.path("password"), "s3cret\n");
  await Bun.$`chmod 600 ${folder.path("password")}`.quiet();
  const stores = [
    `{ url = "${redis.url}", passwordFile = "password" }`,
    `"redis://default:s3cret@127.0.0.1:${redis.port}"`,
    `"redis://default:s3cret@127.0.0.1:${redis.port}/nonsense"`,
  ];
  for (const [i, store] of stores.entries()) {
    const config = await configured(folder, origin.target, store);
    await using check = await Run.start(["check", "--config", config]);
    expect(await check.exit()).toBe(i === 2 ? 2 : 0);
    const printed = (await check.stdout) + check.stderr;
    expect(printed).toContain("fleet.store");
    expect(printed).not.toContain("s3cret");
    if (i === 2) continue;
    await using run = await start(config);
    expect(await run.line("fleet joined")).toMatchObject({ store: redis.url });
    (await served(run.port))!.close();
    await Bun.write(folder.path("password"), i === 0 ? "wrong s3cret\n" : "s3cret\n");
    if (i === 0) {
      // The file is watched: another password is another way in, which the store does not take.
      await until(() => run.lines().some(({ msg }) => msg === "fleet store unavailable"), "it is refused");
    }
    run.child.kill("SIGTERM");
    await run.exit();
    expect(run.stderr).not.toContain("s3cret");
    await Bun.write(folder.path("password"), "s3cret\n");
  }
});

test("an unreachable store keeps no proxy from starting, and is said in one line", async () => {
  using folder = new Folder();
  using origin = echoOrigin();
  await using run = await start(
    await configured(folder, origin.target, `"redis+unix://${folder.path("no.sock")}"`),
  );
  expect(await served(run.port)).toBeDefined();
  const lines = run.lines().filter(({ msg }) => msg.startsWith("fleet"));
  expect(lines).toEqual([
    expect.objectContaining({
      level: "warn",
      msg: "fleet store unavailable",
      error: "ENOENT",
      whenDown: "share",
    }),
  ]);
});
