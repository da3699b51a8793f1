// The windows of a proxy: the port for monitoring and the door for operators, as far as they are configured; and what operators
// have changed, which a fleet spreads to proxies without a door too. The code is loaded only then.

import type { Config } from "../config/config.ts";
import type { Operations } from "./operations.ts";
import type { Subject, Window } from "./subject.ts";

export class Windows {
  readonly #subject: Subject;
  readonly #open: Window[] = [];
  #operations: Promise<Operations> | undefined;
  #closed = false;

  private constructor(subject: Subject) {
    this.#subject = subject;
  }

  /**
   * Opens all that are configured, or none.
   * @throws StartError that says which and why
   */
  static async open(subject: Subject, { metrics, admin, fleet }: Config): Promise<Windows> {
    const windows = new Windows(subject);
    try {
      // First what may be refused for more reasons than a port that is taken: then nothing has listened yet.
      if (admin !== undefined) {
        const operations = await windows.#operate();
        windows.#open.push(...(await (await import("./doors.ts")).openDoors(subject, operations)));
      } else if (fleet !== undefined) await windows.#operate();
      if (metrics !== undefined) {
        windows.#open.push(await (await import("./metrics-server.ts")).openMetrics(subject));
      }
    } catch (error) {
      windows.close();
      throw error;
    }
    return windows;
  }

  follow(): void {
    for (const window of this.#open) window.follow();
    const { config, log } = this.#subject;
    if (this.#operations === undefined && config.fleet === undefined) return;
    void this.#operate().then(
      (operations) => operations.follow(),
      (error: unknown) => log.error("internal error", { error: String(error) }),
    );
  }

  close(): void {
    this.#closed = true;
    for (const window of this.#open) window.close();
    void this.#operations?.then(
      (operations) => operations.close(),
      () => {},
    );
  }

  #operate(): Promise<Operations> {
    this.#operations ??= import("./operations.ts").then(async ({ Operations }) => {
      const operations = await Operations.open(this.#subject);
      if (this.#closed) operations.close();
      return operations;
    });
    return this.#operations;
  }
}
