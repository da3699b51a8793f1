// Runs each target of the fuzzer for a few seconds, from a fixed seed. `bun test/fuzz/main.ts --seconds 600` runs longer.

import { expect, test } from "bun:test";
import { fuzz, TARGETS } from "./runner.ts";

const SEED = 8;

test.each(Object.keys(TARGETS))(
  "the proxy survives mutated input without internal errors, leaks or false admissions: %s",
  async (name) => {
    const cases = await fuzz(name, { seed: SEED, seconds: 3 });
    console.log(`${name}: --seed ${SEED}, ${cases} cases`);
    expect(cases).toBeGreaterThan(0);
  },
  60_000,
);
