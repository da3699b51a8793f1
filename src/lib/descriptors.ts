// Counts the descriptors that the process may still open. When none are left, the runtime's accept loop spins at full
// speed, so that the proxy counts them before it uses them. The process has one budget, however many proxies and
// threads live in it.

/** Descriptors that a connection may need: one to the client, one to the target. */
export const DESCRIPTORS_PER_CONNECTION = 2;

/**
 * Kept free for everything else: standard streams, files, name resolution, the runtime's own, and {@link
 * UNCOUNTED_DESCRIPTORS}.
 */
const RESERVED_DESCRIPTORS = 64;

/** Descriptors that all proxies of the process may hold besides their connections without being counted. */
const UNCOUNTED_DESCRIPTORS = 16;

/** A worker thread's own descriptors, as measured: an epoll and an eventfd. */
const DESCRIPTORS_PER_WORKER = 2;

/** What a proxy holds besides its connections. */
export interface Holding {
  readonly workers: number;
  readonly listeners: number;
  /** Targets with health checks: each has one connection at a time. */
  readonly checks: number;
  /** For operators: their doors and connections. */
  readonly admin?: number;
}

/** Connections of operators through one door at a time; with TLS, as many handshakes beside them. */
export const ADMIN_CONNECTIONS = 32;

/**
 * The number of these descriptors. With workers, each has its own socket for each listener, and there is a claim on
 * each port.
 */
export function heldBy({ workers, listeners, checks, admin = 0 }: Holding): number {
  return (
    checks + admin + (workers === 1 ? listeners : workers * (DESCRIPTORS_PER_WORKER + listeners) + listeners)
  );
}

/** How many of them exceed what is kept free anyway. */
function beyond(held: number): number {
  return Math.max(0, held - UNCOUNTED_DESCRIPTORS);
}

/** The largest number of counting threads at a time, over all proxies of the process. */
const MAX_COLUMNS = 1_024;

/** What a thread needs to count with the others; it can be sent to the thread. */
export interface DescriptorMemory {
  readonly limit: number;
  readonly cells: SharedArrayBuffer;
}

/** Counts descriptors in use against a limit. */
export class DescriptorBudget {
  readonly memory: DescriptorMemory;
  /** The total, then each thread's part of it. */
  readonly #cells: Int32Array;
  readonly #mine: number;
  #held = 0;

  /**
   * @param memory the limit, for a new budget; or the memory that another thread counts in
   * @param column this thread's own, from 1 on
   */
  constructor(memory: DescriptorMemory | number, column = 1) {
    this.memory =
      typeof memory === "number"
        ? { limit: memory, cells: new SharedArrayBuffer(4 * (MAX_COLUMNS + 1)) }
        : memory;
    this.#cells = new Int32Array(this.memory.cells);
    this.#mine = column;
  }

  /** The largest number that may be in use. */
  get limit(): number {
    return this.memory.limit;
  }

  /** Takes `count`. If that would exceed the limit, takes none and returns false. */
  take(count: number): boolean {
    for (;;) {
      const used = this.used;
      if (used + count > this.limit) return false;
      if (Atomics.compareExchange(this.#cells, 0, used, used + count) !== used) continue;
      Atomics.add(this.#cells, this.#mine, count);
      return true;
    }
  }

  /** Counts a descriptor that is already open, even beyond the limit. */
  add(): void {
    this.giveBack(-1);
  }

  /** Proxies hold this many more descriptors besides their connections, or fewer if negative, even beyond the limit. */
  hold(more: number): void {
    const before = beyond(this.#held);
    this.#held += more;
    this.giveBack(before - beyond(this.#held));
  }

  giveBack(count: number): void {
    Atomics.sub(this.#cells, 0, count);
    Atomics.sub(this.#cells, this.#mine, count);
  }

  /** A thread has died; its sockets are closed. */
  forget(column: number): void {
    Atomics.sub(this.#cells, 0, Atomics.exchange(this.#cells, column, 0));
  }

  get used(): number {
    return Atomics.load(this.#cells, 0);
  }
}

/** What one proxy holds of a budget besides its connections. */
export class HeldDescriptors {
  readonly budget: DescriptorBudget;
  #count = 0;

  constructor(budget: DescriptorBudget) {
    this.budget = budget;
  }

  get count(): number {
    return this.#count;
  }

  /** Holds this many from now on. */
  hold(count: number): void {
    this.budget.hold(count - this.#count);
    this.#count = count;
  }
}

/** The budget of this process. It reads the limit once, at the first use. */
export function processBudget(): DescriptorBudget {
  budget ??= new DescriptorBudget(descriptorLimit() - RESERVED_DESCRIPTORS);
  return budget;
}
let budget: DescriptorBudget | undefined;

/** The process's limit on open descriptors, as it was at the start. */
export function openFilesLimit(): number {
  return processBudget().limit + RESERVED_DESCRIPTORS;
}

/** How many connections a proxy can have that is alone in this process; less than one if it has too few descriptors. */
export function mostConnections(holding: Holding): number {
  return Math.floor((processBudget().limit - beyond(heldBy(holding))) / DESCRIPTORS_PER_CONNECTION);
}

/** Why a proxy cannot run under this process's limit; undefined if it can. */
export function descriptorShortage(holding: Holding): string | undefined {
  if (mostConnections(holding) >= 1) return undefined;
  const needed = RESERVED_DESCRIPTORS + beyond(heldBy(holding)) + DESCRIPTORS_PER_CONNECTION;
  const { workers, listeners, checks } = holding;
  return (
    `the limit on open files is ${processBudget().limit + RESERVED_DESCRIPTORS}, but a proxy with one connection needs ${needed} ` +
    `(workers: ${workers}, listeners: ${listeners}, targets with health checks: ${checks}): ` +
    `raise it (ulimit -n, LimitNOFILE), or use fewer workers`
  );
}

/** A column for a thread, in which no other thread counts; undefined if all are taken. */
export function takeColumn(): number | undefined {
  for (let column = 2; column <= MAX_COLUMNS; column++) {
    if (columns.has(column)) continue;
    columns.add(column);
    return column;
  }
  return undefined;
}
const columns = new Set<number>();

/** The thread is gone: another thread may take its column. */
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
