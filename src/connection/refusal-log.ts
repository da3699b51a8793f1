// Logs refusals so that a stranger cannot fill the disk. The log keeps one key per source and reason, or per client and
// reason if the client is known. It writes a key's first refusal at once, counts those that follow, and writes them as
// one line with `count` and `since` a few seconds later. Every refusal is in exactly one line. Pure: time and timer are
// arguments.

import type { Fields } from "../lib/log.ts";
import { sourceOf } from "../lib/source.ts";

/** What a refusal log needs. */
export interface RefusalLogOptions {
  write(fields: Fields): void;
  /** Whole milliseconds of a monotonic clock. */
  now(): number;
  /** Milliseconds since 1970. */
  date?(): number;
  /** Calls back once after this many milliseconds, unless the returned function cancels it. */
  schedule?(call: () => void, ms: number): () => void;
  /** Milliseconds between two lines of one key. Default: 5 s. */
  interval?: number | undefined;
  /** The largest number of keys at a time; strangers get half of them. Default: 1,024. */
  keys?: number;
}

/** Lines of one key. */
interface Entry {
  /** When its last line was written. */
  writtenAt: number;
  /** Refusals since then. */
  count: number;
  /** When the first of them happened, in milliseconds since 1970, and the fields of its line. */
  since: number;
  fields: Fields;
}

/** Milliseconds between two lines of one key if the options do not say. */
const INTERVAL_MS = 5_000;

/** A silent key gives way to another one this many intervals after its last line. */
const FORGET_INTERVALS = 6;

export class RefusalLog {
  readonly #options: Required<RefusalLogOptions> & { readonly interval: number };
  /** By reason and source or client, in the order of their last lines. */
  readonly #entries = new Map<string, Entry>();
  /** By reason, for refusals whose key has no room. */
  readonly #rest = new Map<string, Entry>();
  /** Entries with a count. */
  #pending = 0;
  #cancel: (() => void) | undefined;

  constructor({ interval = INTERVAL_MS, ...options }: RefusalLogOptions) {
    const schedule = (call: () => void, ms: number) => {
      const timer = setTimeout(call, ms);
      return () => clearTimeout(timer);
    };
    this.#options = { date: Date.now, schedule, keys: 1_024, ...options, interval };
  }

  /**
   * Writes or counts a refusal.
   * @param client undefined if it is not known
   * @param remote the client's address, `host:port`
   * @param describe returns the line's fields; called only for a refusal that gets a line
   * @returns the fields of the line that counts this refusal
   */
  add(reason: string, client: string | undefined, remote: string, describe: () => Fields): Fields {
    const now = this.#options.now();
    const key = `${reason} ${client ?? partyOf(remote)}`;
    const known = this.#entries.get(key);
    if (known !== undefined || this.#hasRoom(client === undefined, now)) {
      return this.#count(this.#entries, key, known, now, describe);
    }
    return this.#count(this.#rest, reason, this.#rest.get(reason), now, () => ({
      remote: "various",
      reason,
    }));
  }

  /** Writes all counted refusals. */
  flush(): void {
    this.#write(Infinity);
  }

  #count<Key>(
    entries: Map<Key, Entry>,
    key: Key,
    entry: Entry | undefined,
    now: number,
    describe: () => Fields,
  ): Fields {
    const { interval, date, write } = this.#options;
    if (entry === undefined || (entry.count === 0 && now - entry.writtenAt >= interval)) {
      // Move it to the end: entries stay in the order of their lines.
      entries.delete(key);
      entries.set(key, { writtenAt: now, count: 0, since: 0, fields: {} });
      const fields = describe();
      write(fields);
      return fields;
    }
    if (entry.count++ > 0) return entry.fields;
    entry.since = date();
    entry.fields = describe();
    this.#pending++;
    this.#wait();
    return entry.fields;
  }

  /** Whether there is room for another key. Refusals of strangers must not hide those of clients. */
  #hasRoom(stranger: boolean, now: number): boolean {
    const { interval, keys } = this.#options;
    const most = stranger ? keys / 2 : keys;
    if (this.#entries.size < most) return true;
    for (const [key, { writtenAt, count }] of this.#entries) {
      if (count > 0 || now - writtenAt < FORGET_INTERVALS * interval) break;
      this.#entries.delete(key);
    }
    return this.#entries.size < most;
  }

  /** Writes the counted refusals of keys whose last line is older than an interval. */
  #write(now: number): void {
    const { interval, write } = this.#options;
    const writtenAt = this.#options.now();
    for (const entries of [this.#entries, this.#rest] as Map<unknown, Entry>[]) {
      for (const [key, entry] of [...entries]) {
        if (now - entry.writtenAt < interval) break;
        const { count, since, fields } = entry;
        if (count === 0) continue;
        entries.delete(key);
        entries.set(key, { writtenAt, count: 0, since: 0, fields: {} });
        this.#pending--;
        write({ ...fields, count, since: new Date(since).toISOString() });
      }
    }
    this.#cancel?.();
    this.#cancel = undefined;
    this.#wait();
  }

  /** A timer runs exactly while refusals are counted. */
  #wait(): void {
    if (this.#pending === 0 || this.#cancel !== undefined) return;
    const { schedule, interval, now } = this.#options;
    // One timer serves all lines that are due within a fifth of an interval.
    this.#cancel = schedule(() => {
      this.#cancel = undefined;
      this.#write(now());
    }, interval / 5);
  }
}

/** For whom a stranger is counted: its source, or all that is known of it. */
function partyOf(remote: string): string {
  const source = sourceOf(/^\[?([^\]]*?)\]?:\d+$/.exec(remote)?.[1]);
  return source === undefined ? remote : `${source.family} ${source.high} ${source.low}`;
}
