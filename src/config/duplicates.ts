// Finds keys that are given twice: the parsers of YAML and JSON keep the last one and say nothing. Each key of the text
// gets a mark of its own, so that the parser keeps them all; two keys that are the same but for their marks are one that
// is given twice. The text is refused where a key has no mark, or where the marked text says anything else than the text
// does: what cannot be judged does not pass. Pure.

import { quote } from "../lib/errors.ts";

/** What is wrong with a text, for people. */
export class DuplicateError extends Error {}

/** A place in the text, between characters for private use that no configuration has. */
const MARK = /\uE000(\d+)\uE001/g;

/**
 * @param text what `parse` takes
 * @param said what `parse` answered
 * @throws DuplicateError where a key is given twice, or that cannot be told
 */
export function refuseDuplicates(text: string, parse: (text: string) => unknown, said: unknown): void {
  if (/[\uE000\uE001]/.test(text))
    throw new DuplicateError("holds a character for private use, U+E000 or U+E001");
  let marked: unknown;
  try {
    marked = parse(mark(text));
  } catch {
    throw new DuplicateError(UNCLEAR);
  }
  refuseTwice(marked, text, new Set());
  if (!same(said, marked, new Set())) throw new DuplicateError(UNCLEAR);
}
const UNCLEAR = "is written so that a key given twice could be missed; write each key as a plain word";

/** Marks every word that may be a key: what is before a colon and, where it is quoted, within the quotes. */
function mark(text: string): string {
  let marked = "";
  let done = 0;
  for (const { index } of text.matchAll(/:/g)) {
    // After a plain key the colon is followed by a space; after a quoted one it need not be.
    const spaced = /^[\s,[\]{}]?$/.test(text.charAt(index + 1));
    let end = index;
    while (spaced && end > done && /\s/.test(text.charAt(end - 1))) end--;
    const [before, last] = [text.charAt(end - 2), text.charAt(end - 1)];
    if (/["']/.test(last)) {
      // A quote after one of these begins a text, or belongs to it.
      if (/^[\s,[{:\\]?$/.test(before)) continue;
      end--;
    } else if (!spaced || /^[\s,[\]{}:?-]?$/.test(last)) continue;
    marked += `${text.slice(done, end)}\uE000${index}\uE001`;
    done = end;
  }
  return marked + text.slice(done);
}

/**
 * Looks into every table of a marked text, those of merge keys too.
 * @param seen what has been looked into: with aliases of YAML, a table may be in many places, or within itself
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

/** Whether a marked text says the same as the text, but for its marks. */
function same(said: unknown, marked: unknown, seen: Set<unknown>): boolean {
  if (typeof marked === "string") return said === marked.replace(MARK, "");
  if (typeof marked !== "object" || marked === null) return Object.is(said, marked);
  if (seen.has(marked)) return true;
  seen.add(marked);
  if (typeof said !== "object" || said === null || Array.isArray(said) !== Array.isArray(marked))
    return false;
  const entries = Object.entries(marked).map(([name, value]) => [name.replace(MARK, ""), value] as const);
  // The parser puts into the table what a merge key leads to; marked, it stays a key as any other.
  const own = entries.filter(([name]) => name !== "<<");
  return (
    (own.length < entries.length || own.length === Object.keys(said).length) &&
    own.every(
      ([name, value]) => Object.hasOwn(said, name) && same(said[name as keyof typeof said], value, seen),
    )
  );
}

/** The line of the key whose mark this is. */
function lineOf(name: string, text: string): number {
  const [, place] = name.matchAll(MARK).next().value ?? [];
  return text.slice(0, Number(place ?? 0)).split("\n").length;
}
