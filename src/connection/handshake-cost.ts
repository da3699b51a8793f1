// How many failures a failed handshake counts for, by what it cost. Pure.

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
