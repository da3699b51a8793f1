// The limits of clients over many proxies. A connection that this node's own limits admit is asked about once more: the store
// decides by what all living nodes have. Without the store, this node decides by itself, as `fleet.whenDown` says.
//
// One question at a time is under way for each client; connections that come meanwhile go into the next one. So the count
// that a question carries is exact: it is what this node has, and no more.

import type { FleetConfig } from "../config/config.ts";
import type { FleetCredentials } from "../config/credentials.ts";
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
import { Clients, type Ask, type ClientEntry } from "./clients.ts";
import { AskDeadlines } from "./deadlines.ts";
import { listClients, type ClientCounts } from "./listing.ts";
import { DURATION_BOUNDS, Measures, kindOf, type StoreErrorKind } from "./measures.ts";
import { DECIDE, PUBLISH } from "./scripts.ts";
import { Session } from "./session.ts";
import { Nodes, judge } from "./shares.ts";

/** How long a release waits for others to go with it, in milliseconds. */
const RELEASE_BATCH_MS = 20;

/** Clients in one message, some 0.3 ms of the store's time. */
const PUBLISH_BATCH = 100;

/** Connections of one client that are asked about at once. */
const MAX_ASKED = 256;

/** Keys with something else in them that get a log line. */
const MAX_KEYS_TOLD = 100;

/** A fleet, as the configuration and its files have it. */
export interface FleetRun {
  readonly config: FleetConfig;
  readonly credentials: FleetCredentials;
}

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
  readonly #clients = new Clients();
  readonly #deadlines: AskDeadlines;
  readonly #nodes = new Nodes();
  readonly #measures = new Measures();
  readonly #keysTold = new Set<string>();
  #run: FleetRun | undefined;
  #session: Session | undefined;
  #heart: Timer | undefined;
  #flushing: Timer | undefined;
  #publishing: Promise<void> | undefined;
  #blocksHeard: ((version: number) => void) | undefined;
  #blocksVersion = 0;

  constructor(options: FleetOptions) {
    this.#options = options;
    this.#deadlines = new AskDeadlines(options.now, (ask) => {
      this.#measures.failed("timeout");
      this.#decideAlone(ask);
    });
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
    this.#clients.setRules({ rateLimit, limits }, this.#options.now());
    const before = this.#run;
    this.#run = run;
    if (before?.config.heartbeat !== run?.config.heartbeat) {
      clearInterval(this.#heart);
      this.#heart = run && setInterval(() => this.#beat(), run.config.heartbeat);
    }
    if (Bun.deepEquals(before, run)) return;
    await this.#leave();
    if (run !== undefined && this.#run === run) await this.#join(run);
  }

  /** Leaves the fleet: what this node has counts no more, at once. */
  async close(): Promise<void> {
    clearInterval(this.#heart);
    this.#run = undefined;
    await this.#leave();
  }

  ask(client: string, answered: (answer: Lease | FleetRefusal) => void): void {
    const entry = this.#clients.of(client);
    const run = this.#run;
    // The configuration has no fleet any more.
    if (run === undefined) return answered(this.#admit(entry));
    const ask = { client: entry, answered, until: this.#options.now() + run.config.timeout, done: false };
    if (this.#session?.up !== true) return this.#decideAlone(ask);
    const { capacity, maxConnections } = entry.rule;
    if (capacity === Infinity && maxConnections === undefined) {
      this.#change(entry);
      return answered(this.#admit(entry));
    }
    entry.waiting.push(ask);
    this.#deadlines.add(ask);
    if (!entry.asking) this.#question(this.#session, entry);
  }

  adopt(client: string): Lease {
    const entry = this.#clients.of(client);
    this.#change(entry);
    return this.#admit(entry);
  }

  /** Undefined where there is no fleet. */
  status(): FleetStatus | undefined {
    const session = this.#session;
    if (session === undefined || this.#run === undefined) return undefined;
    const { errors, counts, sum, lastMs } = this.#measures;
    return {
      node: session.node,
      store: this.#run.config.store.url.shown,
      up: session.up,
      degraded: !session.up,
      nodes: [...new Set(this.#nodes.names).add(session.node)].sort(),
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
    if (this.#session === undefined) throw new Error("there is no fleet");
    if (!this.#session.up) throw new Error("the fleet's store does not answer");
    return this.#session;
  }

  async #join(run: FleetRun): Promise<void> {
    const { log, descriptors, now } = this.#options;
    const session: Session = new Session({
      ...run,
      log,
      descriptors,
      now,
      measures: this.#measures,
      publishAll: () => this.#publishAll(session),
      joined: () => this.#blocksHeard?.(this.#blocksVersion),
      lost: () => this.#lost(),
      heard: ({ nodes, blocks, emptied }) => {
        this.#nodes.saw([...nodes, session.node], now());
        this.#nodes.forget(run.config.lease, now());
        if (emptied) for (const entry of this.#clients) entry.unmerged = true;
        this.#blocksVersion = blocks;
        // While it is not up, nothing can be fetched: see below.
        if (session.up) this.#blocksHeard?.(blocks);
      },
    });
    this.#session = session;
    this.#nodes.clear();
    await session.start();
  }

  async #leave(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    clearTimeout(this.#flushing);
    this.#flushing = undefined;
    if (session === undefined) return;
    if (session.up) await this.#withdraw(session);
    await session.stop();
    for (const entry of this.#clients) {
      entry.agreed = 0;
      entry.unmerged = true;
    }
    this.#lost();
  }

  /** What this node has is void from now on, as far as the store answers in time. */
  async #withdraw(session: Session): Promise<void> {
    const told = [...this.#clients].filter(({ agreed, open, asking }) => agreed > 0 || open > 0 || asking);
    const all = async () => {
      for (let i = 0; i < told.length; i += PUBLISH_BATCH) {
        await this.#send(session, told.slice(i, i + PUBLISH_BATCH), true);
      }
    };
    await Promise.race([all().catch(() => {}), Bun.sleep(WITHDRAW_MS)]);
  }

  // ---- decisions

  #question(session: Session, entry: ClientEntry): void {
    const asks = entry.waiting.splice(0, MAX_ASKED).filter(({ done }) => !done);
    if (asks.length === 0) return;
    const { now } = this.#options;
    const { capacity, fillRate, maxConnections = 0 } = entry.rule;
    const base = entry.open;
    const merge = entry.unmerged ? Math.max(0, entry.fullAt - now()) : 0;
    entry.asking = true;
    entry.unmerged = false;
    const at = performance.now();
    const limits = `${capacity === Infinity ? 0 : capacity} ${fillRate} ${maxConnections} ${this.#lease} ${merge}`;
    const numbers = `${session.next()} ${base} ${asks.length} ${limits}`;
    // It says how many there are: no other message has to.
    if (entry.back === 0) this.#clients.told(entry);
    const words = [session.node, session.incarnation, entry.name, numbers];
    session.run(DECIDE, keysOf(session, entry), words).then(
      (reply) => {
        this.#measures.took(performance.now() - at);
        const [granted, why, , wait] = reply as [number | "stale", string, string, string];
        if (granted === "stale") return this.#undecided(entry, asks, undefined);
        this.#decided(entry, asks, { granted, why: why as FleetRefusal, wait: Number(wait), base });
      },
      (error: unknown) => {
        entry.unmerged ||= merge > 0;
        this.#undecided(entry, asks, error);
      },
    );
  }

  #decided(
    entry: ClientEntry,
    asks: readonly Ask[],
    { granted, why, wait, base }: { granted: number; why: FleetRefusal; wait: number; base: number },
  ): void {
    entry.asking = false;
    entry.agreed = base + granted;
    if (wait > 0) entry.fullAt = Math.max(entry.fullAt, this.#options.now() + wait);
    let left = granted;
    for (const ask of asks) {
      if (ask.done) continue;
      ask.done = true;
      if (left-- > 0) ask.answered(this.#admit(entry));
      else ask.answered(why);
    }
    // Somebody did not wait for it, or has left meanwhile.
    if (entry.open !== entry.agreed || entry.changed) this.#change(entry);
    this.#goOn(entry);
  }

  #undecided(entry: ClientEntry, asks: readonly Ask[], error: unknown): void {
    entry.asking = false;
    if (error !== undefined && kindOf(error) === "wrong_type") this.#wrongType(this.#keyOf(entry), error);
    for (const ask of asks) this.#decideAlone(ask);
    this.#change(entry);
    this.#goOn(entry);
  }

  /** Connections may have come while the store was asked. */
  #goOn(entry: ClientEntry): void {
    const session = this.#session;
    if (entry.waiting.length === 0 || entry.asking) return;
    if (session?.up === true) this.#question(session, entry);
    else for (const ask of entry.waiting.splice(0)) this.#decideAlone(ask);
  }

  #decideAlone(ask: Ask): void {
    if (ask.done) return;
    ask.done = true;
    const { client: entry, answered } = ask;
    const whenDown = this.#run?.config.whenDown ?? "local";
    if (whenDown === "refuse") return answered("fleet_unavailable");
    const nodes = whenDown === "local" ? 1 : this.#nodes.count();
    const verdict = judge(entry, entry.rule, nodes, this.#options.now());
    if (typeof verdict === "string") return answered(verdict);
    entry.fullAt = verdict;
    entry.unmerged = true;
    const lease = this.#admit(entry);
    this.#change(entry);
    answered(lease);
  }

  #admit(entry: ClientEntry): Lease {
    entry.open++;
    let held = true;
    const end = (refund: boolean) => {
      if (!held) return;
      held = false;
      entry.open--;
      if (refund && entry.rule.capacity !== Infinity) {
        entry.fullAt -= entry.rule.fillRate;
        if (!entry.unmerged) entry.back++;
      }
      this.#change(entry);
    };
    return { release: () => end(false), cancel: () => end(true) };
  }

  /** The store is lost: who waits for it is judged at once. */
  #lost(): void {
    for (const ask of this.#deadlines.takeAll()) this.#decideAlone(ask);
  }

  // ---- counts

  #beat(): void {
    const now = this.#options.now();
    const session = this.#session;
    this.#clients.sweep(now);
    if (session?.up !== true) return;
    void session.beat().then(() => {
      for (const entry of this.#clients) if (entry.open > 0 || entry.unmerged) this.#clients.change(entry);
      if (session.up) void this.#publish(session);
    });
  }

  #change(entry: ClientEntry): void {
    this.#clients.change(entry);
    if (this.#session?.up !== true) return;
    this.#flushing ??= setTimeout(() => {
      this.#flushing = undefined;
      if (this.#session?.up === true) void this.#publish(this.#session);
    }, RELEASE_BATCH_MS);
  }

  /** Everything, buckets too: before the store decides again. */
  async #publishAll(session: Session): Promise<void> {
    for (const entry of this.#clients) {
      if (entry.open > 0 || entry.agreed > 0 || entry.unmerged) this.#clients.change(entry);
    }
    while (await this.#publishSome(session));
  }

  /** What has changed, one message after the other, so that questions get in between. */
  #publish(session: Session): Promise<void> {
    this.#publishing ??= (async () => {
      try {
        while (session.up && (await this.#publishSome(session)));
      } catch {
        // Those entries are still to be published; the session knows what to do about the error.
      } finally {
        this.#publishing = undefined;
      }
    })();
    return this.#publishing;
  }

  /** @returns whether there may be more */
  async #publishSome(session: Session): Promise<boolean> {
    const entries = this.#clients.takeChanged(PUBLISH_BATCH);
    if (entries.length === 0) return false;
    try {
      await this.#send(session, entries, false);
    } catch (error) {
      for (const entry of entries) this.#clients.change(entry);
      throw error;
    }
    return true;
  }

  /** @param withdrawn the node goes: it has nothing any more */
  async #send(session: Session, entries: readonly ClientEntry[], withdrawn: boolean): Promise<void> {
    const now = this.#options.now();
    const sent = entries.map((entry) => {
      const count = withdrawn ? 0 : entry.open;
      const merge = entry.unmerged ? Math.max(0, entry.fullAt - now) : 0;
      const { back } = entry;
      entry.unmerged = false;
      entry.back = 0;
      return { entry, count, merge, back };
    });
    const words = sent.flatMap(({ entry, count, merge, back }) => [
      count,
      entry.rule.capacity === Infinity ? 0 : entry.rule.capacity,
      entry.rule.fillRate,
      merge,
      back,
      entry.name,
    ]);
    const keys = entries.flatMap((entry) => keysOf(session, entry));
    try {
      const who = [session.node, session.incarnation, session.next(), this.#lease];
      const faults = (await session.run(PUBLISH, keys, [...who, ...words])) as string[];
      for (const { entry, count } of sent) entry.agreed = count;
      for (const key of faults) this.#wrongType(key, new Error("WRONGTYPE"));
    } catch (error) {
      for (const { entry, merge } of sent) entry.unmerged ||= merge > 0;
      throw error;
    }
  }

  get #lease(): number {
    return this.#run?.config.lease ?? 1;
  }

  #keyOf(entry: ClientEntry): string {
    return `${this.#session?.key(`{${entry.hash}}`) ?? entry.hash}:b or :o`;
  }

  #wrongType(key: string, error: unknown): void {
    if (this.#keysTold.has(key) || this.#keysTold.size >= MAX_KEYS_TOLD) return;
    this.#keysTold.add(key);
    const { message } = error as Error;
    this.#options.log.error("fleet key holds something else", { key, error: message.slice(0, 100) });
  }
}

/** How long a node that goes waits until its counts are void, in milliseconds. */
const WITHDRAW_MS = 1_000;

function keysOf(session: Session, { hash }: ClientEntry): [bucket: string, counts: string] {
  return [session.key(`{${hash}}:b`), session.key(`{${hash}}:o`)];
}
