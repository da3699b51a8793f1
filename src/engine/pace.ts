// What a configuration says about the work of a thread beside its connections: whether it beats, and how often it ticks.

import type { Snapshot } from "./snapshot.ts";

/** Somebody can look at what the thread does. */
export function isWatched({ config }: Pick<Snapshot, "config">): boolean {
  return config.metrics !== undefined || config.admin !== undefined;
}

/** An event is noticed up to one tick late, and so is the deadline after it: 10 % together. */
export function tickEvery(config: Snapshot["config"]): number {
  const { timeout, handshakeTimeout, connectTimeout, maxConnectionDuration = Infinity } = config;
  const shortest = Math.min(timeout, handshakeTimeout, connectTimeout, maxConnectionDuration);
  return Math.min(250, Math.max(10, Math.floor(shortest / 20)));
}
