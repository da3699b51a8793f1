// Binaries in a fleet, with a real Redis: what becomes of the counts of one that stops or dies, and what is never printed.

import { expect, test } from "bun:test";
import { SocketFolder } from "../support/admin.ts";
import { Run, binary } from "../support/binary.ts";
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

test.skipIf(noRedis)("commands show the fleet, and block in all of its proxies", async () => {
  await using redis = await Redis.start();
  using origin = echoOrigin();
  const folders = [new SocketFolder(), new SocketFolder(), new SocketFolder()];
  const runs: (Run & { port: number })[] = [];
  for (const [i, folder] of folders.entries()) {
    const config = await configured(folder, origin.target, `"${redis.url}"`, { workers: i === 0 ? 2 : 1 });
    const admin = `node = "node-${i}"\n[admin]\nsocket = "${folder.socket}"\n`;
    await Bun.write(config, (await Bun.file(config).text()) + admin);
    runs.push(await start(config));
  }
  const tell = async (node: number, ...args: string[]) => {
    const command = [await binary(), ...args, "--admin", folders[node]!.socket];
    const env = { ...process.env, COLUMNS: "120" };
    const child = Bun.spawn(command, { stdout: "pipe", stderr: "pipe", env });
    const [out, err] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    return { code: await child.exited, out, err };
  };
  /** Asks again until the answer is this. */
  const shows = async (node: number, args: string[], expected: RegExp) => {
    for (let i = 0; ; i++) {
      const { out, err } = await tell(node, ...args);
      if (expected.test(out)) return;
      if (i > 50) throw new Error(`${args.join(" ")} says to the end: ${out}${err}`);
    }
  };
  const clients = [await served(runs[0]!.port), await served(runs[0]!.port), await served(runs[1]!.port)];
  expect(clients).not.toContain(undefined);
  await shows(2, ["status"], /^fleet +node node-2 of 3: node-0, node-1, node-2$/m);
  await shows(0, ["status"], /^fleet store +redis:\/\/\S+ answers, last decision in \d+\.\d ms$/m);
  expect((await tell(0, "clients")).out).toMatch(/^CLIENT +OPEN +TOKENS +IN +OUT\nalice@admin +2 of 5 +- /);
  await shows(2, ["clients", "--fleet"], /^CLIENT +OPEN +NODES\nalice@admin +3 +node-0 2, node-1 1\n$/);
  await shows(2, ["ps", "--fleet"], /^CLIENT +NODE +OPEN\nalice@admin +node-0 +2\nalice@admin +node-1 +1\n$/);
  expect((await tell(2, "ps", "--fleet", "--group", "ops", "--json")).out).toBe("");
  expect((await tell(2, "ps", "--fleet", "--json")).out.split("\n")[0]).toBe(
    '{"client":"alice@admin","node":"node-0","open":2}',
  );
  expect(await tell(2, "ps", "--fleet", "--from", "10.0.0.0/8")).toMatchObject({ code: 2, out: "" });

  expect((await tell(2, "block", "alice@admin", "--fleet")).out).toStartWith(
    "blocked alice@admin in the fleet until it is unblocked; closed 0 connections\n",
  );
  await Promise.all(clients.map((client) => client!.ended));
  await shows(0, ["blocks"], /alice@admin +- +fleet +uid \d+ at node-2/);
  const local = await tell(0, "unblock", "alice@admin");
  expect([local.code, local.err]).toEqual([
    1,
    'proxy: the proxy refuses: "alice@admin" is blocked by the fleet: unblock --fleet ends the block in all proxies\n',
  ]);
  expect((await tell(0, "unblock", "alice@admin", "--fleet")).out).toBe(
    "unblocked alice@admin in the fleet\n",
  );
  await shows(1, ["blocks"], /^nobody is blocked$/m);
  await redis.kill();
  await until(
    () => runs[1]!.lines().some(({ msg }) => msg === "fleet store unavailable"),
    "the store is lost",
  );
  expect((await tell(1, "block", "bob@admin", "--fleet")).out).toContain(
    "note: the other proxies do not know yet",
  );
  expect((await tell(1, "blocks")).out).toMatch(/bob@admin +- +fleet, not sent/);
  expect(await tell(1, "clients", "--fleet")).toMatchObject({ code: 1, out: "" });
  for (const run of runs) await run[Symbol.asyncDispose]();
  for (const folder of folders) folder[Symbol.dispose]();
});
