// Chooses which handshake gives its place to a new connection when all places are taken.

import type { Meter } from "./socket-meter.ts";
import { EXEMPT, type Ticket, type WaitingList } from "./ticket.ts";

/** A client that the proxy has waited for this long, in milliseconds, can lose its place. */
const EVICT_MS = 100;

/** The largest number of sockets to check. */
const MAX_SOCKET_CHECKS = 64;

/** The handshakes to choose from. */
export interface Candidates {
  /** In the order of arrival. */
  readonly all: Iterable<Ticket>;
  /** The waiting handshakes, by source. */
  readonly waiting: ReadonlyMap<number, WaitingList>;
  readonly meter: Meter;
  readonly now: number;
}

/**
 * Chooses the newest handshake of the source that has the most waiting, if the new connection's source has fewer.
 * Otherwise it chooses the oldest that has sent nothing to read, or the oldest that TLS reads from and that is not
 * done. Sources that are not counted are not taken to be greedy.
 * @param row the new connection's source
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
  let looks = MAX_SOCKET_CHECKS;
  let slow: Ticket | undefined;
  for (const ticket of all) {
    if (now - ticket.enteredAt < EVICT_MS || looks-- === 0) break;
    if (ticket.state === "free") {
      if (now - ticket.startedAt >= EVICT_MS) slow ??= ticket;
    } else if ((meter.received(ticket.socket.fd) ?? 0) <= ticket.received) return ticket;
  }
  return slow;
}
