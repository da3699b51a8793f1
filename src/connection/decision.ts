// The decision on a client: identify → route → authorize. `decide` makes it, for a connection and for a question about
// one. Pure: it takes nothing and changes nothing.

import type { X509Certificate } from "node:crypto";
import { accessOf, type AccessKey } from "../auth/access.ts";
import type { Block, Blocks } from "../auth/blocks.ts";
import { judge, type Finding } from "../auth/certificate-check.ts";
import type { Trust } from "../auth/trust.ts";
import type { Identity } from "../auth/identity.ts";
import { COMMON_NAME, type IdentityRule } from "../auth/identity-rule.ts";
import { networkDetail, type NetworkRule, type Networks } from "../auth/networks.ts";
import type { Router } from "../auth/server-name.ts";
import type { Config } from "../config/config.ts";
import type { RefusalReason } from "../lib/errors.ts";
import type { Pool } from "../upstreams/pool.ts";

/**
 * A configuration whose `maxConnections` is known: the configured number, or the number that the descriptor limit
 * allows.
 */
export type RunConfig = Config & { readonly maxConnections: number };

/** The configuration as the data path reads it. A reload replaces it. */
export interface ActiveConfig {
  readonly config: RunConfig;
  /** Whether an address is in `handshakes.exempt`. */
  isExempt(address: string | undefined): boolean;
  readonly router: Router;
  /** By the upstream's name. */
  readonly pools: ReadonlyMap<string, Pool>;
  readonly blocks: Blocks;
  /** Where refusals are counted: for each listener's row, by the upstream's name, or `""`. */
  readonly routes: readonly ReadonlyMap<string, number>[];
}

/** A listener as its connections see it. It outlives reloads: a reload replaces its fields. */
export interface ListenerState {
  /** Its address as configured, for the log. */
  readonly address: string;
  /** Its row in the counters. */
  readonly row: number;
  /** The upstream for all its connections, if the listener is pinned to one. */
  upstream: string | undefined;
  /** How it takes a client's identity from the certificate. */
  identity: IdentityRule;
  /** Which addresses it refuses; undefined if none. */
  networks: NetworkRule | undefined;
  /** Whether an address is a balancer's, which names the caller in a PROXY header; undefined if none is. */
  balancers: ((address: string | undefined) => boolean) | undefined;
  /** The certificates and revocation lists that it trusts now. */
  trust: Trust;
  /** Counts the changes of trust. A handshake that began under an older number was verified by older rules. */
  generation: number;
  /** The generation in which the current authorities took effect. TLS has used them for every handshake since then. */
  authoritiesSince: number;
  /** A reload removed the listener. It has no configured trust any more, and so trusts no certificate. */
  removed: boolean;
}

/** A listener that trusts nobody: no certificate is asked about. */
export const NO_LISTENER: ListenerState = {
  address: "",
  row: 0,
  upstream: undefined,
  identity: COMMON_NAME,
  networks: undefined,
  balancers: undefined,
  trust: { authorities: { pem: [], all: [], chains: new Map() }, revocations: undefined },
  generation: 0,
  authoritiesSince: 0,
  removed: true,
};

/** A connection is refused. */
export interface Refusal {
  readonly reason: RefusalReason;
  readonly detail?: string | undefined;
  readonly client?: string;
  readonly upstream?: string;
}

/** A certificate as a client presents it, for the decision to check. */
export interface Presented {
  readonly certificate: X509Certificate | undefined;
  /** The certificates above it, as the client sent them. Called only when they are needed. */
  chain(): Uint8Array[];
  /** TLS has verified the certificate with the current authorities. */
  readonly vouched: boolean;
  /** No TLS has seen it: the question is what a client that presents it would get. */
  readonly fresh?: boolean;
  /** Why the verdict of TLS is not enough. A refusal that contradicts TLS has it as its detail. */
  readonly since?: string | undefined;
}

/** The input of {@link decide}. It needs no socket, so that a caller can ask about a connection that does not exist. */
export interface Question {
  readonly listener: ListenerState;
  /** The certificate to check, or an identity that was verified before. */
  readonly from: Presented | Pick<Identity, "client" | "group">;
  readonly serverName: string | undefined;
  /** Where the client comes from; undefined in a question that leaves it open. */
  readonly address: string | undefined;
  /** The balancer that has named this address in a PROXY header. */
  readonly peerAddress?: string | undefined;
  /** Milliseconds since 1970. */
  readonly date: number;
}

/** One step of a decision, as it is made. Without `ok` it ends in a refusal, and no step follows. */
export type Step =
  | { readonly name: "listener"; readonly ok: boolean }
  | { readonly name: "balancer"; readonly ok: boolean }
  | { readonly name: "address"; readonly ok: boolean; readonly list: keyof Networks | undefined }
  | {
      readonly name: "certificate";
      readonly ok: boolean;
      readonly finding: Finding;
      readonly detail?: string | undefined;
    }
  | {
      readonly name: "identity";
      readonly ok: boolean;
      readonly client?: string;
      /** Why there is none. */
      readonly fault?: string;
    }
  | { readonly name: "blocks"; readonly ok: boolean; readonly block: Block | undefined }
  | {
      readonly name: "route";
      readonly ok: boolean;
      readonly upstream: string | undefined;
      readonly pinned: boolean;
    }
  | {
      readonly name: "authorization";
      readonly ok: boolean;
      readonly upstream: string;
      readonly client: string;
      readonly group: string;
      /** The key that lets the client through. */
      readonly by: AccessKey | undefined;
    };

/** Hears each step of a decision, in order. */
export type Trace = (step: Step) => void;

/** What a decision reads of an upstream. */
export type Policy = Pick<Pool, "upstream" | "removed">;

/** What {@link decide} decides by: the rules in force, or others that are only asked about. */
export interface DecisionRules<P extends Policy = Policy> extends Pick<ActiveConfig, "router" | "blocks"> {
  /** By the upstream's name. */
  readonly pools: ReadonlyMap<string, P>;
}

/** A connection is allowed: as which client, and to which upstream. */
export interface Grant<P extends Policy = Pool> {
  readonly client: string;
  readonly group: string;
  readonly upstream: string;
  readonly pool: P;
}

/**
 * Decides who the client is, which upstream it reaches, and whether it is allowed to. Pure: it takes nothing and
 * changes nothing.
 * Limits are not part of the decision, because they depend on the moment.
 */
export function decide<P extends Policy>(
  { listener, from, serverName, address, peerAddress, date }: Question,
  { router, pools, blocks }: DecisionRules<P>,
  trace?: Trace,
): Grant<P> | Refusal {
  trace?.({ name: "listener", ok: !listener.removed });
  if (listener.removed) return { reason: "certificate_untrusted", detail: "listener removed" };
  if (listener.balancers !== undefined || peerAddress !== undefined) {
    const isBalancer = listener.balancers?.(peerAddress ?? address) ?? false;
    const ok = isBalancer === (peerAddress !== undefined);
    trace?.({ name: "balancer", ok });
    if (!ok && isBalancer) return { reason: "proxy_header_missing" };
    if (!ok) return { reason: "proxy_header_invalid", detail: `${peerAddress} is no balancer any more` };
  }
  if (listener.networks !== undefined) {
    const list = address === undefined ? undefined : listener.networks(address);
    trace?.({ name: "address", ok: list === undefined, list });
    if (list !== undefined) return { reason: "address_denied", detail: networkDetail(list) };
  }
  const identity = "client" in from ? from : identityOf(from, listener, date, trace);
  if ("reason" in identity) return identity;
  const { client, group } = identity;
  trace?.({ name: "identity", ok: true, client });
  const fingerprint = () => ("client" in from ? undefined : from.certificate?.fingerprint256);
  const block = blocks.find({ client, address, fingerprint }, date);
  trace?.({ name: "blocks", ok: block === undefined, block });
  if (block !== undefined) return { reason: "blocked", client, detail: blockDetail(block) };
  const upstream = listener.upstream ?? router.route(serverName);
  const pool = upstream === undefined ? undefined : pools.get(upstream);
  trace?.({ name: "route", ok: pool !== undefined, upstream, pinned: listener.upstream !== undefined });
  if (upstream === undefined || pool === undefined) {
    return { reason: "unknown_server_name", client, detail: serverName?.slice(0, 255) };
  }
  const by = pool.removed ? undefined : accessOf(pool.upstream, client, group);
  trace?.({ name: "authorization", ok: by !== undefined, upstream, client, group, by });
  return by !== undefined
    ? { client, group, upstream, pool }
    : { reason: "group_not_authorized", client, upstream };
}

/** What the log says of a block. */
export function blockDetail({ subject, reason }: Block): string {
  return reason === "" ? subject : `${subject}: ${reason}`;
}

/** Who presents a certificate that is good by the rules of now. */
export function identityOf(
  { certificate, chain, vouched, fresh, since }: Presented,
  { trust, identity: rule }: Pick<ListenerState, "trust" | "identity">,
  date: number,
  trace?: Trace,
): Identity | Refusal {
  let finding: Finding | undefined;
  // Nothing is made for a connection, which has neither.
  const asked = trace && { fresh, trace: (found: Finding) => void (finding = found) };
  const verdict = judge(certificate, chain, trust, date, vouched, asked ?? (fresh ? { fresh } : undefined));
  trace?.({
    name: "certificate",
    ok: verdict === undefined,
    finding: finding ?? { chain: [], passed: [], failed: "chain" },
    detail: verdict?.detail,
  });
  if (verdict !== undefined) {
    const { reason, detail } = verdict;
    return { reason, detail: reason === "certificate_weak" ? detail : (since ?? detail) };
  }
  const identity = rule.identify(certificate);
  if (identity !== undefined) return identity;
  trace?.({ name: "identity", ok: false, fault: rule.fault(certificate) });
  return { reason: "identity_invalid" };
}
