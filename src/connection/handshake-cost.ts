// Says how many failures a failed handshake counts as, by what it cost, and how long strangers wait after it. Pure.

import type { Meter } from "./socket-meter.ts";
import type { Ticket } from "./ticket.ts";

/**
 * Processor time that a normal handshake takes, in milliseconds; each further millisecond counts as one more failure.
 * The time includes other work of the thread in the handshake's turns.
 */
export const ORDINARY_MS = 4;

/**
 * The bytes of a normal handshake, for handshakes whose processor time cannot be measured. Each further `CHUNK_BYTES`
 * count as one more failure.
 */
const ORDINARY_BYTES = 4_096;
const CHUNK_BYTES = 512;

/** The longest certificate chain that TLS accepts (SSL_CTX_set_max_cert_list). */
const MAX_CHAIN_BYTES = 102_400;

/** Failures that a failed handshake counts as, by its processor time in milliseconds. */
export function worthOfTime(ms: number): number {
  return 1 + Math.max(0, Math.floor(ms - ORDINARY_MS));
}

/** The same, by the bytes that its client sent: every certificate costs time. */
export function worthOfBytes(bytes: number): number {
  return 1 + Math.max(0, Math.ceil((Math.min(bytes, MAX_CHAIN_BYTES) - ORDINARY_BYTES) / CHUNK_BYTES));
}

/** The bytes assumed for a proven source's handshake that its client has reset. */
export const ASSUMED_BYTES = 8_192;

/** Failures that a handshake counts as, by what can be measured. */
export function worthOf(ticket: Ticket, meter: Meter): number {
  if (ticket.stolen) return Math.max(worthOfBytes(ticket.received), worthOfTime(ticket.cpu));
  if (ticket.watched) return worthOfTime(ticket.cpu);
  // A connection that its client has reset cannot be measured any more; it may have cost a lot.
  return worthOfBytes(meter.received(ticket.socket.fd) ?? ASSUMED_BYTES);
}

/**
 * How long strangers wait after one of them failed, in milliseconds per failure that it counted as. In a
 * flood many clients leave at once, and they must not delay the others: the wait is at most `MAX_PAUSE_FACTOR` times
 * the processor time that the failed one took.
 */
const STRANGER_PACE_MS = 5;
const MAX_PAUSE_FACTOR = 10;
/** The longest such wait. The bucket for large flights limits what costs more. */
const MAX_STRANGER_PAUSE_MS = 150;

/** How long strangers wait after a failure, in milliseconds. @param took its processor time */
export function pauseAfter(worth: number, took: number): number {
  return Math.min(worth * STRANGER_PACE_MS, took * MAX_PAUSE_FACTOR, MAX_STRANGER_PAUSE_MS);
}
