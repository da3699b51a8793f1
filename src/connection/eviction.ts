// Chooses which handshake gives its place to a newcomer where all places are taken.

import type { Meter } from "./socket-meter.ts";
import { EXEMPT, type Ticket, type WaitingList } from "./ticket.ts";

/** A client that has taken so many milliseconds, and that is waited for, may have to give its place away. */
const EVICT_MS = 100;

/** Sockets that are looked at. */
const MAX_LOOKS = 64;

/** The handshakes to choose from. */
export interface Candidates {
  /** In the order of their coming. */
  readonly all: Iterable<Ticket>;
  /** By source, those that wait for a turn. */
  readonly waiting: ReadonlyMap<number, WaitingList>;
  readonly meter: Meter;
  readonly now: number;
}

/**
 * The newest of the source that has most waiting, if the newcomer's has fewer; or the oldest that has nothing to read; or
 * the oldest that TLS reads from and that is not done. Sources that are not counted are not taken to be greedy.
 * @param row the newcomer's source
 */
export function victimFor(
  row: number | undefined,
  { all, waiting, meter, now }: Candidates,
): Ticket | undefined {
  let most: WaitingList | undefined;
  for (const [source, list] of waiting) {
    if (source !== EXEMPT && list.size > (most?.size ?? 0)) most = list;
  }
  const own = row === undefined ? 0 : (waiting.get(row)?.size ?? 0);
  if (most !== undefined && most.size > own + 1) return most.last();
  let looks = MAX_LOOKS;
  let slow: Ticket | undefined;
  for (const ticket of all) {
    if (now - ticket.enteredAt < EVICT_MS || looks-- === 0) break;
    if (ticket.state === "free") {
      if (now - ticket.startedAt >= EVICT_MS) slow ??= ticket;
    } else if ((meter.received(ticket.socket.fd) ?? 0) <= ticket.received) return ticket;
  }
  return slow;
}
