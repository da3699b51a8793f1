// Who is admitted: from a finished handshake to a lease, in the fixed order handshake → identify → route → authorize → admit.
// `decide` is the one decision; `admit` and, after a reload, `reauthorize` ask it. No socket is opened, written to or closed here.

import type { X509Certificate } from "node:crypto";
import type { Config } from "../config/config.ts";
import type { RefusalReason } from "../lib/errors.ts";
import { handshakeRefusal } from "../auth/tls-failure.ts";
import { identify, type Identity } from "../auth/identity.ts";
import type { Pool } from "../upstreams/pool.ts";
import { encodeProxyHeader } from "../upstreams/proxy-protocol.ts";
import type { Router } from "../auth/server-name.ts";
import type { Limits } from "../state/limits.ts";
import type { Lease } from "./fleet-gate.ts";
import { judge, weaknessOf, type Trust } from "../auth/certificate-check.ts";

/** A configuration whose `maxConnections` is known: as configured, or as many as there are descriptors for. */
export type RunConfig = Config & { readonly maxConnections: number };

/** The configuration as the data path reads it. A reload replaces it. */
export interface ActiveConfig {
  readonly config: RunConfig;
  /** Whether an address is in `handshakes.exempt`. */
  isExempt(address: string | undefined): boolean;
  readonly router: Router;
  /** By the upstream's name. */
  readonly pools: ReadonlyMap<string, Pool>;
}

/** A listener, as its connections see it. It outlives reloads: what it holds is replaced. */
export interface ListenerState {
  /** Its address as configured, for the log. */
  readonly address: string;
  /** The upstream for all its connections, if it is pinned to one. */
  upstream: string | undefined;
  /** Whom it trusts now. */
  trust: Trust;
  /** Counts the changes of trust: a handshake that began under another number was verified by older rules. */
  generation: number;
  /** The generation with which its authorities came: what TLS has verified since then, it has verified by them. */
  authoritiesSince: number;
  /** A reload removed it. It has no configured trust any more, and so trusts no certificate. */
  removed: boolean;
}

/** The part of a client's socket that says who it is. */
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

/** What {@link admit} needs beside the socket. */
export interface Circumstances {
  readonly rules: ActiveConfig;
  readonly limits: Limits;
  readonly entrance: ListenerState;
  /** The listener's generation when the connection was accepted. */
  readonly generation: number;
  /** Names the connection, for the log and the upstream. */
  readonly id: string;
  /** Whole milliseconds of a clock that only goes forward. */
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
  /** The certificates above it, as the client sent them; asked for only where they are needed. */
  chain(): Uint8Array[];
  /** TLS has verified it with the authorities that are in force now. */
  readonly vouched: boolean;
  /** Why the verdict of TLS is not the last word; the detail of a refusal that says otherwise. */
  readonly since?: string | undefined;
}

/** What {@link decide} is asked. It needs no socket, and so can be asked about a connection that does not exist. */
export interface Question {
  readonly listener: ListenerState;
  /** The certificate to check, or the identity of one that was found good before. */
  readonly from: Presented | Pick<Identity, "client" | "group">;
  readonly serverName: string | undefined;
  /** Milliseconds since 1970. */
  readonly date: number;
}

/** A connection is allowed: as which client, and to which upstream. */
export interface Grant {
  readonly client: string;
  readonly upstream: string;
  readonly pool: Pool;
}

/** An admitted connection. */
export interface Admission {
  readonly client: string;
  readonly pool: Pool;
  /** The server name that the client asked for, if any. */
  readonly serverName: string | undefined;
  readonly lease: Lease;
  /** When the client's certificate expires, in milliseconds since 1970. */
  readonly expiresAt: number;
  /** What is sent to the target before anything else. */
  readonly header: Uint8Array | undefined;
}

/**
 * The decision: who the client is, which upstream it reaches, and whether it may. Pure: it takes nothing and changes nothing.
 * Limits are not part of it, since they depend on the moment.
 */
export function decide(
  { listener, from, serverName, date }: Question,
  { router, pools }: Pick<ActiveConfig, "router" | "pools">,
): Grant | Refusal {
  if (listener.removed) return { reason: "certificate_untrusted", detail: "listener removed" };
  const identity = "client" in from ? from : identityOf(from, listener.trust, date);
  if ("reason" in identity) return identity;
  const { client, group } = identity;
  const upstream = listener.upstream ?? router.route(serverName);
  const pool = upstream === undefined ? undefined : pools.get(upstream);
  if (upstream === undefined || pool === undefined) {
    return { reason: "unknown_server_name", client, detail: serverName?.slice(0, 255) };
  }
  const authorized = !pool.removed && pool.upstream.authorizedGroups.includes(group);
  return authorized ? { client, upstream, pool } : { reason: "group_not_authorized", client, upstream };
}

function identityOf({ certificate, chain, vouched, since }: Presented, trust: Trust, date: number) {
  const verdict = judge(certificate, chain, trust, date, vouched);
  if (verdict !== undefined) {
    const { reason, detail } = verdict;
    return { reason, detail: reason === "certificate_weak" ? detail : (since ?? detail) } satisfies Refusal;
  }
  return identify(certificate?.subject) ?? ({ reason: "identity_invalid" } satisfies Refusal);
}

/** Decides on a client whose handshake has ended, well or not, and takes a lease. A refusal takes nothing from anyone. */
export function admit(
  socket: ClientSocket,
  success: boolean,
  error: Error | null,
  { rules, limits, entrance, generation, id, now }: Circumstances,
): Admission | Refusal {
  // `success` is true for a stranger's certificate too: `authorized` is what decides.
  if (!success || error !== null || !socket.authorized) {
    const [reason, detail] = handshakeRefusal(success, error, socket.getTLSVersion() === "TLSv1.3");
    const weak = detail === "CERT_SIGNATURE_FAILURE" && weaknessOf(socket.getPeerX509Certificate());
    return weak ? weak : { reason, detail };
  }
  const serverName = serverNameOf(socket);
  const from = presentedBy(socket, entrance, generation);
  const decision = decide({ listener: entrance, from, serverName, date: Date.now() }, rules);
  if ("reason" in decision) return decision;
  const { client, upstream, pool } = decision;

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
  return { client, pool, serverName, lease, header, expiresAt };
}

/** What {@link reauthorize} needs beside the connection. */
export interface Reauthorizing {
  readonly rules: Pick<ActiveConfig, "config" | "router" | "pools">;
  readonly entrance: ListenerState;
  /** The listener's generation when the connection was accepted. */
  readonly generation: number;
  /** Whether the certificate is checked too: the listener's trust has changed. */
  readonly judged: boolean;
}

/**
 * Asks for the decision on an open connection once more, after a reload.
 * @returns why it would be refused now, or would reach another upstream; undefined where neither, or where the certificate
 *   has only expired and `disconnectExpired` is off
 */
export function reauthorize(
  socket: ClientSocket,
  { client, pool, serverName }: Pick<Admission, "client" | "pool" | "serverName">,
  { rules, entrance, generation, judged }: Reauthorizing,
): RefusalReason | "upstream_removed" | "upstream_changed" | "listener_removed" | undefined {
  if (entrance.removed) return "listener_removed";
  if (pool.removed) return "upstream_removed";
  const identity = { client, group: client.slice(client.indexOf("@") + 1) };
  const question = { listener: entrance, serverName, date: Date.now() };
  const rights = decide({ ...question, from: identity }, rules);
  if ("reason" in rights && rights.upstream === undefined) return rights.reason;
  if (rights.upstream !== pool.upstream.name) return "upstream_changed";
  if ("reason" in rights) return rights.reason;
  if (!judged) return undefined;
  const decision = decide({ ...question, from: presentedBy(socket, entrance, generation) }, rules);
  if (!("reason" in decision)) return undefined;
  const expiredOnly = decision.reason === "certificate_expired" && !rules.config.disconnectExpired;
  return expiredOnly ? undefined : decision.reason;
}

/** What TLS knows of the client. It verified by the rules of then: of the first session, or of before a reload. */
function presentedBy(
  socket: ClientSocket,
  { generation: current, authoritiesSince }: ListenerState,
  generation: number,
): Presented {
  return {
    certificate: socket.getPeerX509Certificate(),
    chain: () => sentBy(socket),
    // A resumed session as well: it was made with the same authorities, since others come with other ticket keys.
    vouched: generation >= authoritiesSince,
    since: socket.isSessionReused()
      ? "resumed session"
      : generation === current
        ? undefined
        : "after a reload",
  };
}

/** The certificates above the client's, as far as TLS has them; an authority, which issues itself, ends it. */
function sentBy(socket: ClientSocket): Uint8Array[] {
  type Link = { raw?: Uint8Array; issuerCertificate?: Link } | null | undefined;
  const chain: Uint8Array[] = [];
  // The argument asks for the whole chain; Bun's types leave it out.
  let link = (socket.getPeerCertificate as (abbreviated: boolean) => Link).call(socket, false);
  for (; link?.raw !== undefined && chain.length < 16; link = link.issuerCertificate) {
    chain.push(link.raw);
    if (link.issuerCertificate === link) break;
  }
  return chain.slice(1);
}

/** What the client asked for, if anything. */
export function serverNameOf(socket: Pick<ClientSocket, "getServername">): string | undefined {
  const name: unknown = socket.getServername();
  return typeof name === "string" && name !== "" ? name : undefined;
}

/** A client that has left has no address or port any more, although the types say that it has. */
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
    alpn: typeof alpn === "string" && alpn !== "" ? alpn : undefined,
    resumed: socket.isSessionReused(),
  };
}
