// Moments of the calendar as people write them: "2027-01-01", "2027-01-01T08:00:00Z", "2027-01-01T08:00+02:00". Pure.

const MOMENT = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/;

/** How to write one, for an error. */
export const MOMENTS = 'write it like "2027-01-01" or "2027-01-01T08:00:00Z"';

/**
 * @param value a text, or the object that a parser makes of a date; a date without a time begins in UTC
 * @returns milliseconds since 1970; undefined for anything else
 */
export function parseMoment(value: unknown): number | undefined {
  const text = typeof value === "object" && value !== null && "toJSON" in value ? value.toString() : value;
  const moment = typeof text === "string" && MOMENT.test(text) ? Date.parse(text) : NaN;
  return Number.isNaN(moment) ? undefined : moment;
}
