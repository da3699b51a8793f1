// Decides when a new connection begins or continues its TLS handshake. A handshake keeps the thread busy for most of a
// millisecond, a hostile one for much longer, and nothing can interrupt it. So live connections come first, sources
// take turns, and the queue measures what strangers send before TLS reads it.
//
//   accept → waiting ─┬─→ free      a proven source: TLS reads all that comes; back after ROTATE_MS while others wait
//               ↑     ├─→ reading   a stranger that has sent a flight, or anybody where others wait and live
//               │     │             connections move bytes: TLS reads the flight, then back to waiting
//               └─────┤
//                     └─→ refused   the source has used up its failures
//
// After a turn of the event loop that begins a handshake, one turn belongs to live connections alone.

import type { Activity } from "./activity.ts";
import { victimFor } from "./eviction.ts";
import { ORDINARY_MS, ASSUMED_BYTES, pauseAfter, worthOf } from "./handshake-cost.ts";
import { Readiness } from "./readiness.ts";
import type { Meter } from "./socket-meter.ts";
import { EXEMPT, type Ticket, type WaitingList } from "./ticket.ts";
import { Waiting } from "./waiting.ts";
import type { Sources } from "../state/sources.ts";

/** Turns of the event loop between the starts of two handshakes. */
const START_TURNS = 2;

/** Turns of the event loop in which TLS reads what a stranger has sent. */
const READING_TURNS = 2;

/** How often strangers' sockets are polled, in milliseconds: soon at first, then less often. */
const FIRST_POLL_MS = 2;
const IDLE_POLL_MS = 10;
const FIRST_POLLS = 50;

/** Sockets to check, and sources to ask for a turn, at a time. */
const MAX_SOCKET_CHECKS = 64;

/** How long a handshake may take, in milliseconds, before it gives way to others that wait. */
const ROTATE_MS = 30;

/** What the queue needs from outside; tests pass their own. */
export interface QueueOptions {
  readonly sources: Sources;
  readonly meter: Meter;
  /** Handshakes in progress at a time, in this thread. */
  readonly max: number;
  /** What live connections do. */
  readonly activity: Activity;
  /** Whole milliseconds of a monotonic clock. */
  now(): number;
  /** Calls back in the next turn of the event loop, after the ready sockets. Default: setImmediate. */
  schedule?(turn: () => void): unknown;
  /** Calls back after this many milliseconds. Default: setTimeout. */
  wait?(wake: () => void, ms: number): unknown;
}

export class HandshakeQueue {
  max: number;
  readonly #sources: Sources;
  readonly #meter: Meter;
  readonly #readiness: Readiness;
  readonly #activity: Activity;
  readonly #now: () => number;
  readonly #schedule: (turn: () => void) => unknown;
  readonly #sleep: (wake: () => void, ms: number) => unknown;
  /** In the order of arrival. */
  readonly #all = new Set<Ticket>();
  readonly #waiting = new Waiting();
  /** Handshakes that TLS may read, oldest first; and the strangers among them. */
  readonly #active = new Set<Ticket>();
  readonly #reading = new Set<Ticket>();
  #turn = 0;
  #scheduled = false;
  #asleep = false;
  #idlePolls = 0;
  #strangersFrom = 0;

  constructor(options: QueueOptions) {
    const { meter, now } = options;
    this.max = options.max;
    this.#sources = options.sources;
    this.#meter = meter;
    this.#activity = options.activity;
    this.#readiness = new Readiness(meter, now);
    this.#now = now;
    this.#schedule = options.schedule ?? setImmediate;
    this.#sleep = options.wait ?? setTimeout;
  }

  /** Holds a new connection back until its turn. */
  enter(ticket: Ticket): void {
    ticket.enteredAt = this.#now();
    this.#all.add(ticket);
    ticket.socket.pause();
    this.#wait(ticket);
    this.#idlePolls = 0;
    this.#again();
  }

  /**
   * TLS reports that a handshake has ended; the outcome follows. A handshake without a turn ends when its client resets
   * the connection: the runtime then lets TLS read what has arrived, paused or not.
   */
  ended(ticket: Ticket): void {
    if (ticket.state !== "waiting") return;
    const received = this.#meter.received(ticket.socket.fd) ?? ASSUMED_BYTES;
    if (received <= ticket.received) return;
    ticket.received = received;
    ticket.fed = ticket.stolen = true;
  }

  /** A handshake has succeeded. */
  done(ticket: Ticket): void {
    this.#all.delete(ticket);
    // TLS may have ended the handshake with bytes that it already had when the socket was paused.
    if (ticket.state === "waiting") ticket.socket.resume();
    this.#remove(ticket);
    this.#readiness.forgive(ticket);
    if (ticket.charged > 0) this.#sources.forgive(ticket.row as number, ticket.charged);
  }

  /**
   * A handshake has failed, or its client has left.
   * @param verified whether the client proved its identity but is refused: that is not a stranger's failure
   */
  failed(ticket: Ticket, verified: boolean): void {
    this.#all.delete(ticket);
    this.#remove(ticket);
    if (ticket.row === undefined) return;
    if (verified) {
      this.#readiness.forgive(ticket);
      if (ticket.charged > 0) this.#sources.forgive(ticket.row, ticket.charged);
    } else if (ticket.fed) this.#charge(ticket, ticket.row);
  }

  /** Charges a source for the bytes of its client that it has not been charged for yet. */
  #charge(ticket: Ticket, row: number): void {
    const worth = worthOf(ticket, this.#meter) - ticket.charged;
    if (worth <= 0) return;
    ticket.charged += worth;
    const now = this.#now();
    this.#sources.failed(row, worth, now);
    if (ticket.watched || ticket.stolen) {
      const took = ticket.stolen ? Infinity : ticket.cpu;
      this.#strangersFrom = Math.max(this.#strangersFrom, now + pauseAfter(worth, took));
    }
    // Other handshakes of the same source wait for another turn.
    if (worth > 1) for (const each of [...this.#active]) if (each.row === row) this.#putBack(each);
  }

  /**
   * Makes room for a new connection when all places are taken.
   * @returns whether a handshake in the queue has lost its place
   */
  evict(row: number | undefined): boolean {
    const candidates = { all: this.#all, waiting: this.#waiting.lists, meter: this.#meter, now: this.#now() };
    const victim = victimFor(row, candidates);
    victim?.owner.handshakeRefused("overloaded", "gave its place to a newer connection");
    return victim !== undefined;
  }

  #wait(ticket: Ticket): void {
    const { row } = ticket;
    ticket.state = "waiting";
    this.#waiting.add(ticket, row === undefined || this.#sources.isProven(row, this.#now()));
  }

  #remove(ticket: Ticket): void {
    if (ticket.state === "waiting") return this.#waiting.delete(ticket);
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
      // An earlier handshake of this loop may have put it back.
      if (this.#reading.has(ticket) && --ticket.turns <= 0) this.#stopReading(ticket);
    }
    this.#turn = (this.#turn + 1) % START_TURNS;
    const more = this.#turn !== 0 || this.#startOne();
    if (this.#reading.size > 0 || (more && this.#waiting.size > 0)) this.#again();
    else if (this.#waiting.size > 0) this.#schedulePoll();
  };

  /** TLS has read all that had arrived. The queue measures what comes next before TLS reads it. */
  #stopReading(ticket: Ticket): void {
    this.#putBack(ticket);
    // A client that hangs after a costly flight is charged before the source's next handshake.
    if (ticket.row !== undefined && ticket.cpu > ORDINARY_MS + 1) this.#charge(ticket, ticket.row);
  }

  /** Gives one turn to the next source that may have one. Returns false if none can. */
  #startOne(): boolean {
    if (this.#active.size >= this.max) return false;
    this.#readiness.allow(MAX_SOCKET_CHECKS);
    for (const [row, tickets] of this.#waiting.candidates(MAX_SOCKET_CHECKS)) {
      if (this.#waiting.ask(row, tickets) && this.#startFrom(row, tickets)) return true;
    }
    return false;
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
        const competes = tickets.size > 1 || this.#waiting.size > 1 || this.#active.size > 0;
        const brief = competes && this.#activity.isLive(now);
        // A silent client would keep its turn until it gives way to the others.
        const isFirst = tickets.size === 1 && !first.fed && !brief;
        const ready = isFirst ? first : this.#readiness.first(tickets, false);
        if (ready !== undefined) return this.#start(ready, ready.fed, ready.fed || brief);
        break;
      }
      case "watched": {
        const ready = now < this.#strangersFrom ? undefined : this.#readiness.first(tickets, true);
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

  /**
   * Refuses the handshakes of a source that has used up its failures. A client that is already charged for may still
   * finish.
   */
  #refuseAll(row: number, tickets: WaitingList): boolean {
    for (const ticket of [...tickets]) {
      if (ticket.charged === 0) ticket.owner.handshakeRefused("source_limited");
    }
    if (tickets.size === 0 || this.#sources.start(row, this.#now(), true) !== "watched") return false;
    const ready = this.#readiness.first(tickets, true);
    if (ready !== undefined) return this.#start(ready, true);
    this.#sources.stop(row);
    return false;
  }

  /** @param brief TLS reads what has arrived; without, also what comes later */
  #start(ticket: Ticket, watched: boolean, brief = watched): true {
    this.#waiting.delete(ticket);
    this.#active.add(ticket);
    ticket.startedAt = this.#now();
    ticket.state = watched ? "reading" : "free";
    ticket.watched = watched;
    ticket.fed = true;
    if (brief) {
      ticket.turns = READING_TURNS;
      ticket.cpuAt = this.#meter.cpu();
      this.#reading.add(ticket);
      this.#idlePolls = 0;
    }
    ticket.socket.resume();
    return true;
  }

  #schedulePoll(): void {
    if (this.#asleep) return;
    this.#asleep = true;
    this.#sleep(this.#poll, this.#idlePolls < FIRST_POLLS ? FIRST_POLL_MS : IDLE_POLL_MS);
  }

  readonly #poll = (): void => {
    this.#asleep = false;
    if (this.#waiting.size === 0) return;
    this.#idlePolls++;
    const now = this.#now();
    for (const ticket of [...this.#active]) {
      if (now - ticket.startedAt < ROTATE_MS) break;
      this.#putBack(ticket);
    }
    this.#again();
  };
}
