// Signals that supervisors and people send to the built binary: some start a shutdown, the others do nothing.

import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { CERTIFICATE_FLAGS, Run } from "../support/binary.ts";
import { connect, echoOrigin } from "../support/peer.ts";
import { until } from "../support/proxy.ts";
import { echoes } from "../support/served.ts";

const IGNORED = ["SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO"] as const;

describe.each([1, 2])("signals, with %p workers", (workers) => {
  const flags = ["--workers", String(workers)];

  test("SIGQUIT drains: a connected client finishes, and the exit code is 0", async () => {
    using origin = echoOrigin();
    await using run = await Run.proxy([origin.target], flags);
    const client = await connect(run.port);
    expect(await echoes(client)).toBe(true);
    run.child.kill("SIGQUIT");
    await run.line("draining");
    expect(await echoes(client)).toBe(true);
    client.close();
    expect(await run.exit()).toBe(0);
    expect((await run.line("closed")).reason).toBe("closed");
  });

  test("a second signal, of another name, closes the connections at once and exits 1", async () => {
    using origin = echoOrigin();
    await using run = await Run.proxy([origin.target], flags);
    const client = await connect(run.port);
    expect(await echoes(client)).toBe(true);
    run.child.kill("SIGTERM");
    await run.line("draining");
    run.child.kill("SIGQUIT");
    expect(await run.exit()).toBe(1);
    client.close();
  });

  test("signals without a meaning are logged, while the proxy runs and while it drains, and change nothing", async () => {
    using origin = echoOrigin();
    await using run = await Run.proxy([origin.target], flags);
    const client = await connect(run.port);
    const said = (signal: string) =>
      run.lines().filter((line) => line.msg === "signal ignored" && line["signal"] === signal).length;
    for (const round of [1, 2]) {
      for (const signal of IGNORED) {
        run.child.kill(signal);
        await until(() => said(signal) === round || run.child.exitCode !== null, `the log names ${signal}`);
        expect(await echoes(client)).toBe(true);
      }
      if (round === 1) {
        expect(await echoes(await connect(run.port))).toBe(true);
        run.child.kill("SIGTERM");
        await run.line("draining");
      }
    }
    // The runtime itself handles or ignores these.
    for (const signal of ["SIGPIPE", "SIGWINCH", "SIGCONT"] as const) run.child.kill(signal);
    expect(await echoes(client)).toBe(true);
    run.child.kill("SIGQUIT");
    expect(await run.exit()).toBe(1);
  });

  test.if(process.platform === "linux")(
    "signals without a meaning do no harm while the proxy starts",
    async () => {
      using origin = echoOrigin();
      const run = await Run.start([
        ...["127.0.0.1:0", "--targets", origin.target, "--log-format", "json", ...flags],
        ...CERTIFICATE_FLAGS,
      ]);
      await using _ = run;
      const status = `/proc/${run.child.pid}/status`;
      /** Whether it handles SIGIO, the last one: while the runtime itself is starting, a signal ends it like any process. */
      const hears = () => {
        const caught = /SigCgt:\s+(\w+)$/m.exec(readFileSync(status, "utf8"))?.[1] ?? "0";
        return ((BigInt(`0x${caught}`) >> 28n) & 1n) === 1n;
      };
      await until(() => !existsSync(status) || hears() || run.child.exitCode !== null, "it hears");
      while (!run.lines().some(({ msg }) => msg === "listening") && run.child.exitCode === null) {
        for (const signal of IGNORED) run.child.kill(signal);
        // Not a wait: this is the rate of the signals.
        await Bun.sleep(1);
      }
      expect(await echoes(await connect(await run.port()))).toBe(true);
      expect(await run.line("signal ignored")).toMatchObject({ level: "warn" });
    },
  );
});

test("echo servers ignore signals without a meaning, and exit on SIGQUIT", async () => {
  await using echo = await Run.start(["echo", "127.0.0.1:0", "--log-format", "json"]);
  await echo.line("echo listening");
  echo.child.kill("SIGUSR1");
  await echo.line("signal ignored");
  echo.child.kill("SIGQUIT");
  expect(await echo.exit()).toBe(0);
});

test.if(process.platform === "linux")("a stop while the workers start is no failure", async () => {
  for (let delay = 0; delay < 60; delay += 6) {
    await using run = await Run.start([
      ...["127.0.0.1:0", "--targets", "127.0.0.1:1", "--workers", "16", "--log-format", "json"],
      ...CERTIFICATE_FLAGS,
    ]);
    const status = `/proc/${run.child.pid}/status`;
    /** SIGTERM has a handler. */
    const hears = () => {
      const caught = /SigCgt:\s+(\w+)$/m.exec(readFileSync(status, "utf8"))?.[1] ?? "0";
      return ((BigInt(`0x${caught}`) >> 14n) & 1n) === 1n;
    };
    await until(() => !existsSync(status) || hears() || run.child.exitCode !== null, "it hears");
    // The moment within the start differs from run to run.
    await Bun.sleep(delay);
    run.child.kill("SIGTERM");
    expect(await run.exit()).toBe(0);
  }
});
