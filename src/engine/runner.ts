// What the proxy asks of an engine and of a pool of worker threads alike.

import type { Address } from "../lib/address.ts";
import type { Snapshot } from "./snapshot.ts";

/** What carries connections: an engine in this thread, or a pool of worker threads with one each. */
export interface Runner {
  listen(): Address[] | Promise<Address[]>;
  apply(snapshot: Snapshot): void | Promise<void>;
  /** Resolves when no port is open any more. */
  close(): Promise<void>;
  cut(): void;
  readonly over: Promise<{ cut: number }>;
}
