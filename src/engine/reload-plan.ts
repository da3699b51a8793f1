// What a reload is about to do: a configuration that is loaded and checked, and what it changes. A reload puts it in
// force; a dry run shows it.

import { changedKeys, listed } from "../config/changes.ts";
import type { Config, Listener, ProxyConfig } from "../config/config.ts";
import type { LoadOptions, LoadedConfig } from "../config/load.ts";
import type { ReloadChanges } from "../config/reload-log.ts";
import { restartReport } from "../config/restart.ts";
import type { FileStamps } from "../config/watch.ts";
import { formatAddress } from "../lib/address.ts";
import { ConfigError } from "../lib/errors.ts";
import type { Fields, Logger } from "../lib/log.ts";
import { inPortions } from "../lib/portions.ts";
import { loadTested, type TestedConfig } from "./policy-tests.ts";
import type { Ending } from "./questions.ts";
import type { Runner } from "./runner.ts";
import type { SnapshotBuilder } from "./snapshot-builder.ts";
import { pairPorts, targetKeys } from "./snapshot.ts";

/** What runs when the reload begins. */
export interface Running {
  /** The configuration of the start, which reloads do not change. */
  readonly started: Pick<Config, "workers" | "metrics" | "admin">;
  readonly loaded: LoadedConfig;
  /** The listener that each open port was opened for; undefined before the ports are open. Asked once all is loaded. */
  ports(): readonly (Listener | undefined)[] | undefined;
}

/** What a reload is about to do. */
export interface ReloadPlan {
  readonly input: ProxyConfig;
  readonly loaded: TestedConfig;
  readonly ports: readonly (Listener | undefined)[];
  /** For each port the place of its listener, as `pairPorts` answers it. */
  readonly pairs: readonly (number | undefined)[];
  /** What changes only at a restart, as lines of the log. */
  readonly restarts: readonly (readonly [message: string, fields: Fields])[];
  readonly changed: { readonly keys: readonly string[]; readonly files: readonly string[] };
}

/**
 * Loads a configuration as a reload does. Nothing changes.
 * @param seen records the files that are read
 * @throws ConfigError that lists every fault
 */
export async function planReload(
  input: ProxyConfig,
  options: LoadOptions,
  seen: FileStamps,
  running: Running,
): Promise<ReloadPlan> {
  const { started, loaded: before } = running;
  const { workers } = started;
  const loaded = await inPortions(loadTested(input, { ...options, seen, workers, isReload: true }));
  const { config, shortage } = loaded;
  if (shortage !== undefined) throw new ConfigError([{ key: "upstreams", problem: shortage }]);
  // Before the ports are open, a reload can still change them.
  const ports = running.ports() ?? config.listeners;
  const pairs = pairPorts(ports, config.listeners);
  return {
    input,
    loaded,
    ports,
    pairs,
    restarts: restartReport({ ...started, ports }, config, pairs),
    changed: { keys: changedKeys(before.config, config), files: seen.changedSince(before.seen) },
  };
}

/** The changes as one line of the log has them. */
export function changedFields({ changed: { keys, files } }: ReloadPlan): ReloadChanges {
  return { keys: listed(keys), files: listed(files) };
}

/** The configuration is in force. */
export function logReloaded(plan: ReloadPlan, log: Logger): void {
  for (const warning of plan.loaded.warnings) log.warn(warning, {});
  logShadow(plan.loaded, log);
  log.info("reloaded", { ...changedFields(plan) });
}

/** The configuration is in force, without the shadow that it names: that has a fault. */
function logShadow({ config, shadowProblem }: LoadedConfig, log: Logger): void {
  if (shadowProblem === undefined) return;
  log.error("shadow refused", { config: config.shadow?.config, problem: shadowProblem });
}

/** What a reload would do now. */
export interface Forecast {
  /** Keys whose values change, and files that were replaced or written. */
  readonly changed: { readonly keys: readonly string[]; readonly files: readonly string[] };
  /** `upstream target`, each with the upstream's name and the address as configured. */
  readonly targets: Comings;
  /** Addresses. A listener that comes needs a restart; one that goes is closed with its connections. */
  readonly listeners: Comings;
  /** What stays as it is until a restart. */
  readonly restarts: readonly {
    readonly key: string;
    readonly running: string;
    readonly configured: string;
  }[];
  readonly warnings: readonly string[];
  /** Open connections that would end, each with the reason. */
  readonly endings: readonly Ending[];
  /** Over how many milliseconds those end that lose their authorization; 0 for at once. */
  readonly graceMs: number;
}

/** What comes and what goes. */
export interface Comings {
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

/**
 * Asks every connection what the reload would make of it. Nothing changes.
 * @param before the configuration in force
 * @throws ConfigError where the reload would be refused
 */
export async function forecastOf(
  { loaded, ports, pairs, restarts, changed }: ReloadPlan,
  before: Config,
  runner: Pick<Runner, "ask">,
  builder: Pick<SnapshotBuilder, "candidate">,
): Promise<Forecast> {
  const { config, warnings, shadowProblem } = loaded;
  const snapshot = builder.candidate(loaded, { pairs, ports });
  const endings = await runner.ask({ about: "forecast", snapshot });
  const added = config.listeners.filter((_, i) => !pairs.includes(i));
  const removed = ports.filter((port, i) => port !== undefined && pairs[i] === undefined);
  return {
    changed,
    targets: comings(targetsOf(before), targetsOf(config)),
    listeners: { added: added.map(addressOf), removed: removed.map((port) => addressOf(port as Listener)) },
    restarts: restarts.flatMap(([message, { key, running, configured }]) =>
      message === "needs a restart"
        ? [{ key: String(key), running: String(running), configured: String(configured) }]
        : [],
    ),
    warnings: shadowProblem === undefined ? warnings : [...warnings, `shadow refused: ${shadowProblem}`],
    endings: endings.flat(),
    graceMs: config.revocationGrace,
  };
}

function addressOf({ address }: Pick<Listener, "address">): string {
  return formatAddress(address);
}

function targetsOf(config: Config): string[] {
  return targetKeys(config).flatMap((keys) => keys.map((key) => key.replace("\n", " ")));
}

function comings(before: readonly string[], after: readonly string[]): Comings {
  const [old, next] = [new Set(before), new Set(after)];
  return {
    added: [...next].filter((each) => !old.has(each)),
    removed: [...old].filter((each) => !next.has(each)),
  };
}
