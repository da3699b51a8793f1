// Finds the command that the words of a command line mean, or reports what is wrong with them.

import { version } from "../../package.json";
import { quote } from "../lib/errors.ts";
import { suggest } from "../lib/suggest.ts";
import { DONE, print, type Command } from "./command.ts";
import { FLAGS, UsageError, checkFlags, parseFlags, positionals, switchesOf } from "./flags.ts";
import { ADDRESS } from "./open.ts";
import { run } from "./run.ts";

/** What only another command needs is loaded with that command: the proxy runs for months, and holds what it has loaded. */
const ACTIONS: Readonly<Record<string, () => Promise<Command>>> = {
  check: async () => (await import("./check.ts")).check,
  echo: async () => (await import("./echo-command.ts")).echoCommand,
  replay: async () => (await import("./replay.ts")).replay,
  schema: async () => (await import("./schema.ts")).schema,
};
const COMMANDS: ReadonlyMap<string, () => Promise<Command>> = new Map([
  ...Object.entries(ACTIONS),
  ["help", async () => (await import("./help.ts")).helpCommand(await load(Object.entries(ACTIONS)))],
]);

async function load(
  commands: Iterable<readonly [string, () => Promise<Command>]>,
): Promise<ReadonlyMap<string, Command>> {
  const loaded = [...commands].map(async ([name, command]) => [name, await command()] as const);
  return new Map(await Promise.all(loaded));
}

/**
 * Runs a command line.
 * @returns the exit code
 * @throws UsageError that names the word at fault
 */
export async function dispatch(rawArgs: readonly string[]): Promise<number> {
  const first = positionals(rawArgs, FLAGS)[0];
  const named = await (first && COMMANDS.get(first.value))?.();
  const command = named ?? run;
  const args = named === undefined ? rawArgs : rawArgs.toSpliced(first!.index, 1);

  const ahead = args.slice(0, args.includes("--") ? args.indexOf("--") : args.length);
  if (ahead.includes("--help") || ahead.includes("-h")) {
    const { usage } = await import("./usage.ts");
    print(named === undefined ? usage(run, await load(COMMANDS)) : usage(named));
    return DONE;
  }
  if (ahead.includes("--version") || ahead.includes("-v")) {
    print(version);
    return DONE;
  }

  checkFlags(args, command.flags);
  const words = positionals(args, command.flags).map(({ value }) => value);
  checkWords(words, command);
  const { flags } = command;
  return command.run({ flags: parseFlags(args, flags), switches: switchesOf(args, flags), words });
}

/** A configuration file's name in the place of an address, a common mistake. */
const CONFIG_FILE = /\.(toml|ya?ml|json)$/i;

function checkWords(words: readonly string[], command: Command): void {
  const [word] = words;
  if (word !== undefined && command.words === ADDRESS) {
    if (CONFIG_FILE.test(word)) {
      throw new UsageError(
        `${quote(word)} is not an address; a configuration file is given as --config ${/^[\w./-]+$/.test(word) ? word : quote(word)}`,
      );
    }
    if (command === run && !word.includes(":")) throw new UsageError(unknownCommand(word));
  }
  const { most = 0, name } = command.words ?? {};
  const extra = words[most];
  if (extra === undefined) return;
  throw new UsageError(
    most === 0
      ? `unknown word ${quote(extra)}; this command takes none`
      : `at most one ${name?.toLowerCase()} is allowed; ${quote(extra)} is one too many`,
  );
}

function unknownCommand(word: string): string {
  const known = [...COMMANDS.keys()];
  const near = suggest(word, known);
  const hint = near === undefined ? `known are ${known.join(", ")}` : `did you mean ${near}?`;
  return `unknown command ${quote(word)}; ${hint}${near === undefined ? ', or give an address such as ":5000"' : ""}`;
}
