// When a connection's time is up, and why. Pure: the moment and the configuration come from outside.

import type { Config } from "../config/config.ts";
import type { CloseReason } from "../lib/errors.ts";

/**
 * The phases of a connection; connection.ts says which follows which.
 * - `handshake` the client is not known yet
 * - `asking` the thread's own limits admit the client; the fleet has not answered yet, which it does in bounded time
 * - `dialing` admitted; no target has answered yet
 * - `relaying` bytes go both ways, or one way after a half-close
 * - `closing` both directions are done; the sockets are sending what they still hold
 * - `over` refused or broken off; nothing more is sent
 */
export type Phase = "handshake" | "asking" | "dialing" | "relaying" | "closing" | "over";

/** A moment, on both clocks. */
export interface Moment {
  /** Whole milliseconds of a clock that only goes forward. */
  readonly now: number;
  /** Milliseconds since 1970. */
  readonly date: number;
}

/** The settings that deadlines depend on. */
export type Timeouts = Pick<
  Config,
  "handshakeTimeout" | "connectTimeout" | "timeout" | "disconnectExpired" | "maxConnectionDuration"
>;

/** Which time is up. `connect_timeout` ends one attempt to reach a target, every other one the connection. */
export type Due =
  | "handshake_timeout"
  | "connect_timeout"
  | Extract<CloseReason, "idle_timeout" | "max_duration" | "authorization_revoked" | "certificate_expired">;

/** The largest part by which `maxConnectionDuration` is shortened at random, so that clients do not all return at once. */
const DURATION_JITTER = 0.1;

/** The deadlines of one connection. */
export class Deadlines {
  readonly acceptedAt: number;
  /** The start of the phase or, while relaying and closing, of the time in which no byte has moved. */
  #since: number;
  /** Bytes both ways at the last look. */
  #seen = 0;
  /** When the client's certificate expires, on the calendar. */
  #expiresAt = Infinity;
  /** When the connection ends, even if it is busy. */
  #endsAt = Infinity;
  /** Why it ends then, where that is a lost authorization; otherwise `maxConnectionDuration` ends it. */
  #revokedFor: string | undefined;

  constructor(now: number) {
    this.acceptedAt = this.#since = now;
  }

  /** A phase begins. */
  enterPhase(now: number): void {
    this.#since = now;
  }

  /** The connection is admitted with a certificate that expires on this date. */
  admitted(expiresAt: number): void {
    this.#expiresAt = expiresAt;
  }

  /**
   * `maxConnectionDuration` alone limits the connection: it is authorized.
   * @param random from 0 to 1
   */
  limit({ maxConnectionDuration = Infinity }: Timeouts, random: number): void {
    this.#revokedFor = undefined;
    this.#endsAt = this.acceptedAt + maxConnectionDuration * (1 - DURATION_JITTER * random);
  }

  /**
   * The connection has lost its authorization and ends within the grace. A second loss can only shorten what is left.
   * @param random from 0 to 1: which part of the grace it keeps, so that clients do not all return at once
   */
  revoke({ now, grace, why, random }: { now: number; grace: number; why: string; random: number }): void {
    if (!this.isRevoked || this.#endsAt > now + grace) {
      this.#endsAt = Math.min(this.#endsAt, now + grace * random);
    }
    this.#revokedFor = why;
  }

  /** The connection has lost its authorization. */
  get isRevoked(): boolean {
    return this.#revokedFor !== undefined;
  }

  /** Why the connection has lost its authorization, if it has. */
  get revokedFor(): string | undefined {
    return this.#revokedFor;
  }

  /**
   * Says which time is up, if any.
   * @param bytes how many have moved so far, both ways: a change starts the idle time anew
   */
  due(phase: Phase, { now, date }: Moment, bytes: number, config: Timeouts): Due | undefined {
    if (phase === "over") return undefined;
    if (now >= this.#endsAt) return this.isRevoked ? "authorization_revoked" : "max_duration";
    if (config.disconnectExpired && date >= this.#expiresAt) return "certificate_expired";
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
