// Finds keys that are given twice: the parsers of YAML and JSON silently keep the last one. This module adds a unique
// mark to each key of the text, so that the parser keeps them all. Two keys that differ only in their marks are one key
// that is given twice. It refuses the text if a key has no mark, or if the marked text means anything else than the
// text: what cannot be checked does not pass. Pure.

import { quote } from "../lib/errors.ts";

/** What is wrong with a text, for people. */
export class DuplicateError extends Error {}

/** A place in the text, between private-use characters that no configuration has. */
const MARK = /\uE000(\d+)\uE001/g;

/**
 * @param text the input of `parse`
 * @param said the result of `parse`
 * @throws DuplicateError if a key is given twice, or if that cannot be determined
 */
export function refuseDuplicates(text: string, parse: (text: string) => unknown, said: unknown): void {
  if (/[\uE000\uE001]/.test(text))
    throw new DuplicateError("holds a private-use character, U+E000 or U+E001");
  let marked: unknown;
  try {
    marked = parse(mark(text));
  } catch {
    throw new DuplicateError(UNCLEAR);
  }
  refuseTwice(marked, text, new Set());
  if (!same(said, marked, new Set())) throw new DuplicateError(UNCLEAR);
}
const UNCLEAR = "is written in a way that could hide a duplicate key; write each key as a plain word";

/** Marks every word that may be a key: the word before a colon or, if it is quoted, the text within the quotes. */
function mark(text: string): string {
  let marked = "";
  let done = 0;
  for (const { index } of text.matchAll(/:/g)) {
    // After a plain key a space follows the colon; after a quoted one it is optional.
    const spaced = /^[\s,[\]{}]?$/.test(text.charAt(index + 1));
    let end = index;
    while (spaced && end > done && /\s/.test(text.charAt(end - 1))) end--;
    const [before, last] = [text.charAt(end - 2), text.charAt(end - 1)];
    if (/["']/.test(last)) {
      // A quote after one of these characters begins a text, or belongs to it.
      if (/^[\s,[{:\\]?$/.test(before)) continue;
      end--;
    } else if (!spaced || /^[\s,[\]{}:?-]?$/.test(last)) continue;
    marked += `${text.slice(done, end)}\uE000${index}\uE001`;
    done = end;
  }
  return marked + text.slice(done);
}

/**
 * Checks every table of a marked text, including those of merge keys.
 * @param seen the tables checked so far: with YAML aliases, a table may be in many places, or within itself
 */
function refuseTwice(marked: unknown, text: string, seen: Set<unknown>): void {
  if (typeof marked !== "object" || marked === null || seen.has(marked)) return;
  seen.add(marked);
  const names = new Set<string>();
  for (const name of Array.isArray(marked) ? [] : Object.keys(marked)) {
    const bare = name.replace(MARK, "");
    if (names.has(bare))
      throw new DuplicateError(`line ${lineOf(name, text)}: ${quote(bare)} is given twice`);
    if (name === bare) throw new DuplicateError(UNCLEAR);
    names.add(bare);
  }
  for (const value of Object.values(marked)) refuseTwice(value, text, seen);
}

/** Whether a marked text means the same as the text, except for its marks. */
function same(said: unknown, marked: unknown, seen: Set<unknown>): boolean {
  if (typeof marked === "string") return said === marked.replace(MARK, "");
  if (typeof marked !== "object" || marked === null) return Object.is(said, marked);
  if (seen.has(marked)) return true;
  seen.add(marked);
  if (typeof said !== "object" || said === null || Array.isArray(said) !== Array.isArray(marked))
    return false;
  const entries = Object.entries(marked).map(([name, value]) => [name.replace(MARK, ""), value] as const);
  // The parser merges the target of a merge key into the table; a marked merge key stays an ordinary key.
  const own = entries.filter(([name]) => name !== "<<");
  return (
    (own.length < entries.length || own.length === Object.keys(said).length) &&
    own.every(
      ([name, value]) => Object.hasOwn(said, name) && same(said[name as keyof typeof said], value, seen),
    )
  );
}

/** The line of the key with this mark. */
function lineOf(name: string, text: string): number {
  const [, place] = name.matchAll(MARK).next().value ?? [];
  return text.slice(0, Number(place ?? 0)).split("\n").length;
}
