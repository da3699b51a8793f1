// What the command line of `proxy connect` says: its flags, what may be said together, and where a fault came from.

import { dirname, resolve } from "node:path";
import { readConfigFile } from "../config/file.ts";
import { ConfigError, type Fault } from "../lib/errors.ts";
import { resolveConnect, type ConnectConfig } from "../tunnel/config.ts";
import type { Given } from "./command.ts";
import { UsageError, type FlagValues, type Flags } from "./flags.ts";
import { LOG_FLAGS } from "./open.ts";

export const CONNECT_FLAGS = {
  config: { type: "string", valueHint: "FILE", description: "tunnels: .toml, .yaml, .yml or .json" },
  "server-name": {
    type: "string",
    valueHint: "NAME",
    description: "name to ask for (SNI), which the proxy's certificate has to hold",
    builtIn: "HOST",
  },
  listen: {
    type: "string",
    valueHint: "ADDRESS",
    description: 'where programs connect to: "127.0.0.1:5432" or "unix:PATH"; port 0 is any free one',
  },
  "allow-remote": {
    type: "boolean",
    description: "allow an address that other machines can reach; they act with your certificate",
  },
  stdio: { type: "boolean", description: "connect standard input and output, for ssh's ProxyCommand" },
  ca: {
    type: "string",
    valueHint: "FILE",
    description: "CA certificates that the proxy must chain to (PEM)",
  },
  cert: {
    type: "string",
    valueHint: "FILE",
    description: "your certificate, then its chain (PEM)",
  },
  key: { type: "string", valueHint: "FILE", description: "your private key (PEM)" },
  "log-level": { ...LOG_FLAGS["log-level"], builtIn: "info; warn with --stdio and COMMAND" },
  "log-format": LOG_FLAGS["log-format"],
} as const satisfies Flags;

/** The keys that flags set. */
const KEYS = {
  "server-name": "serverName",
  listen: "listen",
  ca: "ca",
  cert: "certificate",
  key: "privateKey",
} as const;

/** What a tunnel is for: programs that come, standard input and output, or one command. */
export type Mode = "listen" | "stdio" | "command";

/** @throws UsageError where flags and words do not go together */
export function modeOf({ flags, switches, words, command }: Given): Mode {
  const { config, listen } = flags;
  const extra = [...switches, ...Object.keys(KEYS).filter((name) => flags[name] !== undefined)][0];
  if (config !== undefined && words.length > 0) throw new UsageError("give HOST:PORT or --config, not both");
  if (config !== undefined && extra !== undefined) {
    throw new UsageError(`--${extra} cannot be given with --config: say it in the file`);
  }
  if (config === undefined && words.length === 0) {
    throw new UsageError("HOST:PORT is missing: give the proxy's address, or --config FILE");
  }
  if (command?.length === 0) throw new UsageError("there is no command after --");
  if (!switches.has("stdio")) {
    if (command !== undefined) return "command";
    if (config === undefined && listen === undefined) {
      throw new UsageError("nothing to connect: give --listen ADDRESS, --stdio, or -- COMMAND");
    }
    return "listen";
  }
  if (listen !== undefined) throw new UsageError("give --listen or --stdio, not both");
  if (command !== undefined) throw new UsageError("give --stdio or -- COMMAND, not both");
  return "stdio";
}

/** @throws UsageError with one line per fault, each with where it is */
export async function configOf(given: Given, mode: Mode): Promise<ConnectConfig> {
  const { flags } = given;
  const { config: file } = flags;
  const faults: Fault[] = [];
  const directory = file === undefined ? process.cwd() : dirname(resolve(file));
  const input = file === undefined ? fromFlags(given, mode) : await readFile(file);
  const config = resolveConnect(input, { directory, stdio: mode === "stdio" }, faults);
  if (mode === "command" && faults.length === 0 && config.tunnels.length > 1) {
    throw new UsageError("-- COMMAND takes one tunnel, and the file has several");
  }
  refuse(faults, flags);
  return config;
}

async function readFile(file: string): Promise<unknown> {
  try {
    return await readConfigFile(file);
  } catch (error) {
    throw error instanceof ConfigError ? new UsageError(error.message) : error;
  }
}

function fromFlags({ flags, switches, words: [server] }: Given, mode: Mode): unknown {
  const values = Object.entries(KEYS).flatMap(([name, key]) =>
    flags[name] === undefined ? [] : [[key, flags[name]]],
  );
  const tunnel: Record<string, unknown> = { server, ...Object.fromEntries(values) };
  if (mode === "command") tunnel["listen"] ??= "127.0.0.1:0";
  if (switches.has("allow-remote")) tunnel["allowRemote"] = true;
  return { tunnels: [tunnel] };
}

/** @throws UsageError where there are faults */
export function refuse(faults: readonly Fault[], flags: FlagValues): void {
  if (faults.length === 0) return;
  const { config: file } = flags;
  // A problem may name other keys.
  const named = (problem: string) =>
    file === undefined
      ? problem.replace("tunnels[0].certificate", "--cert").replace(/\ballowRemote$/, "--allow-remote")
      : problem;
  const lines = faults.map(({ key, problem }) => `${locate(key, file)}: ${named(problem)}`);
  throw new UsageError(lines.join("\n"));
}

/** Where a fault is: in the file, or the flag that set the value. */
function locate(key: string, file: string | undefined): string {
  if (file !== undefined) return `${file}: ${key}`;
  const name = key.replace("tunnels[0].", "");
  if (name === "server") return "HOST:PORT";
  const flag = Object.entries(KEYS).find(([, each]) => each === name);
  return flag === undefined ? key : `--${flag[0]}`;
}
