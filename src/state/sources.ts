// Limits what strangers may cost, per source of connections (an IPv4 address or an IPv6 /64), over all threads. Pure:
// time is an argument. Failures are a bucket that refills by the clock, kept as one number like a client's tokens.

import type { Ledger } from "./ledger.ts";
import type { SourceKey } from "./source-table.ts";

export { PROVEN_MS, SHARED_ROW, type SourceKey } from "./source-table.ts";

/** Handshakes that a source may have in progress before any of its clients was admitted. */
export const FIRST_WINDOW = 2;

/** How long a source in debt waits between two handshakes, in milliseconds per failure that the last one counted as. */
export const PACE_MS = 20;

/**
 * The most that a source can owe, in full buckets of failures: the table forgets an attack within minutes of its end.
 */
export const MAX_DEBT_BUCKETS = 15;

/** The configuration of the limits for sources. */
export interface SourceRule {
  /** Handshakes that one source may have in progress, at least 1. */
  readonly perSource: number;
  /** Failures that a source may have at once, at least 1. */
  readonly failures: number;
  /** Milliseconds until one failure is forgiven, at least 1. */
  readonly failuresRefill: number;
}

/**
 * - `free` proven and in good standing: its handshakes are not measured
 * - `watched` no client was admitted from it lately, or it has used up its failures: each flight is measured before TLS
 * reads it
 * - `later` it has as many handshakes in progress as it may, or must pause
 * - `refused` it has used up its failures, and no client was admitted from it lately
 */
export type Turn = "free" | "watched" | "later" | "refused";

/** The table, as one thread sees it. */
export class Sources {
  readonly #ledger: Ledger;
  #rule: SourceRule;

  constructor(ledger: Ledger, rule: SourceRule) {
    this.#ledger = ledger;
    this.#rule = rule;
  }

  /** Uses another rule from now on. What a source already owes stays. */
  setRule(rule: SourceRule): void {
    this.#rule = rule;
  }

  /**
   * A connection has arrived from a source.
   * @returns its row, to be given back with {@link leave}; undefined if the source is refused
   */
  enter(key: SourceKey, now: number): number | undefined {
    const { sources } = this.#ledger;
    this.#ledger.lock();
    try {
      let row = sources.find(key);
      if (row === -1) row = sources.insert(key, now);
      if (this.#isRefused(row, now)) return undefined;
      sources.held.add(row, 1);
      return row;
    } finally {
      this.#ledger.unlock();
    }
  }

  /** Whether {@link enter} would refuse a connection at this moment. It takes nothing. */
  refuses(key: SourceKey, now: number): boolean {
    const { sources } = this.#ledger;
    this.#ledger.lock();
    try {
      const row = sources.find(key);
      return row !== -1 && this.#isRefused(row, now);
    } finally {
      this.#ledger.unlock();
    }
  }

  /**
   * Asks for a handshake's turn. All answers but `later` and `refused` count it as in progress, until {@link stop}.
   * @param charged whether the source was already charged for this handshake: it may finish
   */
  start(row: number, now: number, charged: boolean): Turn {
    const { sources } = this.#ledger;
    this.#ledger.lock();
    try {
      if (!charged && this.#isRefused(row, now)) return "refused";
      const debt = this.#isInDebt(row, now);
      const window = debt ? 1 : Math.min(this.#rule.perSource, FIRST_WINDOW + (sources.grown[row] as number));
      if ((sources.active.total[row] as number) >= window) return "later";
      if (debt && now < (sources.pausedUntil[row] as number)) return "later";
      sources.active.add(row, 1);
      return !debt && this.isProven(row, now) ? "free" : "watched";
    } finally {
      this.#ledger.unlock();
    }
  }

  /** A handshake that had its turn is over, or waits for another turn. */
  stop(row: number): void {
    this.#change(() => this.#ledger.sources.active.add(row, -1));
  }

  /** A client was admitted. Its connection counts until {@link closed}. */
  admitted(row: number, now: number): void {
    const { sources } = this.#ledger;
    this.#change(() => {
      sources.provenAt[row] = now;
      sources.open.add(row, 1);
      const grown = sources.grown[row] as number;
      if (grown < this.#rule.perSource) sources.grown[row] = grown + 1;
    });
  }

  /** An admitted connection is over. */
  closed(row: number, now: number): void {
    const { sources } = this.#ledger;
    this.#change(() => {
      sources.provenAt[row] = now;
      sources.open.add(row, -1);
    });
  }

  /**
   * A handshake failed.
   * @param worth the failures that it counts as, at least 1
   */
  failed(row: number, worth: number, now: number): void {
    const { sources } = this.#ledger;
    const { failures, failuresRefill } = this.#rule;
    this.#change(() => {
      const owed = Math.max(sources.forgivenAt[row] as number, now) + worth * failuresRefill;
      sources.forgivenAt[row] = Math.min(owed, now + MAX_DEBT_BUCKETS * failures * failuresRefill);
      sources.grown[row] = Math.floor((sources.grown[row] as number) / 2);
      sources.pausedUntil[row] = Math.max(sources.pausedUntil[row] as number, now + worth * PACE_MS);
    });
  }

  /** Forgives what was charged during a handshake that has succeeded. */
  forgive(row: number, worth: number): void {
    const { failuresRefill } = this.#rule;
    this.#change(() => {
      (this.#ledger.sources.forgivenAt[row] as number) -= worth * failuresRefill;
    });
  }

  /** The connection that called {@link enter} is gone. */
  leave(row: number): void {
    this.#change(() => this.#ledger.sources.held.add(row, -1));
  }

  #change(change: () => void): void {
    this.#ledger.lock();
    try {
      change();
    } finally {
      this.#ledger.unlock();
    }
  }

  #isInDebt(row: number, now: number): boolean {
    const { failures, failuresRefill } = this.#rule;
    const owed = (this.#ledger.sources.forgivenAt[row] as number) - now;
    return owed > (failures - 1) * failuresRefill;
  }

  /** Whether a client was admitted from it lately. */
  isProven(row: number, now: number): boolean {
    return this.#ledger.sources.isProven(row, now);
  }

  #isRefused(row: number, now: number): boolean {
    return this.#isInDebt(row, now) && !this.isProven(row, now);
  }
}
