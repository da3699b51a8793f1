// Says when a connection's time is up, and why. Pure: the caller passes the moment and the configuration.

import type { Config } from "../config/config.ts";
import type { CloseReason } from "../lib/errors.ts";

/**
 * The phases of a connection; connection.ts lists the legal transitions.
 * - `handshake` the proxy does not know the client yet
 * - `asking` the limits of this thread admit the client; the fleet has not answered yet, which it does in bounded time
 * - `dialing` the client is admitted; no target has answered yet
 * - `relaying` bytes go both ways, or one way after a half-close
 * - `closing` both directions are done; the sockets are sending what they still hold
 * - `over` the connection is refused or broken off; nothing more is sent
 */
export type Phase = "handshake" | "asking" | "dialing" | "relaying" | "closing" | "over";

/** When a round of looks at all connections began, and the one before. */
export interface Round {
  readonly began: number;
  readonly before: number;
}

/** A moment, on both clocks. */
export interface Moment {
  /** Whole milliseconds of a monotonic clock. */
  readonly now: number;
  /** Milliseconds since 1970. */
  readonly date: number;
}

/** The configuration keys that deadlines depend on. */
export type Timeouts = Pick<
  Config,
  | "handshakeTimeout"
  | "connectTimeout"
  | "timeout"
  | "disconnectExpired"
  | "expiryGrace"
  | "maxConnectionDuration"
>;

/** Which time is up. `connect_timeout` ends one attempt to reach a target; every other one ends the connection. */
export type Due =
  | "handshake_timeout"
  | "connect_timeout"
  | Extract<
      CloseReason,
      "idle_timeout" | "max_duration" | "authorization_revoked" | "certificate_expired" | "kicked"
    >;

/**
 * The largest part by which `maxConnectionDuration` is shortened at random, so that clients do not all return at once.
 */
const DURATION_JITTER = 0.1;

/** The deadlines of one connection. */
export class Deadlines {
  readonly acceptedAt: number;
  /** When the phase began. While relaying and closing: when a byte last moved. */
  #since: number;
  /** Bytes both ways at the last check. */
  #seen = 0;
  /** When the client's certificate expires, as a date. */
  #expiresAt = Infinity;
  /** When the connection ends, even if it is busy. */
  #endsAt = Infinity;
  /** The part of {@link DURATION_JITTER} that it is shortened by, from 0 to 1: the same over all reloads. */
  #jitter: number | undefined;
  /** When an operator has it end, and what the operator says. */
  #kickedAt = Infinity;
  #kickedFor: string | undefined;
  /** Why the connection lost its authorization. If undefined, `maxConnectionDuration` ends it. */
  #revokedFor: string | undefined;

  constructor(now: number) {
    this.acceptedAt = this.#since = now;
  }

  /** Starts a phase. */
  enterPhase(now: number): void {
    this.#since = now;
  }

  /** Milliseconds since the phase began or, while it relays, since bytes were last seen to move. */
  inPhase(now: number): number {
    return now - this.#since;
  }

  /** Whether the connection has completed another `period` of its life between two looks; periods are counted from its accept. */
  completes(period: number, before: number, now: number): boolean {
    const count = (at: number) => Math.floor(Math.max(0, at - this.acceptedAt) / period);
    return count(now) > count(before);
  }

  /** When the client's certificate expires, in milliseconds since 1970. */
  get expiresAt(): number {
    return this.#expiresAt;
  }

  /** The connection is admitted with a certificate that expires on this date. */
  admitted(expiresAt: number): void {
    this.#expiresAt = expiresAt;
  }

  /**
   * Limits an authorized connection by `maxConnectionDuration` alone.
   * @param random from 0 to 1; the first one counts
   */
  limit(timeouts: Timeouts, random: number): void {
    this.#revokedFor = undefined;
    this.#jitter ??= random;
    this.#endsAt = this.#limitedBy(timeouts);
  }

  #limitedBy({ maxConnectionDuration = Infinity }: Timeouts): number {
    return this.acceptedAt + maxConnectionDuration * (1 - DURATION_JITTER * (this.#jitter ?? 0));
  }

  /**
   * The connection has lost its authorization and ends within the grace. A second loss can only shorten the time that
   * is left.
   * @param random from 0 to 1: the part of the grace that the connection keeps, so that clients do not all return at
   *   once
   */
  revoke({ now, grace, why, random }: { now: number; grace: number; why: string; random: number }): void {
    if (!this.isRevoked || this.#endsAt > now + grace) {
      this.#endsAt = Math.min(this.#endsAt, now + grace * random);
    }
    this.#revokedFor = why;
  }

  /** An operator ends the connection at this time; a second one can only bring it forward. */
  kick(at: number, why: string | undefined): void {
    if (at >= this.#kickedAt) return;
    this.#kickedAt = at;
    this.#kickedFor = why;
  }

  /** What the operator said who ends the connection. */
  get kickedFor(): string | undefined {
    return this.#kickedFor;
  }

  /** The connection has lost its authorization. */
  get isRevoked(): boolean {
    return this.#revokedFor !== undefined;
  }

  /** Why the connection has lost its authorization, if it has. */
  get revokedFor(): string | undefined {
    return this.#revokedFor;
  }

  /** Says which time would be up under another configuration, for an authorized connection. */
  shortened(
    phase: Phase,
    { now, date }: Moment,
    bytes: number,
    timeouts: Timeouts,
  ): "max_duration" | "certificate_expired" | "idle_timeout" | undefined {
    if (now >= this.#limitedBy(timeouts)) return "max_duration";
    if (timeouts.disconnectExpired && date >= this.#expiresAt + timeouts.expiryGrace)
      return "certificate_expired";
    const isIdle = phase === "relaying" && bytes === this.#seen && now - this.#since >= timeouts.timeout;
    return isIdle ? "idle_timeout" : undefined;
  }

  /**
   * Says which time is up, if any.
   * @param bytes how many have moved so far, both ways; a change restarts the idle time
   */
  due(phase: Phase, { now, date }: Moment, bytes: number, config: Timeouts): Due | undefined {
    if (phase === "over") return undefined;
    if (now >= this.#kickedAt) return "kicked";
    if (now >= this.#endsAt) return this.isRevoked ? "authorization_revoked" : "max_duration";
    if (config.disconnectExpired && date >= this.#expiresAt + config.expiryGrace)
      return "certificate_expired";
    const since = now - this.#since;
    switch (phase) {
      case "handshake":
        return since >= config.handshakeTimeout ? "handshake_timeout" : undefined;
      case "asking":
        return undefined;
      case "dialing":
        return since >= config.connectTimeout ? "connect_timeout" : undefined;
      case "relaying":
      case "closing":
        if (bytes === this.#seen) return since >= config.timeout ? "idle_timeout" : undefined;
        this.#seen = bytes;
        this.#since = now;
        return undefined;
    }
  }
}
