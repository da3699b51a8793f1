// Reads written values one by one and collects their faults. Pure.

import { MAX_DURATION_MS, formatDuration, isZeroDuration, parseDuration } from "../lib/duration.ts";
import { quote, type Fault } from "../lib/errors.ts";
import { suggest } from "../lib/suggest.ts";

/** Returns a harmless value for one that it cannot read, and reports a fault, so that reading can continue. */
export class Reader {
  readonly #faults: Fault[];
  readonly #absolute: (path: string) => string;
  /** With a configuration file, a number is not a duration, and the demonstration's values are not built in. */
  readonly fromFile: boolean;

  /** @param absolute makes a path absolute */
  constructor(faults: Fault[], absolute: (path: string) => string, fromFile: boolean) {
    this.#faults = faults;
    this.#absolute = absolute;
    this.fromFile = fromFile;
  }

  /** Reports that `value` is not `what`; `hint` says what would be right. */
  reject(value: unknown, key: string, what: string, hint = ""): void {
    const wrong = value === undefined ? `is missing; it is ${what}` : `${quote(value)} is not ${what}`;
    this.fault(key, hint ? `${wrong}; ${hint}` : wrong);
  }

  fault(key: string, problem: string): void {
    this.#faults.push({ key: key || "configuration", problem });
  }

  /** The given keys of a table; reports unknown ones. */
  table(value: unknown, key: string, known: readonly string[]): Record<string, unknown> {
    if (!isTable(value)) {
      this.reject(value, key, "a table", `its keys are ${known.join(", ")}`);
      return {};
    }
    const table: Record<string, unknown> = {};
    for (const name of Object.keys(value)) {
      if (known.includes(name)) {
        table[name] = value[name];
      } else {
        // A key can be any text, including one that deceives a terminal.
        const shown = /^[\w-]{1,80}$/.test(name) ? name : quote(name);
        const meant = suggest(name, known);
        const hint = meant === undefined ? `known are ${known.join(", ")}` : `did you mean ${meant}?`;
        this.fault(key ? `${key}.${shown}` : shown, `unknown key; ${hint}`);
      }
    }
    return table;
  }

  /** A list that may be empty. */
  anyList(value: unknown, key: string, hint: string): unknown[] {
    if (Array.isArray(value)) return value;
    this.reject(value, key, "a list", hint);
    return [];
  }

  list(value: unknown, key: string, what: string): unknown[] {
    if (Array.isArray(value) && value.length > 0) return value;
    const hint = `at least one ${what} is needed`;
    if (Array.isArray(value)) this.fault(key, `is empty; ${hint}`);
    else this.reject(value, key, "a list", hint);
    return [];
  }

  /** @param suffix where the text is in an entry */
  unique(texts: readonly string[], key: string, suffix = ""): void {
    texts.forEach((text, i) => {
      if (texts.indexOf(text) !== i && text !== "" && text !== ":0")
        this.fault(`${key}[${i}]${suffix}`, `${quote(text)} is listed twice`);
    });
  }

  text(value: unknown, key: string, what: string): string {
    if (typeof value === "string" && value !== "" && !value.includes("\0")) return value;
    this.reject(value, key, what);
    return "";
  }

  /** The absolute path of a PEM file; "" if it is at fault. */
  path(value: unknown, key: string, what = "the path of a PEM file"): string {
    const path = this.text(value, key, what);
    return path === "" ? "" : this.#absolute(path);
  }

  flag(value: unknown, key: string): boolean {
    if (typeof value !== "boolean") this.reject(value, key, "true or false");
    return value === true;
  }

  choice<T extends string>(value: unknown, key: string, choices: readonly [T, ...T[]]): T {
    const choice = choices.find((each) => each === value);
    if (choice === undefined) this.fault(key, `${quote(value)} is none of ${choices.join(", ")}`);
    return choice ?? choices[0];
  }

  duration(value: unknown, key: string): number {
    if (this.#hasNoUnit(value)) {
      this.reject(value, key, "a duration", `it has no unit: write "${value}s" or "${value}ms"`);
      return 1;
    }
    const ms = parseDuration(value);
    if (ms === undefined) {
      const hint = `write it like "250ms", "60s" or "1m30s", from 1ms to ${formatDuration(MAX_DURATION_MS)}`;
      this.reject(value, key, "a duration", hint);
    }
    return ms ?? 1;
  }

  #hasNoUnit(value: unknown): boolean {
    if (typeof value === "number") return this.fromFile && Number.isSafeInteger(value) && value > 0;
    return typeof value === "string" && /^0*[1-9]\d*$/.test(value);
  }

  /** A duration, or none: 0, "0s". */
  durationOrNone(value: unknown, key: string): number {
    return isZeroDuration(value) ? 0 : this.duration(value, key);
  }

  /** @param others what else would be valid */
  count(value: unknown, key: string, most: number, others = ""): number {
    if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= most) return value;
    this.reject(value, key, `a whole number from 1 to ${most}${others}`);
    return 1;
  }
}

function isTable(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
