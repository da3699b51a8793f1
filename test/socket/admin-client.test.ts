// How commands ask a running proxy, and what they say when they cannot.

import { describe, expect, test } from "bun:test";
import { createServer, type Socket } from "node:net";
import { AdminClient } from "../../src/cli/admin-client.ts";
import { CommandError } from "../../src/cli/command.ts";
import { UsageError } from "../../src/cli/flags.ts";
import { FakeDoor } from "../support/fake-door.ts";
import { Folder } from "../support/folder.ts";

/** A server that is no proxy's. */
async function serve(path: string, serve: (socket: Socket) => void): Promise<Disposable> {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on("error", () => {});
    serve(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    [Symbol.dispose]() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}

async function failure(asked: Promise<unknown>): Promise<Error> {
  return asked.then(
    () => new Error("it did not fail"),
    (error: Error) => error,
  );
}

describe("a client", () => {
  test("asks for objects, for objects a line, and for changes with a body", async () => {
    using door = new FakeDoor();
    const client = new AdminClient(door.path);
    expect(await client.get<object>("/v1/status")).toMatchObject({ version: "9.9.9" });
    const query = { client: "a b@c&d", from: undefined };
    expect(await Array.fromAsync(client.objects<object>("/v1/connections", query))).toHaveLength(1);
    let headers: Headers | undefined;
    door.answer = (request) => {
      ({ headers } = request);
      return Response.json({ kicked: 1 });
    };
    const body = { client: "alice@dba" };
    expect(await client.change<object>("/v1/kick", { method: "POST", query: { dryRun: "" }, body })).toEqual({
      kicked: 1,
    });
    expect(door.asked).toEqual([
      "GET /v1/status",
      "GET /v1/connections?client=a+b%40c%26d",
      "POST /v1/kick?dryRun=",
    ]);
    expect(door.bodies).toEqual([body]);
    expect(headers?.get("x-tcpproxy")).toBe("1");
    expect(headers?.get("content-type")).toBe("application/json");
  });

  test("follows no redirection", async () => {
    using door = new FakeDoor();
    door.answer = () => Response.redirect("http://127.0.0.1:1/", 302);
    const error = await failure(new AdminClient(door.path).get("/v1/status"));
    expect(error.message).toBe(`what answers at ${door.path} is not a proxy's door for operators`);
  });

  test.each<[string, number, object | string, string]>([
    ["a lack of rights", 403, { error: "only operators may" }, "no right to ask this: only operators may"],
    [
      "a refusal",
      400,
      { error: "no such \x1b[31m upstream" },
      "the proxy refuses: no such \\u001b[31m upstream",
    ],
    ["an unknown path", 404, { error: "there is no such path" }, "the proxy refuses: there is no such path"],
    ["another server", 404, "<html>", "what answers at PATH is not a proxy's door for operators"],
    [
      "another server that is content",
      200,
      "<html>",
      "what answers at PATH is not a proxy's door for operators",
    ],
  ])("says what it met: %s", async (_, status, body, message) => {
    using door = new FakeDoor();
    door.answer = () =>
      typeof body === "string" ? new Response(body, { status }) : Response.json(body, { status });
    const error = await failure(new AdminClient(door.path).get("/v1/status"));
    expect(error).toBeInstanceOf(CommandError);
    expect(error.message).toBe(message.replace("PATH", door.path));
  });

  test.each(["null", "5", '"x"', "{", ""])("takes the JSON %s for that of no proxy", async (body) => {
    using door = new FakeDoor();
    door.answer = () => new Response(body, { headers: { "content-type": "application/json" } });
    expect(await new AdminClient(door.path).get("/v1/status").catch(String)).toContain(
      "is not a proxy's door",
    );
  });

  test("says that there is no socket, that nothing listens, that the path is no folder's or too long", async () => {
    using folder = new Folder();
    await Bun.write(folder.path("file"), "");
    for (const [name, why] of [
      ["none.sock", "there is no such socket; --admin or --config says where another one is"],
      ["file", "nothing listens there"],
      ["file/x", "part of the path is not a folder"],
      ["x".repeat(200), "the path is too long for a socket"],
    ] as const) {
      const path = folder.path(name);
      const error = await failure(new AdminClient(path).get("/"));
      expect(error).toBeInstanceOf(CommandError);
      expect(error.message).toBe(`no proxy can be asked at ${path}: ${why}`);
    }
  });

  test.each<[string, (socket: Socket) => void, string]>([
    [
      "closes at once",
      (socket) => socket.destroy(),
      "what answers at PATH is not a proxy's door for operators",
    ],
    [
      "speaks another protocol",
      (socket) => socket.end("SSH-2.0-x\r\n"),
      "what answers at PATH is not a proxy's door for operators",
    ],
    ["says nothing", () => {}, "the proxy at PATH has not answered for 0.2 s"],
    [
      "says half of it",
      (socket) =>
        socket.write("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"),
      "the proxy at PATH has not answered for 0.2 s",
    ],
    [
      "leaves in the middle",
      (socket) =>
        socket.end("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"),
      "the proxy at PATH broke off its answer",
    ],
  ])("does not wait for ever for what %s", async (_, behaves, message) => {
    using folder = new Folder();
    const path = folder.path("a.sock");
    using _server = await serve(path, behaves);
    const client = new AdminClient(path, message.includes("0.2") ? 200 : 10_000);
    const error = await failure(client.get("/v1/status"));
    expect(error).toBeInstanceOf(CommandError);
    expect(error.message).toBe(message.replace("PATH", path));
  });

  test("hands out events as they come, and says when the proxy goes away", async () => {
    using door = new FakeDoor();
    const events = new AdminClient(door.path).events<{ msg: string }>(
      "/v1/events",
      {},
      new AbortController().signal,
    );
    const first = events.next();
    await door.listenedTo();
    door.log("one");
    expect((await first).value).toMatchObject({ name: "log", data: { msg: "one" } });
    const last = failure(events.next());
    door.close();
    expect((await last).message).toMatch(/^the proxy at .* (closed the connection|broke off its answer)$/);
  });

  test("ends its events in peace with the signal", async () => {
    using door = new FakeDoor();
    const stop = new AbortController();
    const events = new AdminClient(door.path).events("/v1/events", {}, stop.signal);
    const coming = events.next();
    await door.listenedTo();
    stop.abort();
    expect(await coming).toEqual({ done: true, value: undefined });
  });
});

describe("the socket", () => {
  test("is the one of a configuration file, whatever else is wrong there, from the file's folder", async () => {
    using door = new FakeDoor();
    const config = door.path.replace("admin.sock", "proxy.toml");
    await Bun.write(config, 'nonsense = 1\ntimeout = 60\n[admin]\nsocket = "admin.sock"\nport = 1\n');
    const client = await AdminClient.find({ config });
    expect(await client.get<object>("/v1/status")).toMatchObject({ pid: 4711 });
  });

  test("is the one that is named, before the file's", async () => {
    using door = new FakeDoor();
    const client = await AdminClient.find({ config: "/no/such.toml", admin: door.path });
    expect(await client.get<object>("/v1/status")).toMatchObject({ pid: 4711 });
  });

  test.each([
    ["", "admin.socket: is missing; without it there is no way to ask the proxy"],
    ["admin = 5", "admin.socket: is missing; without it there is no way to ask the proxy"],
    ["[admin]\nsocket = 5", "admin.socket: 5 is not a path; without it there is no way to ask the proxy"],
    ["[admin", "line 1"],
  ])("of a file with %p is a fault of the configuration", async (text, problem) => {
    using folder = new Folder();
    const config = folder.path("proxy.toml");
    await Bun.write(config, text);
    const error = await failure(AdminClient.find({ config }));
    expect(error).toBeInstanceOf(UsageError);
    expect(error.message).toStartWith(`${config}: ${problem}`);
  });
});
