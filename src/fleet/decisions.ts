// Whether a connection is let in: the store is asked, or this node decides alone. One question at a time is under way for each
// client; connections that come meanwhile go into the next one. So the count that a question carries is exact.

import type { FleetRefusal, Lease } from "../connection/fleet-gate.ts";
import type { Ask, ClientEntry } from "./clients.ts";
import { AskDeadlines } from "./deadlines.ts";
import { kindOf } from "./measures.ts";
import { keysOf, type FleetNode } from "./node.ts";
import type { Publisher } from "./publishing.ts";
import { DECIDE } from "./scripts.ts";
import type { Session } from "./session.ts";
import { judge } from "./shares.ts";

/** Connections of one client that are asked about at once. */
const MAX_ASKED = 256;

export class Decisions {
  readonly #node: FleetNode;
  readonly #publisher: Publisher;
  readonly #deadlines: AskDeadlines;

  constructor(node: FleetNode, publisher: Publisher) {
    this.#node = node;
    this.#publisher = publisher;
    this.#deadlines = new AskDeadlines(node.now, (ask) => {
      this.#node.measures.failed("timeout");
      this.#decideAlone(ask);
    });
  }

  ask(client: string, answered: (answer: Lease | FleetRefusal) => void): void {
    const entry = this.#node.clients.of(client);
    const run = this.#node.run;
    // The configuration has no fleet any more.
    if (run === undefined) return answered(this.#admit(entry));
    const ask = { client: entry, answered, until: this.#node.now() + run.config.timeout, done: false };
    if (this.#node.session?.up !== true) return this.#decideAlone(ask);
    const { capacity, maxConnections } = entry.rule;
    if (capacity === Infinity && maxConnections === undefined) {
      this.#publisher.change(entry);
      return answered(this.#admit(entry));
    }
    entry.waiting.push(ask);
    this.#deadlines.add(ask);
    if (!entry.asking) this.#question(this.#node.session, entry);
  }

  adopt(client: string): Lease {
    const entry = this.#node.clients.of(client);
    this.#publisher.change(entry);
    return this.#admit(entry);
  }

  /** The store is lost: who waits for it is judged at once. */
  lost(): void {
    for (const ask of this.#deadlines.takeAll()) this.#decideAlone(ask);
  }

  #question(session: Session, entry: ClientEntry): void {
    const asks = entry.waiting.splice(0, MAX_ASKED).filter(({ done }) => !done);
    if (asks.length === 0) return;
    const { now } = this.#node;
    const { capacity, fillRate, maxConnections = 0 } = entry.rule;
    const base = entry.open;
    const merge = entry.unmerged ? Math.max(0, entry.fullAt - now()) : 0;
    entry.asking = true;
    entry.unmerged = false;
    const at = performance.now();
    const limits = `${capacity === Infinity ? 0 : capacity} ${fillRate} ${maxConnections} ${this.#node.lease} ${merge}`;
    const numbers = `${session.next()} ${base} ${asks.length} ${limits}`;
    // It says how many there are: no other message has to.
    if (entry.back === 0) this.#node.clients.told(entry);
    const words = [session.node, session.incarnation, entry.name, numbers];
    session.run(DECIDE, keysOf(session, entry), words).then(
      (reply) => {
        this.#node.measures.took(performance.now() - at);
        const [granted, why, , wait] = reply as [number | "stale", string, string, string];
        if (granted === "stale") return this.#undecided(entry, asks, undefined);
        this.#decided(entry, asks, { granted, why: why as FleetRefusal, wait: Number(wait), base });
      },
      (error: unknown) => {
        entry.unmerged ||= merge > 0;
        this.#undecided(entry, asks, error);
      },
    );
  }

  #decided(
    entry: ClientEntry,
    asks: readonly Ask[],
    { granted, why, wait, base }: { granted: number; why: FleetRefusal; wait: number; base: number },
  ): void {
    entry.asking = false;
    entry.agreed = base + granted;
    if (wait > 0) entry.fullAt = Math.max(entry.fullAt, this.#node.now() + wait);
    let left = granted;
    for (const ask of asks) {
      if (ask.done) continue;
      ask.done = true;
      if (left-- > 0) ask.answered(this.#admit(entry));
      else ask.answered(why);
    }
    // Somebody did not wait for it, or has left meanwhile.
    if (entry.open !== entry.agreed || entry.changed) this.#publisher.change(entry);
    this.#goOn(entry);
  }

  #undecided(entry: ClientEntry, asks: readonly Ask[], error: unknown): void {
    entry.asking = false;
    if (error !== undefined && kindOf(error) === "wrong_type")
      this.#node.wrongType(this.#node.keyOf(entry), error);
    for (const ask of asks) this.#decideAlone(ask);
    this.#publisher.change(entry);
    this.#goOn(entry);
  }

  /** Connections may have come while the store was asked. */
  #goOn(entry: ClientEntry): void {
    const session = this.#node.session;
    if (entry.waiting.length === 0 || entry.asking) return;
    if (session?.up === true) this.#question(session, entry);
    else for (const ask of entry.waiting.splice(0)) this.#decideAlone(ask);
  }

  #decideAlone(ask: Ask): void {
    if (ask.done) return;
    ask.done = true;
    const { client: entry, answered } = ask;
    const whenDown = this.#node.run?.config.whenDown ?? "local";
    if (whenDown === "refuse") return answered("fleet_unavailable");
    const nodes = whenDown === "local" ? 1 : this.#node.nodes.count();
    const verdict = judge(entry, entry.rule, nodes, this.#node.now());
    if (typeof verdict === "string") return answered(verdict);
    entry.fullAt = verdict;
    entry.unmerged = true;
    const lease = this.#admit(entry);
    this.#publisher.change(entry);
    answered(lease);
  }

  #admit(entry: ClientEntry): Lease {
    entry.open++;
    let held = true;
    const end = (refund: boolean) => {
      if (!held) return;
      held = false;
      entry.open--;
      if (refund && entry.rule.capacity !== Infinity) {
        entry.fullAt -= entry.rule.fillRate;
        if (!entry.unmerged) entry.back++;
      }
      this.#publisher.change(entry);
    };
    return { release: () => end(false), cancel: () => end(true) };
  }
}
