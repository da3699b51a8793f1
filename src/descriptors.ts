// How many descriptors the process may still open. Out of them the accept loop of the runtime spins at full speed, so
// that they are counted before they are used. One budget for the process, however many proxies live in it.

/** Descriptors a connection may need: one to the client, one to the target. */
export const PER_CONNECTION = 2;

/** Kept free for everything else: standard streams, listeners, configuration files, the runtime's own. */
const RESERVE = 64;

/** Counts descriptors in use against a limit. */
export class DescriptorBudget {
  /** The most that may be in use. */
  readonly limit: number;
  #used = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  /** Takes `count`, or takes none and answers false where the limit would be passed. */
  take(count: number): boolean {
    if (this.#used + count > this.limit) return false;
    this.#used += count;
    return true;
  }

  /** Takes one that is there already, whether or not there was room for it. */
  add(): void {
    this.#used++;
  }

  giveBack(count: number): void {
    this.#used -= count;
  }

  get used(): number {
    return this.#used;
  }
}

/** The budget of this process; the limit is read once, at the first use. */
export function processBudget(): DescriptorBudget {
  budget ??= new DescriptorBudget(Math.max(PER_CONNECTION, descriptorLimit() - RESERVE));
  return budget;
}
let budget: DescriptorBudget | undefined;

/** The process's limit on open descriptors. The runtime raises the soft limit to the hard one when it starts. */
function descriptorLimit(): number {
  const report = process.report?.getReport() as
    { userLimits?: { open_files?: { soft?: unknown } } } | undefined;
  const soft = report?.userLimits?.open_files?.soft;
  return typeof soft === "number" ? soft : soft === "unlimited" ? 1_048_576 : 1_024;
}
