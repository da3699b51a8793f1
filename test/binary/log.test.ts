// A stalled reader of the log costs bounded memory, delays nothing, and is told how many lines it missed.

import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { CERTIFICATE_FLAGS, binary } from "../support/binary.ts";
import { freePort } from "../support/free-port.ts";
import { connect, connectPlain, echoOrigin } from "../support/peer.ts";
import { testConfig, until, type Line } from "../support/proxy.ts";

const TARGETS = 64;
const CONNECTIONS = 200;

test("a pipe that is not read costs 1 MiB at most, and its reader is told how many lines it missed", async () => {
  const folder = mkdtempSync(`${tmpdir()}/tcpproxy-log-`);
  const port = freePort();
  // Each connection fails at every target, which makes one line for each target.
  const targets = Array.from({ length: TARGETS }, (_, i) => `unix:${folder}/${"none".repeat(10)}${i}`);
  writeFileSync(
    `${folder}/proxy.json`,
    JSON.stringify(testConfig(targets, { listener: { address: `127.0.0.1:${port}` } })),
  );
  expect(Bun.spawnSync(["mkfifo", `${folder}/fifo`]).exitCode).toBe(0);
  const reader = Bun.spawn([
    "sh",
    "-c",
    `exec <"$0/fifo"; until [ -e "$0/go" ]; do sleep 0.05; done; exec cat >"$0/log"`,
    folder,
  ]);
  const command = [await binary(), "--config", `${folder}/proxy.json`, "--log-format", "json"];
  const proxy = Bun.spawn(["sh", "-c", `exec "$@" 2>"$0/fifo"`, folder, ...command]);
  try {
    for (let up = false; !up;) {
      up = await connectPlain(port).then(
        (probe) => (probe.reset(), true),
        () => false,
      );
    }
    const attempt = async () => {
      const client = await connect(port);
      await client.ended;
      client.close();
    };
    for (let i = 0; i < CONNECTIONS; i += 20) await Promise.all(Array.from({ length: 20 }, attempt));

    writeFileSync(`${folder}/go`, "");
    const lines = () =>
      readFileSync(`${folder}/log`, "utf8")
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line) as Line);
    await until(
      () => Bun.file(`${folder}/log`).size > 0 && lines().some(({ msg }) => msg === "log lines dropped"),
      "it says how many",
    );
    proxy.kill("SIGTERM");
    expect(await proxy.exited).toBe(0);
    await reader.exited;

    const all = lines();
    const dropped = all.filter(({ msg }) => msg === "log lines dropped");
    expect(dropped).toHaveLength(1);
    // The output is what memory and the pipe held; all lines together were three times as much.
    expect(Bun.file(`${folder}/log`).size).toBeLessThan(1.2 * 1024 * 1024);
    const failed = all.filter(({ msg }) => msg === "target failed").length;
    const others = Number(dropped[0]!["count"]) - (TARGETS * CONNECTIONS - failed);
    // If no refusal is missing, no line about refusals was dropped.
    const refusals = all.filter(({ reason }) => reason === "no_target");
    const sum = refusals.reduce((total, { count }) => total + Number(count ?? 1), 0);
    expect(others).toBeGreaterThanOrEqual(sum === CONNECTIONS ? 0 : 1);
    expect(others).toBeLessThanOrEqual(sum === CONNECTIONS ? 0 : 10);
  } finally {
    proxy.kill("SIGKILL");
    reader.kill("SIGKILL");
    await Promise.all([proxy.exited, reader.exited]);
    rmSync(folder, { recursive: true });
  }
});

const python = Bun.which("python3");

/** Starts the command with a terminal as its standard error. The terminal is read only on command. */
const STALLED_TERMINAL = `
import os, pty, subprocess, sys
master, slave = pty.openpty()
child = subprocess.Popen(sys.argv[1:], stderr=slave)
os.close(slave)
print(child.pid, flush=True)
sys.stdin.readline()
while True:
    try:
        data = os.read(master, 65536)
    except OSError:
        break
    if not data: break
    os.write(1, data)
child.wait()
`;

test.skipIf(python === null)(
  "a terminal that is stopped holds up no connection (python3 makes the terminal)",
  async () => {
    using origin = echoOrigin();
    const port = freePort();
    const flags = [
      "--targets",
      origin.target,
      "--capacity",
      "1000000",
      "--fill-rate",
      "1ms",
      "--log-level",
      "debug",
    ];
    const terminal = Bun.spawn(
      [python!, "-c", STALLED_TERMINAL, await binary(), `127.0.0.1:${port}`, ...CERTIFICATE_FLAGS, ...flags],
      { stdin: "pipe", stdout: "pipe" },
    );
    const output = { text: "" };
    const reading = (async () => {
      const decoder = new TextDecoder();
      for await (const chunk of terminal.stdout) output.text += decoder.decode(chunk, { stream: true });
    })();
    await until(() => output.text.includes("\n"), "it has started");
    const pid = parseInt(output.text);
    try {
      for (let up = false; !up;) {
        up = await connectPlain(port).then(
          (probe) => (probe.reset(), true),
          () => false,
        );
      }
      // More than a terminal holds.
      for (let i = 0; i < 200; i++) {
        const client = await connect(port);
        await client.send("x");
        expect((await client.read(1)).length).toBe(1);
        client.close();
      }
      terminal.stdin.write("\n");
      await terminal.stdin.flush();
      await until(() => output.text.split(" closed ").length > 200, "all lines have come");
      expect(output.text.split(" admitted ").length).toBe(201);
    } finally {
      process.kill(pid, "SIGKILL");
      await terminal.exited;
      await reading;
    }
  },
);
