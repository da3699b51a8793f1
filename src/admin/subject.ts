// What the windows look at: a running proxy, as metrics, commands and the page see it.

import type { Block } from "../auth/blocks.ts";
import type { Config, Listener } from "../config/config.ts";
import type { AllCredentials, Credentials } from "../config/credentials.ts";
import type { Expiry } from "../config/expiry.ts";
import type { RowNumbers } from "../engine/counter-rows.ts";
import type { Runner } from "../engine/runner.ts";
import type { Address } from "../lib/address.ts";
import type { Fault } from "../lib/errors.ts";
import type { EventHub } from "../lib/events.ts";
import type { Logger } from "../lib/log.ts";
import type { Ledger } from "../state/ledger.ts";
import type { Pool } from "../upstreams/pool.ts";

/** How reloads went. Times are milliseconds since 1970. */
export interface ReloadRecord {
  readonly succeeded: number;
  readonly refused: number;
  /** When a configuration last came into force: at the start, or by a reload. */
  readonly succeededAt: number;
  /** When the last attempt was, if there was one, and what was wrong with it; empty where it succeeded. */
  readonly triedAt: number | undefined;
  readonly faults: readonly Pick<Fault, "problem">[];
  /** What the last one that succeeded has changed. */
  readonly changed?: { readonly keys: string; readonly files: string };
}

/** A running proxy. Each field says how it is at the moment of asking. */
export interface Subject {
  readonly version: string;
  /** `starting` until its ports are open, `draining` from the call of close on. */
  readonly phase: "starting" | "running" | "draining";
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  readonly config: Config;
  /** The absolute path of the file that it was read from, if there is one. */
  readonly configFile: string | undefined;
  readonly maxConnections: number;
  readonly warnings: readonly string[];
  /** What was read from the files that `config` names. */
  readonly credentials: AllCredentials;
  /** Of the door for operators, where it has TLS. */
  readonly adminCredentials?: Credentials | undefined;
  /** One list for each listener of `config`. */
  readonly expiries: readonly (readonly Expiry[])[];
  readonly reloads: ReloadRecord;
  /** As bound. */
  readonly addresses: readonly Address[];
  /** What each port was opened for; undefined where a reload has closed it. The place is the listener's row. */
  readonly ports: readonly (Listener | undefined)[];
  readonly pools: ReadonlyMap<string, Pool>;
  readonly rows: RowNumbers;
  readonly ledger: Ledger;
  readonly runner: Pick<Runner, "ask" | "askThread">;
  readonly events: EventHub;
  readonly log: Logger;
  readonly blocks: readonly Block[];
  /**
   * Puts these blocks in force in place of those before, in all threads, and closes what they hold for.
   * @returns how many connections were closed, once they are gone and nobody blocked can get in
   */
  setBlocks(blocks: readonly Block[]): Promise<number>;
  /** As {@link Proxy.reload} without an argument. */
  reload(): Promise<void>;
}

/** Something that is open and shows the proxy. */
export interface Window {
  /** The configuration has changed. Addresses stay as they are. */
  follow(): void;
  /** Closes it, with all that is connected to it. */
  close(): void;
}
