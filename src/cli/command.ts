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
  /** The words that are no flags: their name, their meaning, and how many there may be. Default: none. */
  readonly words?: {
    readonly name: string;
    readonly description: string;
    readonly most: number;
    /** What they can be, where that is known. */
    readonly choices?: readonly string[];
  };
  readonly flags: Flags;
  /** What follows `--` is a command line of another program. */
  readonly takesCommand?: boolean;
  /** Command lines that show it, without `proxy`. */
  readonly examples: readonly string[];
  /** What each signal does to a command that goes on running. */
  readonly signals?: readonly (readonly [string, string])[];
  /** What else to know, at the end of the help. */
  readonly notes?: string;
  /** @returns the exit code */
  run(given: Given): Promise<number>;
}

/** What a command line says to a command. */
export interface Given {
  readonly flags: FlagValues;
  /** Words that are neither flags nor their values. */
  readonly words: readonly string[];
  /** What follows `--`, for a command that takes one; undefined where there is no `--`. */
  readonly command?: readonly string[] | undefined;
}

/** Writes to standard output; colours and what else a terminal obeys only to a terminal. */
export function print(text: string): void {
  process.stdout.write(`${process.stdout.isTTY ? text : stripVTControlCharacters(text)}\n`);
}
