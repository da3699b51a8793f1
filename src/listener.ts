// Where clients come in: the only place that calls Bun.listen with TLS. Everything about the TLS policy is here.

import { createServer, type TlsOptions } from "node:tls";
import { formatAddress, type Address } from "./address.ts";
import type { Listener } from "./config.ts";
import type { Credentials } from "./credentials.ts";
import { cannotListen } from "./errors.ts";
import { leave, type Sockets } from "./handover.ts";
import { isFree } from "./libc.ts";

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
      socket: handlers,
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

/**
 * Keeps a port to this process, whose threads open it in the way in which others could too: the kernel would let them.
 * The sign of it is a name among the kernel's local sockets, which ends with the process.
 * @throws StartError where the port is kept by another
 */
export function claimPort(address: Address): Claim {
  if (process.platform !== "linux") return { release() {} };
  try {
    const sign = Bun.listen({
      unix: `\0${signOf(address)}`,
      socket: { open: (socket) => socket.terminate(), data() {} },
    });
    sign.unref();
    return { release: () => sign.stop(true) };
  } catch (error) {
    // A host whose name is too long for a sign does without.
    if ((error as { code?: string }).code !== "EADDRINUSE") return { release() {} };
    throw cannotListen(formatAddress(address), error);
  }
}

/**
 * Whoever shares a port shares it with those who share it too.
 * @throws StartError where the port is kept by another
 */
export async function mayShare(address: Address): Promise<void> {
  // Where there is no such list, there are no such names.
  const names = await Bun.file("/proc/net/unix")
    .text()
    .catch(() => "");
  if (!names.split("\n").some((line) => line.endsWith(` @${signOf(address)}`))) return;
  throw cannotListen(formatAddress(address), Object.assign(new Error("kept"), { code: "EADDRINUSE" }));
}

function signOf(address: Address): string {
  return `tcpproxy ${formatAddress(address)}`;
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
