// The limits of clients over many proxies. A connection that this node's own limits admit is asked about once more: the store
// decides by what all living nodes have. Without the store, this node decides by itself, as `fleet.whenDown` says.

import type { FleetGate, FleetRefusal, Lease } from "../connection/fleet-gate.ts";
import type { Logger } from "../lib/log.ts";
import type { ClientLimit, ClientRule } from "../state/client-rules.ts";
import type { Descriptors } from "../upstreams/dial.ts";
import {
  changeBlock,
  fetchBlocks,
  restoreBlock,
  type BlockChange,
  type FleetBlock,
  type FleetBlocks,
} from "./blocks.ts";
import { Decisions } from "./decisions.ts";
import { listClients, type ClientCounts } from "./listing.ts";
import { DURATION_BOUNDS, type StoreErrorKind } from "./measures.ts";
import { FleetNode, type FleetRun } from "./node.ts";
import { Publisher } from "./publishing.ts";
import { Session } from "./session.ts";

export interface FleetOptions {
  readonly log: Logger;
  readonly descriptors: Descriptors;
  /** Whole milliseconds of a clock that only goes forward. */
  now(): number;
}

/** The fleet as this node sees it. */
export interface FleetStatus {
  /** The name under which this node counts. */
  readonly node: string;
  /** The store's address, without user and password. */
  readonly store: string;
  /** The store answers. */
  readonly up: boolean;
  /** This node decides by itself. */
  readonly degraded: boolean;
  /** Nodes that were heard of lately, this one included. */
  readonly nodes: readonly string[];
  /** How long the last decision took. */
  readonly lastLatencyMs: number | undefined;
  readonly errors: Readonly<Record<StoreErrorKind, number>>;
  /** Of the store's decisions, in seconds. `counts` has one entry more than `bounds`, for the rest, and is not added up. */
  readonly durations: {
    readonly bounds: readonly number[];
    readonly counts: readonly number[];
    readonly sum: number;
  };
}

export class Fleet implements FleetGate {
  readonly #options: FleetOptions;
  readonly #node: FleetNode;
  readonly #publisher: Publisher;
  readonly #decisions: Decisions;
  #heart: Timer | undefined;
  #blocksHeard: ((version: number) => void) | undefined;
  #blocksVersion = 0;

  constructor(options: FleetOptions) {
    this.#options = options;
    this.#node = new FleetNode(options.log, options.now);
    this.#publisher = new Publisher(this.#node);
    this.#decisions = new Decisions(this.#node, this.#publisher);
  }

  /**
   * Joins a fleet, leaves it, or goes on with other settings. Connections stay counted.
   * @returns after the first attempt to reach the store, whether or not it succeeded
   */
  async configure(
    run: FleetRun | undefined,
    rateLimit: ClientRule,
    limits: readonly ClientLimit[] = [],
  ): Promise<void> {
    this.#node.clients.setRules({ rateLimit, limits }, this.#node.now());
    const before = this.#node.run;
    this.#node.run = run;
    if (before?.config.heartbeat !== run?.config.heartbeat) {
      clearInterval(this.#heart);
      this.#heart = run && setInterval(() => this.#beat(), run.config.heartbeat);
    }
    if (Bun.deepEquals(before, run)) return;
    await this.#leave();
    if (run !== undefined && this.#node.run === run) await this.#join(run);
  }

  /** Leaves the fleet: what this node has counts no more, at once. */
  async close(): Promise<void> {
    clearInterval(this.#heart);
    this.#node.run = undefined;
    await this.#leave();
  }

  ask(client: string, answered: (answer: Lease | FleetRefusal) => void): void {
    this.#decisions.ask(client, answered);
  }

  adopt(client: string): Lease {
    return this.#decisions.adopt(client);
  }

  /** Undefined where there is no fleet. */
  status(): FleetStatus | undefined {
    const session = this.#node.session;
    if (session === undefined || this.#node.run === undefined) return undefined;
    const { errors, counts, sum, lastMs } = this.#node.measures;
    return {
      node: session.node,
      store: this.#node.run.config.store.url.shown,
      up: session.up,
      degraded: !session.up,
      nodes: [...new Set(this.#node.nodes.names).add(session.node)].sort(),
      lastLatencyMs: lastMs,
      errors: { ...errors },
      durations: { bounds: DURATION_BOUNDS, counts: [...counts], sum },
    };
  }

  /**
   * Who has how many connections on which node.
   * @throws where there is no fleet, or the store does not answer
   */
  async clients(): Promise<ClientCounts[]> {
    return listClients(this.#reachable());
  }

  /**
   * Records a block for all nodes, or takes it back with `data` undefined.
   * @returns the block's version
   * @throws where there is no fleet, or the store does not answer: then nothing is certain
   */
  async publishBlock(change: BlockChange): Promise<number> {
    return changeBlock(this.#reachable(), change);
  }

  /**
   * Tells the store of a block that it lacks.
   * @throws as {@link publishBlock}
   */
  async restoreBlock(block: FleetBlock): Promise<void> {
    return restoreBlock(this.#reachable(), block);
  }

  /**
   * @param heard told the version of the blocks in the store: when the store begins to decide, and at each heartbeat from
   *   then on. Undefined for nobody.
   */
  followBlocks(heard: ((version: number) => void) | undefined): void {
    this.#blocksHeard = heard;
  }

  /**
   * The blocks in the store.
   * @throws where there is no fleet, or the store does not answer: the blocks that are known stay in force
   */
  async blocks(): Promise<FleetBlocks> {
    return fetchBlocks(this.#reachable());
  }

  #reachable(): Session {
    if (this.#node.session === undefined) throw new Error("there is no fleet");
    if (!this.#node.session.up) throw new Error("the fleet's store does not answer");
    return this.#node.session;
  }

  async #join(run: FleetRun): Promise<void> {
    const { log, descriptors, now } = this.#options;
    const session: Session = new Session({
      ...run,
      log,
      descriptors,
      now,
      measures: this.#node.measures,
      publishAll: () => this.#publisher.publishAll(session),
      joined: () => this.#blocksHeard?.(this.#blocksVersion),
      lost: () => this.#decisions.lost(),
      heard: ({ nodes, blocks, emptied }) => {
        this.#node.nodes.saw([...nodes, session.node], now());
        this.#node.nodes.forget(run.config.lease, now());
        if (emptied) for (const entry of this.#node.clients) entry.unmerged = true;
        this.#blocksVersion = blocks;
        // While it is not up, nothing can be fetched: see below.
        if (session.up) this.#blocksHeard?.(blocks);
      },
    });
    this.#node.session = session;
    this.#node.nodes.clear();
    await session.start();
  }

  async #leave(): Promise<void> {
    const session = this.#node.session;
    this.#node.session = undefined;
    this.#publisher.stop();
    if (session === undefined) return;
    if (session.up) await this.#publisher.withdraw(session);
    await session.stop();
    for (const entry of this.#node.clients) {
      entry.agreed = 0;
      entry.unmerged = true;
    }
    this.#decisions.lost();
  }

  #beat(): void {
    const now = this.#node.now();
    const session = this.#node.session;
    this.#node.clients.sweep(now);
    if (session?.up !== true) return;
    void session.beat().then(() => {
      for (const entry of this.#node.clients)
        if (entry.open > 0 || entry.unmerged) this.#node.clients.change(entry);
      if (session.up) void this.#publisher.publish(session);
    });
  }
}
