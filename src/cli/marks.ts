// Marks for what is right and what is wrong, in characters that the terminal can show.

/** One character each. */
export interface Marks {
  readonly yes: string;
  readonly no: string;
  /** Not checked. */
  readonly open: string;
  /** Before what would change something. */
  readonly hint: string;
}

const UNICODE: Marks = { yes: "✓", no: "✗", open: "·", hint: "→" };
const ASCII: Marks = { yes: "+", no: "x", open: "-", hint: ">" };

/** @param isTerminal a terminal without a locale shows ASCII; a file or a pipe takes anything */
export function marksFor(env: Readonly<Record<string, string | undefined>>, isTerminal: boolean): Marks {
  const locale = env["LC_ALL"] || env["LC_CTYPE"] || env["LANG"];
  const unicode = locale ? /utf-?8/i.test(locale) : !isTerminal;
  return unicode ? UNICODE : ASCII;
}

export function marks(): Marks {
  return marksFor(process.env, process.stdout.isTTY);
}

export function markOf(ok: boolean | undefined, { yes, no, open }: Marks): string {
  return ok === undefined ? open : ok ? yes : no;
}
