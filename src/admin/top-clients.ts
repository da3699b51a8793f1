// The clients with the most open connections, over all threads.

import type { ClientUse } from "../engine/questions.ts";
import type { Samples } from "./metrics-text.ts";
import type { Subject } from "./subject.ts";

/** How long to wait for the threads' answers, in milliseconds: one that hangs must not keep the others' numbers back. */
const PATIENCE_MS = 500;

export class TopClients {
  readonly #runner: Subject["runner"];
  /** A question without an answer yet. There is one at most, so that none pile up before a thread that hangs. */
  #asked: Promise<(readonly ClientUse[])[]> | undefined;

  constructor({ runner }: Pick<Subject, "runner">) {
    this.#runner = runner;
  }

  /** @returns a sample for each, the busiest first; none where a thread does not answer in time */
  async read(count: number): Promise<Samples> {
    if (count === 0 || this.#asked !== undefined) return [];
    const asked = this.#runner.ask({ about: "clients" });
    this.#asked = asked;
    void asked.finally(() => (this.#asked = undefined)).catch(() => {});
    const late = Promise.withResolvers<(readonly ClientUse[])[]>();
    const timer = setTimeout(() => late.resolve([]), PATIENCE_MS);
    const answers = await Promise.race([asked, late.promise]).finally(() => clearTimeout(timer));
    return busiest(answers.flat(), count).map(([client, open]) => [[client], open]);
  }
}

/** Adds up what the threads say of each client. Of clients with as many, the first by name comes first. */
export function busiest(
  uses: readonly Pick<ClientUse, "client" | "open">[],
  count: number,
): [string, number][] {
  const open = new Map<string, number>();
  for (const use of uses) open.set(use.client, (open.get(use.client) ?? 0) + use.open);
  return [...open].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).slice(0, count);
}
