// The benchmark: this proxy beside each peer that is installed, in one run, on the same certificates and the same
// backend. `bun run bench [--quick] [--only NAME[,NAME]] [--json]`. Standard output has the result and nothing else.

import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { makeCertificates } from "./certificates.ts";
import { featuresOf } from "./features.ts";
import { floor } from "./floor.ts";
import { thisMachine, versionsOf } from "./machine.ts";
import { BESIDE, beside } from "./beside.ts";
import { STRANGERS } from "./strangers.ts";
import { LOADS, STARTUP, memory, tunnelMemory } from "./measures.ts";
import { PEERS, ourselves, tunnels } from "./peers.ts";
import { killAll } from "./processes.ts";
import { toJson, toText } from "./report.ts";
import { idle, load, startBackend, startup, type Bench, type Figures } from "./rounds.ts";

const PROXY = new URL("../../out/proxy", import.meta.url).pathname;

const began = performance.now();
const seconds = () => Math.round((performance.now() - began) / 1_000);
const progress = (text: string) => void process.stderr.write(`${String(seconds()).padStart(4)} s  ${text}\n`);

const machine = thisMachine();
// As many idle connections as the limit on descriptors allows, two each in the proxy; stunnel takes 125 for 256
// descriptors. 10,000 at most.
const most = roundDown(
  Math.min(10_000, (machine.descriptors - 200) / 2, (machine.descriptors * 125) / 256),
  100,
);

/** All measures, in the order in which they run. */
const MEASURES: readonly { name: string; slow?: boolean; run: (bench: Bench) => Promise<Figures[]> }[] = [
  { name: STARTUP.name, run: startup },
  ...[...LOADS, ...STRANGERS].map((measure) => ({
    name: measure.name,
    run: (bench: Bench) => load(bench, measure),
  })),
  ...BESIDE.map((measure) => ({ name: measure.name, run: (bench: Bench) => beside(bench, measure) })),
  ...[...new Set([Math.min(2_000, most), most])].map((connections) => ({
    name: memory(connections, 1).name,
    // Minutes: only in a full run, or asked for by name.
    slow: connections > 2_000,
    run: (bench: Bench) => idle(bench, memory(connections, bench.quick || connections > 2_000 ? 1 : 3)),
  })),
  ...[Math.min(1_000, most)].map((connections) => ({
    name: tunnelMemory(connections, 1).name,
    run: (bench: Bench) => idle(bench, tunnelMemory(connections, bench.quick ? 1 : 3)),
  })),
];

const { measures, quick, json } = readOptions();
const scratch = mkdtempSync(`${tmpdir()}/tcpproxy-bench-`);
process.on("exit", () => {
  killAll();
  rmSync(scratch, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));

const certs = { rsa: `${scratch}/rsa`, ecdsa: `${scratch}/ecdsa` };
for (const keys of ["rsa", "ecdsa"] as const) await makeCertificates(certs[keys], keys);
const all = [ourselves(PROXY, await featuresOf(PROXY, certs.rsa, scratch)), ...PEERS];
const peers = all.filter(({ program }) => program !== null);
const ends = tunnels(PROXY).filter(({ program }) => program !== null);
const missing = all.filter(({ program }) => program === null).map(({ name }) => name);
for (const name of missing) progress(`${name} is missing: it is left out`);

const rows: Figures[] = [];
const failed: Record<string, string> = {};
for (const { name, run } of measures) {
  try {
    const { port: backend } = await startBackend();
    rows.push(
      ...(await run({ peers, tunnels: ends, quick, certs, scratch, backend, connections: most, progress })),
    );
  } catch (error) {
    // What the other measures gave is not lost by it; a figure for some of the peers would be no comparison.
    failed[name] = (error as Error).message;
    progress(`${name}: FAILED: ${failed[name]}`);
  }
  killAll();
}
const report = {
  machine,
  versions: versionsOf(peers),
  peers: peers.map(({ name }) => name),
  missing,
  failed,
  floor: floor(quick ? 1 : 3),
  rows,
  quick,
  seconds: seconds(),
};
console.log(json ? toJson(report) : toText(report));
progress(`done${quick ? ", the quick way" : ""}`);
process.exit(Object.keys(failed).length > 0 ? 1 : 0);

function roundDown(figure: number, step: number): number {
  return Math.floor(figure / step) * step;
}

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        quick: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        only: { type: "string", multiple: true, default: [] },
      },
    });
    const { quick, json } = values;
    if (!existsSync(PROXY)) throw new Error("there is no out/proxy; make it with bun build.ts");
    const wanted = values.only.flatMap((names) => names.split(","));
    if (wanted.length === 0) return { quick, json, measures: MEASURES.filter(({ slow }) => !quick || !slow) };
    // "handshake" is handshake-rsa, handshake-ecdsa and handshake-resumed.
    const means = (text: string, name: string) => name === text || name.startsWith(`${text}-`);
    for (const text of wanted) {
      if (MEASURES.some(({ name }) => means(text, name))) continue;
      const known = MEASURES.map(({ name }) => name).join(", ");
      throw new Error(`--only: there is no measure ${JSON.stringify(text)}; there are ${known}`);
    }
    return { quick, json, measures: MEASURES.filter(({ name }) => wanted.some((text) => means(text, name))) };
  } catch (error) {
    console.error(`bench: ${(error as Error).message}`);
    process.exit(2);
  }
}
