// Durations as people write them: "250ms", "1s", "1m30s", "1h". Pure.

const UNITS = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1 } as const;

/** The longest duration, in milliseconds: the longest time of a timer (2^31 − 1, a little under 25 days). */
export const MAX_DURATION_MS = 2_147_483_647;

/**
 * Reads a duration.
 * @param input a text of whole numbers with units, largest first, each unit once; or a number of milliseconds
 * @returns whole milliseconds, or undefined if it is not a duration or is not between 1 ms and {@link MAX_DURATION_MS}
 */
export function parseDuration(input: unknown): number | undefined {
  const ms = typeof input === "string" ? readText(input) : input;
  return typeof ms === "number" && Number.isInteger(ms) && ms >= 1 && ms <= MAX_DURATION_MS ? ms : undefined;
}

/** Whether this says that there is no such time at all: `0`, `"0"`, `"0s"`. */
export function isZeroDuration(input: unknown): boolean {
  return input === 0 || (typeof input === "string" && /^0(h|m|s|ms)?$/.test(input));
}

function readText(text: string): number | undefined {
  const match = /^(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?$/.exec(text);
  if (match === null || text === "") return undefined;
  const [, h = 0, m = 0, s = 0, ms = 0] = match;
  return Number(h) * UNITS.h + Number(m) * UNITS.m + Number(s) * UNITS.s + Number(ms) * UNITS.ms;
}

/** Writes milliseconds in the form that {@link parseDuration} reads. */
export function formatDuration(ms: number): string {
  let rest = ms;
  let text = "";
  for (const [unit, size] of Object.entries(UNITS)) {
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * size;
  }
  return text || "0ms";
}
