// PEM (RFC 7468): the armour around certificates, keys and revocation lists. Pure.

/** One block. */
export interface PemBlock {
  readonly label: string;
  readonly pem: string;
  readonly der: Uint8Array;
  /** The line on which it begins, from 1 on. */
  readonly line: number;
}

/** The blocks of a text, and where it is damaged, if it is. */
export interface PemText {
  readonly blocks: readonly PemBlock[];
  readonly damage: { readonly line: number; readonly problem: string } | undefined;
}

const DASHES = "-----";
const BOUNDARY = /^-----(BEGIN|END) ([A-Z0-9 ]+)-----[ \t\r]*$/;

/**
 * Reads all blocks of a text. Text between blocks is allowed if it does not begin with five dashes. A block without an
 * end makes the text damaged: a truncated file has lost something that would otherwise go unnoticed.
 */
export function readPem(text: string): PemText {
  const blocks: PemBlock[] = [];
  let begun: { label: string; at: number; line: number } | undefined;
  const damaged = (line: number, problem: string): PemText => ({ blocks, damage: { line, problem } });
  const lineAt = lineCounter(text);
  for (let at = nextMark(text, 0); at >= 0; at = nextMark(text, at + 1)) {
    const newline = text.indexOf("\n", at);
    const [, kind, label] = BOUNDARY.exec(text.slice(at, newline < 0 ? undefined : newline)) ?? [];
    if (at > 0 && text[at - 1] !== "\n") return damaged(lineAt(at), "a boundary does not begin its line");
    if (label === undefined) return damaged(lineAt(at), `it is neither a "BEGIN" nor an "END" line`);
    if (kind === "BEGIN") {
      if (begun !== undefined) {
        return damaged(begun.line, `"BEGIN ${begun.label}" has no "END" before the next "BEGIN"`);
      }
      begun = { label, at, line: lineAt(at) };
      continue;
    }
    if (begun === undefined) return damaged(lineAt(at), `"END ${label}" has no "BEGIN"`);
    if (begun.label !== label) {
      const problem = `"END ${label}" ends what began as "BEGIN ${begun.label}" on line ${begun.line}`;
      return damaged(lineAt(at), problem);
    }
    const body = text.slice(text.indexOf("\n", begun.at) + 1, at);
    const pem = `${text.slice(begun.at, at)}-----END ${label}-----`;
    blocks.push({ label, pem, der: Buffer.from(body, "base64"), line: begun.line });
    begun = undefined;
  }
  if (begun !== undefined)
    return damaged(begun.line, `"BEGIN ${begun.label}" has no "END": the file is cut short`);
  // The rest of a "BEGIN" line, if the text was cut within its dashes.
  const last = text.slice(text.lastIndexOf("\n") + 1);
  if (/^-{1,4}$/.test(last)) return damaged(lineAt(text.length), "the file is cut short");
  return { blocks, damage: undefined };
}

/** Where the next boundary begins, or what looks like one; -1 if there is none. */
function nextMark(text: string, from: number): number {
  for (let at = text.indexOf(DASHES, from); at >= 0; at = text.indexOf(DASHES, at + 1)) {
    const after = at + DASHES.length;
    if (at === 0 || text[at - 1] === "\n") return at;
    if (text.startsWith("BEGIN ", after) || text.startsWith("END ", after)) return at;
  }
  return -1;
}

/** Counts lines; the places must be asked for in ascending order. */
function lineCounter(text: string): (at: number) => number {
  let [line, seen] = [1, 0];
  return (at) => {
    for (let next = text.indexOf("\n", seen); next >= 0 && next < at; next = text.indexOf("\n", seen)) {
      seen = next + 1;
      line++;
    }
    return line;
  };
}
