// This node's membership in the fleet: the connection to the store, made again whenever it is lost, and the name under which the node
// counts. A store that does not answer is given up after a few misses; from then on nothing is asked until an attempt succeeds.

import { hash } from "node:crypto";
import type { FleetConfig } from "../config/config.ts";
import type { FleetCredentials } from "../config/credentials.ts";
import { defaultNode } from "../config/fleet-schema.ts";
import { escapeInvisible } from "../lib/errors.ts";
import type { Logger } from "../lib/log.ts";
import type { Descriptors } from "../upstreams/dial.ts";
import { Circuit } from "./circuit.ts";
import { greet } from "./greeting.ts";
import { kindOf, type Measures } from "./measures.ts";
import { StoreFault, type Reply } from "./resp.ts";
import { BEAT, LEAVE, type Script } from "./scripts.ts";
import { StoreConnection, StoreGone } from "./store.ts";
import { Unanswered, type Command } from "./unanswered.ts";

/** How long an attempt to reach the store may take until the store has introduced itself, in milliseconds. */
const ATTEMPT_MS = 1_000;

/** The longest wait from one attempt to the next; half a heartbeat where that is less. */
const MAX_RETRY_MS = 1_000;

/** How long a node that goes waits for the store to hear of it, in milliseconds. */
const LEAVE_MS = 500;

/** Names tried where another node has the first. */
const MAX_NAMES = 100;

export interface SessionOptions {
  readonly config: FleetConfig;
  readonly credentials: FleetCredentials;
  readonly log: Logger;
  readonly descriptors: Descriptors;
  readonly measures: Measures;
  now(): number;
  /** The store is there, and decides once all counts are written. */
  publishAll(): Promise<void>;
  /** The store decides from now on. */
  joined(): void;
  /** The store has decided until now, and is lost. */
  lost(): void;
  /** Heard at every heartbeat. `emptied`: the store has forgotten this node, and so perhaps everything. */
  heard(beat: { nodes: readonly string[]; blocks: number; emptied: boolean }): void;
}

export class Session {
  readonly incarnation = `${Date.now().toString(36)}${hash("sha1", crypto.randomUUID()).slice(0, 8)}`;
  /** The name under which this node counts. */
  node: string;
  readonly #options: SessionOptions;
  readonly #wanted: string;
  #connection: StoreConnection | undefined;
  #up = false;
  #stopped = false;
  #sequence = 0;
  #beating = false;
  readonly #circuit = new Circuit();
  readonly #unanswered: Unanswered;
  #retry: Timer | undefined;
  /** When the store was lost. */
  #lostAt: number | undefined;
  #joined = false;
  /** The error that was logged last. */
  #told: string | undefined;
  readonly #warned = new Set<string>();

  constructor(options: SessionOptions) {
    this.#options = options;
    this.node = this.#wanted = options.config.node ?? defaultNode();
    const { config, now } = options;
    this.#unanswered = new Unanswered({ timeout: config.timeout, now, missed: (why) => this.#missed(why) });
  }

  /** Whether the store decides. */
  get up(): boolean {
    return this.#up;
  }

  /** The next number of this node's messages. */
  next(): number {
    return ++this.#sequence;
  }

  key(name: string): string {
    return `${this.#options.config.namespace}:${name}`;
  }

  /** @returns after the first attempt, whether or not it succeeds; further ones follow by themselves */
  async start(): Promise<void> {
    await this.#attempt();
  }

  /** Has the store carry out a script, which it is sent where it does not know it. */
  async run(script: Script, keys: readonly string[], words: readonly (string | number)[]): Promise<Reply> {
    const rest = [keys.length, ...keys, ...words];
    try {
      return await this.send(["EVALSHA", script.sha, ...rest]);
    } catch (error) {
      if (!(error instanceof StoreFault) || !error.message.startsWith("NOSCRIPT")) throw this.#failed(error);
    }
    try {
      return await this.send(["EVAL", script.text, ...rest]);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Sends a command. What comes too late, or never, counts as missed. */
  async send(words: readonly (string | number)[]): Promise<Reply> {
    const connection = this.#connection;
    if (connection === undefined) throw new StoreGone("there is no connection");
    const command = this.#unanswered.add();
    try {
      const reply = await connection.send(words);
      this.#answered(connection, command, true);
      return reply;
    } catch (error) {
      if (error instanceof StoreFault) this.#answered(connection, command, false);
      throw error;
    }
  }

  /** Says that the node lives. */
  async beat(): Promise<void> {
    if (!this.#up) return;
    if (this.#beating) return this.#lose("no answer to a heartbeat");
    this.#beating = true;
    try {
      const emptied = await this.#register();
      if (emptied && this.#up)
        this.#options.log.warn("fleet store was emptied", { store: this.#store, node: this.node });
    } catch {
      // It has been counted, and where the connection is gone, acted upon.
    } finally {
      this.#beating = false;
    }
  }

  /** Leaves the fleet: what was published before is void at once where the store answers. */
  async stop(): Promise<void> {
    const connection = this.#connection;
    this.#stopped = true;
    clearTimeout(this.#retry);
    if (connection !== undefined && this.#up) {
      const left = this.run(LEAVE, [this.key("nodes")], [this.node, this.incarnation]).catch(() => {});
      await Promise.race([left, Bun.sleep(LEAVE_MS)]);
    }
    this.#up = false;
    this.#disconnect();
  }

  get #store(): string {
    return this.#options.config.store.url.shown;
  }

  async #attempt(): Promise<void> {
    if (this.#stopped) return;
    const { config, credentials, descriptors, log, now } = this.#options;
    const { address, user, database } = config.store.url;
    const { password, tls } = credentials;
    const place = { address, tls: tls && { ...tls, serverName: undefined } };
    const connection = new StoreConnection(place, descriptors, (why) => this.#gone(connection, why));
    this.#connection = connection;
    const timer = setTimeout(() => connection.close("no answer"), ATTEMPT_MS);
    try {
      await connection.opened;
      const warning = await greet(connection, { user, password, database });
      clearTimeout(timer);
      if (warning !== undefined && !this.#warned.has(warning)) {
        this.#warned.add(warning);
        log.warn(warning, { store: this.#store });
      }
      await this.#register();
      await this.#options.publishAll();
      if (this.#connection !== connection || this.#stopped) throw new StoreGone("the connection was closed");
      this.#up = true;
      this.#circuit.answered();
      this.#told = undefined;
      const fields = { store: this.#store, node: this.node };
      const lostAt = this.#lostAt;
      if (this.#joined && lostAt !== undefined)
        log.info("fleet store is back", { ...fields, downMs: now() - lostAt });
      else log.info("fleet joined", fields);
      this.#joined = true;
      this.#options.joined();
    } catch (error) {
      if (this.#connection !== connection) return;
      this.#disconnect();
      this.#options.measures.failed(kindOf(error));
      this.#unavailable((error as Error).message);
    } finally {
      clearTimeout(timer);
    }
  }

  /** @returns whether the store did not know the node */
  async #register(): Promise<boolean> {
    const { config, log } = this.#options;
    for (let i = 2; ; i++) {
      const keys = [this.key("nodes"), this.key("blocks")];
      const reply = (await this.run(BEAT, keys, [this.node, this.incarnation, config.lease])) as string[];
      const [status, blocks, ...nodes] = reply;
      if (status !== "taken") {
        const emptied = status === "new";
        this.#options.heard({ nodes, blocks: Number(blocks), emptied });
        return emptied;
      }
      if (i > MAX_NAMES) throw new Error(`the name ${this.#wanted} and ${MAX_NAMES} like it are taken`);
      const taken = this.node;
      this.node = `${this.#wanted}-${i}`;
      log.warn("fleet node name is taken", { node: taken, instead: this.node, key: "fleet.node" });
    }
  }

  /** @param well not with an error, of which it is not known yet what it means */
  #answered(connection: StoreConnection, command: Command, well: boolean): void {
    if (connection !== this.#connection) return;
    if (this.#unanswered.answered(command) && well) this.#circuit.answered();
  }

  #missed(why: string): void {
    const { config, now } = this.#options;
    if (!this.#circuit.missed(now(), config.timeout)) return;
    if (this.#up) this.#lose(why);
    else this.#connection?.close(why);
  }

  /** The store has answered with an error, or not at all. */
  #failed(error: unknown): unknown {
    const kind = kindOf(error);
    if (kind === "connection") return error;
    this.#options.measures.failed(kind);
    // It concerns one client only.
    if (kind !== "wrong_type" && this.#up) this.#missed((error as Error).message);
    return error;
  }

  #gone(connection: StoreConnection, why: StoreGone): void {
    // An attempt that fails says so itself.
    if (connection === this.#connection && this.#up) this.#lose(why.message);
  }

  #lose(why: string): void {
    if (!this.#up) return;
    this.#up = false;
    this.#lostAt = this.#options.now();
    this.#options.measures.failed(
      why.startsWith("no answer") || why === "answers come too late" ? "timeout" : "connection",
    );
    this.#disconnect();
    this.#unavailable(why);
    this.#options.lost();
  }

  #disconnect(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#unanswered.clear();
    this.#circuit.answered();
    connection?.close();
  }

  /** Says so, once for each error, and tries again after a while. */
  #unavailable(error: string): void {
    if (this.#stopped) return;
    const { config, log } = this.#options;
    const { store } = config;
    const shown = escapeInvisible(error.slice(0, 300));
    if (this.#told !== shown) {
      this.#told = shown;
      log.warn("fleet store unavailable", {
        store: store.url.shown,
        error: shown,
        whenDown: config.whenDown,
      });
    }
    const wait = Math.min(MAX_RETRY_MS, config.heartbeat / 2);
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#attempt(), wait * (0.8 + 0.2 * Math.random()));
  }
}
