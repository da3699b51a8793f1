// The benchmark: this proxy beside each peer that is installed, in one run, on the same certificates and the same
// backend. `bun run bench [--quick] [--only NAME] [--json]`.
//
// Rounds are interleaved (A, B, C, A, B, C, …) and medians reported, so that a machine whose speed drifts is unfair to
// nobody. CPU is that of the proxy's own process, user and system, as the kernel counts it; the generator and the
// backend are processes of their own.

import { mkdtempSync, rmSync } from "node:fs";
import { cpus, release, tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { makeCertificates } from "./certificates.ts";
import { floor } from "./floor.ts";
import type { Job, Outcome } from "./generator.ts";
import { LOADS, STARTUP, memory, type LoadMeasure, type Measure, type Task } from "./measures.ts";
import { peers, start, type Keys, type Peer, type Running } from "./peers.ts";
import { cpuOf, memoryOf } from "./process.ts";
import { table, type Row } from "./report.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    only: { type: "string" },
  },
});
const rounds = options.quick ? 3 : 7;
const scale = options.quick ? 0.4 : 1;
const scratch = mkdtempSync(`${tmpdir()}/tcpproxy-bench-`);
const progress = (text: string) => void process.stderr.write(`${text}\n`);
const wanted = ({ name }: Measure) => options.only === undefined || name.startsWith(options.only);

const all = peers(`${ROOT}out/proxy`);
const present = all.filter((peer): peer is Peer & { program: string } => peer.program !== null);
const missing = all.filter((peer) => peer.program === null).map(({ name }) => name);
for (const name of missing) progress(`${name} is missing: it is left out`);

const certs: Record<Keys, string> = { rsa: `${scratch}/rsa`, ecdsa: `${scratch}/ecdsa` };
for (const keys of ["rsa", "ecdsa"] as const) await makeCertificates(certs[keys], keys);

async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const { value } = await stream.getReader().read();
  return new TextDecoder().decode(value).trim();
}

const backend = Bun.spawn([process.execPath, `${import.meta.dir}/backend.ts`], { stdout: "pipe" });
const backendPort = Number(await firstLine(backend.stdout));

function generator(keys: Keys, port: number, task: Task) {
  const job = { ...task, port, certs: certs[keys] } as Job;
  return Bun.spawn([process.execPath, `${import.meta.dir}/generator.ts`, JSON.stringify(job)], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
}

async function outcomeOf(child: ReturnType<typeof generator>): Promise<Outcome> {
  const text = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error("the generator failed");
  return JSON.parse(text.trim().split("\n").at(-1)!) as Outcome;
}

/** Runs something that holds its connections while `work` is done. */
async function holding<T>(keys: Keys, port: number, task: Task, work: () => Promise<T>): Promise<T> {
  const child = generator(keys, port, task);
  if ((await firstLine(child.stdout)) !== "ready") throw new Error("the generator failed");
  const result = await work();
  child.stdin.end();
  await child.exited;
  return result;
}

const figures = new Map<string, Map<string, number[]>>();
function note(measure: string, peer: string, figure: number): void {
  const row = figures.get(measure) ?? new Map<string, number[]>();
  figures.set(measure, row);
  row.set(peer, [...(row.get(peer) ?? []), figure]);
}

async function load(measure: LoadMeasure): Promise<void> {
  const running: [Peer, Running][] = [];
  for (const peer of present)
    running.push([peer, await start(peer, backendPort, certs[measure.keys], scratch)]);
  for (let round = 0; round <= rounds; round++) {
    for (const [peer, { pid, port }] of running) {
      // Round 0 warms up.
      const task = measure.task(round === 0 ? 0.2 * scale : scale);
      const before = cpuOf(pid);
      const run = () => outcomeOf(generator(measure.keys, port, task));
      const outcome =
        measure.storm === undefined
          ? await run()
          : await holding(measure.keys, port, { kind: "storm", concurrency: measure.storm }, run);
      if (round === 0) continue;
      // The last connections end a moment after the generator has.
      await Bun.sleep(50);
      note(measure.name, peer.name, measure.figure(outcome, cpuOf(pid) - before));
      for (const [name, { figure }] of Object.entries(measure.also ?? {}))
        note(name, peer.name, figure(outcome));
    }
    progress(`${measure.name}: ${round === 0 ? "warm" : `round ${round} of ${rounds}`}`);
  }
  for (const [, { stop }] of running) await stop();
}

async function startup(): Promise<void> {
  for (let round = 0; round < rounds * 2; round++) {
    for (const peer of present) {
      const running = await start(peer, backendPort, certs.rsa, scratch);
      note(STARTUP.name, peer.name, running.startup);
      await running.stop();
    }
  }
  progress("startup: done");
}

async function idle(measure: ReturnType<typeof memory>): Promise<void> {
  for (const peer of present) {
    const { pid, port, stop } = await start(peer, backendPort, certs.rsa, scratch);
    // What is made once, with the first connections, is not counted.
    await outcomeOf(generator("rsa", port, { kind: "connect", count: 500, concurrency: 16 }));
    await Bun.sleep(500);
    const before = memoryOf(pid);
    const after = await holding("rsa", port, { kind: "idle", count: measure.connections }, async () => {
      await Bun.sleep(1_000);
      return memoryOf(pid);
    });
    note(measure.name, peer.name, (after - before) / 1_024 / measure.connections);
    await stop();
    progress(`${measure.name}: ${peer.name}`);
  }
}

/** As many idle connections as the limit on descriptors allows here, two each in the proxy; 10,000 at most. */
function mostConnections(): number {
  const { userLimits } = process.report!.getReport() as { userLimits: { open_files: { soft: number } } };
  return Math.min(10_000, Math.floor((Number(userLimits.open_files.soft) - 200) / 2 / 100) * 100);
}

try {
  const memories = [memory(2_000), memory(mostConnections())].slice(0, options.quick ? 1 : 2);
  if (wanted(STARTUP)) await startup();
  for (const measure of LOADS.filter(wanted)) await load(measure);
  for (const measure of memories.filter(wanted)) await idle(measure);

  const measures: Measure[] = [STARTUP, ...LOADS, ...memories];
  const units = new Map(measures.map(({ name, unit }) => [name, unit]));
  for (const { also } of LOADS)
    for (const [name, { unit }] of Object.entries(also ?? {})) units.set(name, unit);
  const rows: Row[] = [...figures].map(([name, row]) => ({ name, unit: units.get(name)!, figures: row }));

  const machine = `${cpus().length} × ${cpus()[0]!.model}, Linux ${release()}`;
  const versions = Object.fromEntries(
    present.map(({ name, program, version }) => {
      const { stdout, stderr } = Bun.spawnSync([program, ...version], { stderr: "pipe" });
      return [name, /\d+\.\d+[\w.+-]*/.exec(`${stdout}${stderr}`)?.[0] ?? "?"];
    }),
  );
  const openssl = floor(options.quick ? 1 : 3);
  if (options.json) {
    const result = rows.map(({ name, unit, figures }) => ({
      name,
      unit,
      rounds: Object.fromEntries(figures),
    }));
    console.log(
      JSON.stringify({ machine, versions, missing, floor: openssl, measures: result }, undefined, 2),
    );
  } else {
    console.log(`\n${machine}`);
    console.log(
      Object.entries(versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(", "),
    );
    console.log(
      `\n${table(
        rows,
        present.map(({ name }) => name),
      )}\n`,
    );
    for (const { name, about } of measures) if (figures.has(name)) console.log(`${name}: ${about}`);
    console.log(`\nThe floor, by openssl speed:\n${openssl.join("\n")}`);
  }
} finally {
  backend.kill();
  rmSync(scratch, { recursive: true });
}
process.exit(0);
