// Operators change what runs, through the socket: kick, block, drain; and what is left of it after a restart.

import { describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync } from "node:fs";
import { createProxy } from "tcpproxy";
import { StartError } from "../../src/lib/errors.ts";
import { askSocket, change, SocketFolder, type Answered } from "../support/admin.ts";
import { connect, echoOrigin } from "../support/peer.ts";
import { Log, startProxy, testConfig, until, type TestProxy } from "../support/proxy.ts";
import { crowd, echoes, isServed, messages, open } from "../support/served.ts";

const me = `uid ${process.getuid!()}`;

async function send(folder: SocketFolder, method: string, path: string, body: object): Promise<Answered> {
  return askSocket(folder.socket, path, { ...change(JSON.stringify(body)), method });
}

function adminOf(folder: SocketFolder, keep = false) {
  return { socket: folder.socket, ...(keep && { stateDirectory: folder.path("state") }) };
}

const connections = ({ proxy }: TestProxy) => proxy.stats().connections;

describe.each([1, 2])("operators, with %i workers", (workers) => {
  test(`operators kick connections by client and by id, with ${workers} workers`, async () => {
    using folder = new SocketFolder();
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { workers, admin: adminOf(folder) });
    const clients = await crowd(proxy.port, 5);
    const kick = (body: object) => send(folder, "POST", "/v1/kick", body);
    const { json: dry } = await kick({ client: "alice@admin", dryRun: true });
    expect(dry).toMatchObject({ missing: [], dryRun: true });
    expect(dry.kicked).toHaveLength(5);
    expect(connections(proxy)).toBe(5);
    const { json: two } = await kick({ ids: [dry.kicked[0], "gone-1"], reason: "too long" });
    expect(two).toMatchObject({ kicked: [dry.kicked[0]], missing: ["gone-1"] });
    expect(await proxy.log.line("closed", "kicked")).toMatchObject({ detail: "too long", endedBy: "proxy" });
    expect(
      (await kick({ group: "admin", upstream: "test", target: origin.target, from: "127.0.0.0/8" })).json
        .kicked,
    ).toHaveLength(4);
    expect(connections(proxy)).toBe(0);
    await Promise.all(clients.map(({ ended }) => ended));
    expect(await isServed(proxy.port)).toBe(true);
    expect(
      messages(proxy.log, "admin").map(({ action, actor, result, detail }) => [
        action,
        actor,
        result,
        detail,
      ]),
    ).toEqual([
      ["kick", me, "ok", "would end 5 client=alice@admin"],
      ["kick", me, "ok", "ended 1 of 2 ids"],
      ["kick", me, "ok", `ended 4 group=admin upstream=test target=${origin.target} from=127.0.0.0/8`],
    ]);
  });

  test(`operators block a client and unblock it, with ${workers} workers`, async () => {
    using folder = new SocketFolder();
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { workers, admin: adminOf(folder) });
    await crowd(proxy.port, 5);
    const { json } = await send(folder, "PUT", "/v1/blocks", {
      subject: "*@admin",
      for: "1h",
      reason: "incident 7",
    });
    expect(json).toMatchObject({
      closed: 5,
      kept: false,
      block: { subject: "*@admin", kind: "group", actor: me },
    });
    expect(Date.parse(json.block.until) - Date.parse(json.block.since)).toBe(3_600_000);
    expect(connections(proxy)).toBe(0);
    expect(await isServed(proxy.port)).toBe(false);
    expect(await proxy.log.line("refused", "blocked")).toMatchObject({ detail: "*@admin: incident 7" });
    expect((await askSocket(folder.socket, "/v1/blocks")).json.blocks).toEqual([json.block]);
    expect((await send(folder, "DELETE", "/v1/blocks", { subject: "*@ops" })).status).toBe(404);
    expect((await send(folder, "DELETE", "/v1/blocks", { subject: "*@admin" })).status).toBe(200);
    expect(await isServed(proxy.port)).toBe(true);
  });

  test(`a reload keeps blocks, with ${workers} workers`, async () => {
    using folder = new SocketFolder();
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { workers, admin: adminOf(folder) });
    await send(folder, "PUT", "/v1/blocks", { subject: "alice@admin" });
    await proxy.proxy.reload();
    expect(await isServed(proxy.port)).toBe(false);
  });
});

test("a block ends by the calendar", async () => {
  using folder = new SocketFolder();
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], { admin: adminOf(folder) });
  await send(folder, "PUT", "/v1/blocks", { subject: "alice@admin", for: "300ms" });
  expect(await isServed(proxy.port)).toBe(false);
  const served = async () => (await isServed(proxy.port)) || (await Bun.sleep(20), false);
  while (!(await served()));
  expect((await askSocket(folder.socket, "/v1/blocks")).json.blocks).toEqual([]);
});

test("blocks and changes of targets outlive the process where there is a state directory", async () => {
  using folder = new SocketFolder();
  using first = echoOrigin();
  using second = echoOrigin();
  const targets = [first.target, second.target];
  {
    await using proxy = await startProxy(targets, { admin: adminOf(folder, true) });
    const { json } = await send(folder, "PUT", "/v1/blocks", { subject: "bob@admin" });
    expect(json.kept).toBe(true);
    await send(folder, "PATCH", "/v1/targets", { upstream: "test", target: first.target, draining: true });
    expect(await isServed(proxy.port, "bob")).toBe(false);
  }
  await using proxy = await startProxy(targets, { workers: 2, admin: adminOf(folder, true) });
  expect(await isServed(proxy.port, "bob")).toBe(false);
  await crowd(proxy.port, 4);
  expect(open(proxy)).toEqual([0, 4]);
});

test("a change of a target lasts over reloads until the configuration has another weight", async () => {
  using folder = new SocketFolder();
  using first = echoOrigin();
  using second = echoOrigin();
  const admin = adminOf(folder);
  const upstreams = (weight: number) => [
    {
      name: "test",
      targets: [{ address: first.target, weight }, second.target],
      authorizedGroups: ["admin"],
    },
  ];
  await using proxy = await startProxy([], { admin, upstreams: upstreams(1) });
  const weightOf = async () => (await askSocket(folder.socket, "/v1/targets")).json.targets[0].weight;
  const patch = (body: object) =>
    send(folder, "PATCH", "/v1/targets", { upstream: "test", target: first.target, ...body });
  expect((await patch({ weight: 3 })).json).toMatchObject({ weight: 3, draining: false });
  const { listener } = proxy.proxy.config.listeners.map(({ address: _, ...rest }) => ({
    listener: rest,
  }))[0]!;
  const reload = (weight: number) =>
    proxy.proxy.reload({
      admin,
      upstreams: upstreams(weight),
      listener: {
        address: "127.0.0.1:0",
        ca: listener.ca,
        certificate: listener.certificate,
        privateKey: listener.privateKey,
      },
    });
  await reload(1);
  expect(await weightOf()).toBe(3);
  await patch({ draining: true });
  await reload(2);
  expect(await weightOf()).toBe(2);
  expect(await proxy.log.line("override dropped")).toMatchObject({ target: first.target, weight: 3 });
  await crowd(proxy.port, 2);
  expect(open(proxy)).toEqual([0, 2]);
  await patch({ draining: false, weight: null });
  await reload(5);
  expect(await weightOf()).toBe(5);
});

describe("a change that is not understood", () => {
  test.each<[string, string, object, number, RegExp]>([
    ["POST", "/v1/kick", {}, 400, /say which connections/],
    ["POST", "/v1/kick", { ids: [] }, 400, /ids is a list/],
    ["POST", "/v1/kick", { client: 1 }, 400, /client is missing or no text/],
    ["POST", "/v1/kick", { client: "a@b", grace: "soon" }, 400, /grace is a duration/],
    ["POST", "/v1/kick", { client: "a@b", dryrun: true }, 400, /unknown key "dryrun"/],
    ["POST", "/v1/kick", { from: "10.0.0.0/99" }, 400, /from is an address/],
    ["PUT", "/v1/blocks", { subject: "alice" }, 400, /nobody who can be blocked/],
    ["PUT", "/v1/blocks", { subject: "10.0.0.0/99" }, 400, /nobody who can be blocked/],
    ["PUT", "/v1/blocks", { subject: "sha256:12" }, 400, /nobody who can be blocked/],
    ["PUT", "/v1/blocks", { subject: "a@b", for: 8 }, 400, /for is a duration/],
    ["PUT", "/v1/blocks", { subject: "a@b", reason: "x".repeat(501) }, 400, /reason is a text/],
    ["DELETE", "/v1/blocks", { subject: "a@b" }, 404, /"a@b" is not blocked/],
    [
      "PATCH",
      "/v1/targets",
      { upstream: "tset", target: "a:1", weight: 2 },
      404,
      /no upstream "tset"; there are "test"/,
    ],
    ["PATCH", "/v1/targets", { upstream: "test", target: "a:1", weight: 2 }, 404, /test has no target "a:1"/],
    [
      "PATCH",
      "/v1/targets",
      { upstream: "test", target: "127.0.0.1:1", weight: 0 },
      400,
      /weight is a whole number/,
    ],
    ["PATCH", "/v1/targets", { upstream: "test", target: "127.0.0.1:1" }, 400, /say what changes/],
  ])("the admin API refuses %s %s %j, and changes nothing", async (method, path, body, status, error) => {
    using folder = new SocketFolder();
    await using _ = await startProxy(["127.0.0.1:1"], { admin: adminOf(folder) });
    const answer = await send(folder, method, path, body);
    expect(answer.json.error).toMatch(error);
    expect(answer.status).toBe(status);
    expect((await askSocket(folder.socket, "/v1/blocks")).json.blocks).toEqual([]);
  });
});

test("a block that cannot be recorded is not in force, and says so", async () => {
  using folder = new SocketFolder();
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], { admin: adminOf(folder, true) });
  // In the place of the file that would be written.
  await Bun.$`mkdir ${folder.path("state/tcpproxy.state.new")}`;
  expect((await send(folder, "PUT", "/v1/blocks", { subject: "alice@admin" })).status).toBe(500);
  expect(await isServed(proxy.port)).toBe(true);
  expect((await askSocket(folder.socket, "/v1/blocks")).json.blocks).toEqual([]);
});

test("a block of many connections leaves the others alone", async () => {
  using folder = new SocketFolder();
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], { workers: 2, admin: adminOf(folder) });
  const others = await Promise.all(Array.from({ length: 20 }, () => connect(proxy.port, { name: "bob" })));
  expect((await Promise.all(others.map(echoes))).every(Boolean)).toBe(true);
  await crowd(proxy.port, 200);
  const { json } = await send(folder, "PUT", "/v1/blocks", { subject: "alice@admin" });
  expect(json.closed).toBe(200);
  expect((await Promise.all(others.map(echoes))).every(Boolean)).toBe(true);
  await until(() => connections(proxy) === 20, "the others stay");
});

test("a state directory that others may write to keeps the proxy from starting, before anything listens", async () => {
  using folder = new SocketFolder();
  const admin = adminOf(folder, true);
  mkdirSync(folder.path("state"));
  chmodSync(folder.path("state"), 0o777);
  const log = new Log();
  const proxy = createProxy(testConfig(["127.0.0.1:1"], { admin, metrics: { address: "127.0.0.1:0" } }), {
    logger: log,
  });
  const error = await proxy.listen().catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(StartError);
  expect(String(error)).toContain("may be written by others (mode 777)");
  expect(log.lines).toEqual([]);
  await proxy.close({ timeout: 0 });
});
