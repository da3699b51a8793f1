// The health of a target, from two sources: failed connections (passive) and active checks. A failing target is tried
// last, for longer the more often it fails in a row. A target that comes back gets its share of connections step by
// step. The state is in the target's slot of the ledger; all functions but `healthOf` are called under its lock.

import type { TargetFields } from "./ledger.ts";

/**
 * How long a target that failed is tried last, in milliseconds; once it is ejected, twice as long with each failure.
 */
export const PENALTY_MS = 2_000;

/** The longest a target is tried last, in milliseconds. */
const MAX_PENALTY_MS = 60_000;

/** The fraction of its weight with which a target begins its slow start. */
const FIRST_RAMP = 0.1;

/** Consecutive failures are counted up to this number. A failed active check ranks worse than any number of them. */
const MAX_FAILURES = 1_000_000;

/** When a target is ejected, and how it comes back. */
export interface HealthRule {
  /** Consecutive failures after which a target is ejected, at least 1. */
  readonly fall: number;
  /** Milliseconds in which a returning target grows from a tenth of its weight to all of it; 0 for at once. */
  readonly slowStart: number;
}

/**
 * - `up` in good standing
 * - `starting` in good standing, in its slow start
 * - `suspect` failed lately: tried last for a while
 * - `ejected` failed too often in a row: tried last, for longer each time
 * - `down` failed its active check: tried last until a check succeeds
 */
export type TargetHealth = "up" | "starting" | "suspect" | "ejected" | "down";

export function healthOf(targets: TargetFields, slot: number, rule: HealthRule, now: number): TargetHealth {
  if (targets.down[slot] !== 0) return "down";
  if (isEjected(targets, slot, rule)) return "ejected";
  if (failureRank(targets, slot, now) > 0) return "suspect";
  return ramp(targets, slot, rule, now) < 1 ? "starting" : "up";
}

/** 0 for a target in good standing, otherwise higher for a worse one. */
export function failureRank({ down, failures, lastUntil }: TargetFields, slot: number, now: number): number {
  const failed = failures[slot] as number;
  if (down[slot] !== 0) return 1 + MAX_FAILURES + failed;
  return failed !== 0 && now < (lastUntil[slot] as number) ? failed : 0;
}

/** The fraction of its weight that a target has: 0.1 to 1. */
export function ramp({ warmAt }: TargetFields, slot: number, { slowStart }: HealthRule, now: number): number {
  const left = (warmAt[slot] as number) - now;
  return left <= 0 || slowStart === 0 ? 1 : 1 - (1 - FIRST_RAMP) * Math.min(1, left / slowStart);
}

/** One connection probes a suspect; until it has succeeded, the others still try the suspect last. */
export function picked(
  { failures, lastUntil }: TargetFields,
  slot: number,
  rule: HealthRule,
  now: number,
): void {
  const failed = failures[slot] as number;
  if (failed !== 0) lastUntil[slot] = now + penalty(failed, rule);
}

/**
 * @param pickedAt when the connection that failed had chosen the target
 * @returns whether this failure ejected the target
 */
export function failed(
  targets: TargetFields,
  slot: number,
  rule: HealthRule,
  pickedAt: number,
  now: number,
): boolean {
  const { failures, failedAt, lastUntil } = targets;
  const wasEjected = isEjected(targets, slot, rule);
  // Connections that were in progress at the last failure belong to the same failure: a short restart under many
  // incoming connections must not look like a long outage.
  const same = wasEjected && pickedAt < (failedAt[slot] as number);
  const inRow = Math.min((failures[slot] as number) + (same ? 0 : 1), MAX_FAILURES);
  failures[slot] = inRow;
  failedAt[slot] = now;
  lastUntil[slot] = now + penalty(inRow, rule);
  return !wasEjected && isEjected(targets, slot, rule);
}

/** @returns whether the target was ejected and is no longer */
export function succeeded(targets: TargetFields, slot: number, rule: HealthRule, now: number): boolean {
  const wasEjected = isEjected(targets, slot, rule);
  if (wasEjected) comeBack(targets, slot, rule, now);
  targets.failures[slot] = 0;
  return wasEjected;
}

/** @returns whether the check's verdict has changed; at first a target counts as up */
export function checked(
  targets: TargetFields,
  slot: number,
  up: boolean,
  rule: HealthRule,
  now: number,
): boolean {
  if ((targets.down[slot] === 0) === up) return false;
  targets.down[slot] = up ? 0 : 1;
  if (up) comeBack(targets, slot, rule, now);
  return true;
}

/** Clears everything that is known against the target. */
export function reset(targets: TargetFields, slot: number): void {
  targets.failures[slot] = targets.down[slot] = 0;
  targets.lastUntil[slot] = targets.warmAt[slot] = targets.failedAt[slot] = 0;
}

function comeBack({ failures, warmAt }: TargetFields, slot: number, rule: HealthRule, now: number): void {
  failures[slot] = 0;
  warmAt[slot] = now + rule.slowStart;
}

/** Neither ejected nor down. */
export function isHealthy(targets: TargetFields, slot: number, rule: HealthRule): boolean {
  return targets.down[slot] === 0 && !isEjected(targets, slot, rule);
}

function isEjected({ failures }: TargetFields, slot: number, { fall }: HealthRule): boolean {
  return (failures[slot] as number) >= fall;
}

function penalty(failures: number, { fall }: HealthRule): number {
  return Math.min(MAX_PENALTY_MS, PENALTY_MS * 2 ** Math.max(0, failures - fall));
}
