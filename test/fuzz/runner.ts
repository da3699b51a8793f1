// Runs a target of the fuzzer: case after case until the time is up, each from a seed of its own, so that it can be repeated.

import { Random } from "../support/random.ts";
import { certificates } from "./certificates.ts";
import { configurations, keyFiles } from "./files.ts";
import { hellos } from "./hellos.ts";
import type { Target } from "./house.ts";
import { schedules } from "./schedules.ts";

export const TARGETS: Readonly<Record<string, () => Promise<Target>>> = {
  hellos,
  certificates,
  keyFiles,
  configurations,
  schedules: () => schedules(),
  threads: () => schedules(2),
};

/** Cases between two checks for leaks. */
const STRETCH = 25;

export interface Span {
  readonly seed: number;
  readonly seconds: number;
  /** The first case. Default: 0. */
  readonly from?: number;
}

/**
 * @returns how many cases ran
 * @throws an error with the seed and the case, so that `--seed` and `--case` repeat it
 */
export async function fuzz(name: string, { seed, seconds, from = 0 }: Span): Promise<number> {
  const deadline = performance.now() + seconds * 1_000;
  let number = from;
  try {
    await using target = await TARGETS[name]!();
    do {
      await target.one(new Random(Math.imul(seed, 0x9e3779b1) + number));
      if (++number % STRETCH === 0) await target.rest();
    } while (performance.now() < deadline);
    await target.rest();
  } catch (error) {
    const what = error instanceof Error ? error.stack : String(error);
    throw new Error(`${name}, --seed ${seed}, around --case ${number}: ${what}`);
  }
  return number - from;
}
