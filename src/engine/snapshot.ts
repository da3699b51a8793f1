// What a thread runs on: a configuration with its files read and its targets numbered. Can be sent to another thread.

import { formatAddress } from "../lib/address.ts";
import type { LogLevel } from "../lib/log.ts";
import type { Config, Listener } from "../config/config.ts";
import type { RowNumbers } from "./counter-rows.ts";
import type { RunConfig } from "../connection/admission.ts";
import type { Block } from "../auth/blocks.ts";
import type { AllCredentials, Credentials, UpstreamCredentials } from "../config/credentials.ts";

/** The most targets of all upstreams together, those that a reload took away but that still have connections included. */
export const MAX_TARGETS = 4_096;

/** The most clients that can have a connection open, or a bucket that is not full, at a time. */
export const MAX_CLIENTS = 262_144;

/** A configuration, ready to run: what a thread is sent. */
export interface Snapshot {
  readonly config: RunConfig;
  /** One for each port that was opened at the start, in that order; undefined where a reload took it away. */
  readonly entrances: readonly (ListenerSnapshot | undefined)[];
  /** As the configuration's upstreams; undefined for those without TLS. */
  readonly upstreamCredentials: readonly (UpstreamCredentials | undefined)[];
  /** As the configuration's upstreams and their targets. */
  readonly slots: readonly (readonly number[])[];
  /** Set by operators, on top of the configuration. */
  readonly blocks: readonly Block[];
  /** Where its connections are counted. */
  readonly rows: RowNumbers;
}

/** The least severe lines that a thread reports: those that the log takes and, where operators can look on, ends and refusals. */
export function eventLevel({ config: { logLevel, admin } }: Pick<Snapshot, "config">): LogLevel {
  return admin === undefined || logLevel === "debug" ? logLevel : "info";
}

/** A port, and what TLS on it needs. */
export interface ListenerSnapshot {
  readonly listener: Listener;
  readonly credentials: Credentials;
}

/** What identifies each target of a configuration across reloads: its upstream's name and its address. */
export function targetKeys({ upstreams }: Config): string[][] {
  return upstreams.map(({ name, targets }) =>
    targets.map(({ address }) => `${name}\n${formatAddress(address)}`),
  );
}

/**
 * Pairs the ports that are open with the listeners of a new configuration: by address, then, where as many are left on
 * both sides, by their place in the list: there an address was changed, which it does not before a restart. A port never
 * gets the trust of a listener that was written down elsewhere. Where no address is the same, all are paired by place.
 * @returns for each open port the place of its listener, or undefined where there is none any more
 */
export function pairPorts(
  open: readonly (Listener | undefined)[],
  next: readonly Listener[],
): (number | undefined)[] {
  const addresses = next.map(({ address }) => formatAddress(address));
  const free = new Set(next.keys());
  const pairs = open.map((port) => {
    const same = [...free].find((i) => port !== undefined && addresses[i] === formatAddress(port.address));
    if (same !== undefined) free.delete(same);
    return same;
  });
  const left = open.filter((port, i) => port !== undefined && pairs[i] === undefined);
  if (free.size !== left.length && free.size !== next.length) return pairs;
  return pairs.map((pair, i) => (pair === undefined && open[i] !== undefined && free.has(i) ? i : pair));
}

/** What a snapshot is built from. */
export interface SnapshotParts {
  readonly config: Config;
  readonly maxConnections: number;
  readonly credentials: AllCredentials;
  /** For each port the place of its listener, as {@link pairPorts} answers it. */
  readonly pairs: readonly (number | undefined)[];
  readonly slots: readonly (readonly number[])[];
  readonly blocks: readonly Block[];
  readonly rows: RowNumbers;
}

/** Puts a configuration and its files together, for ports that are paired with its listeners. */
export function buildSnapshot({
  config,
  maxConnections,
  credentials,
  pairs,
  slots,
  blocks,
  rows,
}: SnapshotParts): Snapshot {
  const entrances = pairs.map((i) => {
    const listener = i === undefined ? undefined : config.listeners[i];
    const own = i === undefined ? undefined : credentials.listeners[i];
    return listener && own && { listener, credentials: own };
  });
  return {
    config: { ...config, maxConnections },
    entrances,
    upstreamCredentials: credentials.upstreams,
    slots,
    blocks,
    rows,
  };
}
