// The command line's flags: their names, the key that each one sets, and the origin of a fault. Pure.

import { parseArgs as parseWithCitty, type ArgsDef } from "citty";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { BUILT_IN } from "../config/config.ts";
import { quote, type Fault } from "../lib/errors.ts";
import { LOG_FORMATS, LOG_LEVELS } from "../lib/log.ts";
import { suggest } from "../lib/suggest.ts";

/** The command line is wrong; the message names the word at fault. */
export class UsageError extends Error {}

/** A flag as the help shows it; citty reads only `type`. */
export type Flag = ValueFlag | Switch;

/** A flag that is there or not. */
export interface Switch {
  readonly type: "boolean";
  readonly description: string;
}

/** A flag that takes a value. */
export interface ValueFlag {
  readonly type: "string";
  /** Stands for the value in the help. */
  readonly valueHint: string;
  readonly description: string;
  /** What applies without the flag and without a configuration file. */
  readonly builtIn?: string;
  /** The configuration key that the flag sets. */
  readonly key?: string;
}

export type Flags = Readonly<Record<string, Flag>>;

const [{ targets, authorizedGroups }] = BUILT_IN.upstreams as [(typeof BUILT_IN.upstreams)[0]];

/** Flags of `run` and `check`. */
export const FLAGS = {
  config: {
    type: "string",
    valueHint: "FILE",
    description: "configuration file: .toml, .yaml, .yml or .json",
    builtIn: "none",
  },
  ca: {
    type: "string",
    valueHint: "FILE",
    description: "CA certificates that clients must chain to (PEM)",
    builtIn: BUILT_IN.listener.ca,
    key: "listener.ca",
  },
  cert: {
    type: "string",
    valueHint: "FILE",
    description: "the proxy's certificate, then its chain (PEM)",
    builtIn: BUILT_IN.listener.certificate,
    key: "listener.certificate",
  },
  key: {
    type: "string",
    valueHint: "FILE",
    description: "the certificate's private key (PEM)",
    builtIn: BUILT_IN.listener.privateKey,
    key: "listener.privateKey",
  },
  targets: {
    type: "string",
    valueHint: "A:1,B:2",
    description: "upstream servers to balance over",
    builtIn: targets.join(","),
    key: "upstreams[0].targets",
  },
  groups: {
    type: "string",
    valueHint: "X,Y",
    description: "groups whose members are let through",
    builtIn: authorizedGroups.join(","),
    key: "upstreams[0].authorizedGroups",
  },
  capacity: {
    type: "string",
    valueHint: "N",
    description: 'size of each client\'s token bucket, or "unlimited"; a connection takes one token',
    builtIn: String(BUILT_IN.rateLimit.capacity),
    key: "rateLimit.capacity",
  },
  "fill-rate": {
    type: "string",
    valueHint: "DURATION",
    description: "how often a client gets one token back",
    builtIn: String(BUILT_IN.rateLimit.fillRate),
    key: "rateLimit.fillRate",
  },
  "max-connections": {
    type: "string",
    valueHint: "N",
    description: "connections of all clients together",
    builtIn: "as many as descriptors allow",
    key: "maxConnections",
  },
  timeout: {
    type: "string",
    valueHint: "DURATION",
    description: "idle time after which a connection is closed",
    builtIn: String(BUILT_IN.timeout),
    key: "timeout",
  },
  workers: {
    type: "string",
    valueHint: "N",
    description: 'threads that carry connections, or "auto" for one per core',
    builtIn: String(BUILT_IN.workers),
    key: "workers",
  },
  "log-level": {
    type: "string",
    valueHint: "LEVEL",
    description: `least severe lines to write: ${LOG_LEVELS.join(", ")}`,
    builtIn: BUILT_IN.logLevel,
    key: "logLevel",
  },
  "log-format": {
    type: "string",
    valueHint: "FORMAT",
    description: `how lines are written: ${LOG_FORMATS.join(", ")}`,
    builtIn: "pretty on a terminal, else json",
  },
} as const satisfies Flags;

/** The key that a flag, or the positional address, sets. */
const KEYS: Readonly<Record<string, string>> = {
  address: "listener.address",
  ...Object.fromEntries(
    Object.entries<ValueFlag>(FLAGS).flatMap(([name, { key }]) => (key === undefined ? [] : [[name, key]])),
  ),
};

/** Values by flag name, as given. */
export type FlagValues = Readonly<Record<string, string | undefined>>;

/**
 * Checks what citty silently accepts: a flag that is unknown, that has no value or one too many, or that is given twice.
 * @throws UsageError
 */
export function checkFlags(rawArgs: readonly string[], flags: Flags): void {
  const { tokens } = split(rawArgs, flags);
  const seen = new Set<string>();
  for (const token of tokens) {
    if (token.kind !== "option") continue;
    const { name, rawName, value, inlineValue } = token;
    if (!Object.hasOwn(flags, name) || !rawName.startsWith("--"))
      throw new UsageError(unknownFlag(rawArgs[token.index]!, rawName, flags));
    if (flags[name]?.type === "boolean") {
      if (inlineValue) throw new UsageError(`${rawName} takes no value`);
    }
    // A flag stands where the value should be: the value is missing.
    else if (!value || (!inlineValue && value.startsWith("-")))
      throw new UsageError(`${rawName} needs a value`);
    if (seen.has(name)) throw new UsageError(`${rawName} is given twice`);
    seen.add(name);
  }
}

/** citty splits `-config` into one-letter flags: the error names the word as written. */
function unknownFlag(word: string, rawName: string, flags: Flags): string {
  const written = word.startsWith("--") || word.length < 3 ? rawName : word.replace(/=.*/s, "");
  const near = suggest(written.replace(/^-+/, ""), [...Object.keys(flags), "help", "version"]);
  return `unknown flag ${quote(written)}${near === undefined ? "" : `; did you mean --${near}?`}`;
}

/**
 * The flags' values and, as `address`, the first word that is neither flag nor value; {@link checkFlags} has checked
 * them.
 */
export function parseFlags(rawArgs: readonly string[], flags: Flags): FlagValues {
  const args: ArgsDef = { address: { type: "positional", required: false }, ...flags };
  const values = Object.entries<unknown>(parseWithCitty([...rawArgs], args));
  return Object.fromEntries(
    values.filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

/** The switches that are given; {@link checkFlags} has checked them. */
export function switchesOf(rawArgs: readonly string[], flags: Flags): ReadonlySet<string> {
  const given = split(rawArgs, flags).tokens.flatMap((token) =>
    token.kind === "option" ? [token.name] : [],
  );
  return new Set(given.filter((name) => flags[name]?.type === "boolean"));
}

/** The words of a command line that are neither flags nor flags' values. */
export function positionals(rawArgs: readonly string[], flags: Flags): { index: number; value: string }[] {
  return split(rawArgs, flags).tokens.filter((token) => token.kind === "positional");
}

function split(rawArgs: readonly string[], flags: Flags) {
  const options = Object.fromEntries(Object.entries(flags).map(([name, { type }]) => [name, { type }]));
  return parseArgs({ args: [...rawArgs], options, strict: false, allowPositionals: true, tokens: true });
}

/** Checks that a value is one of the choices. */
export function choose<T extends string>(
  flag: string,
  value: string | undefined,
  choices: readonly T[],
): T | undefined {
  const choice = choices.find((each) => each === value);
  if (value !== undefined && choice === undefined) {
    throw new UsageError(`--${flag}: ${quote(value)} is none of ${choices.join(", ")}`);
  }
  return choice;
}

/**
 * Applies flags to a configuration. Values that are not tables are left for the resolver to report. Without a file,
 * flags for an upstream change the built-in one. If a file has no upstream, flags make one without a name, which is a
 * fault.
 * @param directory where relative paths on the command line start; the file's paths have their own base
 * @throws UsageError if a flag could mean one of several listeners or upstreams
 */
export function applyFlags(input: unknown, flags: FlagValues, directory: string): unknown {
  if (!isTable(input)) return input;
  const list = (text: string) => text.split(",").map((item) => item.trim());
  const path = (text: string) => resolve(directory, text);
  const number = (text: string) => (/^\d+$/.test(text) ? Number(text) : text);
  const { address, ca, cert, key, targets, groups, capacity, timeout, workers } = flags;
  const listener = {
    address,
    ca: map(ca, path),
    certificate: map(cert, path),
    privateKey: map(key, path),
  };
  const upstream = { targets: map(targets, list), authorizedGroups: map(groups, list) };
  const { listeners, upstreams = flags["config"] === undefined ? BUILT_IN.upstreams : unnamed(upstream) } =
    input;
  return {
    ...input,
    ...given({
      timeout,
      maxConnections: map(flags["max-connections"], number),
      workers: map(workers, number),
      logLevel: flags["log-level"],
    }),
    ...(listeners === undefined
      ? { listener: merge(input.listener, listener) }
      : { listeners: mergeOnly(listeners, listener, "listeners") }),
    upstreams: mergeOnly(upstreams, upstream, "upstreams"),
    rateLimit: merge(input.rateLimit, { capacity: map(capacity, number), fillRate: flags["fill-rate"] }),
  };
}

/** The upstream that flags describe if there is none to change; undefined without such flags. */
function unnamed(upstream: Record<string, unknown>): unknown[] | undefined {
  return Object.keys(given(upstream)).length > 0 ? [{}] : undefined;
}

/** Changes the only entry of a list; with several, the flag is ambiguous. */
function mergeOnly(list: unknown, over: Record<string, unknown>, key: string): unknown {
  const changes = given(over);
  const [change] = Object.keys(changes);
  if (!Array.isArray(list) || change === undefined) return list;
  if (list.length > 1) {
    const [name] = Object.entries(KEYS).find(([, path]) => path.endsWith(`.${change}`)) ?? [];
    const flag = name === "address" ? "the address" : `--${name}`;
    throw new UsageError(
      `${flag} is ambiguous: the file has ${list.length} ${key}; set it in the configuration file`,
    );
  }
  return list.map((entry) => merge(entry, changes));
}

/**
 * Where a fault is: the flag that set the value, otherwise the file, otherwise the key alone with the flag that would
 * set it.
 */
export function locate({ key }: Fault, flags: FlagValues, file: string | undefined): string {
  // A flag changes the only entry of a list in the same way as the one listener.
  const single = key.replace(/^listeners\[0\]/, "listener");
  const name = Object.keys(KEYS).find((each) => single === KEYS[each] || single.startsWith(`${KEYS[each]}[`));
  const label = name === "address" ? "address" : `--${name}`;
  if (name !== undefined && flags[name] !== undefined) return label;
  if (file !== undefined) return key.startsWith(file) ? key : `${file}: ${key}`;
  return name === undefined ? key : `${key} (${label})`;
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function merge(value: unknown, over: Record<string, unknown>): unknown {
  const changes = given(over);
  return value === undefined || isTable(value) ? { ...value, ...changes } : value;
}

function given(values: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

function map<T>(text: string | undefined, change: (text: string) => T): T | undefined {
  return text === undefined ? undefined : change(text);
}
