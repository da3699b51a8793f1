// The blocks of the whole fleet, as this node knows them: those that the store has, and those that the store has to be told of.
// They hold with and without the store. Of two changes of one subject the one with the higher version counts.

import { parseSubject, type Block } from "../auth/blocks.ts";
import { REMEMBER_MS, mergeBlocks, type FleetBlock } from "../fleet/blocks.ts";
import type { SubjectFleet } from "./subject.ts";

/** The longest text that is taken from the store. */
const MAX_TEXT = 500;

/** The last change of a subject. */
interface Known {
  /** Undefined where the block was taken back. */
  readonly block: Block | undefined;
  /** 0 for one that the store does not know yet. */
  readonly version: number;
  /** Milliseconds since 1970; Infinity for ever. */
  readonly expires: number;
}

export class FleetBlockList {
  readonly #fleet: SubjectFleet;
  readonly #known = new Map<string, Known>();
  /** The version of the store when both knew the same; undefined before the first time. */
  #synced: number | undefined;

  /** @param kept from the last run */
  constructor(fleet: SubjectFleet, kept: readonly Block[]) {
    this.#fleet = fleet;
    for (const block of kept) this.set(block);
  }

  /** Those that hold now. */
  get blocks(): Block[] {
    this.#forget(Date.now());
    return [...this.#known.values()].flatMap(({ block }) => block ?? []);
  }

  /** Whether the store and this node know the same. @param version the store's, as heard */
  isCurrent(version: number): boolean {
    return version === this.#synced && ![...this.#known.values()].some((each) => each.version === 0);
  }

  set(block: Block): void {
    this.#known.set(block.subject, { block, version: block.fleet ?? 0, expires: block.until ?? Infinity });
  }

  /** Where there is no fleet any more, a block of it can be ended here alone. */
  drop(subject: string): void {
    this.#known.delete(subject);
  }

  /**
   * Fetches what the store has, and tells it what it lacks.
   * @throws where the store does not answer; what was fetched until then holds all the same
   */
  async sync(): Promise<void> {
    const fleet = this.#fleet;
    const stored = await fleet.blocks();
    const now = Date.now();
    this.#forget(now);
    const { merged, missing } = mergeBlocks(this.#published(now), stored);
    for (const [subject, block] of merged) {
      const version = this.#known.get(subject)?.version;
      // One that the store has to be told of is later than what it has.
      if (version !== 0 && version !== block.version) this.#known.set(subject, knownOf(block, now));
    }
    for (const block of missing) await fleet.restoreBlock(block);
    for (const [subject, { block, version, expires }] of this.#known) {
      if (version !== 0 || block === undefined) continue;
      const lasting = expires === Infinity ? 0 : Math.max(1, Math.ceil(expires - Date.now()));
      const change = { subject, data: dataOf(block), lasting, above: this.#above(stored.version) };
      this.set({ ...block, fleet: await fleet.publishBlock(change) });
    }
    this.#synced = stored.version;
  }

  /** Ends a block in the whole fleet. @throws where the store does not answer; then it still holds */
  async end(subject: string): Promise<void> {
    const change = { subject, data: undefined, lasting: 0, above: this.#above(0) };
    const version = await this.#fleet.publishBlock(change);
    this.#known.set(subject, { block: undefined, version, expires: Date.now() + REMEMBER_MS });
    this.#synced = undefined;
  }

  #above(version: number): number {
    let highest = version;
    for (const each of this.#known.values()) highest = Math.max(highest, each.version);
    return highest;
  }

  #published(now: number): Map<string, FleetBlock> {
    const found = new Map<string, FleetBlock>();
    for (const [subject, { block, version, expires }] of this.#known) {
      if (version === 0) continue;
      const left = expires === Infinity ? 0 : expires - now;
      found.set(subject, { subject, version, left, data: block && dataOf(block) });
    }
    return found;
  }

  #forget(now: number): void {
    for (const [subject, { expires }] of this.#known) if (expires <= now) this.#known.delete(subject);
  }
}

function dataOf({ reason, actor, since }: Block): string {
  return JSON.stringify({ reason, actor, since });
}

/** A block whose subject is understood holds, whatever else is written in the store. */
function knownOf({ subject, version, left, data }: FleetBlock, now: number): Known {
  const expires = left === 0 ? Infinity : now + left;
  const known = parseSubject(subject);
  if (data === undefined || known === undefined) return { block: undefined, version, expires };
  const { reason, actor, since } = read(data);
  const text = (value: unknown) => (typeof value === "string" ? value.slice(0, MAX_TEXT) : "");
  const block: Block = {
    ...known,
    reason: text(reason),
    actor: text(actor),
    since: isTime(since) ? since : now,
    until: expires === Infinity ? undefined : expires,
    fleet: version,
  };
  return { block, version, expires };
}

function read(data: string): { reason?: unknown; actor?: unknown; since?: unknown } {
  try {
    return Object(JSON.parse(data)) as object;
  } catch {
    return {};
  }
}

/** A time that a date can be made of. */
function isTime(value: unknown): value is number {
  return typeof value === "number" && value >= 0 && value <= 8_640_000_000_000_000;
}
