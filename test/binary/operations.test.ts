// The commands that change a running proxy, from outside, and what is left of it when the process is killed.

import { expect, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { SocketFolder } from "../support/admin.ts";
import { CERTIFICATE_FLAGS, Run, binary } from "../support/binary.ts";
import { connect, echoOrigin } from "../support/peer.ts";
import { crowd, echoes, isServed } from "../support/served.ts";

/** Writes a configuration with an admin socket and a state directory. */
function configure(folder: SocketFolder, targets: string[], workers = 1): string[] {
  const [, ca, , certificate, , privateKey] = CERTIFICATE_FLAGS;
  const config = {
    workers,
    watch: false,
    admin: { socket: folder.socket, stateDirectory: folder.path("state") },
    listener: { address: "127.0.0.1:0", ca, certificate, privateKey },
    upstreams: [{ name: "test", targets, authorizedGroups: ["admin"] }],
    rateLimit: { capacity: "unlimited" },
  };
  writeFileSync(folder.path("proxy.json"), JSON.stringify(config));
  return ["--config", folder.path("proxy.json"), "--log-format", "json"];
}

/** Runs a command against the proxy of this folder: its exit code, and what it prints. */
async function tell(folder: SocketFolder, ...args: string[]) {
  const child = Bun.spawn([await binary(), ...args, "--config", folder.path("proxy.json")], {
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, COLUMNS: "80" },
  });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, out, err };
}

test("the commands kick, block, blocks and unblock do what they say, with exit codes", async () => {
  using folder = new SocketFolder();
  using origin = echoOrigin();
  await using run = await Run.start(configure(folder, [origin.target], 2));
  const port = await run.port();
  await crowd(port, 3);
  const listed = await tell(folder, "kick", "--client", "alice@admin", "--dry-run");
  expect([listed.code, listed.out.trim().split("\n").at(-1)!]).toEqual([0, "would end 3 connections"]);
  const [id] = listed.out.split("\n");
  expect(await tell(folder, "kick", id!)).toEqual({ code: 0, out: "ended 1 connection\n", err: "" });
  expect(await tell(folder, "kick", id!, "--reason", "again")).toEqual({
    code: 1,
    out: "",
    err: `proxy: not open: ${id}\n`,
  });
  expect(await tell(folder, "kick", "--group", "nobody")).toEqual({
    code: 1,
    out: "",
    err: "proxy: no open connection matches\n",
  });
  const blocked = await tell(folder, "block", "*@admin", "--for", "8h", "--reason", "incident 7");
  expect(blocked.out).toMatch(/^blocked \*@admin until \S+; closed 2 connections\n$/);
  expect(await isServed(port)).toBe(false);
  const list = await tell(folder, "blocks");
  expect(list.out).toMatch(/^WHO +ENDS IN +BY +REASON\n\*@admin +\S+ +uid \d+ +incident 7\n$/);
  expect((await tell(folder, "unblock", "alice@admin")).code).toBe(1);
  expect(await tell(folder, "unblock", "*@admin")).toEqual({ code: 0, out: "unblocked *@admin\n", err: "" });
  expect((await tell(folder, "blocks")).out).toBe("nobody is blocked\n");
  expect(await isServed(port)).toBe(true);
  const bad = await tell(folder, "block", "alice");
  expect([bad.code, bad.err]).toEqual([1, expect.stringContaining('"alice" is nobody who can be blocked')]);
});

test("a block and a draining target survive SIGKILL and a restart", async () => {
  using folder = new SocketFolder();
  using first = echoOrigin();
  using second = echoOrigin();
  const args = configure(folder, [first.target, second.target]);
  {
    await using run = await Run.start(args);
    await run.port();
    expect((await tell(folder, "block", "bob@admin")).code).toBe(0);
    const drained = await tell(folder, "drain", "test", first.target);
    expect(drained.out).toBe(`test ${first.target}: draining, weight 1\n`);
    expect((await tell(folder, "weight", "test", second.target, "7")).code).toBe(0);
    run.child.kill("SIGKILL");
    await run.exit();
  }
  await using run = await Run.start(args);
  const port = await run.port();
  expect(await isServed(port, "bob")).toBe(false);
  await crowd(port, 4);
  expect([first.accepted.length, second.accepted.length]).toEqual([0, 4]);
  expect((await tell(folder, "weight", "test", second.target, "configured")).out).toContain("weight 1");
  expect((await tell(folder, "ready", "test", first.target)).out).toContain("takes connections");
  await crowd(port, 1);
  expect(first.accepted.length).toBe(1);
  expect((await tell(folder, "drain", "tset", first.target)).err).toContain('there is no upstream "tset"');
});

test("a damaged state file is kept aside, and the proxy starts with what is readable and says so", async () => {
  using folder = new SocketFolder();
  using origin = echoOrigin();
  const args = configure(folder, [origin.target]);
  {
    await using run = await Run.start(args);
    await run.port();
    await tell(folder, "block", "bob@admin");
  }
  const file = folder.path("state/tcpproxy.state");
  writeFileSync(file, `${await Bun.file(file).text()}\u0000garbage\n`);
  await using run = await Run.start(args);
  const port = await run.port();
  expect(await run.line("state file damaged")).toMatchObject({ level: "error", blocks: 1 });
  expect(readdirSync(folder.path("state")).sort()).toEqual([
    "tcpproxy.state",
    expect.stringMatching(/^tcpproxy\.state\.damaged-/),
  ]);
  expect(await isServed(port, "bob")).toBe(false);
  expect(await isServed(port)).toBe(true);
});

test("the command reload waits, and prints what changed or every fault", async () => {
  using folder = new SocketFolder();
  using origin = echoOrigin();
  await using run = await Run.start(configure(folder, [origin.target]));
  const client = await connect(await run.port());
  expect(await echoes(client)).toBe(true);
  const file = folder.path("proxy.json");
  const written = JSON.parse(await Bun.file(file).text());
  writeFileSync(file, JSON.stringify({ ...written, timeout: "7m" }));
  expect((await tell(folder, "reload")).out).toMatch(/^reloaded; changed keys: timeout; changed files: /);
  writeFileSync(file, JSON.stringify({ ...written, timeuot: "7m", upstreams: [] }));
  const refused = await tell(folder, "reload");
  expect([refused.code, refused.out]).toEqual([1, ""]);
  expect(refused.err.split("\n").slice(0, 3)).toEqual([
    "proxy: the proxy refuses: the configuration was refused",
    expect.stringContaining("timeuot"),
    expect.stringContaining("upstreams"),
  ]);
  expect(await echoes(client)).toBe(true);
});

test("the command reload --dry-run says what would end and changes nothing; the reload then ends just that", async () => {
  using folder = new SocketFolder();
  using origin = echoOrigin();
  await using run = await Run.start(configure(folder, [origin.target], 2));
  const port = await run.port();
  const clients = await crowd(port, 3);
  const file = folder.path("proxy.json");
  const written = JSON.parse(await Bun.file(file).text());
  const [upstream] = written.upstreams;
  const next = { ...upstream, targets: [...upstream.targets, "127.0.0.1:1"], authorizedGroups: ["ops"] };
  writeFileSync(file, JSON.stringify({ ...written, upstreams: [next] }));
  const { code, out } = await tell(folder, "reload", "--dry-run");
  expect(code).toBe(0);
  expect(out).toContain("+ target test 127.0.0.1:1\n");
  expect(out).toContain("open connections that would end: 3 (3 group_not_authorized)\n");
  expect((await Promise.all(clients.map(echoes))).every(Boolean)).toBe(true);
  expect((await tell(folder, "reload")).code).toBe(0);
  await Promise.all(clients.map(({ ended }) => ended));
  writeFileSync(file, JSON.stringify({ ...written, upstreams: [] }));
  expect((await tell(folder, "reload", "--dry-run")).err).toContain("upstreams");
});
