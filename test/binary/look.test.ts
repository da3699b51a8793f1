// status, ps, top and tail, as a user runs them: against a door that answers as told, and against a proxy.

import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync } from "node:fs";
import { Run, binary } from "../support/binary.ts";
import { FakeDoor, aConnection } from "../support/fake-door.ts";
import { Folder } from "../support/folder.ts";
import { certPath, connect, echoOrigin } from "../support/peer.ts";
import { until } from "../support/proxy.ts";

const ENV = { PATH: Bun.env.PATH ?? "", TZ: "UTC" };

async function run(args: string[], env: Record<string, string> = {}) {
  await using process = await Run.start(args, { env: { ...ENV, ...env } });
  const code = await process.exit();
  return { code, out: await process.stdout, err: process.stderr };
}

const HOSTILE = "\x1b[2J\x1b[1;1H\n\u202emallory@x";

/** What the output of a command has read so far. */
async function collect(stream: ReadableStream<Uint8Array>, into: { text: string }): Promise<void> {
  const decoder = new TextDecoder();
  for await (const chunk of stream) into.text += decoder.decode(chunk, { stream: true });
}

describe("ps", () => {
  test("lists connections in 80 columns, or in as many as COLUMNS says", async () => {
    using door = new FakeDoor();
    door.connections = [aConnection(), aConnection({ id: "x-2", client: HOSTILE })];
    const { code, out, err } = await run(["ps", "--admin", door.path]);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out.split("\n")).toEqual([
      "ID         CLIENT        FROM         TO             AGE IDLE      IN   OUT CERT",
      "0a1b2c3d-1 alice@dba     192.0.2.7:5… orders 10.0… 3h12m   4s 1.2 MiB 340 B  89d",
      "x-2        \\u001b…lory@x 192.0.2.7:5… orders 10.0… 3h12m   4s 1.2 MiB 340 B  89d",
      "",
    ]);
    const wide = await run(["ps", "--admin", door.path], { COLUMNS: "200" });
    expect(wide.out).toContain(
      "  \\u001b[2J\\u001b[1;1H\\u000a\\u202emallory@x  192.0.2.7:50123  orders 10.0.0.5:5432  ",
    );
  });

  test("--json prints an object a line", async () => {
    using door = new FakeDoor();
    door.connections = [aConnection(), aConnection({ id: "x-2", client: HOSTILE, target: undefined })];
    const { code, out } = await run(["ps", "--json", "--admin", door.path]);
    expect(code).toBe(0);
    expect(out).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
    expect(
      out
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toEqual(JSON.parse(JSON.stringify(door.connections)));
  });

  test("asks for what its flags say", async () => {
    using door = new FakeDoor();
    await run(["ps", "--client", "a b@x", "--from", "10.0.0.0/8", "--target", "a:1", `--admin=${door.path}`]);
    await run(["ps", "--group", "x", "--upstream", "y", "--admin", door.path]);
    expect(door.asked).toEqual([
      "GET /v1/connections?client=a+b%40x&target=a%3A1&from=10.0.0.0%2F8",
      "GET /v1/connections?group=x&upstream=y",
    ]);
  });

  test("prints every one of many connections, also where later ones have longer numbers", async () => {
    using door = new FakeDoor();
    door.connections = Array.from({ length: 3_000 }, (_, i) =>
      aConnection({ id: `0a1b2c3d-${i.toString(36)}`, bytesIn: i < 2_000 ? 1 : 999 * 2 ** 20 }),
    );
    const { out } = await run(["ps", "--admin", door.path]);
    const lines = out.trimEnd().split("\n");
    expect(lines).toHaveLength(3_001);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(80);
    lines.slice(1).forEach((line, i) => expect(line).toStartWith(`0a1b2c3d-${i.toString(36)} `));
    expect(lines.at(-1)).toContain(" 999 MiB ");
  });

  test("ends in peace where its reader leaves", async () => {
    using door = new FakeDoor();
    door.connections = Array.from({ length: 5_000 }, () => aConnection());
    const child = Bun.spawn(["sh", "-c", '"$0" ps --admin "$1" | head -2', await binary(), door.path], {
      env: ENV,
      stdout: "pipe",
      stderr: "pipe",
    });
    expect((await new Response(child.stdout).text()).split("\n")).toHaveLength(3);
    expect(await new Response(child.stderr).text()).toBe("");
  });
});

describe("status", () => {
  test("prints a page, or with --json one object", async () => {
    using door = new FakeDoor();
    const { code, out, err } = await run(["status", "--admin", door.path]);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toContain("proxy          9.9.9 on bun 1.4.5, process 4711, running for 3d4h\n");
    for (const line of out.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
    const json = await run(["status", "--json", "--admin", door.path]);
    expect(json.out.trimEnd()).not.toContain("\n");
    expect(JSON.parse(json.out)).toEqual(JSON.parse(JSON.stringify(door.status)));
  });
});

describe("tail", () => {
  const refused = { reason: "rate_limited", client: HOSTILE, remote: "10.0.0.9:5123", upstream: "db" };

  async function start(door: FakeDoor, ...more: string[]) {
    const child = Bun.spawn([await binary(), "tail", "--admin", door.path, ...more], {
      env: { ...ENV, COLUMNS: "160" },
      stdout: "pipe",
      stderr: "pipe",
    });
    const out = { text: "" };
    const err = { text: "" };
    const done = Promise.all([collect(child.stdout, out), collect(child.stderr, err)]);
    await door.listenedTo();
    return { child, out, err, done };
  }

  test("prints a line as soon as something happens, and stops at Ctrl-C with 0", async () => {
    using door = new FakeDoor();
    const { child, out, err, done } = await start(door);
    door.send("status", door.status);
    door.log("refused", refused);
    await until(() => out.text.endsWith("\n"), "the line is there");
    expect(out.text).toBe(
      "15:04:05 refused rate_limited \\u001b[2J\\u001b[1;1H\\u000a\\u202emallory@x from 10.0.0.9:5123 to db  The client's token bucket is empty: it connects faster than t…\n",
    );
    child.kill("SIGINT");
    expect(await child.exited).toBe(0);
    await done;
    expect(err.text).toBe("");
    expect(door.asked).toEqual(["GET /v1/events?status="]);
  });

  test("--json prints the events as they are, and says how many were dropped", async () => {
    using door = new FakeDoor();
    const { child, out, done } = await start(door, "--json");
    door.log("refused", refused);
    door.send("dropped", { count: 7 });
    await until(() => out.text.split("\n").length === 3, "both lines are there");
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
    await done;
    const [first, second] = out.text.split("\n");
    expect(JSON.parse(first!)).toEqual({
      time: "2026-01-02T15:04:05.678Z",
      level: "info",
      msg: "refused",
      ...refused,
    });
    expect(JSON.parse(second!)).toMatchObject({ count: 7, level: "warn" });
  });

  test("says that the proxy went away, and exits with 1", async () => {
    using door = new FakeDoor();
    const { child, out, err, done } = await start(door);
    door.log("reloaded");
    await until(() => out.text !== "", "it is connected");
    door.close();
    expect(await child.exited).toBe(1);
    await done;
    expect(err.text).toBe(`proxy: the proxy at ${door.path} went away\n`);
  });
});

describe("top", () => {
  const ENTERED = "\x1b[?1049h";
  const LEFT = "\x1b[?7h\x1b[?25h\x1b[?1049l";

  /** Runs in a terminal of its own. */
  async function start(door: FakeDoor, ...more: string[]) {
    const seen = { text: "" };
    const decoder = new TextDecoder();
    await using untouched = new Bun.Terminal({});
    const before = untouched.localFlags;
    const child = Bun.spawn([await binary(), "top", "--admin", door.path, "--interval", "50ms", ...more], {
      env: { ...ENV, TERM: "xterm" },
      terminal: {
        cols: 100,
        rows: 12,
        data: (_, chunk) => void (seen.text += decoder.decode(chunk, { stream: true })),
      },
    });
    const terminal = child.terminal!;
    const shows = (text: string) => until(() => seen.text.includes(text), `the screen shows ${text}`);
    const isAsBefore = async () => {
      await until(() => seen.text.includes(LEFT), "the screen is given back");
      expect(terminal.localFlags).toBe(before);
    };
    return { child, terminal, seen, shows, isAsBefore, [Symbol.dispose]: () => terminal.close() };
  }

  /** What a terminal with nothing on it shows of the last whole screen. */
  function lastScreen(text: string): string[] {
    const screens = text.split("\x1b[H");
    return (screens.at(-2) ?? "").replace("\x1b[J", "").replaceAll("\x1b[2K", "").split(/\r+\n/);
  }

  test("shows the busiest connections, sorts by keys, follows the size, and leaves at q", async () => {
    using door = new FakeDoor();
    door.connections = [aConnection({ client: "zoe@dba" }), aConnection({ id: "x-2", client: HOSTILE })];
    using top = await start(door);
    await top.shows("[rate]");
    await top.shows("\\u001b");
    // No signal, no echo, no line is waited for.
    expect(top.terminal.localFlags & 0o13).toBe(0);
    top.terminal.write("c");
    await top.shows("[client]");
    top.terminal.write("\x1b[A\x1bOBi");
    await top.shows("[idle]");
    top.seen.text = "";
    top.terminal.resize(60, 9);
    await until(() => lastScreen(top.seen.text).length === 9, "it draws in the new size");
    const screen = lastScreen(top.seen.text);
    expect(screen[1]).toStartWith("open 120 of 5,000   admitted ");
    for (const line of screen) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(60);
    expect(screen.at(-1)).toBe("sort: client age [idle] bytes rate   q quit");
    top.terminal.write("q");
    expect(await top.child.exited).toBe(0);
    await top.isAsBefore();
  });

  test("shows rates", async () => {
    using door = new FakeDoor();
    const { totals } = door.status;
    using top = await start(door);
    await top.shows("admitted 0/s");
    let admitted = totals.admitted;
    const growing = setInterval(() => {
      door.status = { ...door.status, totals: { ...totals, admitted: (admitted += 5) } };
    }, 10);
    await until(() => /admitted [1-9][\d.,]*\/s/.test(top.seen.text), "there is a rate");
    clearInterval(growing);
    top.terminal.write("\x03");
    expect(await top.child.exited).toBe(0);
    await top.isAsBefore();
  });

  test.each(["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"] as const)(
    "gives the terminal back at %s",
    async (signal) => {
      using door = new FakeDoor();
      using top = await start(door);
      await top.shows("[rate]");
      top.child.kill(signal);
      expect(await top.child.exited).toBe(0);
      await top.isAsBefore();
    },
  );

  test("gives the terminal back where the proxy goes away, says so and exits with 1", async () => {
    using door = new FakeDoor();
    using top = await start(door);
    await top.shows("[rate]");
    door.close();
    expect(await top.child.exited).toBe(1);
    await top.isAsBefore();
    expect(top.seen.text.split(LEFT)[1]).toMatch(/^proxy: .*admin\.sock.*\r\n$/);
  });

  test("leaves the terminal alone where no proxy answers", async () => {
    using door = new FakeDoor();
    door.close();
    using top = await start(door);
    expect(await top.child.exited).toBe(1);
    await top.shows("proxy: no proxy can be asked");
    expect(top.seen.text).not.toContain(ENTERED);
  });

  test("without a terminal says what to use, or prints objects with --json", async () => {
    using door = new FakeDoor();
    expect(await run(["top", "--admin", door.path])).toEqual({
      code: 2,
      out: "",
      err: 'proxy: top needs a terminal; use "proxy ps", or "proxy top --json"\n',
    });
    await using process = await Run.start(["top", "--json", "--interval", "20ms", "--admin", door.path], {
      env: ENV,
    });
    await until(() => door.asked.length > 6, "it has looked a few times");
    process.child.kill("SIGTERM");
    expect(await process.exit()).toBe(0);
    const lines = (await process.stdout)
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.length).toBeGreaterThan(1);
    expect(lines[0]).toMatchObject({ open: 120, limit: 5_000, connections: [{ client: "alice@dba" }] });
    expect(lines[1].perSecond).toEqual({ admitted: 0, refused: 0, bytes: 0 });
  });

  test.each([
    ["--sort size", '--sort: "size" is none of client, age, idle, bytes, rate'],
    ["--interval 1", '--interval: "1" is not a duration; write it like "1s" or "500ms"'],
    ["--json=yes", "--json takes no value"],
  ])("%s is a mistake", async (flags, message) => {
    expect(await run(["top", ...flags.split(" ")])).toEqual({ code: 2, out: "", err: `proxy: ${message}\n` });
  });
});

describe.each(["status", "ps", "tail"])("%s", (verb) => {
  test("says in one line that there is no proxy, and exits with 1", async () => {
    using folder = new Folder();
    const path = folder.path("none.sock");
    expect(await run([verb, "--admin", path])).toEqual({
      code: 1,
      out: "",
      err: `proxy: no proxy can be asked at ${path}: there is no such socket; --admin or --config says where another one is\n`,
    });
    expect((await run([verb])).err).toStartWith("proxy: no proxy can be asked at /run/tcpproxy/admin.sock: ");
  });

  test("says in one line that it has no right to ask, and exits with 1", async () => {
    using door = new FakeDoor();
    door.answer = () => Response.json({ error: "you have no right to this" }, { status: 403 });
    expect(await run([verb, "--admin", door.path])).toEqual({
      code: 1,
      out: "",
      err: "proxy: no right to ask this: you have no right to this\n",
    });
  });

  test.each([
    ["--frobnicate", 'unknown flag "--frobnicate"'],
    ["--admin", "--admin needs a value"],
    ["word", 'unknown word "word"; this command takes none'],
    ["--config /no/such.toml", "/no/such.toml: cannot be read: there is no such file"],
  ])("%s is a mistake", async (flags, message) => {
    expect(await run([verb, ...flags.split(" ")])).toEqual({ code: 2, out: "", err: `proxy: ${message}\n` });
  });
});

test("ps --from takes an address or a range", async () => {
  const { code, err } = await run(["ps", "--from", "10.0.0.0/99"]);
  expect(code).toBe(2);
  expect(err).toBe('proxy: --from: "10.0.0.0/99" is no address and no range; write it like "10.0.0.0/8"\n');
});

const setpriv = process.getuid?.() === 0 ? Bun.which("setpriv") : null;
test.skipIf(setpriv === null)("a user without a right to the socket is told so", async () => {
  using door = new FakeDoor();
  const folder = door.path.replace(/\/[^/]*$/, "");
  chmodSync(folder, 0o755);
  chmodSync(door.path, 0o600);
  // A binary that the user can reach.
  await Bun.write(`${folder}/proxy`, Bun.file(await binary()));
  chmodSync(`${folder}/proxy`, 0o755);
  const nobody = [setpriv!, "--reuid=65534", "--regid=65534", "--clear-groups"];
  const child = Bun.spawn([...nobody, `${folder}/proxy`, "ps", "--admin", door.path], {
    env: ENV,
    stderr: "pipe",
  });
  expect(await child.exited).toBe(1);
  expect(await new Response(child.stderr).text()).toBe(
    `proxy: no proxy can be asked at ${door.path}: permission denied; the socket is open to the user that the proxy runs as\n`,
  );
});

describe("a running proxy", () => {
  const folder = new Folder();
  afterAll(() => folder[Symbol.dispose]());

  test("shows its state, its connections, and what happens, to its own commands", async () => {
    using origin = echoOrigin();
    const config = folder.path("proxy.toml");
    const path = (name: string) => JSON.stringify(certPath(name));
    await Bun.write(
      config,
      `[admin]
socket = "admin.sock"
[listener]
address = "127.0.0.1:0"
ca = ${path("ca.crt")}
certificate = ${path("server.crt")}
privateKey = ${path("key.pem")}
[[upstreams]]
name = "db"
targets = ["${origin.target}"]
authorizedGroups = ["admin"]
`,
    );
    await using proxy = await Run.start(["--config", config, "--log-format", "json"]);
    const port = await proxy.port();
    const client = await connect(port);
    await client.send("hello");
    await client.read(5);

    const ps = await run(["ps", "--config", config, "--json", "--from", "127.0.0.0/8"]);
    expect(JSON.parse(ps.out)).toMatchObject({
      client: "alice@admin",
      upstream: "db",
      target: origin.target,
      bytesIn: 5,
    });
    const none = await run(["ps", "--config", config, "--client", "bob@admin"]);
    expect(none.out).toBe("ID CLIENT FROM TO AGE IDLE IN OUT CERT\n");
    const status = await run(["status", "--config", config]);
    expect(status.out).toMatch(/^connections    1 open, /m);
    expect(status.out).toMatch(/^db +1 +1 +0 /m);

    const child = Bun.spawn([await binary(), "tail", "--config", config, "--json"], {
      env: ENV,
      stdout: "pipe",
      stderr: "pipe",
    });
    const [out, err] = [{ text: "" }, { text: "" }];
    const read = Promise.all([collect(child.stdout, out), collect(child.stderr, err)]);
    // Reloads, until the command hears of one.
    while (out.text === "") {
      proxy.child.kill("SIGHUP");
      await Bun.sleep(20);
    }
    client.close();
    const closed = await proxy.line("closed");
    await until(() => out.text.includes('"msg":"closed"'), "the command has heard of the end");
    const heard = out.text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(heard.find(({ msg }) => msg === "closed")).toEqual({ ...closed, time: expect.any(String) });
    proxy.child.kill("SIGTERM");
    expect(await proxy.exit()).toBe(0);
    expect(await child.exited).toBe(1);
    await read;
    expect(err.text).toMatch(/^proxy: the proxy at .* went away\n$/);
  });
});
