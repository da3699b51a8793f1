// The kinds of values of configuration keys, and how keys are declared. A kind defines how to read a value, its name in
// the reference, its TypeScript type and its JSON Schema. The keys are in schema.ts. Pure.

import type { Reader } from "./reader.ts";

export type JsonSchema = { readonly [keyword: string]: unknown };

/** A kind of value that is read as a `T`. */
export interface Kind<T> {
  /** For people, such as `whole number, 1 to 64`. */
  readonly type: string;
  readonly typescript: string;
  readonly schema: JsonSchema;
  /** Reads a written value. Faults go to the reader; the result is then a harmless value. */
  read(read: Reader, value: unknown, key: string): T;
  /** The table of such a value, or of the entries of such a list. */
  readonly table?: Table<Keys>;
  /** Whether such a value is a list. */
  readonly list?: true;
}

/** A declared key. */
export interface Key<T> {
  readonly kind: Kind<T>;
  /** One or more sentences. */
  readonly meaning: string;
  /** The value if the key is left out. */
  readonly builtIn?: unknown;
  /** The same, but only without a configuration file; with a file, the key is required. */
  readonly demonstration?: unknown;
  /** The key may be left out and then has no value; the text describes the effect. */
  readonly absent?: string;
}

export type Keys = { readonly [name: string]: Key<unknown> };

/** The result of reading a table with these keys. */
export type Values<K extends Keys> = {
  readonly [N in keyof K]: K[N] extends Key<infer T> ? T : never;
};

/** A table is a kind of value that has keys. */
export interface Table<K extends Keys> extends Kind<Values<K>> {
  readonly keys: K;
  /** The name of its TypeScript interface; a table without one is written inline. */
  readonly name: string | undefined;
  /** @param skipped keys that are not read; they are missing in the result */
  read(read: Reader, value: unknown, key: string, skipped?: readonly string[]): Values<K>;
}

/** A key that must be given. */
export function required<T>(kind: Kind<T>, meaning: string): Key<T> {
  return { kind, meaning };
}

/** A key that may be left out and then has no value. */
export function optional<T>(kind: Kind<T>, meaning: string, absent = "none"): Key<T | undefined> {
  return { kind, meaning, absent };
}

/** A key with a built-in value. */
export function builtIn<T>(kind: Kind<T>, value: unknown, meaning: string): Key<T> {
  return { kind, meaning, builtIn: value };
}

/** A key with a built-in value if there is no configuration file; otherwise it must be given. */
export function demonstration<T>(kind: Kind<T>, value: unknown, meaning: string): Key<T> {
  return { kind, meaning, demonstration: value };
}

/** Whether a configuration file must have the key. */
export function isRequired({ builtIn, absent }: Key<unknown>): boolean {
  return builtIn === undefined && absent === undefined;
}

/**
 * @param name the name of its TypeScript interface
 * @param check finds faults between keys that are each valid
 */
export function table<const K extends Keys>(
  keys: K,
  name?: string,
  check?: (read: Reader, values: Values<K>, key: string) => void,
): Table<K> {
  const names = Object.keys(keys);
  const fields = names.map((each) => {
    const { kind, builtIn, demonstration, absent } = keys[each]!;
    const mayBeAbsent = [builtIn, demonstration, absent].some((value) => value !== undefined);
    return `${each}${mayBeAbsent ? "?" : ""}: ${kind.typescript}`;
  });
  const self: Table<K> = {
    keys,
    name,
    type: "table",
    typescript: name ?? `{ ${fields.join("; ")} }`,
    schema: {
      type: "object",
      properties: Object.fromEntries(names.map((each) => [each, describe(keys[each]!)])),
      required: names.filter((each) => isRequired(keys[each]!)),
      additionalProperties: false,
    },
    get table() {
      return self;
    },
    read(read, value, key, skipped = []) {
      const given = read.table(value, key, names);
      const values: Record<string, unknown> = {};
      for (const each of names) {
        if (skipped.includes(each)) continue;
        const { kind, absent, ...declared } = keys[each]!;
        const fallback = declared.builtIn ?? (read.fromFile ? undefined : declared.demonstration);
        const one = given[each] === undefined ? fallback : given[each];
        values[each] =
          one === undefined && absent !== undefined
            ? undefined
            : kind.read(read, one, key ? `${key}.${each}` : each);
      }
      check?.(read, values as Values<K>, key);
      return values as Values<K>;
    },
  };
  return self;
}

/** The JSON Schema of a key: that of its kind, with its meaning and its built-in value. */
function describe({ kind, meaning, builtIn }: Key<unknown>): JsonSchema {
  return {
    ...kind.schema,
    description: meaning.replaceAll("`", ""),
    ...(builtIn !== undefined && kind.table === undefined && { default: builtIn }),
  };
}

/**
 * A list of entries of one kind.
 * @param what the name of one entry
 * @param rules `hint` says how to write a list that may be empty. `unique` returns the text by which entries must
 *   differ, and `suffix` says where that text is in an entry
 */
export function list<T>(
  of: Kind<T>,
  what: string,
  rules: { hint?: string; unique?: (entry: T) => string; suffix?: string } = {},
): Kind<readonly T[]> {
  const { hint, unique, suffix } = rules;
  return {
    type: `list of ${what}s`,
    typescript: /[|(]/.test(of.typescript) ? `(${of.typescript})[]` : `${of.typescript}[]`,
    schema: { type: "array", items: of.schema, ...(hint === undefined && { minItems: 1 }) },
    ...(of.table && { table: of.table }),
    list: true,
    read(read, value, key) {
      const entries = hint === undefined ? read.list(value, key, what) : read.anyList(value, key, hint);
      const all = entries.map((entry, i) => of.read(read, entry, `${key}[${i}]`));
      if (unique !== undefined) read.unique(all.map(unique), key, suffix);
      return all;
    },
  };
}

/** A table that may also be written as the value of its only required key. */
export function shorthand<K extends Keys>(long: Table<K>, short: keyof K & string): Kind<Values<K>> {
  const { kind } = long.keys[short]!;
  const rest = Object.entries(long.keys).filter(([name]) => name !== short);
  return {
    type: `${kind.type}, or table`,
    typescript: `${kind.typescript} | ${long.typescript}`,
    schema: { anyOf: [kind.schema, long.schema] },
    table: long,
    read(read, value, key) {
      if (typeof value === "object" && value !== null) return long.read(read, value, key);
      const others = rest.map(([name, { kind, builtIn }]) => [
        name,
        builtIn === undefined ? undefined : kind.read(read, builtIn, `${key}.${name}`),
      ]);
      return { [short]: kind.read(read, value, key), ...Object.fromEntries(others) } as Values<K>;
    },
  };
}
