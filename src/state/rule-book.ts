// The rules of the clients' buckets in the ledger: everybody's, which has number 0, and those of single clients and
// groups. They are found by the key of the client or of its group. They lie beside the buckets that they govern, so that
// all threads change over at once. Every operation runs under the ledger's lock.

import { ruleOf, type ClientRule, type ClientRules } from "./client-rules.ts";
import { KEY_WORDS, keyOf } from "./client-table.ts";
import type { Layout } from "./memory.ts";

/** The largest number of rules beside everybody's. */
export const MAX_LIMITS = 1_000;

/** The places of {@link RuleTable.counters}. */
const COUNT = 0;
/** Counts the changes, so that a thread knows when to index the rules again. */
const VERSION = 1;

/** The rules as they lie in the ledger. */
export class RuleTable {
  readonly counters: Int32Array;
  readonly keys: Int32Array;
  readonly capacity: Float64Array;
  /** That of everybody's rule is 0 until there is one. */
  readonly fillRate: Float64Array;
  readonly maxConnections: Float64Array;

  constructor(layout: Layout) {
    this.counters = layout.int32(2);
    this.keys = layout.int32(KEY_WORDS * (MAX_LIMITS + 1));
    this.capacity = layout.float64(MAX_LIMITS + 1);
    this.fillRate = layout.float64(MAX_LIMITS + 1);
    this.maxConnections = layout.float64(MAX_LIMITS + 1);
  }
}

/** A complete rule. */
export interface FullRule extends ClientRule {
  readonly maxConnections: number;
}

/** Rules in the order of their numbers, and their keys. */
export class RuleSet {
  /** Everybody's is the first. */
  readonly rules: readonly FullRule[];
  readonly keys: Int32Array;
  /** Numbers by the first word of the key. */
  readonly #index = new Map<number, number[]>();

  constructor(rules: readonly FullRule[], keys: Int32Array) {
    this.rules = rules;
    this.keys = keys;
    for (let number = 1; number < rules.length; number++) {
      const word = keys[KEY_WORDS * number] as number;
      const known = this.#index.get(word);
      if (known === undefined) this.#index.set(word, [number]);
      else known.push(number);
    }
  }

  /** A configuration's rules, each complete. */
  static of(rules: ClientRules): RuleSet {
    const { rateLimit, limits } = rules;
    const keys = new Int32Array(KEY_WORDS * (limits.length + 1));
    limits.forEach(({ match }, i) => keys.set(keyOf(match), KEY_WORDS * (i + 1)));
    const all = [rateLimit, ...limits.map(({ match }) => ruleOf(rules, match))];
    return new RuleSet(all.map(fullRule), keys);
  }

  /**
   * The client's own rule, or its group's, or everybody's.
   * @param at where its key begins in `keys`, and that of its group in `groups`
   */
  find(keys: Int32Array, groups: Int32Array, at: number): FullRule {
    const number = this.hasLimits ? this.#find(keys, at) || this.#find(groups, at) : 0;
    return this.rules[number] as FullRule;
  }

  /** There are rules beside everybody's. */
  get hasLimits(): boolean {
    return this.rules.length > 1;
  }

  equals(other: RuleSet): boolean {
    return (
      this.rules.length === other.rules.length &&
      this.rules.every((rule, i) => same(rule, other.rules[i] as FullRule)) &&
      this.keys.every((word, i) => word === other.keys[i])
    );
  }

  /** @returns 0 for none */
  #find(keys: Int32Array, at: number): number {
    const candidates = this.#index.get(keys[at] as number);
    if (candidates === undefined) return 0;
    for (const number of candidates) {
      let i = 1;
      while (i < KEY_WORDS && this.keys[KEY_WORDS * number + i] === keys[at + i]) i++;
      if (i === KEY_WORDS) return number;
    }
    return 0;
  }
}

/** One thread's view of the rules in force. */
export class RuleBook {
  readonly #table: RuleTable;
  #set = new RuleSet([], new Int32Array(0));
  #version = -1;

  constructor(table: RuleTable) {
    this.#table = table;
  }

  /** No thread has set a rule yet. */
  get isBlank(): boolean {
    return this.#table.fillRate[0] === 0;
  }

  /** The rules in force. There is always everybody's, once a thread has set one. */
  get set(): RuleSet {
    const { counters, keys } = this.#table;
    if (this.#version !== counters[VERSION]) {
      this.#set = this.#read((counters[COUNT] as number) + 1, keys);
      this.#version = counters[VERSION] as number;
    }
    return this.#set;
  }

  replace({ rules, keys }: RuleSet): void {
    const table = this.#table;
    rules.forEach(({ capacity, fillRate, maxConnections }, number) => {
      table.capacity[number] = capacity;
      table.fillRate[number] = fillRate;
      table.maxConnections[number] = maxConnections;
    });
    table.keys.set(keys);
    table.counters[COUNT] = rules.length - 1;
    (table.counters[VERSION] as number)++;
  }

  #read(count: number, keys: Int32Array): RuleSet {
    const { capacity, fillRate, maxConnections } = this.#table;
    const rules = Array.from({ length: count }, (_, number) => ({
      capacity: capacity[number] as number,
      fillRate: fillRate[number] as number,
      maxConnections: maxConnections[number] as number,
    }));
    return new RuleSet(rules, keys.slice(0, KEY_WORDS * count));
  }
}

function fullRule({ capacity, fillRate, maxConnections = Infinity }: ClientRule): FullRule {
  return { capacity, fillRate, maxConnections };
}

function same(a: FullRule, b: FullRule): boolean {
  return a.capacity === b.capacity && a.fillRate === b.fillRate && a.maxConnections === b.maxConnections;
}
