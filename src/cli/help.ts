// `proxy help [TOPIC]`: topics to read on a host, and the help of each command.

import { quote } from "../lib/errors.ts";
import { suggest } from "../lib/suggest.ts";
import { columns, widthFor } from "./columns.ts";
import { DONE, print, type Command } from "./command.ts";
import { UsageError } from "./flags.ts";
import { TOPICS } from "./topics.ts";
import { usage } from "./usage.ts";

/** @param commands the other commands, by name; `proxy help COMMAND` prints the help of each */
export function helpCommand(commands: ReadonlyMap<string, Command>): Command {
  return {
    usage: "help [TOPIC]",
    summary: "Print a topic, such as the configuration's keys; without one, list them",
    words: {
      name: "TOPIC",
      description: "a topic or a command",
      most: 1,
      choices: [...new Set([...TOPICS.keys(), ...commands.keys()])],
    },
    flags: {},
    examples: ["help config"],
    async run({ words: [name] }) {
      // A topic has more than a command's flags, which the command prints with --help.
      const command = name === undefined || TOPICS.has(name) ? undefined : commands.get(name);
      if (command !== undefined) print(usage(command));
      else print(name === undefined ? listing(commands) : topic(name, commands));
      return DONE;
    },
  };
}

function topic(name: string, commands: ReadonlyMap<string, Command>): string {
  const found = TOPICS.get(name);
  if (found !== undefined) return found.text();
  const known = [...TOPICS.keys(), ...commands.keys()];
  const near = suggest(name, known);
  const hint = near === undefined ? `known are ${known.join(", ")}` : `did you mean ${near}?`;
  throw new UsageError(`unknown topic ${quote(name)}; ${hint}`);
}

function listing(commands: ReadonlyMap<string, Command>): string {
  const rows = (entries: Iterable<[string, { readonly summary: string }]>) =>
    [...entries].map(([name, { summary }]) => [name, summary] as const);
  const left = widthFor([...TOPICS.keys(), ...commands.keys()]);
  return [
    'Topics, for "proxy help TOPIC":',
    ...columns(rows(TOPICS), left),
    "",
    'Commands, for "proxy help COMMAND":',
    ...columns(rows(commands), left),
    "",
    '"proxy --help" prints the flags that the proxy runs with.',
  ].join("\n");
}
