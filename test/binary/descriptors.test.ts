// Few descriptors and many threads: connections get what threads, listeners and health checks leave.

import { expect, test } from "bun:test";
import { CERTIFICATE_FLAGS, Run } from "../support/binary.ts";
import { connect, connectPlain, echoOrigin } from "../support/peer.ts";
import { until } from "../support/proxy.ts";

const refused = (run: Run) =>
  run.lines().filter(({ msg, reason }) => msg === "refused" && reason === "overloaded").length;

test.if(process.platform === "linux")(
  "a proxy of sixty-four workers with few descriptors refuses the surplus, does not spin, and recovers",
  async () => {
    using origin = echoOrigin();
    await using run = await Run.proxy([origin.target], ["--workers", "64"], { before: "ulimit -n 300" });
    // 300 − 64 kept free − those of 64 workers with a socket each: enough for 29 connections.
    const room = 29;
    const idle = run.descriptors;
    const crowd = await Promise.all(Array.from({ length: 140 }, () => connectPlain(run.port)));
    // Each of the surplus is refused, or takes the place of one that sent nothing.
    await until(() => refused(run) === 140 - room, "the surplus is refused");
    const cpu = run.cpu;
    // It must not spin meanwhile; no event tells that a process does nothing.
    await Bun.sleep(1_000);
    expect(run.cpu - cpu).toBeLessThan(500);
    expect(run.descriptors).toBeLessThan(300);
    for (const each of crowd) each.reset();
    await until(() => run.descriptors <= idle, "those have gone");
    const clients = await Promise.all(Array.from({ length: room }, () => connect(run.port)));
    for (const client of clients) {
      await client.send("x");
      expect((await client.read(1)).toString()).toBe("x");
    }
    expect(run.descriptors).toBeLessThan(300);
    for (const client of clients) client.close();
  },
);

test("a proxy that has too few descriptors for its workers does not start, and says how many it needs", async () => {
  const args = ["127.0.0.1:0", "--workers", "64", "--targets", "127.0.0.1:1"];
  const start = (limit: number) =>
    Run.start([...args, ...CERTIFICATE_FLAGS], { before: `ulimit -n ${limit}` });
  await using run = await start(240);
  expect(await run.exit()).toBe(1);
  expect(run.stderr).toContain("the limit on open files is 240, but a proxy with one connection needs 243");
  expect(run.stderr.trimEnd().split("\n")).toHaveLength(1);
  // With exactly that many, it starts and serves.
  using origin = echoOrigin();
  await using other = await Run.proxy([origin.target], ["--workers", "64"], { before: "ulimit -n 243" });
  const client = await connect(other.port);
  await client.send("x");
  expect((await client.read(1)).toString()).toBe("x");
  client.close();
});

test("check warns of a proxy that could not start", async () => {
  await using run = await Run.start(["check", "--workers", "64"], { before: "ulimit -n 240" });
  expect(await run.exit()).toBe(0);
  expect(await run.stdout).toContain("the limit on open files is 240");
});
