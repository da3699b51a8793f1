// Says which waiting handshake has something for TLS to read. It measures a stranger's bytes first, and rations
// strangers' large flights.

import { takeToken } from "../state/token-bucket.ts";
import type { Meter } from "./socket-meter.ts";
import type { Ticket, WaitingList } from "./ticket.ts";

/**
 * A flight of more bytes may hold a certificate chain that takes long to verify, or the client's first data. TLS reads
 * at most `capacity` such flights of strangers at once, and one more every `fillRate` milliseconds. Those of clients
 * that prove who they are do not count.
 */
const LARGE_BYTES = 8_192;
const LARGE_RULE = { capacity: 4, fillRate: 5_000 };

export class Readiness {
  readonly #meter: Meter;
  readonly #now: () => number;
  /** Sockets that may still be checked. */
  #looks = 0;
  #largeFullAt = 0;

  constructor(meter: Meter, now: () => number) {
    this.#meter = meter;
    this.#now = now;
  }

  /** Allows this many checks from now on. */
  allow(looks: number): void {
    this.#looks = looks;
  }

  /**
   * The first ticket of a list whose client has sent something new. Silent ones move to the end.
   * @param watched whether the clients are strangers
   */
  first(list: WaitingList, watched: boolean): Ticket | undefined {
    for (const tickets of list.kinds()) {
      for (const ticket of [...tickets]) {
        if (this.#looks-- <= 0) return undefined;
        if (this.#isReady(ticket, watched)) return ticket;
        if (tickets.delete(ticket)) tickets.add(ticket);
      }
    }
    return undefined;
  }

  #isReady(ticket: Ticket, watched: boolean): boolean {
    const received = this.#meter.received(ticket.socket.fd);
    if (received === undefined) return true;
    // The costly part follows the hello and may still be arriving: TLS reads it once two checks find the same size.
    const whole = !watched || !ticket.fed || received === ticket.seen;
    ticket.seen = received;
    if (received <= ticket.received || !whole) return false;
    if (watched && received - ticket.received > LARGE_BYTES) {
      if (!this.#takeLarge()) return false;
      ticket.large++;
    }
    ticket.received = received;
    return true;
  }

  /** A client has proved who it is: its large flights were its own data. */
  forgive(ticket: Ticket): void {
    this.#largeFullAt -= ticket.large * LARGE_RULE.fillRate;
    ticket.large = 0;
  }

  #takeLarge(): boolean {
    const next = takeToken(this.#largeFullAt, this.#now(), LARGE_RULE);
    this.#largeFullAt = next ?? this.#largeFullAt;
    return next !== undefined;
  }
}
