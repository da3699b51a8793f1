// How many failures a failed handshake counts for, by what it cost. Pure.

import type { Meter } from "./socket-meter.ts";
import type { Ticket } from "./ticket.ts";

/**
 * Milliseconds of processor time that every handshake may take; each one more is worth a failure more. What else the thread
 * does in the turns of a handshake is in them too.
 */
export const ORDINARY_MS = 4;

/** Where time cannot be told from that of others: bytes that every handshake may have, and that are worth a failure more. */
const ORDINARY_BYTES = 4_096;
const CHUNK_BYTES = 512;

/** TLS takes no more for a chain of certificates (SSL_CTX_set_max_cert_list). */
const MAX_CHAIN_BYTES = 102_400;

/** Failures that a failed handshake is worth, by the processor time it took, in milliseconds. */
export function worthOfTime(ms: number): number {
  return 1 + Math.max(0, Math.floor(ms - ORDINARY_MS));
}

/** The same by what its client sent: every certificate costs time. */
export function worthOfBytes(bytes: number): number {
  return 1 + Math.max(0, Math.ceil((Math.min(bytes, MAX_CHAIN_BYTES) - ORDINARY_BYTES) / CHUNK_BYTES));
}

/** What a proven source's handshake is taken to have had that its client has reset. */
export const UNKNOWN_BYTES = 8_192;

/** Failures that a handshake is worth, by what can be told of it. */
export function worthOf(ticket: Ticket, meter: Meter): number {
  if (ticket.stolen) return Math.max(worthOfBytes(ticket.received), worthOfTime(ticket.cpu));
  if (ticket.watched) return worthOfTime(ticket.cpu);
  // A client that has reset its connection cannot be measured any more: it may have cost a lot.
  return worthOfBytes(meter.received(ticket.socket.fd) ?? UNKNOWN_BYTES);
}
