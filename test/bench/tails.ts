// Where the slowest round trips come from: `bun build.ts && bun test/bench/tails.ts [--runs N] [--only roundtrip|idle|storm]`.
// Two ways that check each other. The kernel's trace says what the proxy's thread did in each slow round trip; and the
// same load runs on the proxy with one thing changed, on the others, and on a relay that does next to nothing.
// Linux only; the trace wants root, and is left out without.

import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { makeCertificates } from "./certificates.ts";
import { Load } from "./load.ts";
import { thisMachine } from "./machine.ts";
import { together } from "./percentiles.ts";
import { killAll } from "./processes.ts";
import { startBackend } from "./rounds.ts";
import { start } from "./running.ts";
import { divide, mainCauses, mean, stretchesOf, timeline, type Parts } from "./tails/causes.ts";
import { causesText, histogramText, variantsText, type Attribution } from "./tails/text.ts";
import { KernelTrace } from "./tails/trace.ts";
import { variantsOf, type Variant } from "./tails/variants.ts";

const PROXY = new URL("../../out/proxy", import.meta.url).pathname;
const SIZE = 256;
const CONNECTIONS = 8;
const STORM = 16;
/** Round trips of one run. */
const COUNT = { roundtrip: 40_000, idle: 40_000, storm: 4_000 };
/** Makes each collection visible, and the tick. */
const VISIBLE = { BUN_JSC_logGC: "1", BUN_OPTIONS: `--preload ${import.meta.dir}/tails/marks.ts` };

type Kind = keyof typeof COUNT;

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "10" },
    only: { type: "string", default: "roundtrip,idle,storm" },
  },
});
const runs = Number(values.runs);
const kinds = values.only.split(",").filter((name): name is Kind => name in COUNT);
if (kinds.join() !== values.only) throw new Error("--only: roundtrip, idle or storm, or several with commas");
if (!existsSync(PROXY)) throw new Error("there is no out/proxy; make it with bun build.ts");
const scratch = mkdtempSync(`${tmpdir()}/tcpproxy-tails-`);
process.on("exit", () => {
  killAll();
  rmSync(scratch, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));
await makeCertificates(`${scratch}/certs`, "rsa");
const certs = `${scratch}/certs`;
const backend = await startBackend();
const variants = variantsOf(PROXY);
const canTrace = process.getuid!() === 0 && existsSync("/sys/kernel/tracing/instances");

const { cpu, cores, kernel, descriptors } = thisMachine();
const idle = Math.min(9_500, Math.floor((descriptors - 300) / 2));
const TITLES = {
  roundtrip: "Round trips",
  idle: `Round trips beside ${idle} idle connections`,
  storm: `Round trips beside a storm of ${STORM} clients`,
};
console.log(
  `${cores} × ${cpu}, ${kernel}; ${runs} runs, medians; ${CONNECTIONS} connections, ${SIZE} bytes, RSA-2048`,
);
for (const kind of kinds) {
  console.log(`\n## ${TITLES[kind]}`);
  if (canTrace) console.log(causesText(await attribute(kind)));
  else console.log("\nWithout root and /sys/kernel/tracing there is no trace, and no causes.");
  // The benchmark compares proxies beside idle connections.
  if (kind === "idle") continue;
  const taken = await compare(kind);
  console.log(histogramText(new Map([...taken].map(([name, rounds]) => [name, together(rounds)]))));
  console.log(variantsText(taken));
}
process.exit(0);

/** Runs the load on a port; `before` gets the processes that make it, before they begin. */
async function run<T>(
  kind: Kind,
  {
    port,
    count,
    plain = false,
    spans = false,
  }: { port: number; count: number; plain?: boolean; spans?: boolean },
  before: (pids: number[]) => T,
) {
  const server = { port, certs, plain };
  const load = await Load.ready({
    ...server,
    kind: "roundtrip",
    count,
    connections: CONNECTIONS,
    size: SIZE,
    spans,
  });
  // The proxy has dialled for all connections.
  await Bun.sleep(200);
  const storm = kind === "storm" ? await Load.ready({ ...server, kind, concurrency: STORM }) : undefined;
  const began = before([...load.pids, ...(storm?.pids ?? [])]);
  const stormy = storm?.run();
  if (storm !== undefined) await Bun.sleep(200);
  const outcome = await load.run();
  storm?.release();
  await stormy;
  return { outcome, began, end: () => Promise.all([load.end(), storm?.end()]) };
}

/** The same load on all variants, in turn: how long each round trip took, in milliseconds, by run. */
async function compare(kind: Kind): Promise<Map<string, Float64Array[]>> {
  const taking = variants.filter(({ calm }) => kind === "roundtrip" || calm !== true);
  const ports = await Promise.all(taking.map(async (variant) => ({ variant, ...(await begin(variant)) })));
  const taken = new Map(taking.map(({ name }) => [name, [] as Float64Array[]]));
  const all = Array.from({ length: cores }, (_, core) => core).join(",");
  for (let i = 0; i <= runs; i++) {
    for (const { variant, pid, port } of ports) {
      const pinning = (pids: number[]) => {
        if (variant.pinned !== true) return;
        pin(pid!, "0");
        for (const each of [backend.pid, ...pids]) pin(each, "1");
      };
      const count = i === 0 ? COUNT[kind] / 4 : COUNT[kind];
      const { outcome, end } = await run(kind, { port, count, plain: variant.peer === undefined }, pinning);
      await end();
      if (variant.pinned === true) pin(backend.pid, all);
      // Run 0 warms up.
      if (i > 0) taken.get(variant.name)!.push(Float64Array.from(outcome.latencies!));
    }
    process.stderr.write(`${kind}: compared, run ${i} of ${runs}\n`);
  }
  for (const { stop } of ports) await stop();
  return taken;
}

/** The proxy as it is, traced. */
async function attribute(kind: Kind): Promise<Attribution> {
  const ours = variants.find(({ name }) => name === "tcpproxy")!;
  const { pid, port, stop } = await begin(ours, VISIBLE);
  const held = kind === "idle" ? await Load.ready({ port, certs, kind, count: idle }) : undefined;
  // Its clients have nothing to do.
  held?.signal("SIGSTOP");
  const found: Attribution = {
    ordinary: [],
    slow: { means: [], mains: [] },
    slowest: { means: [], mains: [] },
    collections: [],
    ticks: [],
  };
  for (let i = 0; i <= runs; i++) {
    const asked = { port, count: COUNT[kind], spans: true };
    const { outcome, began, end } = await run(kind, asked, ([generator, ...others]) => ({
      generator: generator!,
      relayed: new Set(readdirSync(`/proc/${pid}/fd`).map(Number)),
      load: threadsOf(generator!, ...others, backend.pid),
      trace: i === 0 ? undefined : new KernelTrace([pid!, generator!, ...others, backend.pid]),
    }));
    const events = began.trace?.end();
    const own = threadsOf(pid!);
    await end();
    process.stderr.write(`${kind}: traced, run ${i} of ${runs}\n`);
    if (events === undefined) continue;
    const threads = { proxy: pid!, backend: backend.pid, own, ...began };
    const moments = timeline(events, threads);
    const trips = Array.from({ length: outcome.spans!.length / 2 }, (_, at) =>
      outcome.spans!.slice(2 * at, 2 * at + 2),
    );
    trips.sort(([a, b], [c, d]) => b! - a! - (d! - c!));
    const parts = (from: number, to: number): Parts[] =>
      trips
        .slice(Math.floor(trips.length * from), Math.ceil(trips.length * to))
        .map(([a, b]) => divide(moments, a!, b!));
    const ordinary = mean(parts(0.45, 0.55));
    found.ordinary.push(ordinary);
    for (const [slow, from] of [
      [found.slow, 0.99],
      [found.slowest, 0.999],
    ] as const) {
      const some = parts(from, 1);
      slow.means.push(mean(some));
      slow.mains.push(mainCauses(some, ordinary));
    }
    found.collections.push(stretchesOf(moments, "gc"));
    found.ticks.push(stretchesOf(moments, "tick"));
  }
  held?.signal("SIGCONT");
  await held?.end();
  await stop();
  return found;
}

/** Starts a variant. */
async function begin({ peer, env }: Variant, more: Readonly<Record<string, string>> = {}) {
  if (peer === undefined) return { pid: undefined, port: backend.port, stop: async () => {} };
  const setup = { backend: backend.port, connections: idle + 100, certs, tickets: false, workers: 1 };
  const off = { store: undefined, watched: undefined, exempt: false };
  return start(peer, { ...setup, ...off }, scratch, { ...env, ...more });
}

/** All threads of some processes. */
function threadsOf(...pids: number[]): Set<number> {
  return new Set(pids.flatMap((each) => readdirSync(`/proc/${each}/task`).map(Number)));
}

/** Has all threads of a process keep to some cores. */
function pin(pid: number, to: string): void {
  Bun.spawnSync(["taskset", "-apc", to, String(pid)]);
}
