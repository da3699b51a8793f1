// Numbers, times and names as people read them: short, and of bounded width. Pure.

import { escapeInvisible } from "../lib/errors.ts";

const [SECOND, MINUTE, HOUR, DAY] = [1_000, 60_000, 3_600_000, 86_400_000];
const UNITS = [
  ["d", DAY],
  ["h", HOUR],
  ["m", MINUTE],
  ["s", SECOND],
] as const;

/** A length of time in its largest unit and the next: `3h12m`, `9d23h`, `45s`; above 10 days `89d`, above 1,000 days `12y`. */
export function span(ms: number): string {
  if (!Number.isFinite(ms)) return "-";
  const whole = Math.max(0, Math.floor(ms));
  if (whole >= 1_000 * DAY) return `${Math.floor(whole / (365 * DAY))}y`;
  if (whole >= 10 * DAY) return `${Math.floor(whole / DAY)}d`;
  const first = UNITS.findIndex(([, size]) => whole >= size);
  if (first === -1) return "0s";
  const [unit, size] = UNITS[first] as (typeof UNITS)[number];
  const next = UNITS[first + 1];
  const count = next === undefined ? 0 : Math.floor((whole % size) / next[1]);
  return `${Math.floor(whole / size)}${unit}${count === 0 ? "" : `${count}${next?.[0]}`}`;
}

/** The time that is left until a date; `ended` after it. */
export function timeLeft(date: string, now: number): string {
  const left = Date.parse(date) - now;
  return left <= 0 ? "ended" : span(left);
}

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

/** `999 B`, `1.2 MiB`, `340 GiB`: seven characters at most. */
export function bytes(count: number): string {
  let value = Math.max(0, count);
  let unit = 0;
  // 999.5 would be written as 1000.
  while (value >= 999.5 && unit < SIZES.length - 1) {
    value /= 1_024;
    unit++;
  }
  return `${unit > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${SIZES[unit]}`;
}

/** `1,234,567` */
export function count(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** So many a second: one decimal below ten. */
export function perSecond(value: number): string {
  return `${value > 0 && value < 9.95 ? value.toFixed(1) : count(Math.round(value))}/s`;
}

/** Text of others as it may be shown: on one line, and with nothing in it that moves the cursor, hides or reorders. */
export function shown(text: unknown): string {
  return escapeInvisible(String(text ?? "-"));
}

/** The columns that a text takes. */
export function widthOf(text: string): number {
  return PLAIN.test(text) ? text.length : Bun.stringWidth(text);
}
const PLAIN = /^[ -~]*$/;

let segmenter: Intl.Segmenter | undefined;

/** What a reader takes for one character each. */
function charactersOf(text: string): string[] {
  if (PLAIN.test(text)) return text.split("");
  segmenter ??= new Intl.Segmenter(undefined, { granularity: "grapheme" });
  return Array.from(segmenter.segment(text), ({ segment }) => segment);
}

/** Shortens a text to so many columns; an ellipsis stands for what is left out, at the end or in the middle. */
export function cut(text: string, width: number, where: "end" | "middle" = "end"): string {
  if (widthOf(text) <= width) return text;
  if (width < 1) return "";
  const characters = charactersOf(text);
  const tail = where === "end" ? 0 : Math.floor((width - 1) / 2);
  const head = takeWidth(characters, width - 1 - tail);
  return `${head}…${takeWidth(characters.reverse(), tail, true)}`;
}

/** As many characters as fit into so many columns. */
function takeWidth(characters: readonly string[], width: number, backwards = false): string {
  let taken = "";
  for (const character of characters) {
    const longer = backwards ? character + taken : taken + character;
    if (widthOf(longer) > width) return taken;
    taken = longer;
  }
  return taken;
}
