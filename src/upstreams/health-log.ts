// Writes the two lines that say that an upstream has lost its last healthy target, and that it has one again.

import type { Pool } from "./pool.ts";
import type { Logger } from "../lib/log.ts";

/** Writes the line if a target's change also changed the upstream. Called after the target's own line. */
export function logHealth(log: Logger, pool: Pool | undefined): void {
  const healthy = pool?.balancer.takeHealthChange();
  if (pool !== undefined && healthy !== undefined && !pool.removed) {
    logUpstream(log, pool.upstream.name, healthy);
  }
}

export function logUpstream(log: Logger, upstream: string, healthy: boolean): void {
  if (healthy) log.info("upstream has a healthy target again", { upstream });
  else log.error("upstream has no healthy target", { upstream });
}
