// How reloads went: for the log, and for those who ask later.

import { ConfigError, type Fault } from "../lib/errors.ts";
import type { Logger } from "../lib/log.ts";
import { Reminder } from "./reminder.ts";

/** How reloads went. Times are milliseconds since 1970. */
export interface ReloadRecord {
  readonly succeeded: number;
  readonly refused: number;
  /** When a configuration last came into force: at the start, or by a reload. */
  readonly succeededAt: number;
  /** When the last attempt was, if there was one, and what was wrong with it; empty where it succeeded. */
  readonly triedAt: number | undefined;
  readonly faults: readonly { readonly key: string | undefined; readonly problem: string }[];
  /** What the last one that succeeded has changed, as the log says it. */
  readonly changed?: ReloadChanges;
}

/** Names of keys and files, or "none". */
export interface ReloadChanges {
  readonly keys: string;
  readonly files: string;
}

export class ReloadLog {
  record: ReloadRecord;
  readonly #log: Logger;
  readonly #reminder: Reminder;

  constructor(log: Logger) {
    this.record = { succeeded: 0, refused: 0, succeededAt: Date.now(), triedAt: undefined, faults: [] };
    this.#log = log;
    this.#reminder = new Reminder((what) => log.error("reload refused", { ...what }));
  }

  succeeded(changed: ReloadChanges): void {
    const at = Date.now();
    const succeeded = this.record.succeeded + 1;
    this.record = { ...this.record, succeeded, succeededAt: at, triedAt: at, faults: [], changed };
    this.#reminder.stop();
  }

  /** @param remind whether the log repeats it until another configuration is in force */
  refused(error: unknown, remind: boolean): void {
    const faults = faultsOf(error);
    this.record = { ...this.record, refused: this.record.refused + 1, triedAt: Date.now(), faults };
    for (const { key, problem } of faults) this.#log.error("reload refused", { key, problem });
    if (remind) this.#reminder.refused(faults);
  }

  stop(): void {
    this.#reminder.stop();
  }
}

/** What is wrong, fault by fault. */
export function faultsOf(error: unknown): readonly (Fault | { key: undefined; problem: string })[] {
  if (error instanceof ConfigError) return error.faults;
  return [{ key: undefined, problem: error instanceof Error ? error.message : String(error) }];
}
