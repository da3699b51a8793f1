// Standard output of commands that print many lines, or lines as they come: nothing is lost at the end, a slow reader is
// waited for, and one that leaves (`| head`) ends the command in peace.

import { codeOf, escapeInvisible } from "../lib/errors.ts";
import { WIDTH } from "./columns.ts";
import { CommandError } from "./command.ts";

/** How much is collected before it is written, where nobody waits for single lines. */
const BATCH = 32_768;

/**
 * Prints lines. Each is text that a terminal can be given.
 * @param live whether each line is written when it comes
 * @throws CommandError where they cannot be written
 */
export async function printLines(
  lines: Iterable<string> | AsyncIterable<string>,
  { live = false } = {},
): Promise<void> {
  const writer = Bun.stdout.writer();
  const write = async (text: string): Promise<boolean> => {
    try {
      writer.write(text);
      await writer.flush();
      return true;
    } catch (error) {
      if (codeOf(error as Error) === "EPIPE") return false;
      throw new CommandError(`cannot write the output: ${(error as Error).message}`);
    }
  };
  let held = "";
  for await (const line of lines) {
    held += `${line}\n`;
    if (!live && held.length < BATCH) continue;
    if (!(await write(held))) return;
    held = "";
  }
  if (held !== "") await write(held);
}

/** An object on one line, with what a terminal could be fooled with escaped. */
export function jsonLine(value: object): string {
  return escapeInvisible(JSON.stringify(value));
}

/** Columns to print in: what COLUMNS says, or the terminal has, or every terminal has. */
export function outputWidth(): number {
  const told = Number(process.env.COLUMNS);
  if (Number.isInteger(told) && told > 0) return told;
  return process.stdout.columns || WIDTH;
}
