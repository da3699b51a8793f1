// What happens, for windows that show it while it happens: each log line as an event, whatever level is written.

import type { Fields, Logger } from "./log.ts";

/** A log line. */
export interface LogEvent {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly level: keyof Logger;
  readonly msg: string;
  readonly fields: Fields;
}

/** Passes events on to whom they concern. */
export class EventHub {
  readonly #listeners = new Set<(event: LogEvent) => void>();

  /** @returns ends the subscription */
  subscribe(listener: (event: LogEvent) => void): () => void {
    // Each subscription is one of its own, also of a function that listens already.
    const own = (event: LogEvent) => listener(event);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  publish(event: LogEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  /** Writes to a logger, and publishes each line to those who listen. */
  tap(logger: Logger): Logger {
    const tapped =
      (level: keyof Logger): Logger["info"] =>
      (msg, fields) => {
        if (this.#listeners.size > 0) this.publish({ at: Date.now(), level, msg, fields });
        logger[level](msg, fields);
      };
    return { debug: tapped("debug"), info: tapped("info"), warn: tapped("warn"), error: tapped("error") };
  }
}
