// Which thing has which row of an array. One directory, kept by the thread that reads the configuration: what is still
// there after a reload keeps its row, and with it its counts.

/** What a directory has to know of its rows. */
export interface RowRules {
  /** How many rows there are. */
  readonly size: number;
  /** The row is still in use, although the configuration does not have its thing any more. */
  isBusy(row: number): boolean;
  /** The row gets another thing. */
  reset(row: number): void;
}

/** A directory of rows. */
export class Rows {
  readonly #rules: RowRules;
  #rows = new Map<string, number>();
  /** Where the search for a free row goes on: what has just become free is used last, as not every thread may know. */
  #next = 0;

  constructor(rules: RowRules) {
    this.#rules = rules;
  }

  /**
   * Gives each thing of a new configuration its row: the one it has or one that is free. The row of a thing that is gone
   * becomes free once it is not busy.
   * @param keys what tells things apart; the same key twice is one thing
   * @returns rows by key, or undefined, and nothing has changed, where there are too many
   */
  assign(keys: readonly string[]): ReadonlyMap<string, number> | undefined {
    const { size, reset } = this.#rules;
    const { wanted, rows, fresh } = this.#plan(keys);
    if (rows.size + fresh.length > size) return undefined;
    const taken = new Set(rows.values());
    for (const key of fresh) {
      while (taken.has(this.#next)) this.#next = (this.#next + 1) % size;
      rows.set(key, this.#next);
      reset(this.#next);
      this.#next = (this.#next + 1) % size;
    }
    this.#rows = rows;
    return new Map([...wanted].map((key) => [key, rows.get(key) as number]));
  }

  /** Whether {@link assign} has room for these; nothing changes. */
  fits(keys: readonly string[]): boolean {
    const { rows, fresh } = this.#plan(keys);
    return rows.size + fresh.length <= this.#rules.size;
  }

  /** The rows that stay, and the things that need one. */
  #plan(keys: readonly string[]) {
    const wanted = new Set(keys);
    const rows = new Map([...this.#rows].filter(([key, row]) => wanted.has(key) || this.#rules.isBusy(row)));
    return { wanted, rows, fresh: [...wanted].filter((key) => !rows.has(key)) };
  }
}
