// The work beside the connections: files are watched until the last connection ends, the rest runs while the proxy
// accepts.

import type { LoadedConfig } from "../config/load.ts";
import { Watch, type FileStamps } from "../config/watch.ts";
import type { CheckOptions } from "../upstreams/health-check.ts";
import type { Pool } from "../upstreams/pool.ts";
import { Upkeep } from "./upkeep.ts";

export class Attendance {
  readonly #upkeep: Upkeep;
  readonly #changed: () => void;
  #watch: Watch | undefined;

  /** @param changed called when a watched file has changed */
  constructor(options: CheckOptions, changed: () => void) {
    this.#upkeep = new Upkeep(options);
    this.#changed = changed;
  }

  /** Starts, or continues with another configuration. */
  follow(loaded: LoadedConfig, pools: ReadonlyMap<string, Pool>, accepts: boolean): void {
    const { config, seen, expiries, adminExpiries } = loaded;
    if (!config.watch) {
      this.#watch?.stop();
      this.#watch = undefined;
    } else if (this.#watch === undefined) {
      this.#watch = new Watch(seen, this.#changed);
    } else this.#watch.follow(seen);
    if (accepts) this.#upkeep.follow(config, [...expiries.flat(), ...adminExpiries], pools);
  }

  /** Watches other files from now on, if it watches any. */
  watch(files: FileStamps): void {
    this.#watch?.follow(files);
  }

  /** @param watch whether files are no longer watched either */
  stop(watch: boolean): void {
    this.#upkeep.stop();
    if (watch) this.#watch?.stop();
  }
}
