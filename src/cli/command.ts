// What a command is: its words, its flags, what the help says of it, and what it does.

import { stripVTControlCharacters } from "node:util";
import type { FlagValues, Flags } from "./flags.ts";

/** Exit code: the command did what it was told. */
export const DONE = 0;
/** Exit code: something failed while starting or running. */
export const FAILED = 1;
/** Exit code: the command line or the configuration is wrong. */
export const MISUSED = 2;

export interface Command {
  /** What follows `proxy` in the usage line, such as `check [ADDRESS] [FLAGS]`. */
  readonly usage: string;
  /** What the command does, in a sentence without a full stop. */
  readonly summary: string;
  /** What is the name of the words that are no flags, and what they say; none where no such word is taken. */
  readonly words?: { readonly name: string; readonly description: string; readonly most: number };
  readonly flags: Flags;
  /** Command lines that show it, without `proxy`. */
  readonly examples: readonly string[];
  /** Whether the command runs until a signal stops it. */
  readonly stays?: boolean;
  /** @returns the exit code */
  run(given: Given): Promise<number>;
}

/** What a command line says to a command. */
export interface Given {
  readonly flags: FlagValues;
  /** Words that are neither flags nor their values. */
  readonly words: readonly string[];
}

/** Writes to standard output; colours and what else a terminal obeys only to a terminal. */
export function print(text: string): void {
  process.stdout.write(`${process.stdout.isTTY ? text : stripVTControlCharacters(text)}\n`);
}
