// The interface that an engine and a pool of worker threads share.

import type { Address } from "../lib/address.ts";
import type { Snapshot } from "./snapshot.ts";

/** Carries connections: an engine in this thread, or a pool of worker threads with one engine each. */
export interface Runner {
  listen(): Address[] | Promise<Address[]>;
  apply(snapshot: Snapshot): void | Promise<void>;
  /** Resolves when all ports are closed. */
  close(): Promise<void>;
  cut(): void;
  readonly over: Promise<{ cut: number }>;
}
