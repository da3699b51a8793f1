// The state of each source of connections: a table of fixed size in the ledger's memory. A source is an IPv4 address or
// an IPv6 /64.
//
// The table is a set-associative cache: a source hashes to a set of ROWS_PER_SET rows, under a secret seed. A new source takes
// the row in its set that matters least. It never takes a row with connections, or a row of a source that had a client
// admitted lately. A source that finds no row shares row 0 with all others like it. Every operation runs under the
// ledger's lock.

import type { Layout } from "./memory.ts";
import { Tally } from "./tally.ts";

/** Rows in the table. Unused memory costs nothing. */
export const MAX_SOURCES = 65_536;

/** Rows in a set. */
const ROWS_PER_SET = 8;

/** The row shared by all sources that found no other. */
export const SHARED_ROW = 0;

/** How long after its last admitted connection a source counts as proven, in milliseconds. */
export const PROVEN_MS = 3_600_000;

/** A source's key: two words, and 4 or 6 for the family. */
export interface SourceKey {
  readonly family: 4 | 6;
  readonly high: number;
  readonly low: number;
}

/** The rows. */
export class SourceTable {
  /** Connections that refer to the row. */
  readonly held: Tally;
  /** Handshakes that TLS may read. */
  readonly active: Tally;
  /** Admitted connections. */
  readonly open: Tally;
  /** When all failures are forgiven, in milliseconds. */
  readonly forgivenAt: Float64Array;
  /** When a client was last admitted, or an admitted one left; 0 for never. */
  readonly provenAt: Float64Array;
  /** Until then a source in debt gets no turn, in milliseconds. */
  readonly pausedUntil: Float64Array;
  /** By how many handshakes its window has grown. */
  readonly grown: Int32Array;
  readonly #family: Int32Array;
  readonly #high: Int32Array;
  readonly #low: Int32Array;
  readonly #seed: Int32Array;
  readonly #sets: number;

  constructor(layout: Layout, threads: number, own: number, rows = MAX_SOURCES) {
    // Row 0 is shared.
    const all = rows + 1;
    this.#sets = rows / ROWS_PER_SET;
    this.#seed = layout.int32(2);
    this.#family = layout.int32(all);
    this.#high = layout.int32(all);
    this.#low = layout.int32(all);
    this.forgivenAt = layout.float64(all);
    this.provenAt = layout.float64(all);
    this.pausedUntil = layout.float64(all);
    this.grown = layout.int32(all);
    this.held = new Tally(layout, all, threads, own);
    this.active = new Tally(layout, all, threads, own);
    this.open = new Tally(layout, all, threads, own);
  }

  /** Makes the places of sources unpredictable. Call it once, before the table is used. */
  setSeed(first: number, second: number): void {
    this.#seed[0] = first;
    this.#seed[1] = second;
  }

  /** @returns the source's row, or -1 */
  find({ family, high, low }: SourceKey): number {
    const from = this.#setOf(family, high, low);
    for (let row = from; row < from + ROWS_PER_SET; row++) {
      if (this.#family[row] === family && this.#high[row] === high && this.#low[row] === low) return row;
    }
    return -1;
  }

  /** Gives a new source the row in its set that matters least, or the shared one. */
  insert({ family, high, low }: SourceKey, now: number): number {
    const from = this.#setOf(family, high, low);
    let best = SHARED_ROW;
    let least = Infinity;
    for (let row = from; row < from + ROWS_PER_SET; row++) {
      const owed = this.#family[row] === 0 ? -Infinity : (this.forgivenAt[row] as number);
      if (owed >= least || this.held.total[row] !== 0 || this.isProven(row, now)) continue;
      best = row;
      least = owed;
    }
    if (best === SHARED_ROW) return best;
    this.#family[best] = family;
    this.#high[best] = high;
    this.#low[best] = low;
    this.forgivenAt[best] = this.provenAt[best] = this.pausedUntil[best] = 0;
    this.grown[best] = 0;
    return best;
  }

  isProven(row: number, now: number): boolean {
    if ((this.open.total[row] as number) > 0) return true;
    const at = this.provenAt[row] as number;
    return at !== 0 && now - at < PROVEN_MS;
  }

  /** A thread has died: gives back what it held. */
  forget(thread: number): void {
    for (const tally of [this.held, this.active, this.open]) tally.forget(thread, tally.total.length);
  }

  #setOf(family: number, high: number, low: number): number {
    let hash = (this.#seed[0] as number) ^ family;
    for (const word of [high, low, this.#seed[1] as number]) {
      hash = Math.imul(hash ^ word, 0x9e3779b1);
      hash ^= hash >>> 15;
      hash = Math.imul(hash, 0x85ebca6b);
      hash ^= hash >>> 13;
    }
    return 1 + ((hash >>> 0) % this.#sets) * ROWS_PER_SET;
  }
}
