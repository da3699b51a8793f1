// What flags change in a configuration, and which flag or file a fault in it comes from. Pure.

import { resolve } from "node:path";
import { BUILT_IN } from "../config/config.ts";
import type { Fault } from "../lib/errors.ts";
import { FLAGS, UsageError, type FlagValues, type ValueFlag } from "./flags.ts";

/** The key that a flag, or the positional address, sets. */
const KEYS: Readonly<Record<string, string>> = {
  address: "listener.address",
  ...Object.fromEntries(
    Object.entries<ValueFlag>(FLAGS).flatMap(([name, { key }]) => (key === undefined ? [] : [[name, key]])),
  ),
};

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
