// The command line's flags: their names, the key that each one sets, and how they are read. Pure.

import { parseArgs as parseWithCitty, type ArgsDef } from "citty";
import { parseArgs } from "node:util";
import { BUILT_IN } from "../config/config.ts";
import { quote } from "../lib/errors.ts";
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
  /** The possible values, if they are few. */
  readonly choices?: readonly string[];
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
    choices: LOG_LEVELS,
  },
  "log-format": {
    type: "string",
    valueHint: "FORMAT",
    description: `how lines are written: ${LOG_FORMATS.join(", ")}`,
    builtIn: "pretty on a terminal, else json",
    choices: LOG_FORMATS,
  },
} as const satisfies Flags;

/** Values by flag name, as given. */
export type FlagValues = Readonly<Record<string, string | undefined>>;

/**
 * Checks what citty silently accepts: a flag that is unknown, that has no value or one too many, or that is given
 * twice.
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
