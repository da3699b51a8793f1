// Makes what runs a proxy's connections: one engine in this thread, or a pool of worker threads.

import { Engine } from "./engine.ts";
import type { Runner } from "./runner.ts";
import type { Snapshot } from "./snapshot.ts";
import { WorkerPool, type WorkerPoolOptions } from "./worker-pool.ts";

/** The snapshot says how many workers. */
export function makeRunner(snapshot: Snapshot, { module, ...shared }: WorkerPoolOptions): Runner {
  return snapshot.config.workers === 1
    ? new Engine(snapshot, shared)
    : new WorkerPool(snapshot, { ...shared, module });
}
