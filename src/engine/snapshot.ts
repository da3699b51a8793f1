// The configuration that a thread runs on, with its files read and its targets numbered. It can be sent to another
// thread.

import { formatAddress } from "../lib/address.ts";
import type { LogLevel } from "../lib/log.ts";
import type { Config, Listener } from "../config/config.ts";
import type { RowNumbers } from "./counter-rows.ts";
import type { RunConfig } from "../connection/admission.ts";
import type { ShadowSnapshot } from "../connection/shadow.ts";
import type { Block } from "../auth/blocks.ts";
import type { AllCredentials, Credentials, UpstreamCredentials } from "../config/credentials.ts";

/**
 * The largest number of targets in all upstreams, including those that a reload removed but that still have
 * connections.
 */
export const MAX_TARGETS = 4_096;

/** The largest number of clients at a time that have a connection open or a bucket that is not full. */
export const MAX_CLIENTS = 262_144;

/** A configuration, ready to run: what a thread is sent. */
export interface Snapshot {
  readonly config: RunConfig;
  /** One for each port that was opened at the start, in that order; undefined if a reload removed it. */
  readonly listeners: readonly (ListenerSnapshot | undefined)[];
  /** In the order of the configuration's upstreams; undefined for those without TLS. */
  readonly upstreamCredentials: readonly (UpstreamCredentials | undefined)[];
  /** In the order of the configuration's upstreams and their targets. */
  readonly slots: readonly (readonly number[])[];
  /** Set by operators, on top of the configuration. */
  readonly blocks: readonly Block[];
  /** Where its connections are counted. */
  readonly rows: RowNumbers;
  /** What decides beside it, without effect. */
  readonly shadow: ShadowSnapshot | undefined;
}

/** The least severe lines that a thread reports: those that the log takes and, where operators can look on, ends and refusals. */
export function eventLevel({ config: { logLevel, admin } }: Pick<Snapshot, "config">): LogLevel {
  return admin === undefined || logLevel === "debug" ? logLevel : "info";
}

/** A port, and the credentials for TLS on it. */
export interface ListenerSnapshot {
  readonly listener: Listener;
  readonly credentials: Credentials;
}

/** Identifies each target of a configuration across reloads, by its upstream's name and its address. */
export function targetKeys({ upstreams }: Config): string[][] {
  return upstreams.map(({ name, targets }) =>
    targets.map(({ address }) => `${name}\n${formatAddress(address)}`),
  );
}

/**
 * Pairs the open ports with the listeners of a new configuration, by address. If equally many are left on both sides,
 * it pairs those by their place in the list: their addresses were changed, and the change takes effect at a restart. A
 * port never gets the trust of a listener in another place. If no address is the same, all are paired by place.
 * @returns for each open port the place of its listener, or undefined if it has none any more
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

/** Open ports and the listeners of a configuration. */
export interface Pairing {
  /** For each port the place of its listener, as {@link pairPorts} returns it. */
  readonly pairs: readonly (number | undefined)[];
  /** The listener that each port was opened for; undefined before any is open. */
  readonly ports?: readonly (Listener | undefined)[] | undefined;
}

/** What a snapshot is built from. */
export interface SnapshotParts {
  readonly config: Config;
  readonly maxConnections: number;
  readonly credentials: AllCredentials;
  readonly pairs: Pairing["pairs"];
  readonly ports?: Pairing["ports"];
  readonly slots: readonly (readonly number[])[];
  readonly blocks: readonly Block[];
  readonly rows: RowNumbers;
  readonly shadow?: ShadowSnapshot | undefined;
}

/** Combines a configuration and its files, for ports that are paired with its listeners. */
export function buildSnapshot({
  config,
  maxConnections,
  credentials,
  pairs,
  ports,
  slots,
  blocks,
  rows,
  shadow,
}: SnapshotParts): Snapshot {
  const listeners = pairs.map((i, port) => {
    const listener = i === undefined ? undefined : config.listeners[i];
    const own = i === undefined ? undefined : credentials.listeners[i];
    return listener && own && { listener: asOpened(listener, ports?.[port]), credentials: own };
  });
  return {
    config: { ...config, maxConnections },
    listeners,
    upstreamCredentials: credentials.upstreams,
    slots,
    blocks,
    rows,
    shadow,
  };
}

/** Whether a port takes PROXY headers is settled when it is opened: then TLS begins later on it. */
function asOpened(listener: Listener, port: Listener | undefined): Listener {
  if (port === undefined || (port.acceptProxy === undefined) === (listener.acceptProxy === undefined))
    return listener;
  return { ...listener, acceptProxy: port.acceptProxy && { from: [] } };
}
