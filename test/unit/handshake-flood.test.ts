// The handshake queue under many clients at once, with the real rules for sources.

import { expect, test } from "bun:test";
import { Activity } from "../../src/connection/activity.ts";
import { HandshakeQueue } from "../../src/connection/handshake-queue.ts";
import { Ticket } from "../../src/connection/ticket.ts";
import { Sources } from "../../src/state/sources.ts";
import { small } from "../support/ledger.ts";

/** Clients that have all sent something, each from its own source, and the sources from which TLS was allowed to read. */
class Flood {
  now = 1_000;
  cpu = 0;
  readonly read: number[] = [];
  readonly sources = new Sources(small(), { perSource: 64, failures: 20, failuresRefill: 1_000 });
  #scheduled: (() => void)[] = [];
  readonly queue = new HandshakeQueue({
    activity: new Activity(),
    sources: this.sources,
    meter: { received: () => 300, cpu: () => this.cpu },
    max: 64,
    now: () => this.now,
    schedule: (turn) => this.#scheduled.push(turn),
  });

  rowOf(source: number): number {
    return this.sources.enter({ family: 4, high: 0, low: source }, this.now) as number;
  }

  /** @param leaves milliseconds of processor time after which the client leaves, once TLS has read; undefined if it stays */
  enter(row: number, leaves?: number): void {
    const resume = () => {
      this.read.push(row);
      this.cpu += leaves ?? 0;
      if (leaves !== undefined) this.#scheduled.unshift(() => this.queue.failed(ticket, false));
    };
    const ticket = new Ticket(
      { fd: row, pause() {}, resume },
      { handshakeRefused: () => expect.unreachable() },
      row,
    );
    this.queue.enter(ticket);
  }

  /** Runs turns of the event loop, each of one millisecond. */
  turns(count: number): void {
    for (let i = 0; i < count; i++) {
      for (const turn of this.#scheduled.splice(0)) turn();
      this.now++;
    }
  }
}

test("a proven source does not wait behind a thousand strangers", () => {
  const flood = new Flood();
  const proven = flood.rowOf(1);
  flood.sources.admitted(proven, flood.now);
  for (let source = 2; source < 1_000; source++) flood.enter(flood.rowOf(source));
  flood.enter(proven);
  flood.turns(8);
  expect(flood.read).toContain(proven);
  // The proven source does not take the strangers' turns either.
  for (let i = 0; i < 20; i++) flood.enter(proven);
  flood.read.length = 0;
  flood.turns(40);
  expect(new Set(flood.read).size).toBeGreaterThan(5);
});

test("strangers that leave at once delay others only by the time that their handshakes took", () => {
  const flood = new Flood();
  for (let source = 1; source < 100; source++) flood.enter(flood.rowOf(source), 0.05);
  flood.turns(250);
  expect(flood.read.length).toBe(99);
});

test("a client that resets while it waits counts as a failure if it had sent something", () => {
  const flood = new Flood();
  const row = flood.rowOf(1);
  const socket = { fd: 3, pause() {}, resume() {} };
  const ticket = () => new Ticket(socket, { handshakeRefused: () => expect.unreachable() }, row);
  for (let i = 0; i < 20; i++) {
    const waiting = ticket();
    flood.queue.enter(waiting);
    flood.queue.ended(waiting);
    flood.queue.failed(waiting, false);
  }
  expect(flood.sources.start(row, flood.now, false)).toBe("refused");
});
