// Refusals in the log: a stranger must not be able to fill the disk. Per source and reason, and per client and reason
// once the client is known, the first refusal is written at once; those that follow are counted, and written as one line
// with `count` and `since` a few seconds later. Every refusal is in exactly one line. Pure: time and timer are arguments.

import type { RefusalReason } from "../lib/errors.ts";
import type { Fields } from "../lib/log.ts";

/** What a refusal log needs. */
export interface RefusalLogOptions {
  write(fields: Fields): void;
  /** Whole milliseconds of a clock that only goes forward. */
  now(): number;
  /** Milliseconds since 1970. */
  date?(): number;
  /** Calls back once after so many milliseconds, unless cancelled by what it returns. */
  schedule?(call: () => void, ms: number): () => void;
  /** Milliseconds between two lines of one key. Default: 5 s. */
  interval?: number;
  /** The most keys that are told apart at a time; strangers have half of them. Default: 1,024. */
  keys?: number;
}

/** Lines of one key. */
interface Entry {
  /** When its last line was written. */
  writtenAt: number;
  /** Refusals since then. */
  count: number;
  /** When the first of them was, in milliseconds since 1970, and what its line says. */
  since: number;
  fields: Fields;
}

/** So many intervals after its last line a key that is silent makes room for another one. */
const FORGET = 6;

export class RefusalLog {
  /** Milliseconds between two lines of one key, where the options do not say. Tests shorten it. */
  static intervalMs = 5_000;

  readonly #options: Required<RefusalLogOptions>;
  /** By reason and source or client, in the order of their last lines. */
  readonly #entries = new Map<string, Entry>();
  /** By reason, for keys that there is no room for. */
  readonly #rest = new Map<RefusalReason, Entry>();
  /** Entries with a count. */
  #pending = 0;
  #cancel: (() => void) | undefined;

  constructor(options: RefusalLogOptions) {
    const schedule = (call: () => void, ms: number) => {
      const timer = setTimeout(call, ms);
      return () => clearTimeout(timer);
    };
    this.#options = { date: Date.now, schedule, interval: RefusalLog.intervalMs, keys: 1_024, ...options };
  }

  /**
   * Writes or counts a refusal.
   * @param client undefined where it is not known
   * @param remote where it came from, `host:port`
   * @param describe what the line says; called only for a refusal that a line speaks of
   * @returns what the line says that this refusal is counted in
   */
  add(reason: RefusalReason, client: string | undefined, remote: string, describe: () => Fields): Fields {
    const now = this.#options.now();
    const key = `${reason} ${client ?? sourceOf(remote)}`;
    const known = this.#entries.get(key);
    if (known !== undefined || this.#hasRoom(client === undefined, now)) {
      return this.#count(this.#entries, key, known, now, describe);
    }
    return this.#count(this.#rest, reason, this.#rest.get(reason), now, () => ({
      remote: "various",
      reason,
    }));
  }

  /** Writes all that has been counted. */
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
      // Last among its like: they stay in the order of their lines.
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

  /** Whether there is room for another key. What strangers do must not hide what becomes of clients. */
  #hasRoom(stranger: boolean, now: number): boolean {
    const { interval, keys } = this.#options;
    const most = stranger ? keys / 2 : keys;
    if (this.#entries.size < most) return true;
    for (const [key, { writtenAt, count }] of this.#entries) {
      if (count > 0 || now - writtenAt < FORGET * interval) break;
      this.#entries.delete(key);
    }
    return this.#entries.size < most;
  }

  /** Writes what has been counted for lines that are older than an interval at this time. */
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

  /** There is a timer exactly as long as something is counted. */
  #wait(): void {
    if (this.#pending === 0 || this.#cancel !== undefined) return;
    const { schedule, interval, now } = this.#options;
    // Lines that are due within a fifth of an interval come together.
    this.#cancel = schedule(() => {
      this.#cancel = undefined;
      this.#write(now());
    }, interval / 5);
  }
}

/** The part of an address that one party has: an IPv4 address, the first 64 bits of an IPv6 address. */
export function sourceOf(remote: string): string {
  // A listener on every interface sees IPv4 addresses as parts of ::ffff:0:0/96.
  const ipv4 = /^(?:\[::ffff:(\d+(?:\.\d+){3})\]|([^[\]]*)):\d+$/.exec(remote);
  if (ipv4 !== null) return (ipv4[1] ?? ipv4[2]) as string;
  const match = /^\[([^\]]*)\]:\d+$/.exec(remote);
  if (match === null) return remote;
  // As the system prints it: lower case, without leading zeros, with one "::" at most.
  const [head = "", tail] = match[1]!.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = Array<string>(tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length)).fill("0");
  return `${[...left, ...zeros, ...right].slice(0, 4).join(":")}::/64`;
}
