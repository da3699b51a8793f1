// What the admin API answers, as JSON. The commands and the page read it; times are ISO 8601 text, durations milliseconds.

import type { BlockKind } from "../auth/blocks.ts";
import type { ConnectionView } from "../connection/view.ts";
import type { FleetStatus } from "../fleet/fleet.ts";
import type { ClientCounts } from "../fleet/listing.ts";
import type { TargetHealth } from "../state/balancer.ts";

/** A line of `GET /v1/connections` (NDJSON). */
export type { ConnectionView };

/** `GET /v1/status` */
export interface Status {
  readonly version: string;
  /** Such as `bun 1.4.5`. */
  readonly runtime: string;
  readonly pid: number;
  /** What the one who asks may do: look, or change things as well. */
  readonly right: "read" | "operate";
  readonly phase: "starting" | "running" | "draining";
  readonly startedAt: string;
  readonly uptimeMs: number;
  readonly configFile: string | undefined;
  /** Threads that carry connections, and whether each one answers. */
  readonly threads: readonly { readonly thread: number; readonly alive: boolean }[];
  readonly reload: {
    readonly succeeded: number;
    readonly refused: number;
    readonly succeededAt: string;
    readonly triedAt: string | undefined;
    /** What was wrong with the last attempt; empty where it succeeded. */
    readonly faults: readonly { readonly key: string | undefined; readonly problem: string }[];
  };
  readonly warnings: readonly string[];
  /** Of all clients, handshaking ones included. */
  readonly connections: { readonly open: number; readonly limit: number };
  readonly clients: { readonly tracked: number; readonly limit: number };
  /** Since the start. */
  readonly totals: Totals;
  readonly listeners: readonly {
    readonly address: string;
    readonly upstream: string | undefined;
    readonly accepted: number;
    readonly handshaking: number;
  }[];
  /** Refusals since the start by reason, those that there were. */
  readonly refusals: Readonly<Record<string, number>>;
  readonly upstreams: readonly {
    readonly name: string;
    readonly open: number;
    /** Undefined for no such limit, as in a target. */
    readonly maxConnections?: number | undefined;
    readonly admitted: number;
    readonly refused: number;
    readonly bytesIn: number;
    readonly bytesOut: number;
    readonly targets: readonly TargetView[];
  }[];
  readonly certificates: readonly {
    readonly listener: string;
    readonly kind: "server" | "ca" | "crl";
    readonly what: string;
    readonly notAfter: string;
  }[];
  readonly logLinesDropped: number;
  /** Undefined where the proxy counts alone. */
  readonly fleet?: Omit<FleetStatus, "durations"> | undefined;
}

export interface Totals {
  readonly accepted: number;
  readonly admitted: number;
  readonly refused: number;
  readonly closed: number;
  /** From clients. */
  readonly bytesIn: number;
  /** To clients. */
  readonly bytesOut: number;
}

/** In `GET /v1/targets`: `{ "targets": [ … ] }` */
export interface TargetView {
  readonly upstream: string;
  readonly target: string;
  readonly open: number;
  readonly maxConnections?: number | undefined;
  readonly health: TargetHealth;
  readonly weight: number;
  readonly backup: boolean;
  /** An operator has it take no new connections. */
  readonly draining: boolean;
  /** Failed attempts to reach it, since the start. */
  readonly failures: number;
}

/** In `GET /v1/clients`: `{ "clients": [ … ] }`, those nearest to a limit first. */
export interface ClientView {
  readonly client: string;
  readonly open: number;
  /** Undefined for no such limit. */
  readonly maxConnections: number | undefined;
  /** Tokens left, in whole; undefined where there are no buckets. */
  readonly tokens: number | undefined;
  readonly capacity: number | undefined;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

/** In `GET /v1/clients?fleet`: `{ "clients": [ … ] }`, those with the most connections first. */
export type { ClientCounts };

/** In `GET /v1/blocks`: `{ "blocks": [ … ], "kept": true }`; `kept` says whether they outlive the process. */
export interface BlockView {
  readonly subject: string;
  readonly kind: BlockKind;
  readonly reason: string;
  readonly actor: string;
  readonly since: string;
  /** Undefined for one without an end. */
  readonly until: string | undefined;
  /** It holds in the whole fleet. */
  readonly fleet: boolean;
  /** Of a block of the fleet: the store knows of it, and so the other nodes. */
  readonly published?: boolean | undefined;
}

/**
 * The data of `GET /v1/events` (server-sent events). The event's name is `log`. With `?status`, an event `status` comes
 * once a second with a {@link Status}.
 */
export interface LoggedEvent {
  readonly time: string;
  readonly level: string;
  readonly msg: string;
  /** The fields of the log line, such as `reason`, `client`, `remote`. */
  readonly [field: string]: string | number | boolean | null | undefined;
}

/** Every error: a short text, and the HTTP status says which kind it is. */
export interface ApiError {
  readonly error: string;
}
