// The order in which handshakes may go on, and what failures cost a source. Time, processor and event loop are simulated.

import { describe, expect, test } from "bun:test";
import { Activity } from "../../src/connection/activity.ts";
import { worthOfBytes, worthOfTime } from "../../src/connection/handshake-cost.ts";
import { HandshakeQueue } from "../../src/connection/handshake-queue.ts";
import { Ticket, type HandshakeOwner, type HandshakeSocket } from "../../src/connection/ticket.ts";
import { SHARED_ROW, Sources, type SourceKey } from "../../src/state/sources.ts";
import { small } from "../support/ledger.ts";
import { Random } from "../support/random.ts";

const RULE = { perSource: 64, failures: 20, failuresRefill: 1_000 };
const key = (low: number): SourceKey => ({ family: 4, high: 0, low });

/** A client whose socket is a descriptor and two counts. */
class Client implements HandshakeSocket, HandshakeOwner {
  readonly fd: number;
  paused = false;
  /** Bytes that it has sent, and that TLS has read. */
  sent = 0;
  read = 0;
  /** How often TLS was allowed to read. */
  turns = 0;
  refused: string | undefined;
  readonly ticket: Ticket;
  readonly #house: House;

  constructor(house: House, fd: number, row: number | undefined) {
    this.#house = house;
    this.fd = fd;
    this.ticket = new Ticket(this, this, row);
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.turns++;
  }

  handshakeRefused(reason: string): void {
    this.refused = reason;
    this.fail();
  }

  send(bytes: number): this {
    this.sent += bytes;
    return this;
  }

  finish(): void {
    this.#house.queue.done(this.ticket);
    this.#house.leave(this, true);
  }

  fail(verified = false): void {
    this.#house.queue.failed(this.ticket, verified);
    this.#house.leave(this, false);
  }
}

/** A queue with a clock, a loop and a processor of the test's own. */
class House {
  now = 1_000;
  cpu = 0;
  measures = true;
  readonly activity = new Activity();
  readonly ledger = small();
  readonly sources: Sources;
  readonly queue: HandshakeQueue;
  readonly clients = new Map<number, Client>();
  /** Rows that were in use. Adding up the whole table would take milliseconds. */
  readonly #rows = new Set<number>([SHARED_ROW]);
  #scheduled: (() => void)[] = [];
  #sleeping: { at: number; wake: () => void }[] = [];
  #fd = 3;

  constructor({ max = 100, rule = RULE } = {}) {
    this.sources = new Sources(this.ledger, rule);
    this.queue = new HandshakeQueue({
      sources: this.sources,
      meter: {
        received: (fd) => (this.measures ? this.clients.get(fd)?.sent : undefined),
        cpu: () => this.cpu,
      },
      max,
      activity: this.activity,
      now: () => this.now,
      schedule: (turn) => this.#scheduled.push(turn),
      wait: (wake, ms) => this.#sleeping.push({ at: this.now + ms, wake }),
    });
  }

  /** A connection from a source; undefined where the source is refused before its handshake. */
  tryEnter(source: number | undefined): Client | undefined {
    const row = source === undefined ? undefined : this.sources.enter(key(source), this.now);
    if (source !== undefined && row === undefined) return undefined;
    if (row !== undefined) this.#rows.add(row);
    const client = new Client(this, this.#fd++, row);
    this.clients.set(client.fd, client);
    this.queue.enter(client.ticket);
    return client;
  }

  enter(source: number | undefined): Client {
    const client = this.tryEnter(source);
    if (client === undefined) throw new Error("refused before the handshake");
    return client;
  }

  /** Makes a source proven, by `times` clients that were admitted. Each one widens the source's window by one. */
  prove(source: number, times = 1): number {
    const row = this.sources.enter(key(source), this.now) as number;
    for (let i = 0; i < times; i++) {
      this.sources.admitted(row, this.now);
      this.sources.closed(row, this.now);
    }
    this.sources.leave(row);
    return row;
  }

  charge(source: number, worth: number): void {
    const row = this.sources.enter(key(source), this.now) as number;
    this.sources.failed(row, worth, this.now);
    this.sources.leave(row);
  }

  leave(client: Client, admitted: boolean): void {
    const { row } = client.ticket;
    if (!this.clients.delete(client.fd) || row === undefined) return;
    if (admitted) {
      this.sources.admitted(row, this.now);
      this.sources.closed(row, this.now);
    }
    this.sources.leave(row);
  }

  /** One turn of the event loop: TLS reads from what is not paused, then the queue has its turn. */
  turn(ms = 0): void {
    this.now += ms;
    for (const client of this.clients.values()) if (!client.paused) client.read = client.sent;
    const due = this.#sleeping.filter(({ at }) => at <= this.now);
    this.#sleeping = this.#sleeping.filter((each) => !due.includes(each));
    for (const { wake } of due) wake();
    const scheduled = this.#scheduled;
    this.#scheduled = [];
    for (const turn of scheduled) turn();
  }

  turns(count: number, ms = 0): void {
    for (let i = 0; i < count; i++) this.turn(ms);
  }

  /** Whether neither a turn nor a timer is pending. */
  get idle(): boolean {
    return this.#scheduled.length + this.#sleeping.length === 0;
  }

  /** The sums of all counts of sources. */
  get counted(): { held: number; active: number; open: number } {
    const sum = (counts: Int32Array) => [...this.#rows].reduce((all, row) => all + counts[row]!, 0);
    const { held, active, open } = this.ledger.sources;
    return { held: sum(held.total), active: sum(active.total), open: sum(open.total) };
  }
}

const ZERO = { held: 0, active: 0, open: 0 };
const running = (clients: readonly Client[]) => clients.filter(({ paused }) => !paused).length;

describe("turns of the handshake queue", () => {
  test("a handshake begins every other turn of the event loop", () => {
    const house = new House();
    house.prove(1, 60);
    const clients = Array.from({ length: 10 }, () => house.enter(1).send(300));
    expect(running(clients)).toBe(0);
    const counts = Array.from({ length: 8 }, () => {
      house.turn();
      return running(clients);
    });
    expect(counts[7]).toBe(4);
    for (const [i, count] of counts.entries()) expect(count - (counts[i - 1] ?? 0)).toBeLessThanOrEqual(1);
    for (let i = 1; i < counts.length; i++) expect(counts[i]! - (counts[i - 2] ?? 0)).toBeLessThanOrEqual(1);
  });

  test("a source with a hundred clients waiting does not delay one with a single client", () => {
    const house = new House();
    house.prove(1, 60);
    house.prove(2);
    for (let i = 0; i < 100; i++) house.enter(1).send(300);
    house.turns(10);
    const single = house.enter(2).send(300);
    house.turns(4);
    expect(single.paused).toBe(false);
  });

  test("the handshake queue runs at most `max` handshakes at a time, and one that ends makes room", () => {
    const house = new House({ max: 3 });
    house.prove(1, 60);
    const clients = Array.from({ length: 6 }, () => house.enter(1).send(300));
    house.turns(20);
    expect(running(clients)).toBe(3);
    clients.find(({ paused }) => !paused)!.finish();
    house.turns(2);
    expect(clients.filter(({ paused, fd }) => !paused && house.clients.has(fd))).toHaveLength(3);
  });

  test("silent clients give up their turns for clients that wait", () => {
    const house = new House({ max: 2 });
    house.prove(1, 60);
    const silent = [house.enter(undefined), house.enter(undefined)];
    house.turns(6);
    expect(running(silent)).toBe(2);
    const good = house.enter(1).send(300);
    house.turns(30, 2);
    expect(good.turns).toBeGreaterThan(0);
    good.finish();
    // The silent clients go on afterwards.
    house.turns(10, 2);
    expect(running(silent)).toBe(2);
  });

  test("a client that sends byte by byte does not delay other clients", () => {
    const house = new House({ max: 2 });
    house.prove(1, 60);
    const trickling = [house.enter(1).send(1), house.enter(1).send(1)];
    for (let i = 0; i < 50; i++) {
      for (const client of trickling) client.send(1);
      house.turn(2);
    }
    const good = house.enter(1).send(300);
    for (let i = 0; i < 50 && good.turns === 0; i++) {
      for (const client of trickling) client.send(1);
      house.turn(2);
    }
    expect(good.turns).toBeGreaterThan(0);
  });

  test("a socket that is paused when its handshake ends is resumed", () => {
    const house = new House();
    const client = house.enter(1).send(300);
    house.turns(10);
    expect(client.paused).toBe(true);
    client.finish();
    expect(client).toMatchObject({ paused: false });
    expect(house.counted).toEqual(ZERO);
  });

  test("the handshake queue schedules nothing and runs no timer once no client waits", () => {
    const house = new House();
    const clients = [house.enter(1), house.enter(2).send(300), house.enter(undefined).send(300)];
    house.turns(20, 1);
    expect(house.idle).toBe(false);
    for (const client of clients) client.fail();
    house.turns(3, 20);
    expect(house.idle).toBe(true);
    expect(house.counted).toEqual(ZERO);
  });
});

describe("exempt clients", () => {
  test("exempt clients are neither refused nor counted for the shared row's debt", () => {
    const house = new House();
    // The row that is shared by all sources without one of their own is in debt.
    house.sources.failed(SHARED_ROW, 100, house.now);
    house.ledger.sources.held.add(SHARED_ROW, 1);
    const stranger = new Client(house, 9_999, SHARED_ROW);
    house.clients.set(stranger.fd, stranger);
    house.queue.enter(stranger.ticket);
    const exempt = [house.enter(undefined).send(300), house.enter(undefined).send(300)];
    house.turns(10);
    expect(stranger.refused).toBe("source_limited");
    expect(exempt.map(({ refused, paused }) => [refused, paused])).toEqual(Array(2).fill([undefined, false]));
    for (const client of exempt) client.finish();
    expect(house.counted).toEqual(ZERO);
  });

  test("exempt clients take turns, so that new ones do not delay handshakes that have begun", () => {
    const house = new House({ max: 4 });
    const first = house.enter(undefined).send(300);
    house.turns(4);
    expect(first.turns).toBe(1);
    for (let i = 0; i < 200 && first.turns < 2; i++) {
      house.enter(undefined).send(300);
      house.turns(1, 2);
    }
    expect(first.turns).toBeGreaterThan(1);
  });

  test("exempt clients are not evicted as one greedy source", () => {
    const house = new House({ max: 1 });
    house.enter(undefined).send(300);
    house.turns(2);
    const waiting = [1, 2, 3].map(() => house.enter(undefined).send(300));
    expect(house.queue.evict(house.prove(7))).toBe(false);
    expect(waiting.map(({ refused }) => refused)).toEqual(Array(3).fill(undefined));
  });
});

describe("strangers in the handshake queue", () => {
  test("strangers are read one flight at a time", () => {
    const house = new House();
    const client = house.enter(1).send(300);
    house.turns(10);
    expect([client.read, client.paused, client.turns]).toEqual([300, true, 1]);
    client.send(2_000);
    house.turns(20, 2);
    expect([client.read, client.paused, client.turns]).toEqual([2_300, true, 2]);
  });

  test("strangers are read again only once a flight is whole: its size is the same at two checks", () => {
    const house = new House();
    const client = house.enter(1).send(300);
    house.turns(10);
    for (let i = 0; i < 40; i++) {
      client.send(10);
      house.turn(10);
      expect(client.read).toBe(300);
    }
    house.turns(40, 10);
    expect(client.read).toBe(700);
  });

  test("strangers are not read while they are silent", () => {
    const house = new House();
    const client = house.enter(1);
    house.turns(100, 5);
    expect(client.turns).toBe(0);
    client.send(300);
    house.turns(6, 10);
    expect(client.turns).toBe(1);
  });

  test("strangers have four large flights read at once, and then one every five seconds", () => {
    const house = new House();
    const clients = Array.from({ length: 7 }, (_, i) => house.enter(i).send(300));
    house.turns(60, 2);
    expect(clients.map(({ read }) => read)).toEqual(Array(7).fill(300));
    for (const client of clients) client.send(20_000);
    const large = () => clients.filter(({ read }) => read > 300).length;
    house.turns(200, 5);
    expect(large()).toBe(4);
    house.turns(600, 10);
    expect(large()).toBe(5);
    house.turns(600, 10);
    expect(large()).toBe(6);
  });

  test("while live connections move bytes, proven clients that compete have one flight read at a time", () => {
    for (const isLive of [false, true]) {
      const house = new House();
      for (let i = 0; i < 6; i++) house.prove(i);
      const clients = Array.from({ length: 6 }, (_, i) => house.enter(i).send(300));
      let most = 0;
      for (let i = 0; i < 60; i++) {
        if (isLive) house.activity.answers++;
        house.turn(1);
        most = Math.max(most, clients.filter(({ paused }) => !paused).length);
      }
      expect(clients.map(({ read }) => read)).toEqual(Array(6).fill(300));
      expect([isLive, most > 1]).toEqual([isLive, !isLive]);
      for (const client of clients) client.send(3_000);
      for (let i = 0; i < 100; i++) {
        if (isLive) house.activity.answers++;
        house.turn(1);
        for (const client of clients)
          if (client.read === 3_300 && house.clients.has(client.fd)) client.finish();
      }
      expect(house.clients.size).toBe(0);
    }
  });

  test("a proven client without competition is read as it comes, whatever live connections move", () => {
    const house = new House();
    house.prove(1);
    const client = house.enter(1).send(300);
    for (let i = 0; i < 20; i++) {
      house.activity.answers++;
      house.turn(1);
    }
    expect([client.read, client.paused]).toEqual([300, false]);
  });

  test("clients that prove who they are do not use up the large flights of others", () => {
    const house = new House();
    const clients = Array.from({ length: 40 }, (_, i) => house.enter(i).send(300));
    house.turns(300, 2);
    for (const client of clients) client.send(20_000);
    // Each is let in, or refused by name, as soon as TLS has read its certificate.
    for (let i = 0; i < 400 && house.clients.size > 0; i++) {
      house.turn(5);
      for (const client of [...house.clients.values()]) {
        if (client.read > 300) client.fd % 2 === 0 ? client.finish() : client.fail(true);
      }
    }
    expect(house.clients.size).toBe(0);
  });

  test("strangers with a large flight do not delay those with a small one", () => {
    const house = new House();
    const large = Array.from({ length: 20 }, (_, i) => house.enter(i).send(30_000));
    house.turns(100, 2);
    expect(large.filter(({ read }) => read > 0)).toHaveLength(4);
    const good = house.enter(99).send(300);
    house.turns(20, 2);
    expect(good.read).toBe(300);
  });

  test("strangers wait after a costly failure, and a cheap one after it does not shorten the wait", () => {
    const house = new House();
    const [costly, cheap] = [house.enter(1).send(300), house.enter(2).send(300)];
    house.turns(8);
    house.turn();
    costly.send(3_000);
    while (costly.paused) house.turn(2);
    house.cpu += 84;
    costly.fail();
    cheap.fail();
    const next = house.enter(3).send(300);
    house.turns(14, 10);
    expect(next.turns).toBe(0);
    house.turns(10, 10);
    expect(next.turns).toBe(1);
  });

  test("strangers are read at once where received bytes cannot be measured", () => {
    const house = new House();
    house.measures = false;
    const client = house.enter(1);
    house.turns(4);
    expect(client.turns).toBeGreaterThan(0);
    client.fail();
    expect(house.counted).toEqual(ZERO);
  });
});

test("a client of a proven source that hangs in its handshake does not keep the loop busy", () => {
  const house = new House();
  house.prove(1, 5);
  const hanging = house.enter(1).send(300);
  house.turns(4);
  // The hanging client is paused for its neighbours, and is then the only one that waits.
  const neighbours = [house.enter(1), house.enter(1)];
  house.turns(60, 1);
  expect(hanging.paused).toBe(true);
  for (const neighbour of neighbours) neighbour.fail();
  const { turns } = hanging;
  house.turns(200, 1);
  expect(hanging.turns).toBe(turns);
  hanging.send(300);
  house.turns(60, 1);
  expect(hanging.turns).toBeGreaterThan(turns);
});

describe("the cost of failed handshakes", () => {
  test.each([
    [0, 1],
    [4.9, 1],
    [5, 2],
    [84.2, 81],
  ])("a failure that took %p ms of the processor counts as %p failures", (ms, worth) =>
    expect(worthOfTime(ms)).toBe(worth),
  );

  test.each([
    [-1, 1],
    [4_096, 1],
    [4_097, 2],
    [8_192, 9],
    [102_400, 193],
    [1e9, 193],
  ])("a failure with %p bytes counts as %p failures", (bytes, worth) =>
    expect(worthOfBytes(bytes)).toBe(worth),
  );

  const owed = (house: House, client: Client) =>
    Math.max(0, (house.ledger.sources.forgivenAt[client.ticket.row!] as number) - house.now) / 1_000;

  test("a stranger's failure is charged by its processor time", () => {
    const house = new House();
    const client = house.enter(1).send(300);
    house.turn();
    house.turn();
    expect(client.paused).toBe(false);
    house.cpu += 14;
    client.fail();
    expect(owed(house, client)).toBe(11);
  });

  test("a proven source's failure is charged by its bytes", () => {
    const house = new House();
    house.prove(1);
    const client = house.enter(1).send(5_120);
    house.turns(2);
    house.cpu += 100;
    client.fail();
    expect(owed(house, client)).toBe(3);
  });

  test("a costly flight is charged while its client hangs, and forgiven once the handshake ends well", () => {
    const house = new House();
    const client = house.enter(1).send(300);
    while (client.paused) house.turn();
    house.cpu += 14;
    house.turns(3);
    expect(client).toMatchObject({ paused: true });
    expect(owed(house, client)).toBe(11);
    client.finish();
    expect(owed(house, client)).toBe(0);
  });

  test("a verified client that fails is not charged, and its earlier charge is forgiven", () => {
    const house = new House();
    const client = house.enter(1).send(300);
    while (client.paused) house.turn();
    house.cpu += 14;
    house.turns(3);
    client.fail(true);
    expect(owed(house, client)).toBe(0);
  });

  test("a client that leaves before TLS has read anything is not charged", () => {
    const house = new House();
    const client = house.enter(1);
    house.turns(10, 10);
    client.fail();
    expect(owed(house, client)).toBe(0);
  });
});

describe("a source in debt", () => {
  test("a source in debt has new handshakes refused, and may finish one that was already charged", () => {
    const house = new House();
    const begun = house.enter(1).send(300);
    while (begun.paused) house.turn();
    house.cpu += 14;
    house.turns(10);
    const fresh = [house.enter(1), house.enter(1).send(300)];
    house.charge(1, 20);
    expect(house.tryEnter(1)).toBeUndefined();
    begun.send(500);
    house.turns(100, 10);
    expect(fresh.map(({ refused }) => refused)).toEqual(["source_limited", "source_limited"]);
    expect(begun.refused).toBeUndefined();
    expect(begun.read).toBe(800);
    begun.finish();
    expect(house.counted).toEqual(ZERO);
  });

  test("a source in debt is accepted again once enough is forgiven", () => {
    const house = new House();
    house.charge(1, 20);
    expect(house.tryEnter(1)).toBeUndefined();
    house.now += 1_000;
    expect(house.tryEnter(1)).toBeDefined();
  });

  test("a source in debt is slowed down, not refused, where a client was admitted recently", () => {
    const house = new House();
    house.prove(1, 60);
    house.charge(1, 40);
    const clients = Array.from({ length: 5 }, () => house.enter(1).send(300));
    house.turns(20, 10);
    expect(running(clients)).toBe(0);
    for (let i = 0; i < 400; i++) {
      house.turn(10);
      expect(running(clients)).toBeLessThanOrEqual(1);
    }
    expect(clients.map(({ refused }) => refused)).toEqual(Array(5).fill(undefined));
    expect(clients.map(({ read }) => read)).toEqual(Array(5).fill(300));
  });
});

describe("eviction", () => {
  test("eviction takes the newest client of the source with the most clients waiting", () => {
    const house = new House({ max: 1 });
    house.enter(undefined);
    house.turns(2);
    const greedy = [1, 2, 3].map(() => house.enter(1).send(300));
    const other = [1, 2].map(() => house.enter(2).send(300));
    expect(house.queue.evict(house.prove(3))).toBe(true);
    expect(greedy.map(({ refused }) => refused)).toEqual([undefined, undefined, "overloaded"]);
    expect(other.map(({ refused }) => refused)).toEqual([undefined, undefined]);
  });

  test("eviction takes no client where the newcomer's own source has as many waiting", () => {
    const house = new House();
    const clients = [1, 2, 3].map(() => house.enter(1).send(300));
    expect(house.queue.evict(clients[0]!.ticket.row)).toBe(false);
  });

  test("eviction then takes silent clients, and never one that has bytes waiting", () => {
    const house = new House();
    const [ready, silent, later] = [house.enter(1), house.enter(2), house.enter(3)];
    house.now += 100;
    ready.send(300);
    expect(house.queue.evict(house.prove(4))).toBe(true);
    expect(house.queue.evict(house.prove(4))).toBe(true);
    expect(house.queue.evict(house.prove(4))).toBe(false);
    expect([ready, silent, later].map(({ refused }) => refused)).toEqual([
      undefined,
      "overloaded",
      "overloaded",
    ]);
  });

  test("eviction takes a client whose handshake was started and then hangs", () => {
    const house = new House();
    house.prove(1, 60);
    const hanging = house.enter(1).send(300);
    house.turns(2);
    expect(hanging.paused).toBe(false);
    expect(house.queue.evict(house.prove(2))).toBe(false);
    house.now += 100;
    expect(house.queue.evict(house.prove(2))).toBe(true);
    expect(hanging.refused).toBe("overloaded");
    expect(house.counted).toEqual(ZERO);
  });

  test("eviction spares clients that have just arrived", () => {
    const house = new House();
    house.enter(1);
    house.now += 99;
    expect(house.queue.evict(house.prove(2))).toBe(false);
  });
});

test.each([1, 2, 3, 4, 5, 6, 7, 8])(
  "the handshake queue keeps every count and serves every client over random schedules, seed %p",
  (seed) => {
    const random = new Random(seed);
    const max = random.int(1, 6);
    const house = new House({ max, rule: { perSource: random.int(1, 8), failures: 5, failuresRefill: 200 } });
    const sources = [undefined, 1, 2, 3, 4, 5];
    for (let step = 0; step < 5_000; step++) {
      const all = [...house.clients.values()];
      const client = all.length > 0 ? random.pick(all) : undefined;
      switch (random.int(0, 9)) {
        case 0:
        case 1:
          if (all.length < 40) house.tryEnter(random.pick(sources));
          else house.queue.evict(random.pick(all).ticket.row);
          break;
        case 2:
        case 3:
          client?.send(random.pick([1, 300, 3_000, 20_000]));
          break;
        case 4:
          // TLS may end a handshake even when its socket was paused a moment ago.
          if (client !== undefined && client.turns > 0) client.finish();
          break;
        case 5:
          client?.fail(random.int(0, 3) === 0);
          break;
        case 6:
          house.cpu += random.pick([0, 1, 30]);
          break;
        default:
          house.turn(random.pick([0, 1, 2, 10, 100]));
      }
      const now = [...house.clients.values()];
      expect(running(now)).toBeLessThanOrEqual(max);
      const { held, active, open } = house.counted;
      expect(open).toBe(0);
      expect(held).toBe(now.filter(({ ticket }) => ticket.row !== undefined).length);
      expect(active).toBe(now.filter(({ ticket, paused }) => ticket.row !== undefined && !paused).length);
    }
    // From here on all clients behave well, and all that are not refused are served in the end.
    for (const client of house.clients.values()) client.send(300);
    for (let i = 0; i < 20_000 && house.clients.size > 0; i++) {
      house.turn(10);
      for (const client of house.clients.values())
        if (!client.paused && client.read === client.sent) client.finish();
    }
    expect(house.clients.size).toBe(0);
    expect(house.counted).toEqual(ZERO);
    house.turns(5, 20);
    expect(house.idle).toBe(true);
  },
);
