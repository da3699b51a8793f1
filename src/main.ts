// The command line: commands, signals and exit codes. The only place that ends the process.

import { defineCommand, renderUsage, runCommand, type ArgsDef } from "citty";
import { stripVTControlCharacters } from "node:util";
import { version } from "../package.json";
import { formatAddress, parseListenAddress } from "./lib/address.ts";
import { readConfigFile } from "./config/file.ts";
import { BUILT_IN, type ProxyConfig } from "./config/config.ts";
import { echo } from "./cli/echo.ts";
import { ConfigError, StartError, quote } from "./lib/errors.ts";
import {
  FLAGS,
  UsageError,
  applyFlags,
  checkFlags,
  choose,
  locate,
  positionals,
  type FlagValues,
} from "./cli/flags.ts";
import { LOG_FORMATS, LOG_LEVELS, createLogger, guarded, type Logger } from "./lib/log.ts";
import { unresolved } from "./upstreams/name-resolution.ts";
import { createProxy, type Proxy } from "./proxy.ts";
import { flushLog } from "./lib/stderr.ts";
import { summary } from "./cli/summary.ts";

const DONE = 0;
const FAILED = 1;
const MISUSED = 2;

const address = {
  type: "positional",
  required: false,
  description:
    'where to listen, over listener.address: ":5000" (every interface), "127.0.0.1:5000", "[::1]:5000"',
} as const;

const run = defineCommand<ArgsDef>({
  meta: {
    name: "proxy",
    version,
    description: "A Layer-4 access proxy: TLS 1.3 and client certificates in front of TCP",
  },
  args: { address, ...FLAGS },
  async run({ args }) {
    const flags = valuesOf(args);
    const logger = loggerFor(flags);
    let running: Proxy | undefined;
    ignoreSignals(guarded(logger, () => running?.config.logLevel ?? BUILT_IN.logLevel));
    const opened = openProxy(flags, logger);
    // From the first moment on: unheard it would end the process. What is wrong with a configuration is in the log; the
    // one in force goes on.
    process.on("SIGHUP", () => void opened.then((proxy) => proxy.reload()).catch(() => {}));
    const proxy = (running = await opened);
    const stopped = onSignals((again) => proxy.close(again ? { timeout: 0 } : {}));
    // A signal may come first: then there is nothing to wait for.
    await Promise.race([proxy.listen(), stopped]);
    const { cut } = await Promise.race([stopped, proxy.ended.then(() => stopped)]);
    return cut > 0 ? FAILED : DONE;
  },
});

const check = defineCommand<ArgsDef>({
  meta: {
    name: "check",
    description: "Check the configuration and its files, print a summary, open no port",
  },
  args: { address, ...FLAGS },
  async run({ args }) {
    const flags = valuesOf(args);
    const proxy = await openProxy(flags, loggerFor(flags));
    print(summary(proxy.config, [...proxy.warnings, ...(await unresolved(proxy.config))], proxy.expiries));
    return DONE;
  },
});

const echoes = defineCommand<ArgsDef>({
  meta: { name: "echo", description: "Run echo upstreams to try the proxy on" },
  args: {
    address: {
      type: "positional",
      required: false,
      description: "one or more; without, the targets of the built-in configuration",
    },
    "log-level": FLAGS["log-level"],
    "log-format": FLAGS["log-format"],
  },
  async run({ args }) {
    const flags = valuesOf(args);
    const level = choose("log-level", flags["log-level"], LOG_LEVELS) ?? BUILT_IN.logLevel;
    const log = guarded(loggerFor(flags), () => level);
    ignoreSignals(log);
    const wanted = args._.length > 0 ? args._ : BUILT_IN.upstreams.flatMap(({ targets }) => targets);
    const addresses = wanted.map((text) => {
      const parsed = parseListenAddress(text);
      if (parsed !== undefined) return parsed;
      throw new UsageError(`${quote(text)} is not an address; write it like "127.0.0.1:9001"`);
    });
    const stopped = onSignals(async () => ({ cut: 0 }));
    const servers = addresses.map(echo);
    for (const server of servers) log.info("echo listening", { address: formatAddress(server.address) });
    await stopped;
    for (const server of servers) server.stop();
    return DONE;
  },
});

const COMMANDS = new Map([
  ["check", check],
  ["echo", echoes],
]);

function valuesOf(args: Readonly<Record<string, unknown>>): FlagValues {
  const values: Record<string, string> = {};
  for (const [name, value] of Object.entries(args)) if (typeof value === "string") values[name] = value;
  return values;
}

/** Reads the configuration, file and flags together; every fault comes back with where it is. */
async function openProxy(flags: FlagValues, logger: Logger): Promise<Proxy> {
  const file = flags.config;
  const read = async () => {
    const input = file === undefined ? {} : await readConfigFile(file);
    return applyFlags(input, flags, process.cwd()) as ProxyConfig;
  };
  try {
    // Paths in a file are taken from the file's folder, paths on the command line from where one stands.
    return createProxy(await read(), {
      ...(file !== undefined && { configFile: file }),
      source: read,
      logger,
    });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new UsageError(
      error.faults.map((fault) => `${locate(fault, flags, file)}: ${fault.problem}`).join("\n"),
    );
  }
}

/** Writes all lines; which of them are worth it, the configuration says. */
function loggerFor(flags: FlagValues): Logger {
  const format = choose("log-format", flags["log-format"], LOG_FORMATS);
  return createLogger({ level: "debug", ...(format && { format }) });
}

/**
 * Signals that other servers take for "rotate the log" or "upgrade", or that timers send, and that end a process which does
 * not hear them. Not among them: those that stop a job (TSTP, TTIN, TTOU), which a terminal has to be able to, and those
 * that the runtime keeps for itself (PIPE, PWR) or cannot hear (real-time signals).
 */
const IGNORED = ["SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO"] as const;

function ignoreSignals(log: Logger): void {
  for (const signal of IGNORED) process.on(signal, () => log.warn("signal ignored", { signal }));
}

/** Resolves with what the first signal's stop comes to; a second signal makes it hurry, and the run a failure. */
function onSignals(stop: (again: boolean) => Promise<{ cut: number }>): Promise<{ cut: number }> {
  return new Promise((done, fail) => {
    let signals = 0;
    const stopping = () => {
      signals++;
      stop(signals > 1).then((result) => done(signals > 1 ? { cut: Math.max(1, result.cut) } : result), fail);
    };
    for (const signal of ["SIGINT", "SIGTERM", "SIGQUIT"] as const) process.on(signal, stopping);
  });
}

function print(text: string): void {
  process.stdout.write(`${process.stdout.isTTY ? text : stripVTControlCharacters(text)}\n`);
}

/** Takes the command line apart. citty is given one command at a time: it cannot tell an address from a subcommand. */
async function main(rawArgs: string[]): Promise<number> {
  const first = positionals(rawArgs, FLAGS)[0];
  const named = first && COMMANDS.get(first.value);
  const command = named ?? run;
  const words = named === undefined ? rawArgs : rawArgs.toSpliced(first!.index, 1);

  const ahead = words.slice(0, words.includes("--") ? words.indexOf("--") : words.length);
  if (ahead.includes("--help") || ahead.includes("-h")) {
    const all = { ...command, subCommands: Object.fromEntries(COMMANDS) };
    print(await (named === undefined ? renderUsage(all) : renderUsage(named, run)));
    return DONE;
  }
  if (ahead.includes("--version") || ahead.includes("-v")) {
    print(version);
    return DONE;
  }

  const { address: _, ...flags } = command.args as ArgsDef;
  checkFlags(words, flags);
  const [given, another] = positionals(words, flags);
  if (named === undefined && given !== undefined && !given.value.includes(":")) {
    const known = [...COMMANDS.keys()].join(", ");
    throw new UsageError(
      `unknown command ${quote(given.value)}; known are ${known}, or give an address such as ":5000"`,
    );
  }
  if (named !== COMMANDS.get("echo") && another !== undefined) {
    throw new UsageError(`one address at most, not also ${quote(another.value)}`);
  }
  const { result } = await runCommand(command, { rawArgs: words });
  return result as number;
}

let code: number;
try {
  code = await main(process.argv.slice(2));
} catch (error) {
  code = error instanceof UsageError ? MISUSED : FAILED;
  const message = error instanceof Error ? error.message : String(error);
  const what = error instanceof UsageError || error instanceof StartError ? "" : "internal error: ";
  for (const line of message.split("\n")) process.stderr.write(`proxy: ${what}${line}\n`);
}
await flushLog();
process.exit(code);
