// `proxy connect` as a user meets it: its modes, its signals, and what it says of bad input.

import { describe, expect, test } from "bun:test";
import { copyFileSync, existsSync, writeFileSync } from "node:fs";
import { binary, Run } from "../support/binary.ts";
import { Folder } from "../support/folder.ts";
import { certPath, connectPlain, echoOrigin, Origin, type Peer } from "../support/peer.ts";
import { KiB, MiB } from "../support/payload.ts";
import { until } from "../support/proxy.ts";

const ca = ["--ca", certPath("ca.crt")];
const key = ["--key", certPath("key.pem")];
const CERTS = [...ca, "--cert", certPath("alice.crt"), ...key];
const QUIET = ["--log-level", "error"];
const JSON_LOG = ["--log-format", "json"];

/** Bytes of the transfers: the suite's, or as many as the environment says, such as 1073741824. */
const TRANSFER = Number(Bun.env["TUNNEL_BYTES"] ?? 48 * MiB);

async function run(args: string[], options = {}) {
  await using process = await Run.start(["connect", ...args], options);
  const code = await process.exit();
  return { code, out: await process.stdout, err: process.stderr };
}

/** What a run writes, without the lines of its log. */
const said = (err: string) => err.split("\n").filter((line) => line !== "" && !line.startsWith("{"));

/** A tunnel that listens. */
async function listening(port: number, args: string[] = []): Promise<Run & { port: number }> {
  const listen = args.includes("--listen") ? [] : ["--listen", "127.0.0.1:0"];
  const all = ["connect", `localhost:${port}`, ...listen, ...CERTS, ...JSON_LOG, ...args];
  const run = await Run.start(all);
  return Object.assign(run, { port: await run.port() });
}

/** The same bytes for each call, a block at a time. */
async function pump(peer: Peer, total: number): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  const block = Buffer.alloc(256 * KiB);
  for (let sent = 0; sent < total; sent += block.length) {
    block.writeBigUInt64LE(BigInt(sent), (sent / 8) % (block.length - 8));
    const part = Buffer.from(block.subarray(0, Math.min(block.length, total - sent)));
    hash.update(part);
    if (!(await peer.send(part))) throw new Error("cut short");
  }
  return hash.digest("hex");
}

async function drainTo(peer: Peer): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  for (let chunk = await peer.some(); chunk.length > 0; chunk = await peer.some()) hash.update(chunk);
  return hash.digest("hex");
}

describe("bad input", () => {
  test.each<[string, string[], string]>([
    ["no server", [], "HOST:PORT is missing: give the proxy's address, or --config FILE"],
    ["nothing to do", ["p:1", ...CERTS], "nothing to connect: give --listen ADDRESS, --stdio, or -- COMMAND"],
    ["two modes", ["p:1", "--listen", "127.0.0.1:0", "--stdio"], "give --listen or --stdio, not both"],
    ["stdio and a command", ["p:1", "--stdio", "--", "true"], "give --stdio or -- COMMAND, not both"],
    ["no command", ["p:1", "--"], "there is no command after --"],
    ["a file and a server", ["p:1", "--config", "x.toml"], "give HOST:PORT or --config, not both"],
    [
      "a file and a flag",
      ["--config", "x.toml", "--stdio"],
      "--stdio cannot be given with --config: say it in the file",
    ],
    ["no such file", ["--config", "/no/such.toml"], "/no/such.toml: cannot be read: there is no such file"],
    ["a value for a flag without one", ["p:1", "--stdio=yes"], "--stdio takes no value"],
    [
      "a bad server",
      ["p", "--stdio", ...CERTS],
      'HOST:PORT: "p" is not the proxy\'s HOST:PORT; write it like "proxy.example.com:7443" or "[::1]:7443"',
    ],
    [
      "a certificate without a key",
      ["p:1", "--stdio", ...ca, "--cert", certPath("alice.crt")],
      "--key: is missing; it is the path of a PEM file",
    ],
    [
      "another key",
      ["p:1", "--stdio", ...ca, "--cert", certPath("alice.crt"), "--key", certPath("ecdsa.pem")],
      `--key: "${certPath("ecdsa.pem")}" is not the key of --cert "${certPath("alice.crt")}"`,
    ],
    [
      "an expired certificate",
      ["p:1", "--stdio", ...ca, ...key, "--cert", certPath("expired.crt")],
      `--cert: "${certPath("expired.crt")}" expired on 2025-01-01T00:00:00.000Z: renew it`,
    ],
    [
      "an address for others",
      ["p:1", "--listen", ":5432", ...CERTS],
      '--listen: ":5432" can be reached from other machines; use 127.0.0.1 or a Unix socket, or allow it with --allow-remote',
    ],
  ])("%s is one line, and exit code 2", async (_, args, message) => {
    const { code, out, err } = await run(args);
    expect({ code, out, said: said(err) }).toEqual({ code: 2, out: "", said: [`proxy: ${message}`] });
  });

  const unreadable = ["--ca", certPath("ca2.crt"), "--cert", certPath("alice.crt"), ...key];
  test.each<[string, string[], string, string[]]>([
    ["another CA", unreadable, "cannot be trusted: its certificate is not signed by a CA in", []],
    [
      "another name",
      [...CERTS, "--server-name", "db.example"],
      'cannot be trusted: its certificate is for another name than "db.example"',
      [],
    ],
    [
      "a client of another group",
      [...ca, ...key, "--cert", certPath("carol.crt")],
      "refused: group_not_authorized (id ",
      [],
    ],
    [
      "a stranger",
      [...ca, ...key, "--cert", certPath("stranger.crt")],
      "closed the connection without a reason",
      [],
    ],
  ])("with %s is one line, and exit code 1, in each mode", async (_, args, message) => {
    using origin = echoOrigin();
    await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
    const server = `127.0.0.1:${proxy.port}`;
    const modes = [["--stdio"], ["--", "sh", "-c", "echo it runs"]];
    // The tunnel that listens goes on where the proxy may change its mind.
    if (message.startsWith("cannot")) modes.push(["--listen", "127.0.0.1:0"]);
    for (const mode of modes) {
      const { code, out, err } = await run([server, ...args, ...mode]);
      expect({ code, out, lines: said(err).length }).toEqual({ code: 1, out: "", lines: 1 });
      expect(said(err)[0]).toStartWith(`proxy: ${server} ${message}`);
    }
    expect(origin.accepted).toEqual([]);
  });

  test("a server that is no proxy is named as such", async () => {
    using plain = new Origin((peer) => peer.send("SSH-2.0-none\r\n"));
    using tls = new Origin(() => {}, { tls: {} });
    for (const [origin, text] of [
      [plain, "does not speak TLS: it is no proxy"],
      [tls, "is no proxy: it speaks TLS, but not tcpproxy/1"],
    ] as const) {
      const { code, err } = await run([`localhost:${origin.port}`, ...CERTS, "--listen", "127.0.0.1:0"]);
      expect({ code, lines: said(err).length }).toEqual({ code: 1, lines: 1 });
      expect(err).toContain(`localhost:${origin.port} ${text}`);
    }
  });

  test("a port that is in use, and a server that is not there, are failures", async () => {
    using origin = echoOrigin();
    const used = await run(["localhost:1", "--listen", `127.0.0.1:${origin.port}`, ...CERTS]);
    expect({ code: used.code, said: said(used.err) }).toEqual({
      code: 1,
      said: [`proxy: cannot listen on 127.0.0.1:${origin.port}: the address is in use (EADDRINUSE)`],
    });
    const nobody = await run(["localhost:1", "--stdio", ...CERTS]);
    expect({ code: nobody.code, said: said(nobody.err) }).toEqual({
      code: 1,
      said: ["proxy: cannot reach localhost:1: nothing listens there (ECONNREFUSED)"],
    });
  });
});

describe("a tunnel that listens", () => {
  test("starts where the proxy does not answer, says so, and goes on", async () => {
    await using tunnel = await listening(1);
    expect((await tunnel.line("no connection yet"))["why"]).toContain("cannot reach localhost:1");
    // The end may come before the connection is known to be there.
    await connectPlain(tunnel.port).then(
      ({ closed }) => closed,
      () => {},
    );
    expect((await tunnel.line("no connection"))["why"]).toContain("cannot reach localhost:1");
    tunnel.child.kill("SIGTERM");
    expect(await tunnel.exit()).toBe(0);
  });

  test("lets what is open end at SIGTERM, and breaks it off at a second one", async () => {
    using origin = echoOrigin();
    await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
    for (const again of [false, true]) {
      await using tunnel = await listening(proxy.port);
      const client = await connectPlain(tunnel.port);
      await client.send("hello");
      expect(String(await client.read(5))).toBe("hello");
      tunnel.child.kill(again ? "SIGTERM" : "SIGHUP");
      // The port is closed once the signal is heard.
      const opens = () =>
        connectPlain(tunnel.port).then(
          (peer) => (peer.reset(), true),
          () => false,
        );
      while (await opens());
      if (again) {
        tunnel.child.kill("SIGTERM");
        expect(await tunnel.exit()).toBe(1);
        expect(await client.closed).toBe("ECONNRESET");
      } else {
        await client.send("still");
        expect(String(await client.read(5))).toBe("still");
        client.close();
        expect(await tunnel.exit()).toBe(0);
      }
    }
  });

  test("turns programs away where descriptors run out, and goes on", async () => {
    using origin = echoOrigin();
    await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
    const args = ["connect", `localhost:${proxy.port}`, ...CERTS, ...JSON_LOG, "--listen", "127.0.0.1:0"];
    await using tunnel = await Run.start(args, { before: "ulimit -n 84" });
    const port = await tunnel.port();
    const served: Peer[] = [];
    // 84 less what the process keeps for itself is room for ten.
    for (let i = 0; i < 10; i++) {
      const client = await connectPlain(port);
      await client.send("x");
      expect(String(await client.read(1))).toBe("x");
      served.push(client);
    }
    // The end may come before the connection is known to be there.
    const turnedAway = connectPlain(port).then(
      (peer) => peer.read(1),
      () => Buffer.alloc(0),
    );
    expect(await turnedAway).toHaveLength(0);
    await tunnel.line("connection turned away");
    served[0]!.close();
    await tunnel.line("closed");
    const next = await connectPlain(port);
    await next.send("y");
    expect(String(await next.read(1))).toBe("y");
  });

  test("reads its certificate anew when the file changes", async () => {
    using folder = new Folder();
    const mine = folder.path("me.crt");
    copyFileSync(certPath("carol.crt"), mine);
    using origin = echoOrigin();
    await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
    const args = ["connect", `localhost:${proxy.port}`, ...ca, ...key, "--cert", mine, ...JSON_LOG];
    await using tunnel = await Run.start([...args, "--listen", "127.0.0.1:0"]);
    expect((await tunnel.line("no connection yet"))["why"]).toContain("your group ops is not listed");
    copyFileSync(certPath("alice.crt"), mine);
    await tunnel.line("reloaded");
    const client = await connectPlain(await tunnel.port());
    await client.send("hello");
    expect(String(await client.read(5))).toBe("hello");
  });

  test("may be one of many in a file, whose paths are taken from its folder", async () => {
    using folder = new Folder();
    for (const [to, from] of [
      ["ca.crt", "ca.crt"],
      ["me.crt", "alice.crt"],
      ["me.key", "key.pem"],
    ] as const) {
      copyFileSync(certPath(from), folder.path(to));
    }
    using origin = echoOrigin();
    await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
    const tunnel = (listen: string) =>
      `[[tunnels]]\nserver = "localhost:${proxy.port}"\nlisten = "${listen}"\n`;
    writeFileSync(
      folder.path("connect.toml"),
      `ca = "ca.crt"\ncertificate = "me.crt"\nprivateKey = "me.key"\n${tunnel("127.0.0.1:0")}${tunnel("unix:t.sock")}`,
    );
    await using both = await Run.start(["connect", "--config", folder.path("connect.toml"), ...JSON_LOG], {
      cwd: "/",
    });
    await until(() => both.lines().filter(({ msg }) => msg === "listening").length === 2, "both listen");
    expect(existsSync(folder.path("t.sock"))).toBe(true);
    const client = await connectPlain(await both.port());
    await client.send("hello");
    expect(String(await client.read(5))).toBe("hello");
    client.reset();
    both.child.kill("SIGTERM");
    expect(await both.exit()).toBe(0);
    expect(existsSync(folder.path("t.sock"))).toBe(false);
  });

  test("carries a large transfer both ways, with the same hash, in bounded memory", async () => {
    using origin = echoOrigin();
    await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
    await using tunnel = await listening(proxy.port);
    const client = await connectPlain(tunnel.port);
    const sent = pump(client, TRANSFER).then((hash) => (client.end(), hash));
    const got = await drainTo(client);
    expect(got).toBe(await sent);
    expect(tunnel.memory).toBeLessThan(200 * MiB);
  }, 300_000);
});

describe("a command", () => {
  test("finds the tunnel, and its exit code is the tunnel's", async () => {
    using origin = echoOrigin();
    await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
    const through = [`localhost:${proxy.port}`, ...CERTS, ...QUIET, "--"];
    const said = await run([...through, "sh", "-c", "echo {host} {port}; exit 7"]);
    expect(said).toEqual({ code: 7, out: expect.stringMatching(/^127\.0\.0\.1 \d+\n$/), err: "" });
    expect((await run([...through, "sh", "-c", "kill -TERM $$"])).code).toBe(143);
    const missing = await run([...through, "/no/such"]);
    expect(missing).toEqual({
      code: 1,
      out: "",
      err: 'proxy: cannot run "/no/such": there is no such program\n',
    });
  });

  test("keeps flags that are its own, and the connection that is waiting for it", async () => {
    using origin = new Origin((peer) => peer.send("banner"));
    await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
    const script = `const s = await Bun.connect({ hostname: "{host}", port: {port}, socket: { data(s, d) { console.log(String(d), process.argv.slice(1).join()); process.exit(0); } } })`;
    const command = [process.execPath, "-e", script, "--", "--version", "--help"];
    const { code, out } = await run([`localhost:${proxy.port}`, ...CERTS, ...QUIET, "--", ...command]);
    expect({ code, out }).toEqual({ code: 0, out: expect.stringContaining("banner") });
    expect(out).toContain("--version");
    expect(origin.accepted).toHaveLength(1);
  });

  test("is passed SIGTERM, and outlives the terminal's SIGINT", async () => {
    using origin = echoOrigin();
    await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
    const script = "trap 'echo stopped; exit 3' TERM; echo ready; while :; do sleep 0.02; done";
    const args = ["connect", `localhost:${proxy.port}`, ...CERTS, ...QUIET, "--", "sh", "-c", script];
    const child = Bun.spawn([await binary(), ...args], { stdin: "ignore", stdout: "pipe", stderr: "ignore" });
    const reader = child.stdout.getReader();
    expect(String(Buffer.from((await reader.read()).value!))).toBe("ready\n");
    child.kill("SIGINT");
    child.kill("SIGTERM");
    expect(String(Buffer.from((await reader.read()).value!))).toBe("stopped\n");
    expect(await child.exited).toBe(3);
  });
});

describe("standard input and output", () => {
  const command = async (port: number) => [
    ...[await binary(), "connect", `localhost:${port}`],
    ...[...CERTS, ...QUIET, "--stdio"],
  ];
  const spawn = async (port: number) =>
    Bun.spawn(await command(port), { stdin: "pipe", stdout: "pipe", stderr: "pipe" });

  test("carry a large transfer both ways, with the same hash, in bounded memory", async () => {
    using origin = echoOrigin();
    await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
    const child = await spawn(proxy.port);
    const [sent, got] = [new Bun.CryptoHasher("sha256"), new Bun.CryptoHasher("sha256")];
    const block = new Uint8Array(256 * KiB);
    const sending = (async () => {
      for (let at = 0; at < TRANSFER; at += block.length) {
        block.fill(at / block.length, 0, 64 * KiB);
        sent.update(block);
        await child.stdin.write(block.slice());
        await child.stdin.flush();
      }
      await child.stdin.end();
    })();
    let memory = 0;
    for await (const chunk of child.stdout) {
      got.update(chunk);
      if (memory === 0)
        memory = Number(/VmRSS:\s+(\d+)/.exec(await Bun.file(`/proc/${child.pid}/status`).text())?.[1]);
    }
    await sending;
    expect(got.digest("hex")).toBe(sent.digest("hex"));
    expect(await child.exited).toBe(0);
    expect(memory).toBeLessThan(200 * KiB);
  }, 300_000);

  test("hold a server back whose bytes nobody reads", async () => {
    using folder = new Folder();
    const gate = folder.path("gate");
    Bun.spawnSync(["mkfifo", gate]);
    using origin = new Origin();
    await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
    // Nothing is read until the gate opens.
    const script = '"$@" | { read line < "$GATE"; wc -c; }';
    const child = Bun.spawn(["sh", "-c", script, "sh", ...(await command(proxy.port))], {
      env: { ...Bun.env, GATE: gate },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    });
    const server = await origin.next();
    const block = new Uint8Array(MiB);
    let sent = 0;
    for (let stuck = false; !stuck; sent += block.length) {
      const sending = server.send(block).then(() => false);
      stuck = await Promise.race([sending, Bun.sleep(500).then(() => true)]);
      expect(sent).toBeLessThan(64 * MiB);
      if (stuck) void sending.then(() => server.close());
    }
    writeFileSync(gate, "open\n");
    expect(Number(await new Response(child.stdout).text())).toBe(sent);
    expect(await child.exited).toBe(0);
  });

  test("pass ends on one by one", async () => {
    using origin = new Origin();
    await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
    const child = await spawn(proxy.port);
    const server = await origin.next();
    await server.send("first");
    server.end();
    // Its end is seen while standard input is still open.
    expect(await new Response(child.stdout).text()).toBe("first");
    await child.stdin.write("second");
    await child.stdin.end();
    expect(String(await server.rest())).toBe("second");
    server.close();
    expect(await child.exited).toBe(0);
  });

  test("end as a failure where their reader is gone", async () => {
    using origin = new Origin();
    await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
    const child = await spawn(proxy.port);
    await child.stdout.cancel();
    const server = await origin.next();
    await server.send("nobody reads this");
    expect(await child.exited).toBe(1);
    expect(await new Response(child.stderr).text()).toBe("");
    await server.closed;
  });

  test("take a file; a signal breaks the connection off", async () => {
    using folder = new Folder();
    writeFileSync(folder.path("in"), "from a file");
    using origin = new Origin();
    await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
    const stdin = Bun.file(folder.path("in"));
    const child = Bun.spawn(await command(proxy.port), { stdin, stdout: "ignore", stderr: "inherit" });
    const server = await origin.next();
    expect(String(await server.rest())).toBe("from a file");
    child.kill("SIGTERM");
    expect(await child.exited).toBe(1);
    await server.send("x");
    await server.closed;
  });

  test("are let go by ssh with SIGHUP, and what they hold arrives", async () => {
    using origin = new Origin();
    await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
    const child = await spawn(proxy.port);
    const server = await origin.next();
    await child.stdin.write("last words");
    await child.stdin.flush();
    child.kill("SIGHUP");
    await child.stdin.end();
    expect(String(await server.rest())).toBe("last words");
    server.close();
    expect(await child.exited).toBe(0);
  });
});
