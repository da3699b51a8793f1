// What the metrics count. Each thread adds in a column of its own, without a lock; readers add up the columns. A column
// outlives its thread, so that no count is lost when a worker dies. Pure: time is an argument.

import type { Layout } from "./memory.ts";

/**
 * How many of each there is room for. Memory that is not used takes no place, but the runtime counts it: with much of it,
 * garbage is collected less often, and the relay writes into fresh pages, which costs some percent of CPU.
 */
export const ROOM = { listeners: 256, upstreams: 1_024, groups: 16_384, routes: 4_096, targets: 4_096 };

/** Codes per reason table: more than there are. */
const REASONS = 40;

/** Upper bounds of the buckets of histograms, in milliseconds; a last bucket has no bound. */
export const BOUNDS = {
  handshake: [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000],
  connect: [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000],
  lag: [1, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000],
  duration: [1, 5, 15, 60, 300, 900, 3_600, 14_400, 43_200, 86_400].map((seconds) => seconds * 1_000),
} as const satisfies Record<string, readonly number[]>;

/** A histogram's cells: one for each bucket, and the sum. */
const cellsOf = (bounds: readonly number[]) => bounds.length + 2;

/** Where the cells of each thing begin within its block. */
const LISTENER = { accepted: 0, handshaking: 1, full: 2, resumed: 2 + cellsOf(BOUNDS.handshake) };
const UPSTREAM = { open: 0, received: 1, sent: 2, duration: 3, closed: 3 + cellsOf(BOUNDS.duration) };
const TARGET = { failures: 0, connect: 1 };
const THREAD = { beat: 0, expiring: 1, lag: 4 };

const SIZE = {
  listener: 2 + 2 * cellsOf(BOUNDS.handshake),
  upstream: UPSTREAM.closed + REASONS,
  target: 1 + cellsOf(BOUNDS.connect),
  /** The reasons of each pair of outcomes. */
  shadow: 4 * REASONS,
  thread: THREAD.lag + cellsOf(BOUNDS.lag),
};

/** Where the blocks of each kind begin in a column. */
const AT = { thread: 0, listeners: 0, upstreams: 0, targets: 0, groups: 0, routes: 0, shadow: 0, end: 0 };
AT.listeners = SIZE.thread;
AT.upstreams = AT.listeners + ROOM.listeners * SIZE.listener;
AT.targets = AT.upstreams + ROOM.upstreams * SIZE.upstream;
AT.groups = AT.targets + ROOM.targets * SIZE.target;
AT.routes = AT.groups + ROOM.groups;
AT.shadow = AT.routes + ROOM.routes * REASONS;
AT.end = AT.shadow + (ROOM.upstreams + 1) * SIZE.shadow;

/** How a number of events is spread over the buckets of a histogram. */
export interface Histogram {
  /** Events per bucket, the one without a bound last; not added up. */
  readonly counts: readonly number[];
  /** Of all events, in milliseconds. */
  readonly sum: number;
}

/** How the connections of a thread that has died count. */
export interface Death {
  /** The code of an end, for those that were admitted. */
  readonly closed: number;
  /** The code of a refusal, for those in their handshakes. */
  readonly refused: number;
  /** For each listener, the row that such a refusal is counted in; undefined where there is none. */
  readonly routes: readonly (number | undefined)[];
}

/** The counters of all threads, as one of them sees them: it adds in its own column. */
export class Counters {
  readonly #columns: readonly Float64Array[];
  readonly #own: Float64Array;

  /** @param own which of the `threads` this one is, from 0 */
  constructor(layout: Layout, threads: number, own: number) {
    this.#columns = Array.from({ length: threads }, () => layout.float64(AT.end));
    this.#own = this.#columns[own] as Float64Array;
  }

  // ---- counted by the thread that it happens in

  accepted(listener: number): void {
    this.#add(AT.listeners + listener * SIZE.listener + LISTENER.accepted, 1);
  }

  /** @param change 1 when a handshake begins, -1 when it has ended */
  handshaking(listener: number, change: 1 | -1): void {
    this.#add(AT.listeners + listener * SIZE.listener + LISTENER.handshaking, change);
  }

  /** A handshake has ended with a certificate that TLS has verified. */
  handshakeDone(listener: number, resumed: boolean, ms: number): void {
    const at = AT.listeners + listener * SIZE.listener + (resumed ? LISTENER.resumed : LISTENER.full);
    this.#observe(at, BOUNDS.handshake, ms);
  }

  /**
   * The configuration in force and the shadow have decided.
   * @param upstream its row; undefined where it is unknown
   * @param outcome 2 if the one in force allows, plus 1 if the shadow does
   */
  judged(upstream: number | undefined, outcome: number, reason: number): void {
    this.#add(shadowAt(upstream) + outcome * REASONS + reason, 1);
  }

  /** @param route the row of listener and upstream */
  refused(route: number, reason: number): void {
    this.#add(AT.routes + route * REASONS + reason, 1);
  }

  /** @param group the row of upstream and group */
  admitted(upstream: number, group: number | undefined): void {
    this.#add(AT.upstreams + upstream * SIZE.upstream + UPSTREAM.open, 1);
    // A reload may have taken the group away while the fleet was asked.
    if (group !== undefined) this.#add(AT.groups + group, 1);
  }

  /** Bytes have moved since the last call. */
  moved(upstream: number, received: number, sent: number): void {
    const at = AT.upstreams + upstream * SIZE.upstream;
    this.#add(at + UPSTREAM.received, received);
    this.#add(at + UPSTREAM.sent, sent);
  }

  /** An admitted connection is over. @param reason undefined where it counts as a refusal: no target answered */
  closed(upstream: number, reason: number | undefined, ms: number): void {
    const at = AT.upstreams + upstream * SIZE.upstream;
    this.#add(at + UPSTREAM.open, -1);
    if (reason === undefined) return;
    this.#add(at + UPSTREAM.closed + reason, 1);
    this.#observe(at + UPSTREAM.duration, BOUNDS.duration, ms);
  }

  connected(target: number, ms: number): void {
    this.#observe(AT.targets + target * SIZE.target + TARGET.connect, BOUNDS.connect, ms);
  }

  connectFailed(target: number): void {
    this.#add(AT.targets + target * SIZE.target + TARGET.failures, 1);
  }

  /** The thread runs. @param late milliseconds by which it missed the time at which it should have said so */
  beat(now: number, late: number): void {
    this.#own[AT.thread + THREAD.beat] = now;
    this.#observe(AT.thread + THREAD.lag, BOUNDS.lag, late);
  }

  /** The thread has nothing to do any more, and is not waited for. */
  rest(thread?: number): void {
    const column = thread === undefined ? this.#own : (this.#columns[thread] as Float64Array);
    column[AT.thread + THREAD.beat] = 0;
  }

  /** Open connections of this thread whose client's certificate ends within an hour, a day, a week. */
  expiring(counts: readonly [number, number, number]): void {
    this.#own.set(counts, AT.thread + THREAD.expiring);
  }

  // ---- read

  readListener(listener: number) {
    const at = AT.listeners + listener * SIZE.listener;
    return {
      accepted: this.#sum(at + LISTENER.accepted),
      handshaking: this.#sum(at + LISTENER.handshaking),
      full: this.#histogram(at + LISTENER.full, BOUNDS.handshake),
      resumed: this.#histogram(at + LISTENER.resumed, BOUNDS.handshake),
    };
  }

  /** @param reasons how many codes there are */
  readRoute(route: number, reasons: number): number[] {
    return Array.from({ length: reasons }, (_, i) => this.#sum(AT.routes + route * REASONS + i));
  }

  /** As {@link judged} has counted. @param reasons how many codes there are */
  readJudged(upstream: number | undefined, outcome: number, reasons: number): number[] {
    const at = shadowAt(upstream) + outcome * REASONS;
    return Array.from({ length: reasons }, (_, i) => this.#sum(at + i));
  }

  readGroup(group: number): number {
    return this.#sum(AT.groups + group);
  }

  /** @param reasons how many codes there are */
  readUpstream(upstream: number, reasons: number) {
    const at = AT.upstreams + upstream * SIZE.upstream;
    return {
      open: this.#sum(at + UPSTREAM.open),
      received: this.#sum(at + UPSTREAM.received),
      sent: this.#sum(at + UPSTREAM.sent),
      closed: Array.from({ length: reasons }, (_, i) => this.#sum(at + UPSTREAM.closed + i)),
      duration: this.#histogram(at + UPSTREAM.duration, BOUNDS.duration),
    };
  }

  readTarget(target: number) {
    const at = AT.targets + target * SIZE.target;
    return {
      failures: this.#sum(at + TARGET.failures),
      connect: this.#histogram(at + TARGET.connect, BOUNDS.connect),
    };
  }

  /**
   * @param thread its column; with several worker threads the supervisor has the first one
   * @returns its last beat, 0 where it has not begun or has nothing to do any more; and how late its beats were
   */
  readThread(thread: number) {
    const column = this.#columns[thread] as Float64Array;
    return {
      beat: column[AT.thread + THREAD.beat] as number,
      lag: histogramIn([column], AT.thread + THREAD.lag, BOUNDS.lag),
    };
  }

  readExpiring(): number[] {
    return [0, 1, 2].map((i) => this.#sum(AT.thread + THREAD.expiring + i));
  }

  // ---- rows come and go

  resetUpstream = (row: number): void => {
    this.#reset(AT.upstreams + row * SIZE.upstream, SIZE.upstream);
    this.#reset(shadowAt(row), SIZE.shadow);
  };
  resetTarget = (row: number): void => this.#reset(AT.targets + row * SIZE.target, SIZE.target);
  resetGroup = (row: number): void => this.#reset(AT.groups + row, 1);
  resetRoute = (row: number): void => this.#reset(AT.routes + row * REASONS, REASONS);

  /** A connection is open to the upstream, in any thread. */
  isOpen = (upstream: number): boolean =>
    this.#sum(AT.upstreams + upstream * SIZE.upstream + UPSTREAM.open) !== 0;

  /**
   * A thread has died: what it had open is open no more, and counts as ended or, in its handshake, as refused. All else
   * that it counted stays. How long its connections were open is not known: no histogram has them.
   */
  forget(thread: number, { closed, refused, routes }: Death): void {
    const column = this.#columns[thread] as Float64Array;
    column.fill(0, AT.thread + THREAD.expiring, AT.thread + THREAD.lag);
    for (let i = 0; i < ROOM.listeners; i++) {
      const at = AT.listeners + i * SIZE.listener + LISTENER.handshaking;
      const lost = column[at] as number;
      // A write would take memory for each listener that there is not.
      if (lost === 0) continue;
      column[at] = 0;
      const route = routes[i];
      if (route !== undefined) (column[AT.routes + route * REASONS + refused] as number) += lost;
    }
    for (let i = 0; i < ROOM.upstreams; i++) {
      const at = AT.upstreams + i * SIZE.upstream;
      const open = column[at + UPSTREAM.open] as number;
      if (open === 0) continue;
      column[at + UPSTREAM.open] = 0;
      (column[at + UPSTREAM.closed + closed] as number) += open;
    }
  }

  #add(cell: number, amount: number): void {
    (this.#own[cell] as number) += amount;
  }

  #observe(at: number, bounds: readonly number[], ms: number): void {
    let bucket = 0;
    while (bucket < bounds.length && ms > (bounds[bucket] as number)) bucket++;
    this.#add(at + bucket, 1);
    this.#add(at + bounds.length + 1, ms);
  }

  #sum(cell: number): number {
    return sumIn(this.#columns, cell);
  }

  #histogram(at: number, bounds: readonly number[]): Histogram {
    return histogramIn(this.#columns, at, bounds);
  }

  #reset(at: number, size: number): void {
    for (const column of this.#columns) column.fill(0, at, at + size);
  }
}

/** The first block is for decisions without a known upstream. */
function shadowAt(upstream = -1): number {
  return AT.shadow + (upstream + 1) * SIZE.shadow;
}

function histogramIn(columns: readonly Float64Array[], at: number, bounds: readonly number[]): Histogram {
  const counts: number[] = [];
  for (let i = 0; i <= bounds.length; i++) counts.push(sumIn(columns, at + i));
  return { counts, sum: sumIn(columns, at + bounds.length + 1) };
}

function sumIn(columns: readonly Float64Array[], cell: number): number {
  let sum = 0;
  for (const column of columns) sum += column[cell] as number;
  return sum;
}
