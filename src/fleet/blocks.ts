// Blocks that hold in the whole fleet. Each change has a version, higher than any before, so that nodes agree on which of two is the later
// one. What a node knows stays in force without the store; a store that was emptied is told again.

import type { Reply } from "./resp.ts";
import { BLOCK, BLOCKS, RESTORE, type Script } from "./scripts.ts";

/** The part of a session that is needed here. */
export interface Storing {
  run(script: Script, keys: readonly string[], words: readonly (string | number)[]): Promise<Reply>;
  key(name: string): string;
}

export interface FleetBlock {
  readonly subject: string;
  readonly version: number;
  /** Milliseconds that it still holds; 0 for ever. */
  readonly left: number;
  /** What its maker says of it; undefined where the block was taken back. */
  readonly data: string | undefined;
}

export interface FleetBlocks {
  /** The highest version. */
  readonly version: number;
  readonly blocks: readonly FleetBlock[];
}

/** How long it is remembered that a block was taken back, in milliseconds: for nodes that were cut off meanwhile. */
export const REMEMBER_MS = 7 * 86_400_000;

/** One change, as it is published. */
export interface BlockChange {
  readonly subject: string;
  /** Undefined where the block is taken back. */
  readonly data: string | undefined;
  /** Milliseconds; 0 for ever. */
  readonly lasting: number;
  /** The highest version that the node knows of. */
  readonly above: number;
}

/** @returns the version of the change */
export async function changeBlock(
  store: Storing,
  { subject, data, lasting, above }: BlockChange,
): Promise<number> {
  if (subject === "" || data === "") throw new Error("a block has a subject and data");
  const kept = data === undefined ? REMEMBER_MS : lasting;
  return Number(await store.run(BLOCK, [store.key("blocks")], [subject, data ?? "", kept, above]));
}

/** Tells the store of a change that it lacks. A later change of the same subject stays. */
export async function restoreBlock(
  store: Storing,
  { subject, version, left, data }: FleetBlock,
): Promise<void> {
  await store.run(RESTORE, [store.key("blocks")], [subject, data ?? "", Math.ceil(left), version]);
}

export async function fetchBlocks(store: Storing): Promise<FleetBlocks> {
  const [version, ...rest] = (await store.run(BLOCKS, [store.key("blocks")], [])) as string[];
  const blocks: FleetBlock[] = [];
  for (let i = 0; i + 3 < rest.length; i += 4) {
    const [subject, at, left, data] = rest.slice(i, i + 4) as [string, string, string, string];
    blocks.push({ subject, version: Number(at), left: Number(left), data: data === "" ? undefined : data });
  }
  return { version: Number(version), blocks };
}

/**
 * Puts what a node knows and what the store has together: of two changes of one subject the later one counts. Pure.
 * @returns all of it, and what the store lacks
 */
export function mergeBlocks(
  known: ReadonlyMap<string, FleetBlock>,
  { blocks }: FleetBlocks,
): { merged: Map<string, FleetBlock>; missing: FleetBlock[] } {
  const merged = new Map(known);
  const stored = new Map(blocks.map((block) => [block.subject, block]));
  for (const [subject, block] of stored) {
    if (block.version > (known.get(subject)?.version ?? 0)) merged.set(subject, block);
  }
  const missing = [...known.values()].filter(
    ({ subject, version }) => version > (stored.get(subject)?.version ?? 0),
  );
  return { merged, missing };
}
