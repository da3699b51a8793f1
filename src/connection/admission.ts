// Who gets in: from a finished handshake to a lease, in the fixed order handshake → identify → route → authorize → admit.
// And who stays in, when the rules change under open connections. No socket is opened, written to or closed here.

import type { X509Certificate } from "node:crypto";
import type { Config } from "../config/config.ts";
import type { RefusalReason } from "../lib/errors.ts";
import { handshakeRefusal } from "../auth/tls-failure.ts";
import { identify } from "../auth/identity.ts";
import type { Pool } from "../upstreams/pool.ts";
import { encodeProxyHeader } from "../upstreams/proxy-protocol.ts";
import type { Router } from "../auth/server-name.ts";
import type { ClientLease, Limits } from "../state/limits.ts";
import { judge, weaknessOf, type Trust, type Verdict } from "../auth/certificate-check.ts";

/** What a configuration comes to for connections. A reload puts another one in its place. */
export interface ActiveConfig {
  readonly config: Config;
  /** The most connections at a time, handshaking ones included. */
  readonly maxConnections: number;
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
  /** A reload took it away: nobody says any more whom it trusts, so that it trusts nobody. */
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

/** What {@link admit} has to know beside the socket. */
export interface Circumstances {
  readonly rules: ActiveConfig;
  readonly limits: Limits;
  readonly entrance: ListenerState;
  /** The entrance's generation when the connection was accepted. */
  readonly generation: number;
  /** Names the connection, for the log and the upstream. */
  readonly id: string;
  /** Whole milliseconds of a clock that only goes forward. */
  readonly now: number;
}

/** Not let in. */
export interface Refusal {
  readonly reason: RefusalReason;
  readonly detail?: string | undefined;
  readonly client?: string;
  readonly upstream?: string;
}

/** Let in: what the connection goes by from now on. */
export interface Admission {
  readonly client: string;
  readonly pool: Pool;
  /** What the client asked for, if anything. */
  readonly serverName: string | undefined;
  readonly lease: ClientLease;
  /** When the client's certificate runs out, in milliseconds since 1970. */
  readonly expiresAt: number;
  /** What is sent to the target before anything else. */
  readonly header: Uint8Array | undefined;
}

/** Decides on a client whose handshake has ended, well or not. A refusal has taken nothing from anybody. */
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
  if (entrance.removed) return { reason: "certificate_untrusted", detail: "listener removed" };
  const certificate = socket.getPeerX509Certificate();
  // What TLS has verified, it has verified by the rules of then: those of the first session, or of before a reload.
  const reused = socket.isSessionReused();
  const verdict = judgeSocket(socket, certificate, entrance, generation);
  if (verdict !== undefined) {
    const { reason, detail } = verdict;
    const changed = generation === entrance.generation ? undefined : "after a reload";
    const then = reused ? "resumed session" : changed;
    return { reason, detail: reason === "certificate_weak" ? detail : (then ?? detail) };
  }
  const identity = identify(certificate?.subject);
  if (certificate === undefined || identity === undefined) return { reason: "identity_invalid" };
  const { client, group } = identity;

  const serverName = serverNameOf(socket);
  const upstream = entrance.upstream ?? rules.router.route(serverName);
  const pool = upstream === undefined ? undefined : rules.pools.get(upstream);
  if (upstream === undefined || pool === undefined) {
    return { reason: "unknown_server_name", client, detail: serverName?.slice(0, 255) };
  }
  if (!isAuthorized(group, pool)) return { reason: "group_not_authorized", client, upstream };

  const version = pool.upstream.proxyProtocol;
  if (version !== undefined && hasLeft(socket)) {
    return { reason: "handshake_failed", client, upstream, detail: "the client left" };
  }
  const header =
    version && encodeProxyHeader(version, { ...describe(socket), client, serverName, uniqueId: id });
  if (version !== undefined && header === undefined) return { reason: "proxy_header", client, upstream };

  const lease = limits.admit(client, now);
  if (typeof lease === "string") return { reason: lease, client, upstream };
  return { client, pool, serverName, lease, header, expiresAt: certificate.validToDate.getTime() };
}

/** How {@link reauthorize} looks at a connection. */
interface Reauthorizing {
  /** The entrance's generation when the connection was accepted. */
  readonly generation: number;
  /** Whether its certificate is looked at too: whom the entrance trusts has changed. */
  readonly judged: boolean;
  readonly disconnectExpired: boolean;
}

/**
 * Looks at a connection that is open once more, after a reload.
 * @returns why it would not be let in now, or not to where it leads; undefined where it would, or where only the date is
 *   against it and dates end no connections
 */
export function reauthorize(
  socket: ClientSocket,
  { client, pool, serverName }: Pick<Admission, "client" | "pool" | "serverName">,
  entrance: ListenerState,
  router: Router,
  { generation, judged, disconnectExpired }: Reauthorizing,
): RefusalReason | "upstream_removed" | "upstream_changed" | "listener_removed" | undefined {
  if (entrance.removed) return "listener_removed";
  if (pool.removed) return "upstream_removed";
  const upstream = entrance.upstream ?? router.route(serverName);
  if (upstream === undefined) return "unknown_server_name";
  if (upstream !== pool.upstream.name) return "upstream_changed";
  if (!isAuthorized(client.slice(client.indexOf("@") + 1), pool)) return "group_not_authorized";
  const reason = judged
    ? judgeSocket(socket, socket.getPeerX509Certificate(), entrance, generation)?.reason
    : undefined;
  return reason === "certificate_expired" && !disconnectExpired ? undefined : reason;
}

function isAuthorized(group: string, { upstream, removed }: Pool): boolean {
  return !removed && upstream.authorizedGroups.includes(group);
}

function judgeSocket(
  socket: ClientSocket,
  certificate: X509Certificate | undefined,
  { trust, authoritiesSince }: ListenerState,
  generation: number,
): Verdict | undefined {
  // A resumed session as well: it was made with the same authorities, since others come with other ticket keys.
  const vouched = generation >= authoritiesSince;
  return judge(certificate, () => sentBy(socket), trust, Date.now(), vouched);
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

/** Whoever has broken off by now has no address any more, or no port, whatever the types say. */
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
