// Makes a proxy that does not listen yet from a command line: reads the configuration, file and flags together.

import { BUILT_IN, type ProxyConfig } from "../config/config.ts";
import { readConfigFile } from "../config/file.ts";
import { ConfigError } from "../lib/errors.ts";
import { LOG_FORMATS, createLogger, type Logger } from "../lib/log.ts";
import { createProxy, type Proxy, type ProxyOptions } from "../proxy.ts";
import { applyFlags, locate } from "./apply-flags.ts";
import { FLAGS, UsageError, choose, type Flag, type FlagValues } from "./flags.ts";

/** The word that `run` and `check` take. */
export const ADDRESS = {
  name: "ADDRESS",
  description: `where to listen: ":5000" (every interface, IPv4 and IPv6), "127.0.0.1:5000", "[::1]:5000" or "systemd:NAME" (a socket that systemd opens) [default: ${BUILT_IN.listener.address}]`,
  most: 1,
};

/** The help's text on flags and the file together. */
export const PRECEDENCE =
  "ADDRESS and flags override the file; the file overrides the defaults. With --config, the defaults of --ca, --cert, --key, --targets and --groups do not apply: the file or the flags must give them.";

/** Flags of the log, for commands that read no configuration. */
export const LOG_FLAGS = {
  "log-level": FLAGS["log-level"],
  "log-format": FLAGS["log-format"],
} satisfies Record<string, Flag>;

/**
 * Reads the configuration, file and flags together.
 * @returns the proxy, and the configuration as written
 * @throws UsageError with one line per fault, each with its place
 */
export async function openProxy(
  flags: FlagValues,
  logger: Logger,
  options: Pick<ProxyOptions, "onPhase"> = {},
): Promise<{ proxy: Proxy; written: ProxyConfig }> {
  const file = flags["config"];
  const read = () => readWritten(flags);
  try {
    const written = await read();
    const proxy = createProxy(written, {
      ...(file !== undefined && { configFile: file }),
      source: read,
      logger,
      ...options,
    });
    return { proxy, written };
  } catch (error) {
    throw misuse(error, flags);
  }
}

/** A fault in the configuration is one in the use of the program: one line per fault, each with its place. */
export function misuse(error: unknown, flags: FlagValues): unknown {
  if (!(error instanceof ConfigError)) return error;
  const lines = error.faults.map((fault) => `${locate(fault, flags, flags["config"])}: ${fault.problem}`);
  return new UsageError(lines.join("\n"), { cause: error });
}

/** Reads the configuration as written: paths in a file start from the file's folder, those of flags from the working directory. */
export async function readWritten(flags: FlagValues): Promise<ProxyConfig> {
  const { config: file } = flags;
  const input = file === undefined ? {} : await readConfigFile(file);
  return applyFlags(input, flags, process.cwd()) as ProxyConfig;
}

/** Passes every line on; the configuration's log level filters them. */
export function loggerFor(flags: FlagValues): Logger {
  const format = choose("log-format", flags["log-format"], LOG_FORMATS);
  return createLogger({ level: "debug", ...(format && { format }) });
}
