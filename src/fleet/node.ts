// What the parts of the fleet share in this node: the settings, the session with the store, what is known of clients and of
// other nodes, and the names of keys.

import type { FleetConfig } from "../config/config.ts";
import type { FleetCredentials } from "../config/credentials.ts";
import type { Logger } from "../lib/log.ts";
import { Clients, type ClientEntry } from "./clients.ts";
import { Measures } from "./measures.ts";
import type { Session } from "./session.ts";
import { Nodes } from "./shares.ts";

/** Keys with something else in them that get a log line. */
const MAX_KEYS_TOLD = 100;

/** A fleet, as the configuration and its files have it. */
export interface FleetRun {
  readonly config: FleetConfig;
  readonly credentials: FleetCredentials;
}

/** This node in its fleet. */
export class FleetNode {
  readonly clients = new Clients();
  readonly nodes = new Nodes();
  readonly measures = new Measures();
  /** Whole milliseconds of a clock that only goes forward. */
  readonly now: () => number;
  /** Undefined where the configuration has no fleet. */
  run: FleetRun | undefined;
  session: Session | undefined;
  readonly #log: Logger;
  readonly #keysTold = new Set<string>();

  constructor(log: Logger, now: () => number) {
    this.#log = log;
    this.now = now;
  }

  get lease(): number {
    return this.run?.config.lease ?? 1;
  }

  /** Both keys of a client, for people. */
  keyOf(entry: ClientEntry): string {
    return `${this.session?.key(`{${entry.hash}}`) ?? entry.hash}:b or :o`;
  }

  /** Says, once for each key, that something else is in it. */
  wrongType(key: string, error: unknown): void {
    if (this.#keysTold.has(key) || this.#keysTold.size >= MAX_KEYS_TOLD) return;
    this.#keysTold.add(key);
    const { message } = error as Error;
    this.#log.error("fleet key holds something else", { key, error: message.slice(0, 100) });
  }
}

/** The keys of one client in the store. */
export function keysOf(session: Session, { hash }: ClientEntry): [bucket: string, counts: string] {
  return [session.key(`{${hash}}:b`), session.key(`{${hash}}:o`)];
}
