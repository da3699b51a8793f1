// Finds the known name that a person most likely meant by an unknown one: the nearest by edit distance. Pure.

/** Longer names get no suggestion: the time of a comparison grows with the square of the length. */
const MAX_NAME_LENGTH = 64;

/**
 * The known name that is nearest to `name`, or undefined if none is near enough: at most one edit for every three
 * letters of `name`. An edit inserts, removes or replaces a letter, or swaps two neighbours. Case, `-` and `_` do not
 * count. Of several equally near names, the first wins.
 */
export function suggest(name: string, known: readonly string[]): string | undefined {
  if (name.length > MAX_NAME_LENGTH) return undefined;
  const written = fold(name);
  let nearest: string | undefined;
  let least = Math.floor(written.length / 3) + 1;
  for (const each of known) {
    const distance = editDistance(written, fold(each));
    if (distance < least) [nearest, least] = [each, distance];
  }
  return nearest;
}

function fold(name: string): string {
  return name.toLowerCase().replace(/[-_]/g, "");
}

/** The number of edits from one text to the other (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let edits = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1));
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) edits = Math.min(edits, beforeLast[j - 2]! + 1);
      row.push(edits);
    }
    [beforeLast, last] = [last, row];
  }
  return last[b.length]!;
}
