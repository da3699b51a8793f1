// The windows of a proxy: the port for monitoring and the door for operators, as far as they are configured. Their code is
// loaded only then.

import type { Subject, Window } from "./subject.ts";

export class Windows {
  readonly #open: readonly Window[];

  private constructor(open: readonly Window[]) {
    this.#open = open;
  }

  /**
   * Opens all that are configured, or none.
   * @throws StartError that says which and why
   */
  static async open(subject: Subject): Promise<Windows> {
    const { metrics, admin } = subject.config;
    const open: Window[] = [];
    try {
      // First what may be refused for more reasons than a port that is taken: then nothing has listened yet.
      if (admin !== undefined) open.push(...(await (await import("./doors.ts")).openDoors(subject)));
      if (metrics !== undefined) open.push(await (await import("./metrics-server.ts")).openMetrics(subject));
    } catch (error) {
      for (const window of open) window.close();
      throw error;
    }
    return new Windows(open);
  }

  follow(): void {
    for (const window of this.#open) window.follow();
  }

  close(): void {
    for (const window of this.#open) window.close();
  }
}
