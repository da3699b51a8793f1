// The shadow: another configuration that decides on every admission and every open connection beside the one in force,
// without effect. It has buckets and open counts of its own. Only where the two differ does it write a line.

import type { Config } from "../config/config.ts";
import type { Credentials } from "../config/credentials.ts";
import type { Logger } from "../lib/log.ts";
import { networkRule, type Networks } from "../auth/networks.ts";
import { Router } from "../auth/server-name.ts";
import type { Counters } from "../state/counters.ts";
import type { LedgerMemory } from "../state/ledger.ts";
import type { ClientLease, Limits } from "../state/limits.ts";
import {
  decide,
  presentedBy,
  NO_LISTENER,
  reauthorize,
  serverNameOf,
  type ActiveConfig,
  type Admission,
  type ClientSocket,
  type DecisionRules,
  type Grant,
  type ListenerState,
  type Policy,
  type Refusal,
  type RevokedFor,
} from "./admission.ts";
import { identityRule, type IdentitySettings } from "../auth/identity-rule.ts";
import { trustIn, type Trust } from "../auth/trust.ts";
import { RefusalLog } from "./refusal-log.ts";
import { outcomeOf, SHADOW_CODES, type Outcome } from "./shadow-counts.ts";

/** The part of a configuration that decides, and what it decides with. It can be sent to another thread. */
export interface ShadowSnapshot {
  readonly config: Pick<
    Config,
    "upstreams" | "fallback" | "rateLimit" | "limits" | "disconnectExpired" | "expiryGrace"
  >;
  /** One for each port of the start; undefined if the shadow has no listener for it. */
  readonly listeners: readonly (ShadowListener | undefined)[];
  /** Where its clients are counted. */
  readonly ledger: LedgerMemory;
}

/** A port as the shadow has it. */
export interface ShadowListener extends Pick<Credentials, "ca" | "crl">, Networks {
  readonly upstream: string | undefined;
  readonly identity: IdentitySettings | undefined;
}

/** Refusals that no configuration has a part in, or that depend on what the upstream has to be told. */
const UNJUDGED: ReadonlySet<string> = new Set([
  "handshake_failed",
  "certificate_missing",
  "proxy_header",
] satisfies Refusal["reason"][]);

/** A connection that is judged. */
export interface Judged {
  readonly id: string;
  readonly socket: ClientSocket;
  readonly remote: string;
  /** The host in `remote`. */
  readonly address: string;
  readonly peer: string | undefined;
  readonly peerAddress: string | undefined;
  readonly listener: ListenerState;
  /** The listener's generation when the connection was accepted. */
  readonly generation: number;
  /** What is in force. */
  readonly rules: ActiveConfig;
  /** Whole milliseconds of a monotonic clock. */
  readonly now: number;
}

export interface ShadowOptions {
  readonly limits: Limits;
  readonly counters: Counters;
  readonly log: Logger;
  now(): number;
  /** As {@link RefusalLog} has it. */
  readonly interval: number | undefined;
}

/** A listener as the shadow has it, and what it has in common with the one in force. */
interface Listener {
  readonly state: ListenerState;
  readonly isSameCa: boolean;
  /** The revocation lists and the kind of identity are the same too: both see a certificate in the same way. */
  readonly isSameTrust: boolean;
}

/** What both say of a connection. */
interface Opinions {
  readonly client: string | undefined;
  readonly upstream: string | undefined;
  readonly enforced: Outcome;
  readonly shadow: Outcome;
  readonly reason: RevokedFor | "";
  readonly detail?: string | undefined;
}

/** A thread's shadow. */
export class Shadow {
  readonly limits: Limits;
  readonly #counters: Counters;
  /** Lines of differences, by what is enforced and what the shadow says. */
  readonly #logs: Readonly<Record<string, RefusalLog>>;
  #rules: Omit<DecisionRules, "blocks"> & {
    readonly config: Pick<Config, "disconnectExpired" | "expiryGrace">;
  };
  /** By row. */
  #listeners: readonly Listener[] = [];

  constructor({ limits, counters, log, now, interval }: ShadowOptions) {
    this.limits = limits;
    this.#counters = counters;
    this.#rules = {
      router: new Router([], undefined),
      pools: new Map(),
      config: { disconnectExpired: true, expiryGrace: 0 },
    };
    const lines = (enforced: Outcome, shadow: Outcome) =>
      new RefusalLog({
        write: (fields) => log.info("shadow", { ...fields, enforced, shadow }),
        now,
        interval,
      });
    this.#logs = {
      "allowed refused": lines("allowed", "refused"),
      "allowed allowed": lines("allowed", "allowed"),
      "refused allowed": lines("refused", "allowed"),
    };
  }

  /**
   * Decides by this configuration from now on.
   * @param states the listeners in force, by row; undefined where there is none any more
   */
  follow(
    { config, listeners }: ShadowSnapshot,
    states: readonly (ListenerState | undefined)[],
    now: number,
  ): void {
    const { upstreams, fallback, rateLimit, limits } = config;
    this.limits.setRule(rateLimit, now, limits);
    const pools = upstreams.map(
      (upstream) => [upstream.name, { upstream, removed: false }] satisfies [string, Policy],
    );
    this.#rules = { router: new Router(upstreams, fallback), pools: new Map(pools), config };
    this.#listeners = states.map((state, row) =>
      listenerOf(state, listeners[row], this.#listeners[row]?.state.trust),
    );
  }

  /**
   * Judges a client whose handshake has ended, with a certificate whose key is its own.
   * @param enforced what the configuration in force says
   * @returns the client's lease with the shadow, if both allow it
   */
  judge(judged: Judged, enforced: Admission | Refusal): ClientLease | undefined {
    const isAllowed = !("reason" in enforced);
    if (!isAllowed && UNJUDGED.has(enforced.reason)) return undefined;
    const decision = this.#decide(judged, enforced);
    const lease = "reason" in decision ? undefined : this.limits.admit(decision.client, judged.now);
    const refusal: Refusal | undefined =
      "reason" in decision ? decision : typeof lease === "string" ? { reason: lease } : undefined;
    const upstream = isAllowed ? enforced.pool.upstream.name : (enforced.upstream ?? decision.upstream);
    const isElsewhere = isAllowed && refusal === undefined && decision.upstream !== upstream;
    this.#compare(judged, {
      client: enforced.client ?? decision.client,
      upstream,
      enforced: isAllowed ? "allowed" : "refused",
      shadow: refusal === undefined ? "allowed" : "refused",
      reason: refusal?.reason ?? (isElsewhere ? "upstream_changed" : isAllowed ? "" : enforced.reason),
      detail: refusal?.detail ?? (isElsewhere ? decision.upstream : isAllowed ? undefined : enforced.detail),
    });
    if (typeof lease !== "object") return undefined;
    if (isAllowed) return lease;
    lease.release();
    return undefined;
  }

  /**
   * Judges an open connection, as a reload to the shadow would.
   * @param lease the one that it has with the shadow
   * @returns the one that it has from now on
   */
  judgeOpen(judged: Judged, admission: Admission, lease: ClientLease | undefined): ClientLease | undefined {
    const { socket, generation, address, peerAddress, rules, now } = judged;
    const { client, pool } = admission;
    const { state, isSameTrust } = this.#listeners[judged.listener.row] as Listener;
    const why = reauthorize(socket, admission, {
      rules: { ...this.#rules, blocks: rules.blocks },
      listener: state,
      generation,
      address,
      peerAddress,
      judged: !isSameTrust,
    });
    this.#compare(judged, {
      client,
      upstream: pool.upstream.name,
      enforced: "allowed",
      shadow: why === undefined ? "allowed" : "refused",
      reason: why ?? "",
    });
    if (why === undefined) return lease ?? this.limits.adopt(client, now);
    lease?.release();
    return undefined;
  }

  /** Writes all lines that are counted. */
  flush(): void {
    for (const log of Object.values(this.#logs)) log.flush();
  }

  /** Judges a certificate again only where the two trust differently. */
  #decide(judged: Judged, enforced: Admission | Refusal): Grant<Policy> | Refusal {
    const { socket, generation, address, peerAddress, rules } = judged;
    const { state, isSameCa, isSameTrust } = this.#listeners[judged.listener.row] as Listener;
    const { client } = enforced;
    const isRefused = "reason" in enforced;
    // Blocks hold over any configuration; and where TLS knows the same CAs, it says the same.
    if (isRefused && enforced.reason === "blocked") return enforced;
    if (isRefused && isSameCa && !socket.authorized) return enforced;
    if (isRefused && isSameTrust && client === undefined) return enforced;
    const from =
      isSameTrust && client !== undefined
        ? { client, group: client.slice(client.indexOf("@") + 1) }
        : { ...presentedBy(socket, state, generation), since: undefined };
    const question = {
      listener: state,
      from,
      serverName: serverNameOf(socket),
      address,
      peerAddress,
      date: Date.now(),
    };
    return decide(question, { ...this.#rules, blocks: rules.blocks });
  }

  /** Counts a decision, and writes a line if the two differ. */
  #compare({ id, socket, remote, peer, listener, rules }: Judged, opinions: Opinions): void {
    const { client, upstream, enforced, shadow, reason, detail } = opinions;
    const row = rules.pools.get(upstream ?? "")?.row;
    this.#counters.judged(row, outcomeOf(enforced, shadow), SHADOW_CODES.get(reason) as number);
    if (enforced === shadow && reason !== "upstream_changed") return;
    this.#logs[`${enforced} ${shadow}`]?.add(reason, client, remote, () => {
      const serverName = serverNameOf(socket)?.slice(0, 255);
      return { id, client, remote, peer, listener: listener.address, serverName, upstream, reason, detail };
    });
  }
}

/** @param state the listener in force @param before what the shadow trusted there */
function listenerOf(
  state: ListenerState = NO_LISTENER,
  own: ShadowListener | undefined,
  before: Trust | undefined,
): Listener {
  if (own === undefined) {
    return {
      state: { ...state, trust: NO_LISTENER.trust, removed: true },
      isSameCa: false,
      isSameTrust: false,
    };
  }
  const isSameCa = isSameList(own.ca, state.trust.authorities.pem, (a, b) => a === b);
  const isSameIdentity = Bun.deepEquals(own.identity, state.identity.settings);
  // Chains that are known to be good stay known.
  const trust = trustIn(own, isSameCa ? state.trust : before);
  const authoritiesSince = isSameCa ? state.authoritiesSince : Infinity;
  return {
    state: {
      ...state,
      upstream: own.upstream,
      networks: networkRule(own),
      identity: isSameIdentity ? state.identity : identityRule(own.identity),
      trust,
      authoritiesSince,
      removed: false,
    },
    isSameCa,
    isSameTrust: isSameCa && isSameIdentity && hasSameLists(own.crl, state.trust.revocations),
  };
}

function hasSameLists(a: Trust["revocations"], b: Trust["revocations"]): boolean {
  if (a === undefined || b === undefined) return a === b;
  return isSameList(a, b, (one, other) => Buffer.compare(one.der, other.der) === 0);
}

function isSameList<T>(a: readonly T[], b: readonly T[], isSame: (a: T, b: T) => boolean): boolean {
  return a.length === b.length && a.every((each, i) => isSame(each, b[i] as T));
}
