// What this node knows of each client: its connections here, its bucket, and who waits for the store's decision. Pure.

import { hash } from "node:crypto";
import type { FleetRefusal, Lease } from "../connection/fleet-gate.ts";
import { ruleOf, type ClientRule, type ClientRules } from "../state/client-rules.ts";
import { changeRule } from "../state/token-bucket.ts";

/** How much of a client's name is kept in the store, in characters. */
const MAX_NAME = 255;

/** A connection that waits for a decision. */
export interface Ask {
  readonly client: ClientEntry;
  readonly answered: (answer: Lease | FleetRefusal) => void;
  /** When it is no longer waited for the store. */
  readonly until: number;
  /** It has its answer. */
  done: boolean;
}

export class ClientEntry {
  /** 128 bits of the SHA-256 of the client's name, as the ledger has it; it stands for the name in keys. */
  readonly hash: string;
  /** The name, or its beginning. */
  readonly name: string;
  /** Its whole name, by which its limits are found. */
  readonly client: string;
  /** Its limits. */
  rule: ClientRule;
  /** Connections that the client has here. */
  open = 0;
  /** Connections that the store has been told of. */
  agreed = 0;
  /** When its bucket, over the whole fleet, is full, by this node's clock. */
  fullAt = 0;
  /** Tokens were taken without the store, which has to be told. */
  unmerged = false;
  /** Tokens that the store has to give back. */
  back = 0;
  /** The store has to be told. */
  changed = false;
  /** The store is being asked. */
  asking = false;
  waiting: Ask[] = [];

  constructor(hashed: string, client: string, rule: ClientRule) {
    this.hash = hashed;
    this.client = client;
    this.name = client.slice(0, MAX_NAME);
    this.rule = rule;
  }

  /** Nothing is known of it that a client never seen before would not have. */
  isIdle(now: number): boolean {
    const quiet = !this.asking && !this.changed && this.waiting.length === 0;
    return quiet && this.open === 0 && this.agreed === 0 && this.fullAt <= now;
  }
}

export class Clients {
  #rules: ClientRules = { rateLimit: { capacity: Infinity, fillRate: 1 }, limits: [] };
  readonly #entries = new Map<string, ClientEntry>();
  /** Those that the store has to be told of. */
  readonly #changed = new Set<ClientEntry>();

  of(client: string): ClientEntry {
    const hashed = hash("sha256", client).slice(0, 32);
    let entry = this.#entries.get(hashed);
    if (entry === undefined)
      this.#entries.set(hashed, (entry = new ClientEntry(hashed, client, ruleOf(this.#rules, client))));
    return entry;
  }

  /** Changes the limits. Each bucket keeps its number of missing tokens. */
  setRules(rules: ClientRules, now: number): void {
    this.#rules = rules;
    for (const entry of this) {
      const before = entry.rule;
      const rule = ruleOf(rules, entry.client);
      entry.rule = rule;
      if (before.capacity === rule.capacity && before.fillRate === rule.fillRate) continue;
      entry.fullAt = changeRule(entry.fullAt, now, before, rule);
    }
  }

  get size(): number {
    return this.#entries.size;
  }

  change(entry: ClientEntry): void {
    entry.changed = true;
    this.#changed.add(entry);
  }

  /** The store is being told. */
  told(entry: ClientEntry): void {
    entry.changed = false;
    this.#changed.delete(entry);
  }

  /** Takes some of those that the store has to be told of, and is not being asked about. */
  takeChanged(most: number): ClientEntry[] {
    const taken: ClientEntry[] = [];
    for (const entry of this.#changed) {
      if (entry.asking) continue;
      this.#changed.delete(entry);
      entry.changed = false;
      if (taken.push(entry) >= most) break;
    }
    return taken;
  }

  /** Forgets those that are idle. */
  sweep(now: number): void {
    for (const [hashed, entry] of this.#entries) if (entry.isIdle(now)) this.#entries.delete(hashed);
  }

  [Symbol.iterator](): IterableIterator<ClientEntry> {
    return this.#entries.values();
  }
}
