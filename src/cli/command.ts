// Defines a command: its words, its flags, its help, and its function.

import { stripVTControlCharacters } from "node:util";
import type { FlagValues, Flags } from "./flags.ts";

/** Exit code: the command succeeded. */
export const DONE = 0;
/** Exit code: something failed while starting or running. */
export const FAILED = 1;
/** Exit code: the command line or the configuration is wrong. */
export const MISUSED = 2;
/** Exit code of `explain`: the client would be refused. */
export const REFUSED = 3;

/** A command could not do its work; the message says why, to people. */
export class CommandError extends Error {
  override name = "CommandError";
}

export interface Command {
  /** The part of the usage line after `proxy`, such as `check [ADDRESS] [FLAGS]`. */
  readonly usage: string;
  /** What the command does, in a sentence without a full stop. */
  readonly summary: string;
  /** Under which title the help of the whole program lists it. Default: `Commands`. */
  readonly group?: string;
  /** The words that are not flags: their name, their meaning, and their largest number. Default: none. */
  readonly words?: {
    readonly name: string;
    readonly description: string;
    readonly most: number;
    /** The possible words, if they are known. */
    readonly choices?: readonly string[];
  };
  readonly flags: Flags;
  /** The words after `--` are the command line of another program. */
  readonly takesCommand?: boolean;
  /** Example command lines, without `proxy`. */
  readonly examples: readonly string[];
  /** What each signal does to a command that keeps running. */
  readonly signals?: readonly (readonly [string, string])[];
  /** Where they mean something else than for `run`. */
  readonly exitCodes?: readonly (readonly [string, string])[];
  /** More information, at the end of the help. */
  readonly notes?: string;
  /** @returns the exit code */
  run(given: Given): Promise<number>;
}

/** The parsed command line of a command. */
export interface Given {
  readonly flags: FlagValues;
  /** The flags without a value that are given. */
  readonly switches: ReadonlySet<string>;
  /** Words that are neither flags nor their values. */
  readonly words: readonly string[];
  /** What follows `--`, for a command that takes one; undefined where there is no `--`. */
  readonly command?: readonly string[] | undefined;
}

/** Writes to standard output; colours and other terminal codes only go to a terminal. */
export function print(text: string): void {
  process.stdout.write(`${process.stdout.isTTY ? text : stripVTControlCharacters(text)}\n`);
}
