// The fuzzer by hand: `bun test/fuzz/main.ts [target …] [--seconds 60] [--seed N] [--case N]`. Each target runs
// for that many seconds. Without a seed, a random one is taken. Exit code 1 where a case fails.

import { parseArgs } from "node:util";
import { fuzz, TARGETS } from "./runner.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: "string", default: "60" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 1_000_000)) },
    case: { type: "string", default: "0" },
  },
});
const [seconds, seed, from] = [Number(values.seconds), Number(values.seed), Number(values.case)];
const unknown = positionals.find((name) => !(name in TARGETS));
if (unknown !== undefined || [seconds, seed, from].some(Number.isNaN)) {
  console.error(`targets are ${Object.keys(TARGETS).join(", ")}; --seconds, --seed and --case take a number`);
  process.exit(2);
}
let found = false;
for (const name of positionals.length > 0 ? positionals : Object.keys(TARGETS)) {
  try {
    console.log(`${name}: --seed ${seed}, ${await fuzz(name, { seed, seconds, from })} cases`);
  } catch (error) {
    found = true;
    console.error((error as Error).message);
  }
}
process.exit(found ? 1 : 0);
