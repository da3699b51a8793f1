// How well a target does, from two sources: connections to it that fail (passive), and active checks. One that does not
// is tried last, for longer the more often it fails in a row; one that comes back gets its share of connections bit by
// bit. What is known is in the target's slot of the ledger; all but `healthOf` is called under its lock.

import type { TargetFields } from "./ledger.ts";

/** How long a target that failed is tried last, in milliseconds; once it is out, twice as long with each failure. */
export const PENALTY = 2_000;

/** The longest a target is tried last, in milliseconds. */
const MAX_PENALTY_MS = 60_000;

/** The share of its weight with which a target begins its slow start. */
const FIRST_RAMP = 0.1;

/** Failures in a row are counted up to here. Being checked down is worse than any number of them. */
const MAX_FAILURES = 1_000_000;

/** When a target ejected, and how it comes back. */
export interface HealthRule {
  /** Failures in a row after which a target ejected, at least 1. */
  readonly fall: number;
  /** Milliseconds in which a target that comes back grows from a tenth of its weight to all of it; 0 for at once. */
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

/** 0 for a target in good standing, else the more the worse. */
export function failureRank({ down, failures, lastUntil }: TargetFields, slot: number, now: number): number {
  const failed = failures[slot] as number;
  if (down[slot] !== 0) return 1 + MAX_FAILURES + failed;
  return failed !== 0 && now < (lastUntil[slot] as number) ? failed : 0;
}

/** The share of its weight that a target has: 0.1 to 1. */
export function ramp({ warmAt }: TargetFields, slot: number, { slowStart }: HealthRule, now: number): number {
  const left = (warmAt[slot] as number) - now;
  return left <= 0 || slowStart === 0 ? 1 : 1 - (1 - FIRST_RAMP) * Math.min(1, left / slowStart);
}

/** One connection finds out whether a suspect is back; until it has, the others keep trying it last. */
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
 * @returns whether the target ejected from now on, and was not before
 */
export function failed(
  targets: TargetFields,
  slot: number,
  rule: HealthRule,
  pickedAt: number,
  now: number,
): boolean {
  const { failures, failedAt, lastUntil } = targets;
  const wasOut = isEjected(targets, slot, rule);
  // What was under way when the target failed last is the same failure: a restart of a moment, with many connections
  // coming in, must not look like an outage that goes on and on.
  const same = wasOut && pickedAt < (failedAt[slot] as number);
  const inRow = Math.min((failures[slot] as number) + (same ? 0 : 1), MAX_FAILURES);
  failures[slot] = inRow;
  failedAt[slot] = now;
  lastUntil[slot] = now + penalty(inRow, rule);
  return !wasOut && isEjected(targets, slot, rule);
}

/** @returns whether the target was out and is so no more */
export function succeeded(targets: TargetFields, slot: number, rule: HealthRule, now: number): boolean {
  const wasOut = isEjected(targets, slot, rule);
  if (wasOut) comeBack(targets, slot, rule, now);
  targets.failures[slot] = 0;
  return wasOut;
}

/** @returns whether the verdict of the check is another than before; at first a target counts as checked up */
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

/** Nothing is known against the target any more. */
export function reset(targets: TargetFields, slot: number): void {
  targets.failures[slot] = targets.down[slot] = 0;
  targets.lastUntil[slot] = targets.warmAt[slot] = targets.failedAt[slot] = 0;
}

function comeBack({ failures, warmAt }: TargetFields, slot: number, rule: HealthRule, now: number): void {
  failures[slot] = 0;
  warmAt[slot] = now + rule.slowStart;
}

/** Neither out nor checked down. */
export function isHealthy(targets: TargetFields, slot: number, rule: HealthRule): boolean {
  return targets.down[slot] === 0 && !isEjected(targets, slot, rule);
}

function isEjected({ failures }: TargetFields, slot: number, { fall }: HealthRule): boolean {
  return (failures[slot] as number) >= fall;
}

function penalty(failures: number, { fall }: HealthRule): number {
  return Math.min(MAX_PENALTY_MS, PENALTY * 2 ** Math.max(0, failures - fall));
}
