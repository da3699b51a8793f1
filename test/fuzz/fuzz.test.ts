// The fuzzer for a few seconds a part, with a fixed seed; `bun test/fuzz/main.ts --seconds 600` goes on.

import { expect, test } from "bun:test";
import { fuzz, TARGETS } from "./runner.ts";

const SEED = 8;

test.each(Object.keys(TARGETS))(
  "nothing spoiled ends the process, is an internal error, leaves something behind or gets in: %s",
  async (name) => {
    const cases = await fuzz(name, { seed: SEED, seconds: 3 });
    console.log(`${name}: --seed ${SEED}, ${cases} cases`);
    expect(cases).toBeGreaterThan(0);
  },
  60_000,
);
