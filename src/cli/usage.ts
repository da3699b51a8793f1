// The help of each command, from its flag table. Pure.

import { NO_BREAK_SPACE, columns, widthFor, wrap } from "./columns.ts";
import type { Command } from "./command.ts";
import type { Flag, Flags } from "./flags.ts";

const EXIT_CODES = [
  ["0", "done"],
  ["1", "failed while starting or running; connections were cut at shutdown"],
  ["2", "the command line or the configuration is wrong"],
] as const;

/** @param others the commands in the help of the whole program, by name */
export function usage(command: Command, others?: ReadonlyMap<string, Command>): string {
  const { words, flags, examples, summary, signals = [], exitCodes = EXIT_CODES, notes } = command;
  return [
    ...wrap(`${summary}.`),
    ...section(
      "Usage",
      [command, ...(others?.values() ?? [])].map((each) => `  proxy ${each.usage}`),
    ),
    ...section("Commands", table([...(others ?? [])].map(([name, each]) => [name, each.summary]))),
    ...section("Words", words === undefined ? [] : table([[words.name, words.description]])),
    ...section("Flags", table(flagRows(flags))),
    ...section(
      "Examples",
      examples.map((line) => `  proxy ${line}`),
    ),
    ...section("Signals", table(signals)),
    ...section("Exit codes", table(exitCodes)),
    ...(notes === undefined ? [] : ["", ...wrap(notes)]),
  ].join("\n");
}

function flagRows(flags: Flags): [string, string][] {
  const rows = Object.entries<Flag>(flags).map(([name, flag]): [string, string] => [
    flag.type === "boolean" ? `--${name}` : `--${name} ${flag.valueHint}`,
    flag.description + builtIn(flag),
  ]);
  return [...rows, ["-h, --help", "print this help"], ["-v, --version", "print the version"]];
}

function builtIn(flag: Flag): string {
  if (flag.type === "boolean" || flag.builtIn === undefined) return "";
  return ` ${`[default: ${flag.builtIn}]`.replaceAll(" ", NO_BREAK_SPACE)}`;
}

function table(rows: readonly (readonly [string, string])[]): string[] {
  return columns(rows, widthFor(rows.map(([name]) => name)));
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ["", `${title}:`, ...lines];
}
