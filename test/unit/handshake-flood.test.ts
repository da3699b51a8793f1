import { expect, test } from "bun:test";
import { HandshakeQueue } from "../../src/connection/handshake-queue.ts";
import { Ticket } from "../../src/connection/ticket.ts";
import { Sources } from "../../src/state/sources.ts";
import { small } from "../support/ledger.ts";

/** Clients that have all sent something, each from a source of its own, and what TLS was let read of whom. */
class Flood {
  now = 1_000;
  cpu = 0;
  readonly read: number[] = [];
  readonly sources = new Sources(small(), { perSource: 64, failures: 20, failuresRefill: 1_000 });
  #scheduled: (() => void)[] = [];
  readonly queue = new HandshakeQueue({
    sources: this.sources,
    meter: { received: () => 300, cpu: () => this.cpu },
    max: 64,
    now: () => this.now,
    schedule: (turn) => this.#scheduled.push(turn),
  });

  rowOf(source: number): number {
    return this.sources.enter({ family: 4, high: 0, low: source }, this.now) as number;
  }

  /** @param leaves whether the client is gone as soon as TLS has read, after so many milliseconds of processor time */
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

  /** Turns of the event loop, of a millisecond each. */
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
  // Nor does it keep them from their turns.
  for (let i = 0; i < 20; i++) flood.enter(proven);
  flood.read.length = 0;
  flood.turns(40);
  expect(new Set(flood.read).size).toBeGreaterThan(5);
});

test("strangers that leave at once do not make others wait longer than they took", () => {
  const flood = new Flood();
  for (let source = 1; source < 100; source++) flood.enter(flood.rowOf(source), 0.05);
  flood.turns(250);
  expect(flood.read.length).toBe(99);
});

test("a client that resets while it waits has failed, if it had sent something", () => {
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
