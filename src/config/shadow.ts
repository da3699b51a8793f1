// Loads the shadow: another configuration file that is tried beside the one in force. It has to be valid as a whole, as
// if it were about to replace it.

import { availableParallelism } from "node:os";
import { dirname } from "node:path";
import { ConfigError, quote, type Fault } from "../lib/errors.ts";
import type { Config, ProxyConfig } from "./config.ts";
import { filesOf, loadCredentials, type Credentials } from "./credentials.ts";
import { readConfigFileAtOnce } from "./file.ts";
import { resolveConfig } from "./resolve.ts";
import type { FileStamps } from "./watch.ts";

/** A shadow without faults. */
export interface LoadedShadow {
  readonly config: Config;
  /** One for each listener. */
  readonly credentials: readonly Credentials[];
}

/**
 * Loads a shadow, in steps. A shadow of its own that it names is not loaded.
 * @param seen records the files that it is read from
 * @returns the shadow, or in one line why there is none
 */
export function* loadShadow(file: string, seen: FileStamps): Generator<void, LoadedShadow | string> {
  seen.add([file]);
  const faults: Fault[] = [];
  try {
    const input = readConfigFileAtOnce(file) as ProxyConfig;
    const surroundings = { directory: dirname(file), cores: availableParallelism(), fromFile: true };
    const config = resolveConfig(input, surroundings, faults);
    seen.add(filesOf(config));
    const { listeners: credentials } = yield* loadCredentials(config, faults);
    if (faults.length === 0) return { config, credentials };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    faults.push(...error.faults);
  }
  const [{ key, problem } = { key: "", problem: "" }] = faults;
  const more = faults.length > 1 ? ` (and ${faults.length - 1} more; "proxy check --config" lists them)` : "";
  return `${quote(file)}: ${key === file ? "" : `${key}: `}${problem}${more}`;
}
