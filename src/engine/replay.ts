// Asks of a log what a configuration would have said: each admission that it records is decided on again, and the limits
// run by the log's own clock. The decision starts from the identity: a log has no certificates. Pure.

import { Blocks } from "../auth/blocks.ts";
import { isClientPattern } from "../auth/identity.ts";
import { networkRule } from "../auth/networks.ts";
import { Router } from "../auth/server-name.ts";
import type { Config } from "../config/config.ts";
import {
  NO_LISTENER,
  decide,
  type DecisionRules,
  type ListenerState,
  type Policy,
} from "../connection/admission.ts";
import { hostOf } from "../connection/view.ts";
import { formatAddress } from "../lib/address.ts";
import type { Ledger } from "../state/ledger.ts";
import { ruleOf, type ClientRules } from "../state/client-rules.ts";
import { Limits, type ClientLease } from "../state/limits.ts";

/** The largest number of clients that are told apart; the others share one line. */
const MAX_CLIENTS = 10_000;

/** The largest number of connections that are open at a time in the log; the oldest is taken to have ended. */
const MAX_OPEN = 1_000_000;

/** How many lines come between two sweeps of clients with a full bucket and nothing open. */
const SWEEP_LINES = 4_096;

/** How many connections of a client meet one answer. */
export interface ReplayCount {
  /** "others" stands for all beyond the first ten thousand. */
  readonly client: string;
  readonly upstream: string;
  /** Why it is, or was, refused; of those that reach another upstream, its name. */
  readonly reason: string;
  readonly count: number;
}

/** What the configuration says of a log; the most frequent come first. */
export interface ReplayResult {
  /** Admissions in the log, and how many of them would be refused. */
  readonly admissions: number;
  readonly refused: number;
  readonly refusedBy: readonly ReplayCount[];
  /** Refusals in the log of clients whose identity was verified, and how many of them would be admitted. */
  readonly refusals: number;
  readonly admitted: number;
  readonly admittedBy: readonly ReplayCount[];
  /** Admissions that would reach another upstream. */
  readonly moved: number;
  readonly movedTo: readonly ReplayCount[];
  /** Whether the limits have run: the log says when connections were admitted, and not only when they ended. */
  readonly limits: boolean;
  /** Lines that are none of a JSON log. */
  readonly skipped: number;
}

type Entry = Readonly<Record<string, unknown>>;

export class Replay {
  readonly #rules: DecisionRules;
  readonly #limits: Limits;
  readonly #listeners: ReadonlyMap<string, ListenerState>;
  readonly #only: ListenerState | undefined;
  /** Admitted and not closed, by id: the lease, if this configuration admits the connection. */
  readonly #open = new Map<string, ClientLease | undefined>();
  readonly #refused = new Counts();
  readonly #admitted = new Counts();
  readonly #moved = new Counts();
  readonly #clientRules: ClientRules;
  #admissions = 0;
  #refusals = 0;
  #skipped = 0;
  #lines = 0;
  #hasAdmissions = false;
  /** The log's clock, which never goes back. */
  #now = 0;

  constructor(config: Config, ledger: Ledger) {
    const { upstreams, fallback, listeners, rateLimit, limits } = config;
    this.#clientRules = { rateLimit, limits };
    const pools = upstreams.map(
      (upstream) => [upstream.name, { upstream, removed: false }] satisfies [string, Policy],
    );
    this.#rules = {
      router: new Router(upstreams, fallback),
      pools: new Map(pools),
      blocks: Blocks.NONE,
    };
    this.#limits = new Limits(ledger, rateLimit, limits);
    const states = listeners.map((each): ListenerState => ({
      ...stateOf(formatAddress(each.address), each.upstream),
      networks: networkRule(each),
    }));
    this.#listeners = new Map(states.map((state) => [state.address, state]));
    this.#only = states.length === 1 ? states[0] : undefined;
  }

  /** @returns whether the line is one of a JSON log */
  add(line: string): boolean {
    const entry = parse(line);
    if (entry === undefined) {
      if (line.trim() !== "") this.#skipped++;
      return false;
    }
    const { msg, id, client } = entry;
    this.#now = Math.max(this.#now, Math.floor(Date.parse(entry["time"] as string)));
    if (++this.#lines % SWEEP_LINES === 0) this.#limits.sweep(this.#now);
    const key = typeof id === "string" ? id : undefined;
    if (typeof client !== "string" || !isClientPattern(client) || client.startsWith("*@")) return true;
    if (msg === "admitted") this.#wasAdmitted(key, client, entry);
    else if (msg === "closed") this.#hasEnded(key, client, entry, false);
    else if (msg === "refused" && entry["reason"] === "no_target") this.#hasEnded(key, client, entry, true);
    else if (msg === "refused") this.#wasRefused(client, entry);
    return true;
  }

  result(): ReplayResult {
    return {
      admissions: this.#admissions,
      refused: this.#refused.sum,
      refusedBy: this.#refused.list(),
      refusals: this.#refusals,
      admitted: this.#admitted.sum,
      admittedBy: this.#admitted.list(),
      moved: this.#moved.sum,
      movedTo: this.#moved.list(),
      limits: this.#hasAdmissions,
      skipped: this.#skipped,
    };
  }

  #wasAdmitted(id: string | undefined, client: string, entry: Entry): void {
    this.#hasAdmissions = true;
    const isAllowed = this.#judge(client, entry);
    const lease = isAllowed ? this.#limits.admit(client, this.#now) : undefined;
    if (typeof lease === "string") this.#refused.add(client, nameOf(entry["upstream"]), lease);
    const held = typeof lease === "object" ? lease : undefined;
    if (id === undefined) return held?.release();
    this.#open.set(id, held);
    if (this.#open.size <= MAX_OPEN) return;
    const [[oldest, its]] = this.#open as unknown as [[string, ClientLease | undefined]];
    its?.release();
    this.#open.delete(oldest);
  }

  /** @param unserved no target had answered: its token was given back */
  #hasEnded(id: string | undefined, client: string, entry: Entry, unserved: boolean): void {
    if (id === undefined || !this.#open.has(id)) return void this.#judge(client, entry);
    const lease = this.#open.get(id);
    if (unserved) lease?.cancel();
    else lease?.release();
    this.#open.delete(id);
  }

  /** Decides on an admission, without limits. @returns whether it is allowed */
  #judge(client: string, entry: Entry): boolean {
    this.#admissions++;
    const decision = this.#decide(client, entry);
    const upstream = nameOf(entry["upstream"]);
    if ("reason" in decision) this.#refused.add(client, upstream, decision.reason);
    else if (upstream !== "" && decision.upstream !== upstream) {
      this.#moved.add(client, upstream, decision.upstream);
    }
    return !("reason" in decision);
  }

  #wasRefused(client: string, entry: Entry): void {
    const { reason } = entry;
    if (typeof reason !== "string" || !DECIDED.has(reason)) return;
    // The upstream had its `maxConnections`, which is not judged: only then has the reason a detail.
    if (reason === "connection_limit" && entry["detail"] !== undefined) return;
    const count = Number.isSafeInteger(entry["count"]) ? Math.max(1, entry["count"] as number) : 1;
    this.#refusals += count;
    const decision = this.#decide(client, entry);
    if ("reason" in decision) return;
    let admitted = 0;
    // With nothing to run out of, one answer holds for all.
    const first = this.#take(client);
    if (first) admitted = ruleOf(this.#clientRules, client).capacity === Infinity ? count : 1;
    while (first && admitted < count && this.#take(client)) admitted++;
    if (admitted > 0) this.#admitted.add(client, decision.upstream, reason, admitted);
  }

  /** Takes a token for a connection whose length nobody knows: it ends at once. */
  #take(client: string): boolean {
    const lease = this.#limits.admit(client, this.#now);
    if (typeof lease === "string") return false;
    lease.release();
    return true;
  }

  #decide(client: string, entry: Entry) {
    const { remote, serverName } = entry;
    const address = nameOf(entry["listener"]);
    return decide(
      {
        listener: this.#listeners.get(address) ?? this.#only ?? stateOf(address, undefined, true),
        from: { client, group: client.slice(client.indexOf("@") + 1) },
        serverName: typeof serverName === "string" ? serverName : undefined,
        address: typeof remote === "string" ? hostOf(remote) : undefined,
        date: this.#now,
      },
      this.#rules,
    );
  }
}

/** Refusals that another configuration can decide otherwise, from the identity on. */
const DECIDED: ReadonlySet<string> = new Set([
  "unknown_server_name",
  "group_not_authorized",
  "connection_limit",
  "rate_limited",
]);

function stateOf(address: string, upstream: string | undefined, removed = false): ListenerState {
  return { ...NO_LISTENER, address, upstream, removed };
}

function parse(line: string): Entry | undefined {
  // Most other text is seen by its first character, and never parsed.
  if (!/^\s*\{/.test(line)) return undefined;
  try {
    const entry = JSON.parse(line) as Entry;
    const { time, msg } = entry;
    return typeof msg === "string" && typeof time === "string" && !Number.isNaN(Date.parse(time))
      ? entry
      : undefined;
  } catch {
    return undefined;
  }
}

function nameOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** Counts by client, upstream and reason, in bounded memory. */
class Counts {
  sum = 0;
  readonly #counts = new Map<string, { client: string; upstream: string; reason: string; count: number }>();

  add(client: string, upstream: string, reason: string, count = 1): void {
    this.sum += count;
    const key = `${client}\n${upstream}\n${reason}`;
    const known = this.#counts.get(key);
    if (known !== undefined) known.count += count;
    else if (this.#counts.size < MAX_CLIENTS || client === "others") {
      this.#counts.set(key, { client, upstream, reason, count });
    } else {
      this.sum -= count;
      this.add("others", "", reason, count);
    }
  }

  list(): ReplayCount[] {
    return [...this.#counts.values()].sort((a, b) => b.count - a.count);
  }
}
