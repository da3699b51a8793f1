// What the windows look at: a running proxy, as metrics, commands and the page see it.

import type { Block } from "../auth/blocks.ts";
import { Requests } from "./requests.ts";
import type { Config, Listener } from "../config/config.ts";
import type { LoadedConfig } from "../config/load.ts";
import type { ReloadRecord } from "../config/reload-log.ts";
import type { AllCredentials, Credentials } from "../config/credentials.ts";
import type { Expiry } from "../config/expiry.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { RowNumbers } from "../engine/counter-rows.ts";
import type { Forecast } from "../engine/reload-plan.ts";
import type { Runner } from "../engine/runner.ts";
import type { SnapshotBuilder } from "../engine/snapshot-builder.ts";
import type { Address } from "../lib/address.ts";
import type { EventHub } from "../lib/events.ts";
import type { Logger } from "../lib/log.ts";
import type { Ledger } from "../state/ledger.ts";
import type { Pool } from "../upstreams/pool.ts";

/** A running proxy. Each field says how it is at the moment of asking. */
export interface Subject {
  readonly version: string;
  /** `starting` until its ports are open, `draining` from the call of close on. */
  readonly phase: "starting" | "running" | "draining";
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  readonly config: Config;
  /** The absolute path of the file that it was read from, if there is one. */
  readonly configFile: string | undefined;
  readonly maxConnections: number;
  readonly warnings: readonly string[];
  /** What was read from the files that `config` names. */
  readonly credentials: AllCredentials;
  /** Of the door for operators, where it has TLS. */
  readonly adminCredentials?: Credentials | undefined;
  /** One list for each listener of `config`. */
  readonly expiries: readonly (readonly Expiry[])[];
  readonly reloads: ReloadRecord;
  /** As bound. */
  readonly addresses: readonly Address[];
  /** What each port was opened for; undefined where a reload has closed it. The place is the listener's row. */
  readonly ports: readonly (Listener | undefined)[];
  readonly pools: ReadonlyMap<string, Pool>;
  readonly rows: RowNumbers;
  readonly ledger: Ledger;
  readonly runner: Pick<Runner, "ask" | "askThread">;
  readonly events: EventHub;
  readonly log: Logger;
  readonly blocks: readonly Block[];
  /** Its status is undefined while the configuration has no fleet. */
  readonly fleet: SubjectFleet;
  /**
   * Puts these blocks in force in place of those before, in all threads, and closes what they hold for.
   * @returns how many connections were closed, once they are gone and nobody blocked can get in
   */
  setBlocks(blocks: readonly Block[]): Promise<number>;
  /** What operators have asked for; the doors count. */
  readonly requests: Requests;
  /** As {@link Proxy.reload} without an argument. */
  reload(): Promise<void>;
  /**
   * What such a reload would do now. Nothing changes.
   * @throws ConfigError where it would be refused
   */
  forecast(): Promise<Forecast>;
}

/** The part of the fleet that windows need. */
export type SubjectFleet = Pick<
  Fleet,
  "status" | "clients" | "blocks" | "publishBlock" | "restoreBlock" | "followBlocks"
>;

/** Something that is open and shows the proxy. */
export interface Window {
  /** The configuration has changed. Addresses stay as they are. */
  follow(): void;
  /** Closes it, with all that is connected to it. */
  close(): void;
}

/** What a subject is made of. */
export interface SubjectParts extends Pick<
  Subject,
  "version" | "configFile" | "fleet" | "ledger" | "runner" | "events" | "log" | "reload" | "forecast"
> {
  readonly builder: SnapshotBuilder;
  phase(): Subject["phase"];
  loaded(): LoadedConfig;
  reloads(): ReloadRecord;
  addresses(): readonly Address[];
  ports(): Subject["ports"];
}

/** Shows a running proxy to its windows. */
export function subjectOf(parts: SubjectParts): Subject {
  const { version, configFile, fleet, ledger, runner, events, log, builder } = parts;
  return {
    version,
    configFile,
    startedAt: Date.now(),
    fleet,
    ledger,
    runner,
    events,
    log,
    get phase() {
      return parts.phase();
    },
    get config() {
      return parts.loaded().config;
    },
    get maxConnections() {
      return parts.loaded().maxConnections;
    },
    get warnings() {
      return parts.loaded().warnings;
    },
    get credentials() {
      return parts.loaded().credentials;
    },
    get adminCredentials() {
      return parts.loaded().credentials.admin;
    },
    get expiries() {
      return parts.loaded().expiries;
    },
    get reloads() {
      return parts.reloads();
    },
    get addresses() {
      return parts.addresses();
    },
    get ports() {
      return parts.ports();
    },
    get pools() {
      return builder.pools;
    },
    get rows() {
      return builder.rows;
    },
    requests: new Requests(),
    get blocks() {
      return builder.blocks;
    },
    reload: () => parts.reload(),
    forecast: () => parts.forecast(),
    async setBlocks(blocks) {
      builder.blocks = blocks;
      const answers = await runner.ask({ about: "block", blocks });
      return answers.reduce((sum, { closed }) => sum + closed, 0);
    },
  };
}
