// Admission: from a finished handshake to a lease, in the fixed order handshake → identify → route → authorize → admit.
// `admit` and, after a reload, `reauthorize` ask `decide` (decision.ts). This file opens, writes and closes no socket.

import type { X509Certificate } from "node:crypto";
import { weaknessOf } from "../auth/certificate-check.ts";
import { handshakeRefusal } from "../auth/tls-failure.ts";
import type { Config } from "../config/config.ts";
import type { RefusalReason } from "../lib/errors.ts";
import { TUNNEL_PROTOCOL } from "../lib/tunnel-protocol.ts";
import type { Limits } from "../state/limits.ts";
import type { Pool } from "../upstreams/pool.ts";
import { encodeProxyHeader } from "../upstreams/proxy-protocol.ts";
import {
  decide,
  type ActiveConfig,
  type DecisionRules,
  type ListenerState,
  type Presented,
  type Refusal,
  type Trace,
} from "./decision.ts";
import type { Lease } from "./fleet-gate.ts";
import type { ConnectionEnds } from "./proxy-header.ts";

export * from "./decision.ts";

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
  readonly peerAddress?: string | undefined;
  /** The connection as a balancer describes it; undefined for the socket's own. */
  readonly ends?: ConnectionEnds | undefined;
  /** Names the connection, for the log and the upstream. */
  readonly id: string;
  /** Whole milliseconds of a monotonic clock. */
  readonly now: number;
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
  { rules, limits, listener, generation, address, peerAddress, ends, id, now }: Circumstances,
): Admission | Refusal {
  const failure = handshakeFailure(socket, success, error);
  if (failure !== undefined) return failure;
  const serverName = serverNameOf(socket);
  const from = presentedBy(socket, listener, generation);
  const decision = decide({ listener, from, serverName, address, peerAddress, date: Date.now() }, rules);
  if ("reason" in decision) return decision;
  const { client, group, upstream, pool } = decision;

  const version = pool.upstream.proxyProtocol;
  if (version !== undefined && hasLeft(socket)) {
    return { reason: "handshake_failed", client, upstream, detail: "the client left" };
  }
  const header =
    version && encodeProxyHeader(version, { ...describe(socket), ...ends, client, serverName, uniqueId: id });
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
  /** The balancer that has named this address in a PROXY header. */
  readonly peerAddress?: string | undefined;
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
  { rules, listener, generation, address, peerAddress, judged }: Reauthorizing,
): RevokedFor | undefined {
  if (listener.removed) return "listener_removed";
  if (pool.removed || !rules.pools.has(pool.upstream.name)) return "upstream_removed";
  const identity = { client, group: client.slice(client.indexOf("@") + 1) };
  const question = { listener, serverName, address, peerAddress, date: Date.now() };
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
