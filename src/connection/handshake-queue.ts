// Decides when a new connection may begin or go on with its TLS handshake. A handshake keeps the thread busy for most of a
// millisecond, a hostile one for much longer, and nothing can interrupt it. So live connections come first, sources take
// turns, and what strangers send is measured before TLS reads it.
//
//   accept → waiting ─┬─→ free      a proven source: TLS reads all that comes; back after ROTATE_MS while others wait
//               ↑     ├─→ reading   a stranger that has sent a flight: TLS reads it, then back to waiting
//               └─────┤
//                     └─→ refused   the source has used up its failures
//
// A turn of the event loop that begins a handshake is followed by one that belongs to live connections alone.

import { ORDINARY_MS, worthOfBytes, worthOfTime } from "./handshake-cost.ts";
import type { Meter } from "./socket-meter.ts";
import { WaitingList, type Ticket } from "./ticket.ts";
import type { Sources } from "../state/sources.ts";
import { takeToken } from "../state/token-bucket.ts";

/**
 * A flight of more bytes may hold a chain of certificates that takes long to verify, or the first of a client's data. TLS
 * reads so many of them from strangers at once, and one more every so many milliseconds.
 */
const LARGE_BYTES = 8_192;
const LARGE_RULE = { capacity: 4, fillRate: 5_000 };

/** What a proven source's handshake is taken to have had that its client has reset. */
const UNKNOWN_BYTES = 8_192;

/** Turns of the event loop from one handshake that begins to the next. */
const TURNS = 2;

/** Turns of the event loop in which TLS reads what a stranger has sent. */
const READING_TURNS = 2;

/** How often strangers' sockets are looked at, in milliseconds: soon at first, then less often. */
const LOOK_MS = 2;
const IDLE_LOOK_MS = 10;
const SOON = 50;

/** Sockets that are looked at in one go, and sources that are asked for a turn. */
const MAX_LOOKS = 64;

/** How long a handshake may take, in milliseconds, before it makes way for others that wait. */
const ROTATE_MS = 30;

/** A client that has taken so many milliseconds, and that is waited for, gives its place to a newcomer where none is left. */
const EVICT_MS = 100;

/**
 * How long strangers wait after one of them failed, in milliseconds per failure it was worth; at most so many times what it
 * took: those that leave at once are many in a flood, and must not hold up who comes with them.
 */
const STRANGER_PACE_MS = 5;
const STRANGER_PACE = 10;
/** The bucket for large flights bounds what costs more. */
const MAX_STRANGER_PAUSE_MS = 150;

/** In the place of a row, for connections whose source is not counted. */
const EXEMPT = -1;

/** What the queue needs from outside; tests bring their own. */
export interface QueueOptions {
  readonly sources: Sources;
  readonly meter: Meter;
  /** Handshakes under way at a time, in this thread. */
  readonly max: number;
  /** Whole milliseconds of a clock that only goes forward. */
  now(): number;
  /** Calls back in the next turn of the event loop, after what is ready has been served. Default: setImmediate. */
  schedule?(turn: () => void): unknown;
  /** Calls back after some milliseconds. Default: setTimeout. */
  wait?(wake: () => void, ms: number): unknown;
}

export class HandshakeQueue {
  max: number;
  readonly #sources: Sources;
  readonly #meter: Meter;
  readonly #now: () => number;
  readonly #schedule: (turn: () => void) => unknown;
  readonly #sleep: (wake: () => void, ms: number) => unknown;
  /** In the order of their coming. */
  readonly #all = new Set<Ticket>();
  /** By source, those that wait for a turn; the source whose turn is next comes first. */
  readonly #waiting = new Map<number, WaitingList>();
  /** Those among them that are proven: they come first every other time, however many strangers wait. */
  readonly #proven = new Set<number>();
  #provenFirst = false;
  /** Those that TLS may read, the oldest first; and the strangers among them. */
  readonly #active = new Set<Ticket>();
  readonly #reading = new Set<Ticket>();
  #turn = 0;
  #scheduled = false;
  #asleep = false;
  #looksInVain = 0;
  /** Sockets that may still be looked at in this turn. */
  #looks = 0;
  #strangersFrom = 0;
  #largeFullAt = 0;

  constructor({ sources, meter, max, now, schedule = setImmediate, wait = setTimeout }: QueueOptions) {
    this.max = max;
    this.#sources = sources;
    this.#meter = meter;
    this.#now = now;
    this.#schedule = schedule;
    this.#sleep = wait;
  }

  /** Holds a new connection back until its turn comes. */
  enter(ticket: Ticket): void {
    ticket.enteredAt = this.#now();
    this.#all.add(ticket);
    ticket.socket.pause();
    this.#wait(ticket);
    this.#looksInVain = 0;
    this.#again();
  }

  /**
   * TLS says that a handshake has ended, before it is known how. Where it had no turn, its client has reset the connection:
   * then the runtime has TLS read what had come, paused or not.
   */
  ended(ticket: Ticket): void {
    if (ticket.state !== "waiting") return;
    const received = this.#meter.received(ticket.socket.fd) ?? UNKNOWN_BYTES;
    if (received <= ticket.received) return;
    ticket.received = received;
    ticket.fed = ticket.stolen = true;
  }

  /** A handshake has ended well. */
  done(ticket: Ticket): void {
    this.#all.delete(ticket);
    // What TLS had in hand may have ended the handshake after the socket was paused.
    if (ticket.state === "waiting") ticket.socket.resume();
    this.#remove(ticket);
    if (ticket.charged > 0) this.#sources.forgive(ticket.row as number, ticket.charged);
  }

  /**
   * A handshake has ended badly, or its client has left.
   * @param verified the client proved who it is, but may not come in: that is no stranger's failure
   */
  failed(ticket: Ticket, verified: boolean): void {
    this.#all.delete(ticket);
    this.#remove(ticket);
    if (ticket.row === undefined) return;
    if (verified) {
      if (ticket.charged > 0) this.#sources.forgive(ticket.row, ticket.charged);
    } else if (ticket.fed) this.#charge(ticket, ticket.row);
  }

  /** Charges a source for what its client has sent and was not charged for yet. */
  #charge(ticket: Ticket, row: number): void {
    const worth = this.#worthOf(ticket) - ticket.charged;
    if (worth <= 0) return;
    ticket.charged += worth;
    const now = this.#now();
    this.#sources.failed(row, worth, now);
    if (ticket.watched || ticket.stolen) {
      const took = ticket.stolen ? Infinity : ticket.cpu;
      const pause = Math.min(worth * STRANGER_PACE_MS, took * STRANGER_PACE, MAX_STRANGER_PAUSE_MS);
      this.#strangersFrom = Math.max(this.#strangersFrom, now + pause);
    }
    // What else TLS is being fed from there waits for another turn.
    if (worth > 1) for (const each of [...this.#active]) if (each.row === row) this.#putBack(each);
  }

  /**
   * Makes room for a newcomer where all connections are taken.
   * @returns whether one of those in the queue has given its place away
   */
  evict(row: number | undefined): boolean {
    const victim = this.#victim(row);
    victim?.owner.handshakeRefused("overloaded", "gave its place to a newer connection");
    return victim !== undefined;
  }

  /**
   * The newest of the source that has most waiting, if the newcomer's has fewer; or the oldest that has nothing to read; or
   * the oldest that TLS reads from and that is not done. Who is not counted is not taken to be greedy.
   */
  #victim(row: number | undefined): Ticket | undefined {
    let most: WaitingList | undefined;
    for (const [source, list] of this.#waiting) {
      if (source !== EXEMPT && list.size > (most?.size ?? 0)) most = list;
    }
    const own = row === undefined ? 0 : (this.#waiting.get(row)?.size ?? 0);
    if (most !== undefined && most.size > own + 1) return most.last();
    const now = this.#now();
    let looks = MAX_LOOKS;
    let slow: Ticket | undefined;
    for (const ticket of this.#all) {
      if (now - ticket.enteredAt < EVICT_MS || looks-- === 0) break;
      if (ticket.state === "free") {
        if (now - ticket.startedAt >= EVICT_MS) slow ??= ticket;
      } else if ((this.#meter.received(ticket.socket.fd) ?? 0) <= ticket.received) return ticket;
    }
    return slow;
  }

  #worthOf(ticket: Ticket): number {
    if (ticket.stolen) return Math.max(worthOfBytes(ticket.received), worthOfTime(ticket.cpu));
    if (ticket.watched) return worthOfTime(ticket.cpu);
    // A client that has reset its connection cannot be measured any more: it may have cost a lot.
    return worthOfBytes(this.#meter.received(ticket.socket.fd) ?? UNKNOWN_BYTES);
  }

  #wait(ticket: Ticket): void {
    ticket.state = "waiting";
    const row = ticket.row ?? EXEMPT;
    let list = this.#waiting.get(row);
    if (list === undefined) this.#waiting.set(row, (list = new WaitingList()));
    list.add(ticket);
    if (ticket.row === undefined || this.#sources.isProven(row, this.#now())) this.#proven.add(row);
  }

  #unwait(ticket: Ticket): void {
    const row = ticket.row ?? EXEMPT;
    const tickets = this.#waiting.get(row);
    if (tickets?.delete(ticket) !== true || tickets.size > 0) return;
    this.#waiting.delete(row);
    this.#proven.delete(row);
  }

  #remove(ticket: Ticket): void {
    if (ticket.state === "waiting") return this.#unwait(ticket);
    if (!this.#active.delete(ticket)) return;
    if (this.#reading.delete(ticket)) ticket.cpu += this.#meter.cpu() - ticket.cpuAt;
    if (ticket.row !== undefined) this.#sources.stop(ticket.row);
    if (this.#waiting.size > 0) this.#again();
  }

  #putBack(ticket: Ticket): void {
    ticket.socket.pause();
    this.#remove(ticket);
    this.#wait(ticket);
  }

  #again(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#schedule(this.#next);
  }

  readonly #next = (): void => {
    this.#scheduled = false;
    for (const ticket of [...this.#reading]) {
      // One before it may have put it back.
      if (this.#reading.has(ticket) && --ticket.turns <= 0) this.#stopReading(ticket);
    }
    this.#turn = (this.#turn + 1) % TURNS;
    const more = this.#turn !== 0 || this.#startOne();
    if (this.#reading.size > 0 || (more && this.#waiting.size > 0)) this.#again();
    else if (this.#waiting.size > 0) this.#look();
  };

  /** TLS has read what there was; what comes next is measured first. */
  #stopReading(ticket: Ticket): void {
    this.#putBack(ticket);
    // A client that hangs after a costly flight is charged before its source's next one.
    if (ticket.row !== undefined && ticket.cpu > ORDINARY_MS + 1) this.#charge(ticket, ticket.row);
  }

  /** Gives one turn, to the next source that may have one; false where none can. */
  #startOne(): boolean {
    if (this.#active.size >= this.max) return false;
    this.#looks = MAX_LOOKS;
    for (const [row, tickets] of [...this.#firstSources()]) {
      // A refusal before may have emptied it.
      if (this.#waiting.get(row) !== tickets) continue;
      // The next turn is another source's.
      this.#waiting.delete(row);
      this.#waiting.set(row, tickets);
      if (this.#proven.delete(row)) this.#proven.add(row);
      if (this.#startFrom(row, tickets)) return true;
    }
    return false;
  }

  *#firstSources(): Iterable<[number, WaitingList]> {
    let left = MAX_LOOKS;
    this.#provenFirst = !this.#provenFirst;
    if (this.#provenFirst) {
      for (const row of this.#proven) {
        const tickets = this.#waiting.get(row);
        if (tickets !== undefined && left-- > MAX_LOOKS / 2) yield [row, tickets];
      }
    }
    for (const entry of this.#waiting) if (left-- > 0) yield entry;
  }

  #startFrom(row: number, tickets: WaitingList): boolean {
    if (row === EXEMPT) {
      const [next] = tickets.kinds().flatMap(([first]) => first ?? []);
      return next !== undefined && this.#start(next, false);
    }
    const [first] = tickets;
    if (first === undefined) return false;
    const now = this.#now();
    switch (this.#sources.start(row, now, false)) {
      case "free": {
        // A silent client would hold its place until it makes way for its neighbours.
        const ready = tickets.size === 1 ? first : this.#firstReady(tickets, false);
        if (ready !== undefined) return this.#start(ready, ready.fed);
        break;
      }
      case "watched": {
        const ready = now < this.#strangersFrom ? undefined : this.#firstReady(tickets, true);
        if (ready !== undefined) return this.#start(ready, true);
        break;
      }
      case "refused":
        return this.#refuseAll(row, tickets);
      case "later":
        return false;
    }
    this.#sources.stop(row);
    return false;
  }

  /** Its source has used up its failures. What a client was charged for is done with: that one may still end. */
  #refuseAll(row: number, tickets: WaitingList): boolean {
    for (const ticket of [...tickets]) {
      if (ticket.charged === 0) ticket.owner.handshakeRefused("source_limited");
    }
    if (tickets.size === 0 || this.#sources.start(row, this.#now(), true) !== "watched") return false;
    const ready = this.#firstReady(tickets, true);
    if (ready !== undefined) return this.#start(ready, true);
    this.#sources.stop(row);
    return false;
  }

  /** The first whose client has sent something new; silent ones go to the end. */
  #firstReady(list: WaitingList, watched: boolean): Ticket | undefined {
    for (const tickets of list.kinds()) {
      for (const ticket of [...tickets]) {
        if (this.#looks-- <= 0) return undefined;
        if (this.#isReady(ticket, watched)) return ticket;
        if (tickets.delete(ticket)) tickets.add(ticket);
      }
    }
    return undefined;
  }

  /** Whether there is something for TLS to read and, for a stranger, whether TLS may read so much now. */
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

  #start(ticket: Ticket, watched: boolean): true {
    this.#unwait(ticket);
    this.#active.add(ticket);
    ticket.startedAt = this.#now();
    ticket.state = watched ? "reading" : "free";
    ticket.watched = watched;
    ticket.fed = true;
    if (watched) {
      ticket.turns = READING_TURNS;
      ticket.cpuAt = this.#meter.cpu();
      this.#reading.add(ticket);
      this.#looksInVain = 0;
    }
    ticket.socket.resume();
    return true;
  }

  #look(): void {
    if (this.#asleep) return;
    this.#asleep = true;
    this.#sleep(this.#looked, this.#looksInVain < SOON ? LOOK_MS : IDLE_LOOK_MS);
  }

  readonly #looked = (): void => {
    this.#asleep = false;
    if (this.#waiting.size === 0) return;
    this.#looksInVain++;
    const now = this.#now();
    for (const ticket of [...this.#active]) {
      if (now - ticket.startedAt < ROTATE_MS) break;
      this.#putBack(ticket);
    }
    this.#again();
  };
}
