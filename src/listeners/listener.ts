// Where clients come in: the only place that calls Bun.listen with TLS. Everything about the TLS policy is here.

import { createServer, type TlsOptions } from "node:tls";
import { formatAddress, type Address } from "../lib/address.ts";
import type { Listener } from "../config/config.ts";
import type { Credentials } from "../config/credentials.ts";
import { cannotListen, type StartError } from "../lib/errors.ts";
import { leave, type Sockets } from "./handover.ts";
import { isFree, libc, listenerOf } from "../lib/libc.ts";
import { TUNNEL_PROTOCOL, offersTunnel } from "../lib/tunnel-protocol.ts";

/** An open port. */
export interface Port {
  /** The address as bound, with the port that the system picked if it was 0. */
  readonly address: Address;
  /**
   * Handshakes that begin from now on are made with these; those under way, and connections, keep what they began with.
   * Session tickets handed out before are worth nothing any more: a new TLS context has new keys for them.
   * @throws where TLS cannot use them; then nothing has changed
   */
  replace(credentials: Credentials, sessionTickets: boolean): void;
  /**
   * Accepts no more; what was accepted goes on. A port that the operator shares with others is left without a gap, for
   * which it goes on accepting for a moment.
   * @param atOnce whether to lose, rather, what waits to be accepted
   * @returns when it is closed
   */
  stop(atOnce?: boolean): Promise<void>;
}

// BoringSSL's numbers for the options; TLS 1.3 is what remains (RFC 8446).
const SSL_OP_NO_TLSv1 = 0x04000000;
const SSL_OP_NO_TLSv1_1 = 0x10000000;
const SSL_OP_NO_TLSv1_2 = 0x08000000;
const SSL_OP_NO_TICKET = 0x00004000;

function tlsOptions({ ca, cert, key }: Credentials, sessionTickets: boolean) {
  return {
    ca: [...ca],
    cert,
    key,
    // Both are needed: without rejectUnauthorized a client without a certificate gets through the handshake.
    requestCert: true,
    rejectUnauthorized: true,
    secureOptions:
      SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1 | SSL_OP_NO_TLSv1_2 | (sessionTickets ? 0 : SSL_OP_NO_TICKET),
  };
}

/**
 * Answers ALPN: chooses the tunnel's protocol where a client offers it, and nothing otherwise, as if there were no ALPN.
 * (ALPNProtocols would end the handshakes of clients that offer other protocols only.) The runtime calls it only for clients
 * that use ALPN; Bun's types leave it out.
 */
const protocolChoice: object = {
  alpnCallback: (_socket: unknown, _serverName: unknown, offered: Uint8Array) =>
    offersTunnel(offered) && TUNNEL_PROTOCOL,
};

/**
 * Opens the port: TLS 1.3 only, a client certificate demanded.
 * @param sockets what this process has for the same port, in all its threads
 * @throws StartError where the address cannot be had
 */
export function listen<Data>(
  { address, sessionTickets, reusePort }: Listener,
  credentials: Credentials,
  handlers: Bun.SocketHandler<Data>,
  sockets: Sockets = { count: 1, last: true },
): Port {
  const reuse = reusePort || sockets.count > 1;
  const bind = (hostname: string) =>
    Bun.listen<Data>({
      hostname,
      port: address.port,
      exclusive: !reuse,
      // What Bun's types leave out.
      ...({ reusePort: reuse } as object),
      // Without it Bun answers the client's end with its own, and there is no half-close.
      allowHalfOpen: true,
      tls: tlsOptions(credentials, sessionTickets) as Bun.TLSOptions,
      socket: { ...handlers, ...protocolChoice },
    });
  try {
    const server = address.hostname === "" ? bindEverywhere(bind) : bind(address.hostname);
    const hurry = new AbortController();
    const close = () => server.stop();
    let closed: Promise<void> | undefined;
    return {
      address: { hostname: server.hostname, port: server.port },
      replace: (next, tickets) => replaceContext(server, tlsOptions(next, tickets) as TlsOptions),
      stop(atOnce = !reusePort) {
        if (atOnce) {
          hurry.abort();
          close();
        }
        // What Bun's types leave out.
        const { fd } = server as unknown as { fd: number };
        return (closed ??= atOnce ? Promise.resolve() : leave(fd, sockets, hurry.signal).then(close));
      },
    };
  } catch (error) {
    throw cannotListen(formatAddress(address), error);
  }
}

/** A port that is kept to this process. */
export interface Claim {
  release(): void;
}

/** How long a name is asked for its user, in milliseconds, where it does not answer: a proxy's claim always does. */
const ASKING = 500;

/**
 * Keeps a port to this process, whose threads open it in the way in which other processes of the same user could too:
 * the kernel would let them. The sign of it is a name among the kernel's local sockets, which ends with the process.
 * Any user can take any name, so that a name counts only where the kernel says that this user listens on it. Where
 * another user has taken the usual one, it is followed by a part that cannot be guessed.
 * @throws StartError where another process of this user keeps the port
 */
export async function claimPort(address: Address): Promise<Claim> {
  if (process.platform !== "linux") return { release() {} };
  const usual = signOf(address);
  let name = usual;
  let sign = raise(name);
  if (sign === "taken") {
    if (await keeps([usual])) throw isKept(address);
    name = `${usual} ${crypto.randomUUID()}`;
    sign = raise(name);
  }
  // A host whose name is too long for a sign does without.
  if (typeof sign === "string") return { release() {} };
  const release = () => sign.stop(true);
  // Somebody of this user may have had to take an unusual one.
  if (!(await keeps(await signsOn(address, name)))) return { release };
  release();
  throw isKept(address);
}

/**
 * A port that is shared is shared by all who have it.
 * @throws StartError where another process of this user keeps the port; the kernel sees to other users
 */
export async function mayShare(address: Address): Promise<void> {
  if (await keeps(await signsOn(address))) throw isKept(address);
}

function signOf(address: Address): string {
  return `tcpproxy ${process.geteuid?.()} ${formatAddress(address)}`;
}

function raise(name: string): Bun.UnixSocketListener<undefined> | "taken" | "impossible" {
  try {
    const sign = Bun.listen({
      unix: `\0${name}`,
      socket: { open: (socket) => socket.terminate(), data() {} },
    });
    sign.unref();
    return sign;
  } catch (error) {
    return (error as { code?: string }).code === "EADDRINUSE" ? "taken" : "impossible";
  }
}

/** The signs that there are on a port, whosever they are, but for one's own. */
async function signsOn(address: Address, own?: string): Promise<string[]> {
  // Where there is no such list, there are no such names.
  const list = await Bun.file("/proc/net/unix")
    .text()
    .catch(() => "");
  const sign = signOf(address);
  return list
    .split("\n")
    .map((line) => line.slice(line.indexOf(" @") + 2))
    .filter((name) => name !== own && (name === sign || name.startsWith(`${sign} `)));
}

/** Whether a process of this user listens on one of these names. */
async function keeps(names: readonly string[]): Promise<boolean> {
  if (names.length === 0) return false;
  const calls = await libc();
  // The owner cannot be found out: refusing is better than sharing a port unnoticed.
  if (calls === undefined) return true;
  const deadline = performance.now() + ASKING;
  for (let left = names; left.length > 0 && performance.now() < deadline; await Bun.sleep(1)) {
    const users = left.map((name) => listenerOf(calls, name));
    if (users.includes(process.geteuid?.())) return true;
    left = left.filter((_, i) => users[i] === undefined);
    if (left.length === 0) return false;
  }
  return false;
}

function isKept(address: Address): StartError {
  return cannotListen(formatAddress(address), Object.assign(new Error("kept"), { code: "EADDRINUSE" }));
}

/**
 * Finds out whether a port is somebody else's: those who share a port do not notice.
 * @throws StartError where it is
 */
export async function probePort({ hostname, port }: Address): Promise<void> {
  if (port === 0 || (await isFree(hostname === "" ? "::" : hostname, port))) return;
  // Opened for a moment: that tells for sure, and what is wrong.
  const bind = (host: string) => Bun.listen({ hostname: host, port, exclusive: true, socket: { data() {} } });
  try {
    (hostname === "" ? bindEverywhere(bind) : bind(hostname)).stop(true);
  } catch (error) {
    throw cannotListen(formatAddress({ hostname, port }), error);
  }
}

/**
 * Gives a live listener another TLS context. Bun.listen has no way to say so, but the servers of node:tls are made of the
 * same listeners, and have: one is made to lend its method. (Another listener on the same port and an end of this one
 * would lose what waits to be accepted.)
 */
function replaceContext(server: Bun.TCPSocketListener<unknown>, options: TlsOptions): void {
  const lender = createServer(options);
  (lender as unknown as { _handle: unknown })._handle = server;
  lender.setSecureContext(options);
}

/** Every interface: the IPv6 wildcard takes IPv4 too, but a machine may have no IPv6. */
function bindEverywhere<T>(bind: (hostname: string) => T): T {
  try {
    return bind("::");
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "EADDRINUSE" || code === "EACCES") throw error;
    return bind("0.0.0.0");
  }
}
