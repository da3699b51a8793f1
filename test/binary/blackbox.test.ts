// The built binary as a black box: copied to another folder, run in an empty environment, observed from outside.
// blackbox-workers.test.ts repeats all of it with several worker threads.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { CERTIFICATE_FLAGS, Run, binary } from "../support/binary.ts";
import { freePort } from "../support/free-port.ts";
import { certPath, connect, connectPlain, echoOrigin, Origin } from "../support/peer.ts";
import { testConfig, until } from "../support/proxy.ts";
import { Random } from "../support/random.ts";
import { echoes } from "../support/served.ts";

let folder: string;
beforeAll(() => void (folder = mkdtempSync(`${tmpdir()}/tcpproxy-box-`)));
afterAll(() => rmSync(folder, { recursive: true }));

/** A configuration file with everything that a host needs. */
function configFile(name: string, targets: string[], over: object = {}): string {
  const path = `${folder}/${name}.json`;
  writeFileSync(path, JSON.stringify({ ...testConfig(targets), workers: Run.workers, ...over }));
  return path;
}

async function start(config: string, options = {}): Promise<Run & { port: number }> {
  const run = await Run.start(["--config", config, "--log-format", "json"], options);
  return Object.assign(run, { port: await run.port() });
}

describe("the binary on its own", () => {
  test("the binary runs from any folder, with no file beside it and an empty environment", async () => {
    const elsewhere = `${folder}/elsewhere`;
    mkdirSync(elsewhere);
    copyFileSync(await binary(), `${elsewhere}/renamed`);
    chmodSync(`${elsewhere}/renamed`, 0o755);
    using origin = echoOrigin();
    const config = configFile("bare", [origin.target]);
    const bare = Bun.spawn([`${elsewhere}/renamed`, "--config", config, "--log-format", "json"], {
      cwd: elsewhere,
      env: {},
      stderr: "pipe",
    });
    let text = "";
    for await (const chunk of bare.stderr) {
      text += new TextDecoder().decode(chunk);
      if (text.includes('"listening"')) break;
    }
    const lines = text.trim().split("\n");
    const { address } = JSON.parse(lines.find((line) => line.includes('"listening"'))!);
    expect(await echoes(await connect(Number(address.split(":")[1])))).toBe(true);
    bare.kill("SIGKILL");
    await bare.exited;
  });

  test.if(Bun.which("ldd") !== null)("the binary needs no library but glibc", async () => {
    const ldd = Bun.spawnSync(["ldd", await binary()]);
    const libraries = [...ldd.stdout.toString().matchAll(/^\s*(\S+?)\.so/gm)].map(([, name]) =>
      name!.split("/").pop()!,
    );
    expect(
      libraries.filter((name) => !/^(linux-vdso|linux-gate|lib(c|m|dl|pthread)|ld-linux.*)$/.test(name)),
    ).toEqual([]);
    expect(libraries).toContain("libc");
  });

  test("the binary reads no .env and no bunfig.toml of the folder where it is started", async () => {
    const trap = `${folder}/trap`;
    mkdirSync(trap);
    await Bun.write(`${trap}/.env`, "NODE_TLS_REJECT_UNAUTHORIZED=0\n");
    await Bun.write(`${trap}/bunfig.toml`, 'preload = ["./preload.ts"]\n');
    await Bun.write(`${trap}/preload.ts`, `await Bun.write("${trap}/sprung", "x");`);
    using origin = echoOrigin();
    await using run = await start(configFile("trap", [origin.target]), { cwd: trap });
    expect(await echoes(await connect(run.port))).toBe(true);
    expect(existsSync(`${trap}/sprung`)).toBe(false);
  });
});

describe("the environment", () => {
  test.each([
    ["NODE_TLS_REJECT_UNAUTHORIZED", "0"],
    ["NODE_EXTRA_CA_CERTS", certPath("stranger-ca.crt")],
    ["SSL_CERT_FILE", certPath("stranger-ca.crt")],
    ["NODE_OPTIONS", "--use-openssl-ca"],
    ["BUN_OPTIONS", "--use-system-ca"],
  ])("the environment variable %s=%s does not weaken authentication", async (name, value) => {
    using origin = echoOrigin();
    const env = { SSL_CERT_FILE: certPath("stranger-ca.crt"), [name]: value };
    await using run = await Run.proxy([origin.target], [], { env });
    for (const [certificate, reason] of [
      [null, "certificate_missing"],
      ["stranger", "certificate_untrusted"],
      ["expired", "certificate_expired"],
      ["server-only", "certificate_untrusted"],
    ] as const) {
      const client = await connect(run.port, { name: certificate });
      await client.send("let me in");
      await client.ended;
      client.close();
      expect(client.received).toBe(0);
      await run.line("refused", reason);
    }
    expect(origin.accepted).toHaveLength(0);
    expect(await echoes(await connect(run.port))).toBe(true);
  });
});

describe("shutdown", () => {
  test.each(["SIGTERM", "SIGINT"] as const)(
    "%s lets a transfer in flight finish, admits no new client and ends with exit code 0",
    async (signal) => {
      using origin = new Origin();
      await using run = await Run.proxy([origin.target]);
      const client = await connect(run.port);
      const server = await origin.next();
      client.socket.pause();
      const data = new Uint8Array(24 * 2 ** 20).fill(7);
      const sent = server.send(data).then(() => server.close());
      run.child.kill(signal);
      await run.line("draining");
      await expect(connectPlain(run.port)).rejects.toThrow();
      client.socket.resume();
      expect((await client.rest()).equals(data)).toBe(true);
      await sent;
      client.close();
      expect(await run.exit()).toBe(0);
      expect((await run.line("closed")).reason).toBe("closed");
      expect(await run.stdout).toBe("");
    },
  );

  test("a proxy without connections exits at once on SIGTERM", async () => {
    await using run = await Run.proxy(["127.0.0.1:1"]);
    run.child.kill("SIGTERM");
    expect(await run.exit()).toBe(0);
  });

  test("a shutdown closes the remaining connections at its deadline and exits 1", async () => {
    using origin = new Origin();
    await using run = await start(configFile("deadline", [origin.target], { shutdownTimeout: "400ms" }));
    const client = await connect(run.port);
    await origin.next();
    const before = performance.now();
    run.child.kill("SIGTERM");
    await client.ended;
    expect(await run.exit()).toBe(1);
    expect(performance.now() - before).toBeGreaterThanOrEqual(399);
    expect((await run.line("closed")).reason).toBe("shutdown");
    client.close();
  });

  test("a second signal closes the connections at once and exits 1", async () => {
    using origin = new Origin();
    await using run = await Run.proxy([origin.target]);
    const client = await connect(run.port);
    const server = await origin.next();
    run.child.kill("SIGTERM");
    await run.line("draining");
    run.child.kill("SIGINT");
    expect(await run.exit()).toBe(1);
    await Promise.all([client.ended, server.closed]);
    client.close();
  });
});

describe("load", () => {
  test("a proxy that is short of descriptors refuses the surplus, does not spin, and recovers", async () => {
    using origin = echoOrigin();
    await using run = await Run.proxy([origin.target], [], { before: "ulimit -n 128" });
    const idle = run.descriptors;
    // 128 − 64 kept free = 64, two a connection: 32.
    const crowd = await Promise.all(Array.from({ length: 200 }, () => connectPlain(run.port)));
    let refused = 0;
    for (const each of crowd) void each.ended.then(() => refused++);
    await until(() => refused === 168, "168 are refused");
    const cpu = run.cpu;
    // It must not spin meanwhile; no event tells that a process does nothing.
    await Bun.sleep(1_000);
    expect(refused).toBe(168);
    expect(run.cpu - cpu).toBeLessThan(300);
    expect(run.descriptors).toBeLessThan(128);
    for (const each of crowd) each.reset();
    await until(() => run.descriptors <= idle, "all have gone");
    const clients = await Promise.all(Array.from({ length: 32 }, () => connect(run.port)));
    expect(await Promise.all(clients.map(echoes))).toEqual(Array(32).fill(true));
    for (const client of clients) client.close();
    // A proxy that exits writes the lines of its counts first.
    run.child.kill("SIGTERM");
    await run.exit();
    const reasons = run
      .lines()
      .filter(({ msg }) => msg === "refused")
      .map(({ reason }) => reason);
    expect(reasons).toHaveLength(200);
    expect(reasons.filter((reason) => reason === "overloaded")).toHaveLength(168);
  });

  test("clients that break off before they are accepted leave no descriptors behind", async () => {
    using origin = echoOrigin();
    await using run = await Run.proxy([origin.target], [], { before: "ulimit -n 128" });
    run.child.kill("SIGSTOP");
    for (let i = 0; i < 50; i++) (await connectPlain(run.port)).reset();
    run.child.kill("SIGCONT");
    await until(() => run.lines().filter(({ msg }) => msg === "refused").length === 50, "each has its line");
    // There is room for 32, and all of the fifty have given back theirs.
    const clients = await Promise.all(Array.from({ length: 32 }, () => connect(run.port)));
    expect(await Promise.all(clients.map(echoes))).toEqual(Array(32).fill(true));
  });

  test("sixty clients that do not read cost little memory each", async () => {
    const each = 8 * 2 ** 20;
    using origin = new Origin(async (peer) => {
      await peer.send(new Uint8Array(each));
      await peer.ended;
      peer.close();
    });
    await using run = await Run.proxy([origin.target]);
    // The first connection allocates memory once, which is not to be counted.
    const first = await connect(run.port);
    await first.read(each);
    first.close();
    await run.line("closed");
    const before = run.memory;
    const readers = await Promise.all(
      Array.from({ length: 60 }, async () => {
        const reader = await connect(run.port);
        reader.socket.pause();
        return reader;
      }),
    );
    // Waits until the memory no longer grows.
    let [last, since] = [0, performance.now()];
    await until(() => {
      if (run.memory !== last) [last, since] = [run.memory, performance.now()];
      return origin.accepted.length === 61 && performance.now() - since > 300;
    }, "its memory is steady");
    expect((last - before) / 60).toBeLessThan(1.2 * 2 ** 20);
    // All of it arrives in the end.
    for (const reader of readers) reader.socket.resume();
    const lengths = await Promise.all(readers.map(async (reader) => (await reader.read(each)).length));
    expect(lengths).toEqual(Array(60).fill(each));
  });

  test("thousands of connections, ended in every way, leave nothing behind", async () => {
    using origin = new Origin(async (peer) => {
      const how = (await peer.read(1)).toString();
      if (how === "r") return peer.reset();
      if (how === "f") peer.end();
      await peer.send("x".repeat(1_000));
      if (how === "c") return peer.close();
      await peer.ended;
      peer.close();
    });
    const config = configFile("thousands", [origin.target, "127.0.0.1:1"], {
      listener: {
        address: "127.0.0.1:0",
        ca: certPath("ca.crt"),
        certificate: certPath("server-ecdsa.crt"),
        privateKey: certPath("ecdsa.pem"),
      },
      // All of these clients have one address, and many break off: the limits of a source would delay them.
      handshakes: { exempt: ["127.0.0.0/8"] },
    });
    await using run = await start(config);
    const { port } = run;
    const random = new Random(5);
    let total = 0;
    const one = async () => {
      total++;
      const way = random.int(0, 7);
      if (way === 0) return (await connectPlain(port)).reset();
      const client = await connect(
        port,
        way === 1 ? { name: "stranger" } : { name: "ecdsa", key: "ecdsa.pem" },
      );
      if (way === 1 || way === 2) return client.reset();
      await client.send("rfcee"[random.int(0, 4)]!);
      if (way === 3) return client.reset();
      if (way === 4) client.end();
      if (way === 5) client.close();
      if (way === 6) await client.read(500);
      if (way === 7) await client.read(1_000);
      client.close();
      if (way > 5) await client.ended;
      client.reset();
    };
    const round = async (count: number) => {
      for (let i = 0; i < count; i += 25) await Promise.all(Array.from({ length: 25 }, one));
      const ended = () => run.lines().filter(({ msg }) => msg === "closed" || msg === "refused").length;
      await until(() => ended() === total, `all ${total} have their line`, 60_000);
    };
    await round(500);
    const [descriptors, memory] = [run.descriptors, run.memory];
    await round(2_500);
    expect(run.descriptors).toBe(descriptors);
    expect(run.memory - memory).toBeLessThan(24 * 2 ** 20);
    expect(run.lines().filter(({ msg }) => msg === "internal error")).toEqual([]);
  }, 120_000);

  test("random bytes, at every stage of a connection, do not harm other clients", async () => {
    using origin = echoOrigin();
    await using run = await Run.proxy([origin.target]);
    const bystander = await connect(run.port);
    expect(await echoes(bystander)).toBe(true);
    const random = new Random(9);
    const starts = [
      [],
      [22, 3, 1],
      [22, 3, 3, 0, 80],
      [22, 3, 1, 0, 80, 1, 0, 0, 76, 3, 3],
      [23, 3, 3, 0, 20],
      [21, 3, 3, 0, 2],
      [128, 46, 1],
    ];
    for (let i = 0; i < 300; i++) {
      const vandal = await connectPlain(run.port);
      await vandal.send(Uint8Array.from([...random.pick(starts), ...random.bytes(random.int(1, 400))]));
      if (random.int(0, 1) === 0) vandal.close();
      else vandal.reset();
    }
    await until(() => run.lines().filter(({ msg }) => msg === "refused").length === 300, "all are refused");
    expect(
      new Set(
        run
          .lines()
          .filter(({ msg }) => msg === "refused")
          .map(({ reason }) => reason),
      ),
    ).toEqual(new Set(["handshake_failed"]));
    expect(await echoes(bystander)).toBe(true);
    expect(await echoes(await connect(run.port))).toBe(true);
  });

  test("a log that nobody reads does not stop the proxy", async () => {
    using origin = echoOrigin();
    const port = freePort();
    // The reader of the pipe sleeps; the pipe holds 64 KiB, a few hundred lines.
    const flags = ["--workers", String(Run.workers), "--targets", origin.target, ...CERTIFICATE_FLAGS];
    const stalled = Bun.spawn(
      ["sh", "-c", '"$@" 2>&1 >/dev/null | sleep 60', "sh", await binary(), `127.0.0.1:${port}`, ...flags],
      {
        detached: true,
      },
    );
    try {
      let up = false;
      while (!up)
        up = await connectPlain(port).then(
          (probe) => (probe.reset(), true),
          () => false,
        );
      for (let i = 0; i < 2_000; i += 50) {
        await Promise.all(Array.from({ length: 50 }, async () => (await connectPlain(port)).reset()));
      }
      expect(await echoes(await connect(port))).toBe(true);
    } finally {
      process.kill(-stalled.pid, "SIGKILL");
      await stalled.exited;
    }
  });
});

describe("openssl's client", () => {
  const openssl = Bun.which("openssl");

  async function client(
    port: number,
    input: string,
    flags: string[],
  ): Promise<{ out: string; err: string; code: number }> {
    const args = [
      "s_client",
      "-connect",
      `127.0.0.1:${port}`,
      "-quiet",
      "-CAfile",
      certPath("ca.crt"),
      "-verify_return_error",
      ...flags,
    ];
    const run = Bun.spawn([openssl!, ...args], { stdin: new Blob([input]), stdout: "pipe", stderr: "pipe" });
    const [out, err] = await Promise.all([new Response(run.stdout).text(), new Response(run.stderr).text()]);
    return { out, err, code: await run.exited };
  }
  const alice = ["-cert", certPath("alice.crt"), "-key", certPath("key.pem")];

  test.if(openssl !== null)(
    "an authorized openssl client gets its bytes back and an orderly end",
    async () => {
      using origin = new Origin(async (peer) => {
        await peer.send(await peer.read(6));
        peer.close();
      });
      await using run = await Run.proxy([origin.target]);
      const { out, err, code } = await client(run.port, "hello\n", [...alice, "-ign_eof"]);
      expect(out).toBe("hello\n");
      // openssl's message for a stream that ends without close_notify.
      expect(err).not.toContain("unexpected eof");
      expect(code).toBe(0);
    },
  );

  test.if(openssl !== null)(
    "a stream that breaks off looks different to openssl from one that ends",
    async () => {
      using origin = new Origin(async (peer) => {
        await peer.send(await peer.read(6));
        // A reset that overtakes the answer discards it; no event tells that the proxy has passed it on.
        await Bun.sleep(50);
        peer.reset();
      });
      await using run = await Run.proxy([origin.target]);
      const { out, err } = await client(run.port, "hello\n", [...alice, "-ign_eof"]);
      expect(out).toBe("hello\n");
      expect(err).toContain("unexpected eof");
    },
  );

  test.if(openssl !== null)("an openssl client of another group gets no byte", async () => {
    using origin = echoOrigin();
    await using run = await Run.proxy([origin.target]);
    const { out } = await client(run.port, "hello\n", [
      "-cert",
      certPath("carol.crt"),
      "-key",
      certPath("key.pem"),
      "-ign_eof",
    ]);
    expect(out).toBe("");
    expect(origin.accepted).toHaveLength(0);
    await run.line("refused", "group_not_authorized");
  });
});

test("the log has one line for each connection, with its fields", async () => {
  using origin = echoOrigin();
  await using run = await Run.proxy([origin.target]);
  const client = await connect(run.port);
  expect(await echoes(client)).toBe(true);
  client.close();
  expect(await run.line("closed")).toEqual({
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    level: "info",
    msg: "closed",
    id: expect.stringMatching(/^[0-9a-f]{8}(-[0-9a-z]+){1,2}$/),
    client: "alice@admin",
    remote: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
    upstream: "echo",
    target: origin.target,
    bytesIn: 1,
    bytesOut: 1,
    durationMs: expect.any(Number),
    listener: "127.0.0.1:0",
    serverName: "localhost",
    endedBy: "client",
    reason: "closed",
  });
});

test("the checked-in demonstration certificates work with the built-in configuration", async () => {
  using origin = echoOrigin();
  await using run = await Run.start([
    "127.0.0.1:0",
    "--targets",
    origin.target,
    "--log-format",
    "json",
    "--workers",
    String(Run.workers),
  ]);
  const port = await run.port();
  const folder = new URL("../../certs", import.meta.url).pathname;
  for (const name of ["alice", "bob"]) {
    expect(await echoes(await connect(port, { folder, name, key: `${name}.key` }))).toBe(true);
  }
  const mallory = await connect(port, { folder, name: "mallory", key: "mallory.key" });
  expect(await echoes(mallory)).toBe(false);
  mallory.close();
  expect(await run.line("refused")).toMatchObject({
    client: "mallory@guest",
    reason: "group_not_authorized",
  });
});
