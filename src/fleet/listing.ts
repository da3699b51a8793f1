// Who has how many connections on which node, out of the store. It walks over the keys of the store, a portion at a time, and
// so is for people, not for the data path.

import type { Reply } from "./resp.ts";

/** The part of a session that is needed to read the store. */
export interface Reading {
  send(words: readonly (string | number)[]): Promise<Reply>;
  key(name: string): string;
}

/** One client's connections. */
export interface ClientCounts {
  /** Its name, or the first 255 characters of it. */
  readonly client: string;
  /** By node. */
  readonly open: Readonly<Record<string, number>>;
  readonly total: number;
}

/** Keys that the store looks at in one go. */
const PORTION = 500;

export async function listClients(store: Reading): Promise<ClientCounts[]> {
  const found: ClientCounts[] = [];
  const seen = new Set<string>();
  let cursor = "0";
  do {
    const reply = await store.send(["SCAN", cursor, "MATCH", store.key("{*}:o"), "COUNT", PORTION]);
    const [next, keys] = reply as [string, string[]];
    const fresh = keys.filter((key) => !seen.has(key));
    for (const key of fresh) seen.add(key);
    const [time, ...all] = await Promise.all([
      store.send(["TIME"]),
      ...fresh.map((key) => store.send(["HGETALL", key]).catch(() => [])),
    ]);
    const now = Number((time as string[])[0]) * 1_000;
    for (const fields of all) {
      const counts = countsOf(fields as string[], now);
      if (counts !== undefined) found.push(counts);
    }
    cursor = next;
  } while (cursor !== "0");
  return found.sort((a, b) => b.total - a.total || (a.client < b.client ? -1 : 1));
}

/**
 * Reads a client's counts.
 * @param fields as HGETALL answers them
 * @returns undefined where the client has nothing open
 */
export function countsOf(fields: readonly string[], now: number): ClientCounts | undefined {
  const open: Record<string, number> = {};
  let client = "";
  let total = 0;
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const [field, value] = [fields[i]!, fields[i + 1]!];
    if (field === "client") client = value;
    const [, number, expires] = /^\S+ \d+ (\d+) (\d+)$/.exec(value) ?? [];
    if (!field.startsWith("n:") || number === undefined || Number(expires) <= now || number === "0") continue;
    open[field.slice(2)] = Number(number);
    total += Number(number);
  }
  return total === 0 ? undefined : { client, open, total };
}
