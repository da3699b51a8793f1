// Says what a reload has changed, for the log. Pure.

import { formatAddress } from "../lib/address.ts";
import type { Config } from "./config.ts";

/** The largest number of characters that {@link listed} writes for more than one name. */
const MAX_LIST_LENGTH = 1_000;

/**
 * The keys whose values differ between two configurations, such as `upstreams[0].authorizedGroups`. If a list of
 * listeners or upstreams has changed its length, the list itself is one of them.
 */
export function changedKeys(before: Config, after: Config): string[] {
  return [
    ...ofTables(before, after, "", ["listeners", "upstreams", "fallback"]),
    ...ofLists(
      ...([before.listeners, after.listeners, "listeners"] as const),
      ({ address }) => formatAddress(address),
      (listener) => listener.key,
      ["key"],
    ),
    ...ofLists(
      ...([before.upstreams, after.upstreams, "upstreams"] as const),
      ({ name }) => name,
      (_, i) => `upstreams[${i}]`,
      ["fall"],
    ),
  ];
}

/** Names as one field of a log line, separated by commas; "none" if there are none. */
export function listed(names: readonly string[]): string {
  let text = names[0] ?? "none";
  for (const [i, name] of names.entries()) {
    if (i === 0) continue;
    if (text.length + name.length >= MAX_LIST_LENGTH) return `${text},and ${names.length - i} more`;
    text += `,${name}`;
  }
  return text;
}

/** @param derived names that are skipped, because they follow from other keys */
function ofTables(before: object, after: object, key: string, derived: readonly string[]): string[] {
  const [old, now] = [new Map(Object.entries(before)), new Map(Object.entries(after))];
  return [...new Set([...old.keys(), ...now.keys()])].flatMap((name) => {
    const [a, b] = [old.get(name), now.get(name)];
    if (derived.includes(name) || Bun.deepEquals(a, b)) return [];
    const path = key ? `${key}.${name}` : name;
    return isTable(a) && isTable(b) && name !== "address" ? ofTables(a, b, path, []) : [path];
  });
}

/** Pairs entries by their place or, if their number has changed, by their identifying field. */
function ofLists<T extends object>(
  before: readonly T[],
  after: readonly T[],
  key: string,
  identity: (entry: T) => string,
  keyOf: (entry: T, i: number) => string,
  derived: readonly string[],
): string[] {
  const samePlaces = before.length === after.length;
  const known = new Map(before.map((entry) => [identity(entry), entry]));
  const within = after.flatMap((entry, i) => {
    const old = samePlaces ? before[i] : known.get(identity(entry));
    return old === undefined ? [] : ofTables(old, entry, keyOf(entry, i), derived);
  });
  return samePlaces ? within : [key, ...within];
}

function isTable(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
