// The command line's flags: what they are called, which key each one sets, and where a fault came from. Pure.

import type { ArgsDef } from "citty";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { BUILT_IN } from "../config/config.ts";
import { quote, type Fault } from "../lib/errors.ts";
import { LOG_FORMATS, LOG_LEVELS } from "../lib/log.ts";

/** The command line is wrong; the message names the word at fault. */
export class UsageError extends Error {}

/** Flags of `run` and `check`, as citty describes them. All take a value. */
export const FLAGS = {
  config: {
    type: "string",
    valueHint: "file",
    description: "configuration file: .toml, .yaml, .yml or .json",
  },
  ca: { type: "string", valueHint: "file", description: "CA certificates that clients must chain to (PEM)" },
  cert: { type: "string", valueHint: "file", description: "the proxy's certificate, then its chain (PEM)" },
  key: { type: "string", valueHint: "file", description: "the certificate's private key (PEM)" },
  targets: { type: "string", valueHint: "a:1,b:2", description: "upstream servers to balance over" },
  groups: { type: "string", valueHint: "x,y", description: "groups whose members are let through" },
  capacity: { type: "string", valueHint: "n|unlimited", description: "size of each client's token bucket" },
  "fill-rate": {
    type: "string",
    valueHint: "duration",
    description: "how often a client gets one token back",
  },
  "max-connections": { type: "string", valueHint: "n", description: "connections of all clients together" },
  timeout: {
    type: "string",
    valueHint: "duration",
    description: "idle time after which a connection is closed",
  },
  workers: { type: "string", valueHint: "n|auto", description: "threads that carry connections" },
  "log-level": {
    type: "string",
    valueHint: LOG_LEVELS.join("|"),
    description: "least severe lines to write",
  },
  "log-format": {
    type: "string",
    valueHint: LOG_FORMATS.join("|"),
    description: "default: pretty on a terminal",
  },
} as const satisfies ArgsDef;

/** The key that a flag, or the positional address, sets. */
const KEYS: Record<string, string> = {
  address: "listener.address",
  ca: "listener.ca",
  cert: "listener.certificate",
  key: "listener.privateKey",
  targets: "upstreams[0].targets",
  groups: "upstreams[0].authorizedGroups",
  capacity: "rateLimit.capacity",
  "fill-rate": "rateLimit.fillRate",
  "max-connections": "maxConnections",
  timeout: "timeout",
  workers: "workers",
  "log-level": "logLevel",
};

/** Values by flag name, as given. */
export type FlagValues = Readonly<Record<string, string | undefined>>;

/**
 * Checks what citty lets pass in silence: a flag that is not known, that has no value, or that is given twice.
 * @throws UsageError
 */
export function checkFlags(rawArgs: readonly string[], flags: ArgsDef): void {
  const { tokens } = split(rawArgs, flags);
  const seen = new Set<string>();
  for (const token of tokens) {
    if (token.kind !== "option") continue;
    const { name, rawName, value, inlineValue } = token;
    if (!Object.hasOwn(flags, name) || !rawName.startsWith("--"))
      throw new UsageError(`unknown flag ${quote(rawName)}`);
    // A flag where a value should be: the value was forgotten.
    if (!value || (!inlineValue && value.startsWith("-"))) throw new UsageError(`${rawName} needs a value`);
    if (seen.has(name)) throw new UsageError(`${rawName} is given twice`);
    seen.add(name);
  }
}

/** The words of a command line that are no flags and no flags' values. */
export function positionals(rawArgs: readonly string[], flags: ArgsDef): { index: number; value: string }[] {
  return split(rawArgs, flags).tokens.filter((token) => token.kind === "positional");
}

function split(rawArgs: readonly string[], flags: ArgsDef) {
  const options = Object.fromEntries(Object.keys(flags).map((name) => [name, { type: "string" as const }]));
  return parseArgs({ args: [...rawArgs], options, strict: false, allowPositionals: true, tokens: true });
}

/** A value out of a few. */
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
 * Lays flags over a configuration. What is no table is left for the resolver to find fault with. Without a file, flags
 * for an upstream change the built-in one; a file that has none leaves them without a name, which is a fault.
 * @param directory what paths on the command line are taken from, whatever the file's own are taken from
 * @throws UsageError where a flag could mean one of several listeners or upstreams
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

/** What flags for an upstream change where there is none, if there are such flags. */
function unnamed(upstream: Record<string, unknown>): unknown[] | undefined {
  return Object.keys(given(upstream)).length > 0 ? [{}] : undefined;
}

/** Changes the only entry of a list; with several, a flag does not say which. */
function mergeOnly(list: unknown, over: Record<string, unknown>, key: string): unknown {
  const changes = given(over);
  const [change] = Object.keys(changes);
  if (!Array.isArray(list) || change === undefined) return list;
  if (list.length > 1) {
    const [name] = Object.entries(KEYS).find(([, path]) => path.endsWith(`.${change}`)) ?? [];
    const flag = name === "address" ? "the address" : `--${name}`;
    throw new UsageError(
      `${flag} could be for any of ${list.length} ${key}; say it in the configuration file`,
    );
  }
  return list.map((entry) => merge(entry, changes));
}

/** Where a fault is: the flag that set the value, else the file, else the key alone with the flag that would set it. */
export function locate({ key }: Fault, flags: FlagValues, file: string | undefined): string {
  // The only entry of a list is what a flag has changed, as it would have the one listener.
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
