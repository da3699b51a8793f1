// Admission: from a finished handshake to a lease, in the fixed order handshake → identify → route → authorize → admit.
// `decide` makes the decision; `admit` and, after a reload, `reauthorize` call it. This file opens, writes and closes
// no socket.

import type { X509Certificate } from "node:crypto";
import type { Config } from "../config/config.ts";
import type { RefusalReason } from "../lib/errors.ts";
import { accessOf, type AccessKey } from "../auth/access.ts";
import { handshakeRefusal } from "../auth/tls-failure.ts";
import type { Identity } from "../auth/identity.ts";
import type { IdentityRule } from "../auth/identity-rule.ts";
import type { Pool } from "../upstreams/pool.ts";
import { encodeProxyHeader } from "../upstreams/proxy-protocol.ts";
import type { Block, Blocks } from "../auth/blocks.ts";
import { networkDetail, type NetworkRule, type Networks } from "../auth/networks.ts";
import type { Router } from "../auth/server-name.ts";
import { TUNNEL_PROTOCOL } from "../lib/tunnel-protocol.ts";
import type { Limits } from "../state/limits.ts";
import type { Lease } from "./fleet-gate.ts";
import { judge, weaknessOf, type Finding } from "../auth/certificate-check.ts";
import type { Trust } from "../auth/trust.ts";

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
  /** The certificates and revocation lists that it trusts now. */
  trust: Trust;
  /** Counts the changes of trust. A handshake that began under an older number was verified by older rules. */
  generation: number;
  /** The generation in which the current authorities took effect. TLS has used them for every handshake since then. */
  authoritiesSince: number;
  /** A reload removed the listener. It has no configured trust any more, and so trusts no certificate. */
  removed: boolean;
}

/** The part of a client's socket that identifies the client. */
export type ClientSocket = Pick<
  Bun.Socket<unknown>,
  | "authorized"
  | "getPeerX509Certificate"
  | "getPeerCertificate"
  | "getServername"
  | "isSessionReused"
  | "getCipher"
  | "getTLSVersion"
  | "alpnProtocol"
  | "remoteAddress"
  | "remotePort"
  | "localAddress"
  | "localPort"
>;

/** What {@link admit} needs besides the socket. */
export interface Circumstances {
  readonly rules: ActiveConfig;
  readonly limits: Limits;
  readonly listener: ListenerState;
  /** The listener's generation when the connection was accepted. */
  readonly generation: number;
  /** Where the client comes from. */
  readonly address: string | undefined;
  /** Names the connection, for the log and the upstream. */
  readonly id: string;
  /** Whole milliseconds of a monotonic clock. */
  readonly now: number;
}

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
  /** Milliseconds since 1970. */
  readonly date: number;
}

/** One step of a decision, as it is made. Without `ok` it ends in a refusal, and no step follows. */
export type Step =
  | { readonly name: "listener"; readonly ok: boolean }
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

/** An admitted connection. */
export interface Admission {
  readonly client: string;
  readonly group: string;
  readonly pool: Pool;
  /** The server name that the client asked for, if any. */
  readonly serverName: string | undefined;
  readonly lease: Lease;
  /** When the client's certificate expires, in milliseconds since 1970. */
  readonly expiresAt: number;
  /** Bytes that the target gets before anything else. */
  readonly header: Uint8Array | undefined;
}

/**
 * Decides who the client is, which upstream it reaches, and whether it is allowed to. Pure: it takes nothing and
 * changes nothing.
 * Limits are not part of the decision, because they depend on the moment.
 */
export function decide<P extends Policy>(
  { listener, from, serverName, address, date }: Question,
  { router, pools, blocks }: DecisionRules<P>,
  trace?: Trace,
): Grant<P> | Refusal {
  trace?.({ name: "listener", ok: !listener.removed });
  if (listener.removed) return { reason: "certificate_untrusted", detail: "listener removed" };
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

/** Why TLS has not verified the client of a handshake that has ended; undefined where it has. */
export function handshakeFailure(
  socket: ClientSocket,
  success: boolean,
  error: Error | null,
): Refusal | undefined {
  // `success` is true for a stranger's certificate too: `authorized` decides.
  if (success && error === null && socket.authorized) return undefined;
  const [reason, detail] = handshakeRefusal(success, error, socket.getTLSVersion() === "TLSv1.3");
  const weak = detail === "CERT_SIGNATURE_FAILURE" && weaknessOf(socket.getPeerX509Certificate());
  return weak ? weak : { reason, detail };
}

/**
 * Decides on a client whose handshake has succeeded or failed, and takes a lease. A refusal takes nothing from any
 * client.
 */
export function admit(
  socket: ClientSocket,
  success: boolean,
  error: Error | null,
  { rules, limits, listener, generation, address, id, now }: Circumstances,
): Admission | Refusal {
  const failure = handshakeFailure(socket, success, error);
  if (failure !== undefined) return failure;
  const serverName = serverNameOf(socket);
  const from = presentedBy(socket, listener, generation);
  const decision = decide({ listener, from, serverName, address, date: Date.now() }, rules);
  if ("reason" in decision) return decision;
  const { client, group, upstream, pool } = decision;

  const version = pool.upstream.proxyProtocol;
  if (version !== undefined && hasLeft(socket)) {
    return { reason: "handshake_failed", client, upstream, detail: "the client left" };
  }
  const header =
    version && encodeProxyHeader(version, { ...describe(socket), client, serverName, uniqueId: id });
  if (version !== undefined && header === undefined) return { reason: "proxy_header", client, upstream };

  const lease = limits.admit(client, now);
  if (typeof lease === "string") return { reason: lease, client, upstream };
  const expiresAt = (from.certificate as X509Certificate).validToDate.getTime();
  return { client, group, pool, serverName, lease, header, expiresAt };
}

/** What {@link reauthorize} needs besides the connection. */
export interface Reauthorizing {
  readonly rules: DecisionRules & { readonly config: Pick<Config, "disconnectExpired" | "expiryGrace"> };
  readonly listener: ListenerState;
  /** The listener's generation when the connection was accepted. */
  readonly generation: number;
  /** Where the client comes from. */
  readonly address: string | undefined;
  /** Whether the certificate is checked again, because the listener's trust or its kind of identity has changed. */
  readonly judged: boolean;
}

/** Why an open connection is no longer allowed. */
export type RevokedFor =
  RefusalReason | "upstream_removed" | "upstream_changed" | "listener_removed" | "identity_changed";

/**
 * Repeats the decision on an open connection after a reload, or by the rules that a reload would put in force.
 * @returns the refusal, if the connection would be refused, would reach another upstream, or would be another client's;
 *   undefined if none of these, or if the certificate has only expired, and `disconnectExpired` is off or `expiryGrace`
 *   lasts
 */
export function reauthorize(
  socket: ClientSocket,
  { client, pool, serverName }: Pick<Admission, "client" | "pool" | "serverName">,
  { rules, listener, generation, address, judged }: Reauthorizing,
): RevokedFor | undefined {
  if (listener.removed) return "listener_removed";
  if (pool.removed || !rules.pools.has(pool.upstream.name)) return "upstream_removed";
  const identity = { client, group: client.slice(client.indexOf("@") + 1) };
  const question = { listener, serverName, address, date: Date.now() };
  const rights = decide({ ...question, from: identity }, rules);
  if ("reason" in rights && rights.upstream === undefined) return rights.reason;
  if (rights.upstream !== pool.upstream.name) return "upstream_changed";
  if ("reason" in rights) return rights.reason;
  if (!judged) return undefined;
  const from = presentedBy(socket, listener, generation);
  const { disconnectExpired, expiryGrace } = rules.config;
  let expiredAt = Infinity;
  const hear: Trace = (step) => {
    if (step.name === "certificate")
      expiredAt = Math.min(...step.finding.chain.map(({ notAfter }) => notAfter));
  };
  const decision = decide({ ...question, from }, rules, expiryGrace > 0 ? hear : undefined);
  if ("reason" in decision) {
    const { date } = question;
    const lasts = expiredAt <= date && date < expiredAt + expiryGrace;
    if (decision.reason !== "certificate_expired" || (disconnectExpired && !lasts)) return decision.reason;
  }
  return listener.identity.identify(from.certificate)?.client === client ? undefined : "identity_changed";
}

/**
 * What TLS knows of the client. TLS verified it by older rules: those of the first session, or those before a reload.
 */
export function presentedBy(
  socket: ClientSocket,
  { generation: current, authoritiesSince }: Pick<ListenerState, "generation" | "authoritiesSince">,
  generation: number,
): Presented {
  return {
    certificate: socket.getPeerX509Certificate(),
    chain: () => sentBy(socket),
    // True for a resumed session too: other authorities come with other ticket keys, so its session used the same ones.
    vouched: generation >= authoritiesSince,
    since: socket.isSessionReused()
      ? "resumed session"
      : generation === current
        ? undefined
        : "after a reload",
  };
}

/** The certificates above the client's, as far as TLS has them, up to the first self-issued authority. */
function sentBy(socket: ClientSocket): Uint8Array[] {
  type Link = { raw?: Uint8Array; issuerCertificate?: Link } | null | undefined;
  const chain: Uint8Array[] = [];
  // The argument requests the whole chain; Bun's types leave it out.
  let link = (socket.getPeerCertificate as (abbreviated: boolean) => Link).call(socket, false);
  for (; link?.raw !== undefined && chain.length < 16; link = link.issuerCertificate) {
    chain.push(link.raw);
    if (link.issuerCertificate === link) break;
  }
  return chain.slice(1);
}

/** The server name that the client asked for, if any. */
export function serverNameOf(socket: Pick<ClientSocket, "getServername">): string | undefined {
  const name: unknown = socket.getServername();
  return typeof name === "string" && name !== "" ? name : undefined;
}

/** A client that has left has no address or port, although the types say that it has. */
function hasLeft(socket: Partial<ClientSocket>): boolean {
  const { remoteAddress, remotePort, localAddress, localPort } = socket;
  return [remoteAddress, remotePort, localAddress, localPort].includes(undefined);
}

function describe(socket: ClientSocket) {
  const { alpnProtocol: alpn } = socket;
  const cipher = socket.getCipher() as { name: string; standardName?: string };
  return {
    source: { hostname: socket.remoteAddress, port: socket.remotePort },
    destination: { hostname: socket.localAddress, port: socket.localPort },
    tlsVersion: "TLSv1.3",
    cipher: cipher.standardName ?? cipher.name,
    // The tunnel's protocol ends at the proxy: the upstream speaks another one.
    alpn: typeof alpn === "string" && alpn !== "" && alpn !== TUNNEL_PROTOCOL ? alpn : undefined,
    resumed: socket.isSessionReused(),
  };
}
