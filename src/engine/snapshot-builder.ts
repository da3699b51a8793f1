// Makes the snapshots that threads run on, and keeps what has to stay the same from one to the next: the slots of targets, the
// rows of counters, the pools and the blocks. One for a proxy, in the thread that reads the configuration.

import type { Block } from "../auth/blocks.ts";
import type { ShadowSnapshot } from "../connection/shadow.ts";
import type { Config, Listener } from "../config/config.ts";
import type { LoadedConfig } from "../config/load.ts";
import { ConfigError } from "../lib/errors.ts";
import type { Logger } from "../lib/log.ts";
import { Slots } from "../state/balancer.ts";
import { Ledger } from "../state/ledger.ts";
import { logUpstream } from "../upstreams/health-log.ts";
import { makePools, type Pool } from "../upstreams/pool.ts";
import { CounterRows, type RowNumbers } from "./counter-rows.ts";
import {
  MAX_CLIENTS,
  MAX_TARGETS,
  buildSnapshot,
  pairPorts,
  targetKeys,
  type Pairing,
  type Snapshot,
} from "./snapshot.ts";

export class SnapshotBuilder {
  /** The pools of the snapshot in force, as this thread sees them. */
  pools: ReadonlyMap<string, Pool> = new Map();
  /** The blocks in force. */
  blocks: readonly Block[] = [];
  /** Where the snapshot in force is counted. */
  rows: RowNumbers = { upstreams: new Map(), groups: new Map(), routes: [] };
  readonly #ledger: Ledger;
  readonly #slots: Slots;
  readonly #rows: CounterRows;
  /** The shadow's clients; it outlives reloads, and with it their buckets and open counts. */
  #shadow: Ledger | undefined;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
    this.#slots = new Slots(ledger);
    this.#rows = new CounterRows(ledger);
  }

  /**
   * @param windows those that are open: they stay as they are, and threads have to know of them
   * @throws ConfigError if there are more targets than room, including removed ones that still have connections
   */
  build(
    loaded: LoadedConfig,
    { pairs, ports }: Pairing,
    { metrics, admin }: Pick<Config, "metrics" | "admin"> = loaded.config,
  ): Snapshot {
    const keys = targetKeys(loaded.config);
    const slots = this.#slots.assign(keys.flat()) ?? tooManyTargets();
    const numbers = keys.map((each) => each.map((key) => slots.get(key) as number));
    const rows = this.#rows.assign(loaded.config, pairs);
    const config = { ...loaded.config, metrics, admin };
    const shadow = this.#shadowOf(loaded, pairs);
    return buildSnapshot({
      ...loaded,
      config,
      pairs,
      ports,
      slots: numbers,
      blocks: this.blocks,
      rows,
      shadow,
    });
  }

  /** Its listeners are paired with those in force, as a reload to it would pair them. */
  #shadowOf(
    { config, shadow }: LoadedConfig,
    pairs: readonly (number | undefined)[],
  ): ShadowSnapshot | undefined {
    if (shadow === undefined) return undefined;
    const { upstreams, fallback, rateLimit, limits, disconnectExpired, expiryGrace, listeners } =
      shadow.config;
    const ports = pairs.map((place) => (place === undefined ? undefined : config.listeners[place]));
    const { workers } = this.#ledger.memory.shape;
    this.#shadow ??= Ledger.make({ workers, targets: 1, clients: MAX_CLIENTS });
    return {
      config: { upstreams, fallback, rateLimit, limits, disconnectExpired, expiryGrace },
      listeners: pairPorts(ports, listeners).map((place) => {
        const own = place === undefined ? undefined : shadow.credentials[place];
        const { upstream, identity, allow, deny } = listeners[place as number] ?? {};
        return own && { ca: own.ca, crl: own.crl, upstream, identity, allow, deny };
      }),
      ledger: this.#shadow.memory,
    };
  }

  /**
   * What {@link build} would make, without slots and rows: nothing has changed, and no thread can run on it.
   * @throws ConfigError where {@link build} would
   */
  candidate(loaded: LoadedConfig, { pairs, ports }: Pairing): Snapshot {
    if (!this.#slots.fits(targetKeys(loaded.config).flat())) tooManyTargets();
    this.#rows.check(loaded.config, pairs);
    const rows = { upstreams: new Map(), groups: new Map(), routes: [] };
    return buildSnapshot({
      ...loaded,
      pairs,
      ports,
      slots: [],
      blocks: this.blocks,
      rows,
      shadow: undefined,
    });
  }

  /** The snapshot is in force. Logs upstreams that have lost their last healthy target by it, or got one. */
  follow(snapshot: Snapshot, log?: Logger): void {
    const before = new Map(Array.from(this.pools, ([name, { balancer }]) => [name, balancer.healthy]));
    this.pools = makePools(snapshot, this.#ledger, this.pools);
    this.rows = snapshot.rows;
    if (log === undefined) return;
    for (const [name, { balancer }] of this.pools) {
      // The reload has added or removed targets.
      if (balancer.healthy !== (before.get(name) ?? true)) logUpstream(log, name, balancer.healthy);
    }
  }
}

function tooManyTargets(): never {
  const problem = `have more targets than the limit of ${MAX_TARGETS}`;
  throw new ConfigError([{ key: "upstreams", problem }]);
}

/** The ports that stay open: `ports` without those whose listener a reload has removed. */
export function portsLeft(
  ports: readonly (Listener | undefined)[],
  pairs: readonly (number | undefined)[],
): readonly (Listener | undefined)[] {
  return ports.map((port, i) => (pairs[i] === undefined ? undefined : port));
}
