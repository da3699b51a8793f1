// An upstream at run time: its targets, their balance and health, and the TLS towards them.

import type { Config, Target, Upstream } from "../config/config.ts";
import type { UpstreamCredentials } from "../config/credentials.ts";
import type { TargetTls } from "./dial.ts";
import { formatAddress } from "../lib/address.ts";
import { Balancer, type TargetHealth } from "../state/balancer.ts";
import type { Ledger } from "../state/ledger.ts";

/** An upstream with the state of its targets. It outlives reloads: a reload replaces its fields. */
export interface Pool {
  upstream: Upstream;
  /** By the slot under which the balancer knows a target. */
  targets: ReadonlyMap<number, Target>;
  tls: TargetTls | undefined;
  readonly balancer: Balancer;
  /** Its row in the counters, and those of its groups. */
  row: number;
  groups: ReadonlyMap<string, number>;
  /** A reload removed the upstream: it admits no connection, and its open ones are closed. */
  removed: boolean;
}

/** The row in which an admission of this group is counted. With `anyGroup` all groups have one. */
export function groupRow({ upstream, groups }: Pool, group: string): number | undefined {
  return groups.get(upstream.anyGroup ? "" : group);
}

/** The detail of a refusal, after the balancer has found no target; undefined where it was not for a cap. */
export function capDetail({ upstream, balancer }: Pool): string | undefined {
  const { name, maxConnections } = upstream;
  if (balancer.full === "upstream_full") return `upstream ${name}: ${maxConnections}`;
  return balancer.full && "every target that is left has its maxConnections";
}

/** What pools are built from. */
export interface PoolSources {
  readonly config: Pick<Config, "upstreams">;
  /** In the order of the configuration's upstreams; undefined for those without TLS. */
  readonly upstreamCredentials: readonly (UpstreamCredentials | undefined)[];
  /** In the order of the configuration's upstreams and their targets. */
  readonly slots: readonly (readonly number[])[];
  readonly rows: {
    readonly upstreams: ReadonlyMap<string, number>;
    readonly groups: ReadonlyMap<string, ReadonlyMap<string, number>>;
  };
}

/** Builds the pools of a configuration. Existing pools are changed in place, because connections refer to them. */
export function makePools(
  { config, upstreamCredentials, slots, rows: counted }: PoolSources,
  ledger: Ledger,
  before: ReadonlyMap<string, Pool> = new Map(),
): Map<string, Pool> {
  const pools = new Map<string, Pool>();
  config.upstreams.forEach((upstream, i) => {
    const own = slots[i] ?? [];
    const targets = new Map<number, Target>(upstream.targets.map((target, j) => [own[j] as number, target]));
    const rules = Array.from(targets, ([slot, { weight, backup, maxConnections }]) => ({
      slot,
      weight,
      backup,
      maxConnections,
    }));
    const tls = tlsOf(upstream, upstreamCredentials[i]);
    const row = counted.upstreams.get(upstream.name) as number;
    const groups = counted.groups.get(upstream.name) as ReadonlyMap<string, number>;
    const known = before.get(upstream.name);
    if (known === undefined) {
      const balancer = new Balancer(ledger, rules, upstream, row);
      pools.set(upstream.name, { upstream, targets, tls, balancer, row, groups, removed: false });
    } else {
      known.balancer.update(rules, upstream);
      pools.set(upstream.name, Object.assign(known, { upstream, targets, tls, row, groups }));
    }
  });
  for (const [name, pool] of before) if (!pools.has(name)) pool.removed = true;
  return pools;
}

function tlsOf({ tls }: Upstream, credentials: UpstreamCredentials | undefined): Pool["tls"] {
  return tls && credentials && { ...credentials, serverName: tls.serverName };
}

/** A target at one moment. */
export interface TargetStats {
  readonly address: string;
  /** Connections, including dialling ones. */
  readonly open: number;
  readonly health: TargetHealth;
}

/** An upstream and its targets at one moment. */
export interface UpstreamStats {
  readonly name: string;
  readonly targets: readonly TargetStats[];
}

/** Reports each target's open connections and its health. */
export function poolStats(pools: ReadonlyMap<string, Pool>, now: number): UpstreamStats[] {
  return Array.from(pools.values(), ({ upstream, targets, balancer }) => ({
    name: upstream.name,
    targets: Array.from(targets, ([slot, { address }]) => ({
      address: formatAddress(address),
      open: balancer.open(slot),
      health: balancer.health(slot, now),
    })),
  }));
}
