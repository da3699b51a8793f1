// Whether a proxy lives, and whether it is ready. Pure.

import type { Counters } from "../state/counters.ts";
import type { Pool } from "../upstreams/pool.ts";

/** A thread that has not said for so many milliseconds that it runs hangs. */
export const HANGS_AFTER_MS = 5_000;

/** What is said to a health check. */
export interface Health {
  readonly healthy: boolean;
  /** One line for each thing that was looked at. */
  readonly lines: readonly string[];
}

/**
 * Every thread runs. Targets and stores play no part: a restart would not help them.
 * @param threads the columns of the threads, in the order of the workers
 */
export function liveness(
  counters: Pick<Counters, "readThread">,
  threads: readonly number[],
  now: number,
): Health {
  const silent = threads.map((column) => {
    const { beat } = counters.readThread(column);
    return beat === 0 ? 0 : now - beat;
  });
  return {
    healthy: silent.every((ms) => ms < HANGS_AFTER_MS),
    lines: silent.map((ms, worker) => {
      const state = ms < HANGS_AFTER_MS ? "runs" : `has not answered for ${Math.floor(ms / 1_000)} s`;
      return `worker ${worker} ${state}`;
    }),
  };
}

/**
 * The proxy takes connections and, where an upstream is asked about, that has a healthy target.
 * @param asked the upstream that the answer is to depend on
 */
export function readiness(
  phase: "starting" | "running" | "draining",
  pools: ReadonlyMap<string, Pick<Pool, "balancer">>,
  asked: string | undefined,
): Health {
  const unhealthy = [...pools].filter(([, { balancer }]) => !balancer.healthy).map(([name]) => name);
  return {
    healthy: phase === "running" && (asked === undefined || !unhealthy.includes(asked)),
    lines: [
      `proxy is ${phase}`,
      ...Array.from(pools.keys(), (name) =>
        unhealthy.includes(name)
          ? `upstream ${name} has no healthy target`
          : `upstream ${name} has a healthy target`,
      ),
    ],
  };
}
