// Worker threads that die: their connections are lost, no other is affected, and new workers replace them.

import { describe, expect, test } from "bun:test";
import { appendFileSync, cpSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { StartError } from "../../src/lib/errors.ts";
import { startWorkerPool, type TestWorkerPool } from "../support/worker-pool.ts";
import { connect, echoOrigin, Origin, type Peer } from "../support/peer.ts";
import { until } from "../support/proxy.ts";
import { crowd, echoes } from "../support/served.ts";

/** With this many clients, the chance that a worker has none of them is 1 in 10^9. */
const CROWD = 30;

const isLost = (client: Peer) =>
  Promise.race([client.closed.then(() => true), Bun.sleep(0).then(() => false)]);

const open = ({ ledger }: TestWorkerPool) => ledger.targets.open.total[0]!;

describe("a worker that dies", () => {
  test.each([
    "an error thrown in a timer",
    "a rejection that nobody handles",
    "a stack that overflows",
    "an error while it is being told something",
    "its own end",
  ] as const)(
    "a worker that dies of %s is logged, its counts are given back, and another takes its place",
    async (way) => {
      using origin = echoOrigin();
      await using crew = await startWorkerPool([origin.target]);
      const clients = await crowd(crew.port, CROWD);
      expect(crew.ledger.connections()).toBe(30);
      expect(crew.budget.used).toBe(60);

      crew.kill(0, way);
      expect(await crew.log.line("worker died")).toMatchObject({ level: "error", worker: 0 });
      // The excerpt of the source before the error is not logged.
      if (way !== "its own end") {
        expect((await crew.log.line("worker failed"))["error"]).toMatch(/^(error|RangeError): /);
      }
      const lost = (await Promise.all(clients.map(isLost))).filter((each) => each).length;
      expect(lost).toBeGreaterThan(0);
      expect(lost).toBeLessThan(30);
      expect(crew.ledger.connections()).toBe(30 - lost);
      expect(open(crew)).toBe(30 - lost);
      expect(crew.budget.used).toBe(2 * (30 - lost));

      // The other clients notice nothing.
      const served = (await Promise.all(clients.map(echoes))).filter((each) => each).length;
      expect(served).toBe(30 - lost);

      await crew.log.line("worker replaced");
      const more = await crowd(crew.port, CROWD);
      for (const client of [...clients, ...more]) client.close();
      const closed = await crew.log.count("closed", 60 - lost);
      expect(new Set(closed.map(({ id }) => String(id).split("-")[1]))).toEqual(new Set(["1", "2"]));
      await until(() => crew.ledger.connections() === 0 && crew.budget.used === 0, "all is given back");
      expect(open(crew)).toBe(0);
    },
  );

  test("a worker that dies while others dial and shake hands leaves exact counts", async () => {
    using origin = echoOrigin();
    await using crew = await startWorkerPool([origin.target]);
    let ended = false;
    const coming = Array.from({ length: 8 }, async () => {
      while (!ended) {
        const client = await connect(crew.port).catch(() => undefined);
        if (client === undefined) continue;
        await client.send("x");
        await client.read(1);
        client.close();
      }
    });
    for (const [i, worker] of [0, 1, 0].entries()) {
      const { length } = crew.log.lines;
      await until(() => crew.log.lines.length > length + 40, "connections come and go");
      crew.kill(worker);
      await crew.log.count("worker replaced", i + 1);
    }
    ended = true;
    await Promise.all(coming);
    await until(() => crew.ledger.connections() === 0, "all have gone");
    expect(open(crew)).toBe(0);
    expect(crew.budget.used).toBe(0);
    await crowd(crew.port, 10);
  });

  test("a worker that dies while the pool is closing is not replaced, and does not delay the end", async () => {
    using origin = echoOrigin();
    await using crew = await startWorkerPool([origin.target]);
    const clients = await crowd(crew.port, CROWD);
    await crew.crew.close();
    crew.kill(0);
    await crew.log.line("worker died");
    crew.crew.cut();
    const { cut } = await crew.crew.over;
    expect(cut).toBeGreaterThan(0);
    expect(cut).toBeLessThan(30);
    expect(crew.ledger.connections()).toBe(0);
    expect(crew.log.lines.filter(({ msg }) => msg === "worker replaced")).toEqual([]);
    for (const client of clients) client.reset();
  });

  test("a worker that dies again and again ends the proxy with a clear error", async () => {
    using origin = new Origin();
    await using crew = await startWorkerPool([origin.target]);
    for (let i = 0; i < 4; i++) {
      crew.kill(i % 2);
      await crew.log.count("worker replaced", i + 1);
    }
    crew.kill(0);
    const error: unknown = await crew.crew.over.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(StartError);
    expect((error as StartError).message).toBe("worker threads keep dying: 5 within 60 s");
    await expect(connect(crew.port)).rejects.toThrow();
    await until(() => crew.budget.used === 0, "descriptors are given back");
  });
});

test("the command line says why it ends when workers keep dying, and exits 1", async () => {
  const folder = mkdtempSync(`${tmpdir()}/tcpproxy-mortal-`);
  const root = new URL("../..", import.meta.url).pathname;
  for (const name of ["src", "package.json"])
    cpSync(`${root}/${name}`, `${folder}/${name}`, { recursive: true });
  for (const name of ["node_modules", "certs"]) symlinkSync(`${root}/${name}`, `${folder}/${name}`);
  appendFileSync(`${folder}/src/worker.ts`, 'setTimeout(() => { throw new Error("gone wrong"); }, 200);\n');
  const run = Bun.spawn([process.execPath, "src/main.ts", "127.0.0.1:0", "--workers", "2"], {
    cwd: folder,
    stderr: "pipe",
  });
  const lines = (await new Response(run.stderr).text()).trimEnd().split("\n");
  expect(await run.exited).toBe(1);
  expect(lines.filter((line) => !line.startsWith("{"))).toEqual([
    "proxy: worker threads keep dying: 5 within 60 s",
  ]);
  rmSync(folder, { recursive: true });
});
