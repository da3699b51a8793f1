// The reference of the configuration as rows and sentences, for a terminal and for Markdown. Texts are Markdown. Pure.

import { isRequired, type Key, type Keys, type Table } from "./kinds.ts";
import { SCHEMA } from "./schema.ts";
import { written } from "./values.ts";

/** One key of the reference. */
export interface Row {
  /** Such as `upstreams[].tls.ca`. */
  readonly key: string;
  readonly type: string;
  /** The value that applies if the key is left out, in words or as in TOML. */
  readonly without: string;
  readonly meaning: string;
}

/** Every key, each table followed by its own keys. The entries of `listeners` have the keys of `listener`. */
export function rows({ keys }: Table<Keys> = SCHEMA.table!, prefix = ""): Row[] {
  return Object.entries(keys).flatMap(([name, declared]) => {
    const { kind, meaning } = declared;
    const key = prefix + name;
    const row = { key, type: kind.type, without: withoutOf(declared), meaning };
    if (kind.table === undefined) return [row];
    if (name === "listeners") return [{ ...row, meaning: `${meaning} ${ENTRIES}` }];
    return [row, ...rows(kind.table, `${key}${kind.list ? "[]" : ""}.`)];
  });
}
const ENTRIES =
  "Each has the keys of `listener`, of which `address`, `ca`, `certificate` and `privateKey` are required.";

function withoutOf(declared: Key<unknown>): string {
  const { kind, builtIn, demonstration, absent } = declared;
  if (absent !== undefined) return absent;
  if (demonstration !== undefined)
    return kind.table
      ? "the demonstration's; required in a file"
      : `\`${written(demonstration)}\`; required in a file`;
  if (isRequired(declared)) return "required";
  return kind.table ? "the values below" : `\`${written(builtIn)}\``;
}

export const DURATIONS =
  'A duration is written as `"250ms"`, `"60s"`, `"1m30s"` or `"1h"`; from 1 ms to just under 25 days. A number without a unit is refused, except `0` if the type allows it; in TypeScript it is milliseconds.';
export const FILES =
  "Every key may be left out unless it is required. Relative paths start from the folder of the configuration file. A file without a listener's certificates or without upstreams is refused: those built-in values are the demonstration's.";

/** The line that tells an editor where the schema is, by language. */
export const EDITORS: readonly (readonly [language: string, line: string])[] = [
  ["TOML", "#:schema ./proxy.schema.json"],
  ["YAML", "# yaml-language-server: $schema=./proxy.schema.json"],
  ["JSON", '"$schema": "./proxy.schema.json"'],
];
