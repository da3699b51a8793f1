// What this node tells the store of its clients' connections and buckets: what has changed, a batch at a time; all of it before
// the store decides again; and that it has nothing any more.

import type { ClientEntry } from "./clients.ts";
import { keysOf, type FleetNode } from "./node.ts";
import { PUBLISH } from "./scripts.ts";
import type { Session } from "./session.ts";

/** How long a release waits for others to go with it, in milliseconds. */
const RELEASE_BATCH_MS = 20;

/** Clients in one message, some 0.3 ms of the store's time. */
const PUBLISH_BATCH = 100;

/** How long a node that goes waits until its counts are void, in milliseconds. */
const WITHDRAW_MS = 1_000;

export class Publisher {
  readonly #node: FleetNode;
  #flushing: Timer | undefined;
  #publishing: Promise<void> | undefined;

  constructor(node: FleetNode) {
    this.#node = node;
  }

  /** The store has to be told of it, soon. */
  change(entry: ClientEntry): void {
    this.#node.clients.change(entry);
    if (this.#node.session?.up !== true) return;
    this.#flushing ??= setTimeout(() => {
      this.#flushing = undefined;
      if (this.#node.session?.up === true) void this.publish(this.#node.session);
    }, RELEASE_BATCH_MS);
  }

  /** What has changed waits until it is published with the rest. */
  stop(): void {
    clearTimeout(this.#flushing);
    this.#flushing = undefined;
  }

  /** What this node has is void from now on, as far as the store answers in time. */
  async withdraw(session: Session): Promise<void> {
    const told = [...this.#node.clients].filter(
      ({ agreed, open, asking }) => agreed > 0 || open > 0 || asking,
    );
    const all = async () => {
      for (let i = 0; i < told.length; i += PUBLISH_BATCH) {
        await this.#send(session, told.slice(i, i + PUBLISH_BATCH), true);
      }
    };
    await Promise.race([all().catch(() => {}), Bun.sleep(WITHDRAW_MS)]);
  }

  /** Everything, buckets too: before the store decides again. */
  async publishAll(session: Session): Promise<void> {
    for (const entry of this.#node.clients) {
      if (entry.open > 0 || entry.agreed > 0 || entry.unmerged) this.#node.clients.change(entry);
    }
    while (await this.#publishSome(session));
  }

  /** What has changed, one message after the other, so that questions get in between. */
  publish(session: Session): Promise<void> {
    this.#publishing ??= (async () => {
      try {
        while (session.up && (await this.#publishSome(session)));
      } catch {
        // Those entries are still to be published; the session knows what to do about the error.
      } finally {
        this.#publishing = undefined;
      }
    })();
    return this.#publishing;
  }

  /** @returns whether there may be more */
  async #publishSome(session: Session): Promise<boolean> {
    const entries = this.#node.clients.takeChanged(PUBLISH_BATCH);
    if (entries.length === 0) return false;
    try {
      await this.#send(session, entries, false);
    } catch (error) {
      for (const entry of entries) this.#node.clients.change(entry);
      throw error;
    }
    return true;
  }

  /** @param withdrawn the node goes: it has nothing any more */
  async #send(session: Session, entries: readonly ClientEntry[], withdrawn: boolean): Promise<void> {
    const now = this.#node.now();
    const sent = entries.map((entry) => {
      const count = withdrawn ? 0 : entry.open;
      const merge = entry.unmerged ? Math.max(0, entry.fullAt - now) : 0;
      const { back } = entry;
      entry.unmerged = false;
      entry.back = 0;
      return { entry, count, merge, back };
    });
    const words = sent.flatMap(({ entry, count, merge, back }) => [
      count,
      entry.rule.capacity === Infinity ? 0 : entry.rule.capacity,
      entry.rule.fillRate,
      merge,
      back,
      entry.name,
    ]);
    const keys = entries.flatMap((entry) => keysOf(session, entry));
    try {
      const who = [session.node, session.incarnation, session.next(), this.#node.lease];
      const faults = (await session.run(PUBLISH, keys, [...who, ...words])) as string[];
      for (const { entry, count } of sent) entry.agreed = count;
      for (const key of faults) this.#node.wrongType(key, new Error("WRONGTYPE"));
    } catch (error) {
      for (const { entry, merge } of sent) entry.unmerged ||= merge > 0;
      throw error;
    }
  }
}
