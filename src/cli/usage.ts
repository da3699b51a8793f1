// The help of each command, from its flag table. Pure.

import { columns, widthFor, wrap } from "./columns.ts";
import type { Command } from "./command.ts";
import type { Flag, Flags } from "./flags.ts";

const SIGNALS = [
  ["SIGTERM, SIGINT, SIGQUIT", "stop; open connections may finish, a second signal cuts them"],
  ["SIGHUP", "read the configuration and all its files again"],
] as const;

const EXIT_CODES = [
  ["0", "done"],
  ["1", "failed while starting or running; connections were cut at shutdown"],
  ["2", "the command line or the configuration is wrong"],
] as const;

/** @param others the commands that the help of the whole program lists, by name */
export function usage(command: Command, others?: ReadonlyMap<string, Command>): string {
  const { words, flags, examples, summary, stays = false } = command;
  const signals = others === undefined ? SIGNALS.slice(0, 1) : SIGNALS;
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
    ...section("Signals", stays ? table(signals) : []),
    ...section("Exit codes", table(EXIT_CODES)),
    ...(others === undefined
      ? []
      : ["", ...wrap('Flags go before the file, the file goes before the defaults. "proxy help" lists topics.')]),
  ].join("\n");
}

function flagRows(flags: Flags): [string, string][] {
  const rows = Object.entries<Flag>(flags).map(([name, flag]): [string, string] => [
    `--${name} ${flag.valueHint}`,
    flag.description + (flag.builtIn === undefined ? "" : ` [default: ${flag.builtIn}]`),
  ]);
  return [...rows, ["-h, --help", "print this help"], ["-v, --version", "print the version"]];
}

function table(rows: readonly (readonly [string, string])[]): string[] {
  return columns(rows, widthFor(rows.map(([name]) => name)));
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ["", `${title}:`, ...lines];
}
