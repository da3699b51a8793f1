// Stores the clients: a hash table in the ledger's memory, from a client's key to the number of its row. A row keeps
// its place as long as its client is known, so that a lease can refer to the number.
//
// It has three parts: the rows; an index of row numbers, searched from a key's home onwards (linear probing, at most
// half full); and the order, which lists every row once, rows in use first, so that a walk over them costs no more than
// their number. Only the rows matter: when a thread died halfway through a change, index and order are rebuilt from
// them. Every operation runs under the ledger's lock.

import { hash } from "node:crypto";
import type { Layout } from "./memory.ts";
import { Tally } from "./tally.ts";

/** 32-bit words in a key. */
export const KEY_WORDS = 4;

/** The places of {@link ClientTable.counters}. */
const SIZE = 0;
/** The largest number of rows ever in use at a time: later rows are untouched. */
const REACHED = 1;

/**
 * A client's key: 128 bits of the SHA-256 of its name. Two names with the same key are neither likely nor possible to
 * construct.
 */
export function keyOf(client: string): Int32Array {
  const digest = hash("sha256", client, "buffer");
  const key = new Int32Array(KEY_WORDS);
  for (let i = 0; i < KEY_WORDS; i++) key[i] = digest.readInt32LE(4 * i);
  return key;
}

/** The clients of all threads. */
export class ClientTable {
  /** Per row, when the client's bucket is full again, in milliseconds. */
  readonly fullAt: Float64Array;
  /** Per row, the client's open connections. */
  readonly open: Tally;
  /** Per row, the client's key and that of its group, {@link KEY_WORDS} words each. */
  readonly keys: Int32Array;
  readonly groups: Int32Array;
  readonly #rows: number;
  readonly #counters: Int32Array;
  readonly #used: Int32Array;
  /** Per place, its row minus the place, so that fresh memory is a valid order. */
  readonly #order: Int32Array;
  /** Per place, the row plus one, or 0. */
  readonly #index: Int32Array;
  readonly #mask: number;

  constructor(layout: Layout, rows: number, threads: number, own: number) {
    const places = 2 ** Math.ceil(Math.log2(2 * rows));
    this.#rows = rows;
    this.#mask = places - 1;
    this.#counters = layout.int32(2);
    this.fullAt = layout.float64(rows);
    this.open = new Tally(layout, rows, threads, own);
    this.keys = layout.int32(KEY_WORDS * rows);
    this.groups = layout.int32(KEY_WORDS * rows);
    this.#used = layout.int32(rows);
    this.#order = layout.int32(rows);
    this.#index = layout.int32(places);
  }

  /** Rows in use. */
  get size(): number {
    return this.#counters[SIZE] as number;
  }

  get full(): boolean {
    return this.size === this.#rows;
  }

  /** The row in use at a place from 0 to {@link size} - 1. */
  rowAt(place: number): number {
    return (this.#order[place] as number) + place;
  }

  /** @returns the client's row, or -1 */
  find(key: Int32Array): number {
    const keys = this.keys;
    for (let i = this.#home(key, 0); ; i = (i + 1) & this.#mask) {
      const row = (this.#index[i] as number) - 1;
      if (row === -1) return -1;
      const at = KEY_WORDS * row;
      if (
        keys[at] === key[0] &&
        keys[at + 1] === key[1] &&
        keys[at + 2] === key[2] &&
        keys[at + 3] === key[3]
      ) {
        return row;
      }
    }
  }

  /** Adds a new client to a table that is not full, and returns its row: nothing open, bucket full. */
  insert(key: Int32Array, group: Int32Array): number {
    const place = this.size;
    const row = this.rowAt(place);
    this.keys.set(key, KEY_WORDS * row);
    this.groups.set(group, KEY_WORDS * row);
    this.fullAt[row] = 0;
    this.#counters[REACHED] = Math.max(this.#counters[REACHED] as number, place + 1);
    this.#used[row] = 1;
    this.#counters[SIZE] = place + 1;
    this.#enter(row);
    return row;
  }

  /** Removes the client whose row is at a place. The last row in use takes that place. */
  removeAt(place: number): void {
    const row = this.rowAt(place);
    const last = this.size - 1;
    this.#used[row] = 0;
    this.#leave(row);
    this.#put(place, this.rowAt(last));
    this.#put(last, row);
    this.#counters[SIZE] = last;
  }

  /** Gives back what a dead thread had open, and repairs what it may have left unfinished. */
  forget(thread: number): void {
    const reached = this.#counters[REACHED] as number;
    this.open.forget(thread, reached);
    this.#index.fill(0);
    let size = 0;
    let last = reached - 1;
    for (let row = 0; row < reached; row++) {
      if (this.#used[row] === 0) this.#put(last--, row);
      else {
        this.#put(size++, row);
        this.#enter(row);
      }
    }
    this.#counters[SIZE] = size;
  }

  #home(keys: Int32Array, row: number): number {
    return (keys[KEY_WORDS * row] as number) & this.#mask;
  }

  #put(place: number, row: number): void {
    this.#order[place] = row - place;
  }

  #enter(row: number): void {
    let i = this.#home(this.keys, row);
    while (this.#index[i] !== 0) i = (i + 1) & this.#mask;
    this.#index[i] = row + 1;
  }

  /** Removes a row from the index. Entries after the gap move up if the gap would cut them off from their home. */
  #leave(row: number): void {
    const index = this.#index;
    const mask = this.#mask;
    let hole = this.#home(this.keys, row);
    while (index[hole] !== row + 1) hole = (hole + 1) & mask;
    for (let i = (hole + 1) & mask; index[i] !== 0; i = (i + 1) & mask) {
      const home = this.#home(this.keys, (index[i] as number) - 1);
      if (((i - home) & mask) < ((i - hole) & mask)) continue;
      index[hole] = index[i] as number;
      hole = i;
    }
    index[hole] = 0;
  }
}
