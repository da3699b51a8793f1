// Loads a configuration: resolves it, reads the files that it names, and checks it against this process. It reports all
// faults at once.

import { availableParallelism } from "node:os";
import { dirname, resolve } from "node:path";
import { ADMIN_CONNECTIONS, descriptorShortage, mostConnections, type Holding } from "../lib/descriptors.ts";
import { ConfigError, type Fault } from "../lib/errors.ts";
import type { Config, ProxyConfig } from "./config.ts";
import { credentialWarnings, filesOf, loadCredentials, type AllCredentials } from "./credentials.ts";
import { expiriesOf, expiryWarnings, type Expiry } from "./expiry.ts";
import { resolveConfig, usesDemonstration } from "./resolve.ts";
import { loadShadow, type LoadedShadow } from "./shadow.ts";
import type { FileStamps } from "./watch.ts";

/** The source of a configuration. */
export interface LoadOptions {
  /**
   * The path of the file that the configuration was read from. Its change triggers a reload, relative paths start from
   * its folder, durations need a unit, and `listener.ca`, `.certificate`, `.privateKey` and `upstreams` have no
   * built-in values. Default: none.
   */
  configFile?: string;
  /** Where relative paths in the configuration start. Default: the file's folder, or the working directory. */
  directory?: string;
  /** More files whose change triggers a reload. Default: none. */
  files?: readonly string[];
}

/** What loading needs besides that. */
interface Loading {
  /** Records the files that the configuration names, before they are read. */
  readonly seen: FileStamps;
  /** The number of running threads; default: as configured. */
  readonly workers?: number;
  /** A configuration is in force already: a shadow that is at fault does not refuse this one. */
  readonly isReload?: boolean;
}

/** A configuration without faults, with everything that was read and computed for it. */
export interface LoadedConfig {
  readonly config: Config;
  readonly credentials: AllCredentials;
  readonly warnings: readonly string[];
  /** One list for each listener. */
  readonly expiries: readonly (readonly Expiry[])[];
  /** Of the door for operators. */
  readonly adminExpiries: readonly Expiry[];
  /** The configured number, or the number that the descriptor limit allows. */
  readonly maxConnections: number;
  /** The configuration that decides beside this one, if there is one. */
  readonly shadow: LoadedShadow | undefined;
  /** Why there is none although `shadow` names one. */
  readonly shadowProblem: string | undefined;
  /** What holds descriptors besides connections. */
  readonly holding: Holding;
  /** Why the process has too few descriptors, if it has. */
  readonly shortage: string | undefined;
  /** The files that it was read from, in their state before reading. */
  readonly seen: FileStamps;
}

/**
 * Loads a configuration, in steps between which other work may run.
 * @throws ConfigError that lists every fault
 */
export function* loadConfig(
  input: ProxyConfig,
  { configFile, directory, seen, workers, isReload = false }: LoadOptions & Loading,
): Generator<void, LoadedConfig> {
  const faults: Fault[] = [];
  const fromFile = configFile !== undefined;
  const folder = directory ?? (fromFile ? dirname(resolve(configFile)) : process.cwd());
  const config = resolveConfig(input, { directory: folder, cores: availableParallelism(), fromFile }, faults);
  seen.add(filesOf(config));
  const credentials = yield* loadCredentials(config, faults);
  const loadedShadow = config.shadow && (yield* loadShadow(config.shadow.config, seen));
  const shadowProblem = typeof loadedShadow === "string" ? loadedShadow : undefined;
  const shadow = typeof loadedShadow === "string" ? undefined : loadedShadow;
  if (shadowProblem !== undefined && !isReload) faults.push({ key: "shadow.config", problem: shadowProblem });
  const holding = {
    workers: workers ?? config.workers,
    listeners: config.listeners.length,
    checks: config.upstreams.reduce((sum, each) => sum + (each.healthCheck ? each.targets.length : 0), 0),
    admin: adminHolds(config),
  };
  const shortage = descriptorShortage(holding);
  const most = mostConnections(holding);
  if (shortage === undefined && (config.maxConnections ?? 0) > most) {
    faults.push({
      key: "maxConnections",
      problem: `${config.maxConnections} needs more descriptors than this process has; set at most ${most}, or raise the limit on open files`,
    });
  }
  if (faults.length > 0) throw new ConfigError(faults);
  const expiries = credentials.listeners.map((each) => expiriesOf(each));
  const { admin } = credentials;
  const adminExpiries = admin === undefined ? [] : expiriesOf(admin, "the admin's certificate");
  const warnings = [
    ...new Set([
      ...expiryWarnings([...expiries.flat(), ...adminExpiries], Date.now()).map(({ text }) => text),
      ...credentials.listeners.flatMap(credentialWarnings),
      ...credentials.warnings,
    ]),
  ];
  if (!fromFile && usesDemonstration(input)) {
    warnings.unshift("running with the demonstration's certificates, whose private keys are public");
  }
  if (shortage !== undefined) warnings.push(`the proxy will not start: ${shortage}`);
  const maxConnections = config.maxConnections ?? most;
  return {
    config,
    credentials,
    warnings,
    expiries,
    adminExpiries,
    maxConnections,
    shadow,
    shadowProblem,
    holding,
    shortage,
    seen,
  };
}

/** Descriptors for operators: each door's own, and its connections; with TLS those in a handshake too. */
function adminHolds({ admin }: Config): number {
  const socket = admin?.socket === undefined ? 0 : 1 + ADMIN_CONNECTIONS;
  return socket + (admin?.address === undefined ? 0 : 1 + 2 * ADMIN_CONNECTIONS);
}

/** The files besides those that the configuration names. */
export function filesBeside({ configFile, files = [] }: LoadOptions): string[] {
  return [...(configFile === undefined ? [] : [resolve(configFile)]), ...files];
}

/**
 * A copy that the caller cannot change. Input that cannot be copied is returned as it is, and the resolver refuses it.
 */
export function copy(config: ProxyConfig): ProxyConfig {
  try {
    return structuredClone(config);
  } catch {
    return config;
  }
}
