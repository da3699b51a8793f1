// How many descriptors the process may still open. Out of them the accept loop of the runtime spins at full speed, so
// that they are counted before they are used. One budget for the process, however many proxies and threads live in it.

/** Descriptors a connection may need: one to the client, one to the target. */
export const PER_CONNECTION = 2;

/** Kept free for everything else: standard streams, files, names that are resolved, the runtime's own, and {@link SMALL}. */
const RESERVED_DESCRIPTORS = 64;

/** What all proxies of the process may hold beside their connections before it is counted. */
const SMALL = 16;

/** A worker thread's own, as measured: an epoll and an eventfd. */
const PER_WORKER = 2;

/** What a proxy holds beside its connections. */
export interface Holding {
  readonly workers: number;
  readonly listeners: number;
  /** Targets with health checks: each has one connection at a time. */
  readonly checks: number;
}

/** So many descriptors. With workers, each has its own socket for each listener, and there is a claim on each port. */
export function heldBy({ workers, listeners, checks }: Holding): number {
  return checks + (workers === 1 ? listeners : workers * (PER_WORKER + listeners) + listeners);
}

/** How many of them are more than what is kept free anyway. */
function beyond(held: number): number {
  return Math.max(0, held - SMALL);
}

/** Threads that may count at a time, over all proxies of the process. */
const COLUMNS = 1_024;

/** What a thread needs to count with the others; can be sent to it. */
export interface DescriptorMemory {
  readonly limit: number;
  readonly cells: SharedArrayBuffer;
}

/** Counts descriptors in use against a limit. */
export class DescriptorBudget {
  readonly memory: DescriptorMemory;
  /** The total, then what each thread has of it. */
  readonly #cells: Int32Array;
  readonly #mine: number;
  #held = 0;

  /**
   * @param memory the limit, for a budget of its own; or what another thread counts in
   * @param column this thread's own, from 1 on
   */
  constructor(memory: DescriptorMemory | number, column = 1) {
    this.memory =
      typeof memory === "number"
        ? { limit: memory, cells: new SharedArrayBuffer(4 * (COLUMNS + 1)) }
        : memory;
    this.#cells = new Int32Array(this.memory.cells);
    this.#mine = column;
  }

  /** The most that may be in use. */
  get limit(): number {
    return this.memory.limit;
  }

  /** Takes `count`, or takes none and answers false where the limit would be passed. */
  take(count: number): boolean {
    for (;;) {
      const used = this.used;
      if (used + count > this.limit) return false;
      if (Atomics.compareExchange(this.#cells, 0, used, used + count) !== used) continue;
      Atomics.add(this.#cells, this.#mine, count);
      return true;
    }
  }

  /** Takes one that is there already, whether or not there was room for it. */
  add(): void {
    this.giveBack(-1);
  }

  /** Proxies hold so many more beside their connections, or less, whether or not there is room for it. */
  hold(more: number): void {
    const before = beyond(this.#held);
    this.#held += more;
    this.giveBack(before - beyond(this.#held));
  }

  giveBack(count: number): void {
    Atomics.sub(this.#cells, 0, count);
    Atomics.sub(this.#cells, this.#mine, count);
  }

  /** A thread has died, and its sockets with it. */
  forget(column: number): void {
    Atomics.sub(this.#cells, 0, Atomics.exchange(this.#cells, column, 0));
  }

  get used(): number {
    return Atomics.load(this.#cells, 0);
  }
}

/** The budget of this process; the limit is read once, at the first use. */
export function processBudget(): DescriptorBudget {
  budget ??= new DescriptorBudget(descriptorLimit() - RESERVED_DESCRIPTORS);
  return budget;
}
let budget: DescriptorBudget | undefined;

/** The process's limit on open descriptors, as it was at the start. */
export function openFilesLimit(): number {
  return processBudget().limit + RESERVED_DESCRIPTORS;
}

/** How many connections a proxy that is alone in this process has descriptors for: less than one where it has too few. */
export function mostConnections(holding: Holding): number {
  return Math.floor((processBudget().limit - beyond(heldBy(holding))) / PER_CONNECTION);
}

/** Why a proxy cannot run under this process's limit; undefined where it can. */
export function descriptorShortage(holding: Holding): string | undefined {
  if (mostConnections(holding) >= 1) return undefined;
  const needed = RESERVED_DESCRIPTORS + beyond(heldBy(holding)) + PER_CONNECTION;
  const { workers, listeners, checks } = holding;
  return (
    `the limit on open files is ${openFilesLimit()}, and ${needed} are needed for one connection ` +
    `(workers: ${workers}, listeners: ${listeners}, targets with health checks: ${checks}): ` +
    `raise it (ulimit -n, LimitNOFILE), or have fewer workers`
  );
}

/** A column for a thread, that no other thread counts in; undefined where all are taken. */
export function takeColumn(): number | undefined {
  for (let column = 2; column <= COLUMNS; column++) {
    if (columns.has(column)) continue;
    columns.add(column);
    return column;
  }
  return undefined;
}
const columns = new Set<number>();

/** The thread is gone: its column may be somebody else's. */
export function returnColumn(column: number): void {
  columns.delete(column);
}

/** The process's limit on open descriptors. The runtime raises the soft limit to the hard one when it starts. */
function descriptorLimit(): number {
  const report = process.report?.getReport() as
    { userLimits?: { open_files?: { soft?: unknown } } } | undefined;
  const soft = report?.userLimits?.open_files?.soft;
  return typeof soft === "number" ? soft : soft === "unlimited" ? 1_048_576 : 1_024;
}
