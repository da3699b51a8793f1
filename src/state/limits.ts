// What each client may do: a client whose token bucket is empty, or that has too many connections open, is refused here.
// Pure: time is an argument. Every admission is a lease; the open count of a client is the number of its living leases
// and cannot drift. The ledger holds the rules in force, beside the buckets that they govern: all threads change over at
// once.

import { groupPattern, type ClientLimit, type ClientRule } from "./client-rules.ts";
import { KEY_WORDS, keyOf } from "./client-table.ts";
import { WORD, type Ledger } from "./ledger.ts";
import { RuleBook, RuleSet, type FullRule } from "./rule-book.ts";
import { changeRule, returnToken, takeToken, tokensLeft } from "./token-bucket.ts";

export type { ClientRule } from "./client-rules.ts";

/** Keys of groups that a thread remembers, so that it does not hash them again. */
const MAX_GROUP_KEYS = 1_000;

/** Rows swept at a time, some tens of microseconds, before other threads get the ledger again. */
const SWEEP_PORTION_ROWS = 4_096;

/** One admitted connection of a client. */
export class ClientLease {
  readonly #limits: Limits;
  readonly #row: number;
  #held = true;

  constructor(row: number, limits: Limits) {
    this.#row = row;
    this.#limits = limits;
  }

  /** Ends the lease. Releasing again does nothing. */
  release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#limits.end(this.#row, false);
  }

  /** The connection was never made: also gives back the token, by the rule in force now. */
  cancel(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#limits.end(this.#row, true);
  }
}

/** All clients that have a connection open or a bucket that is not full; others are not stored. */
export class Limits {
  readonly #ledger: Ledger;
  readonly #book: RuleBook;
  readonly #groupKeys = new Map<string, Int32Array>();

  /**
   * The rules are ignored if the ledger already has some from another thread, until {@link setRule}.
   * @param rule everybody's
   * @param limits those of single clients and groups
   */
  constructor(ledger: Ledger, rule: ClientRule, limits: readonly ClientLimit[] = []) {
    this.#ledger = ledger;
    this.#book = new RuleBook(ledger.rules);
    ledger.lock();
    try {
      if (this.#book.isBlank) this.#book.replace(RuleSet.of({ rateLimit: rule, limits }));
    } finally {
      ledger.unlock();
    }
  }

  /**
   * Changes the rules for all threads; only the first call has an effect. Open counts stay. Each bucket keeps its number
   * of missing tokens; a smaller new bucket may become empty.
   */
  setRule(rule: ClientRule, now: number, limits: readonly ClientLimit[] = []): void {
    const { clients } = this.#ledger;
    const next = RuleSet.of({ rateLimit: rule, limits });
    this.#ledger.lock();
    try {
      const before = this.#book.set;
      if (next.equals(before)) return;
      for (let place = 0; place < clients.size; place++) {
        const row = clients.rowAt(place);
        const fullAt = clients.fullAt[row] as number;
        // A full bucket is full by any rule.
        if (fullAt <= now) continue;
        const [old, own] = [this.#ruleAt(row, before), this.#ruleAt(row, next)];
        if (old.capacity === own.capacity && old.fillRate === own.fillRate) continue;
        clients.fullAt[row] = changeRule(fullAt, now, old, own);
      }
      this.#book.replace(next);
    } finally {
      this.#ledger.unlock();
    }
  }

  /**
   * Admits a connection, or says why not; a refusal changes nothing. `overloaded`: there is no room for one more
   * client.
   * @param client the client's whole name, `user@group`
   * @param now whole milliseconds, never less than in an earlier call
   */
  admit(client: string, now: number): ClientLease | "connection_limit" | "rate_limited" | "overloaded" {
    const { clients } = this.#ledger;
    const key = keyOf(client);
    let row: number;
    this.#ledger.lock();
    try {
      row = clients.find(key);
      const fullAt = this.#take(row, this.#ruleOf(client, key, row), now);
      if (typeof fullAt === "string") return fullAt;
      if (row === -1) {
        if (clients.full && !this.#makeRoom(now)) return "overloaded";
        row = clients.insert(key, this.#groupKey(client));
      }
      clients.fullAt[row] = fullAt;
      clients.open.add(row, 1);
    } finally {
      this.#ledger.unlock();
    }
    return new ClientLease(row, this);
  }

  /** Why {@link admit} would refuse a client at this moment; undefined if it would not. It takes nothing. */
  refusal(client: string, now: number): "connection_limit" | "rate_limited" | undefined {
    const key = keyOf(client);
    this.#ledger.lock();
    try {
      const row = this.#ledger.clients.find(key);
      const fullAt = this.#take(row, this.#ruleOf(client, key, row), now);
      return typeof fullAt === "string" ? fullAt : undefined;
    } finally {
      this.#ledger.unlock();
    }
  }

  /** When a client's bucket would be full after one more connection, or why it gets none. */
  #take(row: number, rule: FullRule, now: number): number | "connection_limit" | "rate_limited" {
    const { clients } = this.#ledger;
    const open = row === -1 ? 0 : (clients.open.total[row] as number);
    if (open >= rule.maxConnections) return "connection_limit";
    return takeToken(row === -1 ? 0 : (clients.fullAt[row] as number), now, rule) ?? "rate_limited";
  }

  /** @param row -1 for a client that is not stored */
  #ruleOf(client: string, key: Int32Array, row: number): FullRule {
    const { set } = this.#book;
    if (row !== -1 || !set.hasLimits) return this.#ruleAt(row, set);
    return set.find(key, this.#groupKey(client), 0);
  }

  #ruleAt(row: number, set = this.#book.set): FullRule {
    const { keys, groups } = this.#ledger.clients;
    return set.find(keys, groups, KEY_WORDS * row);
  }

  #groupKey(client: string): Int32Array {
    const pattern = groupPattern(client);
    const known = this.#groupKeys.get(pattern);
    if (known !== undefined) return known;
    if (this.#groupKeys.size >= MAX_GROUP_KEYS) this.#groupKeys.clear();
    const key = keyOf(pattern);
    this.#groupKeys.set(pattern, key);
    return key;
  }

  /**
   * Counts a connection that is open already: it takes no token, and no limit holds for it.
   * @returns undefined if there is no room for one more client
   */
  adopt(client: string, now: number): ClientLease | undefined {
    const { clients } = this.#ledger;
    const key = keyOf(client);
    let row: number;
    this.#ledger.lock();
    try {
      row = clients.find(key);
      if (row === -1) {
        if (clients.full && !this.#makeRoom(now)) return undefined;
        row = clients.insert(key, this.#groupKey(client));
      }
      clients.open.add(row, 1);
    } finally {
      this.#ledger.unlock();
    }
    return new ClientLease(row, this);
  }

  /** Forgets clients that have a full bucket and nothing open. Call it at intervals, in any one thread. */
  sweep(now: number): void {
    for (let to = this.size; to > 0; to -= SWEEP_PORTION_ROWS) {
      this.#ledger.lock();
      try {
        this.#sweepPlaces(Math.max(0, to - SWEEP_PORTION_ROWS), to, now);
      } finally {
        this.#ledger.unlock();
      }
    }
  }

  /** Connections that a client has open, in all threads. */
  open(client: string): number {
    const { clients } = this.#ledger;
    const key = keyOf(client);
    this.#ledger.lock();
    try {
      const row = clients.find(key);
      return row === -1 ? 0 : (clients.open.total[row] as number);
    } finally {
      this.#ledger.unlock();
    }
  }

  /** Whole tokens that a client has left; Infinity where there are no buckets. */
  tokens(client: string, now: number): number {
    const { clients } = this.#ledger;
    const key = keyOf(client);
    this.#ledger.lock();
    try {
      const row = clients.find(key);
      const rule = this.#ruleOf(client, key, row);
      return tokensLeft(row === -1 ? 0 : (clients.fullAt[row] as number), now, rule);
    } finally {
      this.#ledger.unlock();
    }
  }

  /** Clients stored. */
  get size(): number {
    return this.#ledger.clients.size;
  }

  /** Ends a lease. Called by {@link ClientLease}. */
  end(row: number, refund: boolean): void {
    const { clients } = this.#ledger;
    this.#ledger.lock();
    try {
      if (refund) clients.fullAt[row] = returnToken(clients.fullAt[row] as number, this.#ruleAt(row));
      clients.open.add(row, -1);
    } finally {
      this.#ledger.unlock();
    }
  }

  /**
   * Sweeps a full table, at most a portion a millisecond on average: a flood of clients must not keep the thread
   * sweeping.
   */
  #makeRoom(now: number): boolean {
    const { clients, words } = this.#ledger;
    if (now < (words[WORD.sweepAt] as number)) return false;
    words[WORD.sweepAt] = now + Math.ceil(clients.size / SWEEP_PORTION_ROWS);
    this.#sweepPlaces(0, clients.size, now);
    return !clients.full;
  }

  /** Goes from the last place to the first: the row that takes a removed row's place has already been checked. */
  #sweepPlaces(from: number, to: number, now: number): void {
    const { clients } = this.#ledger;
    for (let place = Math.min(to, clients.size) - 1; place >= from; place--) {
      const row = clients.rowAt(place);
      if (clients.open.total[row] === 0 && (clients.fullAt[row] as number) <= now) clients.removeAt(place);
    }
  }
}
