// Finds the command that the words of a command line mean, or reports what is wrong with them.

import { quote } from "../lib/errors.ts";
import { suggest } from "../lib/suggest.ts";
import { DONE, print, type Command } from "./command.ts";
import { FLAGS, UsageError, checkFlags, parseFlags, positionals, switchesOf } from "./flags.ts";
import { ADDRESS } from "./open.ts";
import { run } from "./run.ts";

/** What only another command needs is loaded with that command: the proxy runs for months, and holds what it has loaded. */
const ACTIONS: Readonly<Record<string, () => Promise<Command>>> = {
  check: async () => (await import("./check.ts")).check,
  connect: async () => (await import("./connect.ts")).connect,
  echo: async () => (await import("./echo-command.ts")).echoCommand,
  explain: async () => (await import("./explain.ts")).explain,
  replay: async () => (await import("./replay.ts")).replay,
  schema: async () => (await import("./schema.ts")).schema,
  status: async () => (await import("./status.ts")).status,
  ps: async () => (await import("./ps.ts")).ps,
  clients: async () => (await import("./clients.ts")).clients,
  top: async () => (await import("./top.ts")).top,
  tail: async () => (await import("./tail.ts")).tail,
  blocks: async () => (await import("./block.ts")).blocks,
  kick: async () => (await import("./kick.ts")).kick,
  block: async () => (await import("./block.ts")).block,
  unblock: async () => (await import("./block.ts")).unblock,
  drain: async () => (await import("./target.ts")).drain,
  ready: async () => (await import("./target.ts")).ready,
  weight: async () => (await import("./target.ts")).weight,
  reload: async () => (await import("./reload.ts")).reload,
  dashboard: async () => (await import("./dashboard.ts")).dashboard,
  completion: async () => (await import("./completion.ts")).completionCommand(commandLine),
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

/** Everything that a command line can begin with, loaded. */
export async function commandLine(): Promise<{ run: Command; commands: ReadonlyMap<string, Command> }> {
  return { run, commands: await load(COMMANDS) };
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
  const given = named === undefined ? rawArgs : rawArgs.toSpliced(first!.index, 1);
  const ahead = given.slice(0, given.includes("--") ? given.indexOf("--") : given.length);
  const args = command.takesCommand === true ? ahead : given;
  if (ahead.includes("--help") || ahead.includes("-h")) {
    const { usage } = await import("./usage.ts");
    print(named === undefined ? usage(run, await load(COMMANDS)) : usage(named));
    return DONE;
  }
  if (ahead.includes("--version") || ahead.includes("-v")) {
    const { versionText } = await import("./version.ts");
    print(versionText(ahead.includes("--json")));
    return DONE;
  }

  checkFlags(args, command.flags);
  const words = positionals(args, command.flags).map(({ value }) => value);
  checkWords(words, command);
  const { flags } = command;
  const other = ahead.length < given.length ? given.slice(ahead.length + 1) : undefined;
  const switches = switchesOf(args, flags);
  return command.run({ flags: parseFlags(args, flags), switches, words, command: other });
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
  const near = suggest(word, [...COMMANDS.keys()]);
  const hint =
    near === undefined
      ? '"proxy --help" lists them; or give an address such as ":5000"'
      : `did you mean ${near}?`;
  return `unknown command ${quote(word)}; ${hint}`;
}

export { ACTIONS };
