// Says which waiting handshake has something for TLS to read. What a stranger sends is measured first, and large flights of
// strangers are rationed.

import { takeToken } from "../state/token-bucket.ts";
import type { Meter } from "./socket-meter.ts";
import type { Ticket, WaitingList } from "./ticket.ts";

/**
 * A flight of more bytes may hold a chain of certificates that takes long to verify, or the first of a client's data. TLS
 * reads so many of them from strangers at once, and one more every so many milliseconds.
 */
const LARGE_BYTES = 8_192;
const LARGE_RULE = { capacity: 4, fillRate: 5_000 };

export class Readiness {
  readonly #meter: Meter;
  readonly #now: () => number;
  /** Sockets that may still be looked at. */
  #looks = 0;
  #largeFullAt = 0;

  constructor(meter: Meter, now: () => number) {
    this.#meter = meter;
    this.#now = now;
  }

  /** Allows so many looks at sockets from now on. */
  allow(looks: number): void {
    this.#looks = looks;
  }

  /**
   * The first of a list whose client has sent something new; silent ones go to the end.
   * @param watched whether they are strangers
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
    // What follows a hello is the costly part. It may still be coming in: it is read once it is the same at two looks.
    const whole = !watched || ticket.received === 0 || received === ticket.seen;
    ticket.seen = received;
    if (received <= ticket.received || !whole) return false;
    if (watched && received - ticket.received > LARGE_BYTES && !this.#takeLarge()) return false;
    ticket.received = received;
    return true;
  }

  #takeLarge(): boolean {
    const next = takeToken(this.#largeFullAt, this.#now(), LARGE_RULE);
    this.#largeFullAt = next ?? this.#largeFullAt;
    return next !== undefined;
  }
}
