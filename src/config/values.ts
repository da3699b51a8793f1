// The kinds of single values: durations, numbers, switches, choices, paths and texts. Pure.

import { quote } from "../lib/errors.ts";
import type { JsonSchema, Kind } from "./kinds.ts";

/** The largest number for most counts. */
export const MILLION = 1_000_000;

/** As {@link parseDuration} reads it: units from large to small, each once. */
const DURATION_PATTERN = "^(?=\\d)(\\d+h)?(\\d+m)?(\\d+s)?(\\d+ms)?$";

export const duration: Kind<number> = {
  type: "duration",
  typescript: "Duration",
  schema: { type: "string", pattern: DURATION_PATTERN, examples: ["250ms", "60s", "1m30s", "1h"] },
  read: (read, value, key) => read.duration(value, key),
};

/** A duration, or none at all. */
export const durationOrZero: Kind<number> = {
  type: "duration or `0`",
  typescript: "Duration",
  schema: { anyOf: [{ const: 0 }, { type: "string", pattern: "^0$" }, duration.schema] },
  read: (read, value, key) => read.durationOrNone(value, key),
};

/** A whole number from 1 on, or a word in its place. */
export function count(most: number): Kind<number>;
export function count<W extends string>(most: number, word: W): Kind<number | W>;
export function count(most: number, word?: string): Kind<number | string> {
  const number = { type: "integer", minimum: 1, maximum: most };
  return {
    type: `whole number, 1 to ${thousands(most)}${word === undefined ? "" : `, or \`"${word}"\``}`,
    typescript: word === undefined ? "number" : `number | "${word}"`,
    schema: word === undefined ? number : { anyOf: [number, { const: word }] },
    read: (read, value, key) =>
      word !== undefined && value === word
        ? word
        : read.count(value, key, most, word === undefined ? "" : `, or "${word}"`),
  };
}

export const flag: Kind<boolean> = {
  type: "`true` or `false`",
  typescript: "boolean",
  schema: { type: "boolean" },
  read: (read, value, key) => read.flag(value, key),
};

/** One of a few texts. */
export function choice<T extends string>(choices: readonly [T, ...T[]]): Kind<T> {
  const all = choices.map((each) => `"${each}"`);
  const code = (each: string) => `\`${each}\``;
  return {
    type: `${all.slice(0, -1).map(code).join(", ")} or ${code(all.at(-1)!)}`,
    typescript: all.join(" | "),
    schema: { enum: choices },
    read: (read, value, key) => read.choice(value, key, choices),
  };
}

/** A path. It is read as an absolute path. */
export const path = (what: string): Kind<string> => ({
  type: `path of ${what}`,
  typescript: "string",
  schema: { type: "string", minLength: 1 },
  read: (read, value, key) => read.path(value, key),
});

export const pemPath = path("a PEM file");

/** A whole number from 0 on. */
export const countOrZero = (most: number): Kind<number> => ({
  type: `whole number, 0 to ${thousands(most)}`,
  typescript: "number",
  schema: { type: "integer", minimum: 0, maximum: most },
  read: (read, value, key) => (value === 0 ? 0 : read.count(value, key, most, ", or 0")),
});

/** The path of any other file. It is read as an absolute path. */
export const filePath: Kind<string> = {
  type: "path of a file",
  typescript: "string",
  schema: { type: "string", minLength: 1 },
  read: (read, value, key) => read.path(value, key, "the path of a file"),
};

/** Any text except the empty one. */
export function text(what: string): Kind<string> {
  return {
    type: what.replace(/^an? /, ""),
    typescript: "string",
    schema: { type: "string", minLength: 1 },
    read: (read, value, key) => read.text(value, key, what),
  };
}

/** A text of a certain form. */
export function form<T>(rules: {
  readonly type: string;
  /** What the text should be, for the fault. */
  readonly what: string;
  /** How to write it; it may depend on the written value. */
  readonly hint?: string | ((value: unknown) => string);
  parse(value: unknown): T | undefined;
  /** The result of reading a faulty text. */
  readonly harmless: T;
  readonly schema?: JsonSchema;
}): Kind<T> {
  const { type, what, hint = "", parse, harmless, schema } = rules;
  return {
    type,
    typescript: "string",
    schema: { type: "string", minLength: 1, ...schema },
    read(read, value, key) {
      const parsed = parse(value);
      if (parsed === undefined) read.reject(value, key, what, typeof hint === "string" ? hint : hint(value));
      return parsed ?? harmless;
    },
  };
}

/** How a value is written in the reference: as in TOML. */
export function written(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(written).join(", ")}]`;
  return typeof value === "string" ? quote(value) : String(value);
}

/** By hand: the runtime loads its language tables, 2 MiB, when it is asked to do this. */
export function thousands(number: number): string {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}
