// Accepts clients: the only place that calls Bun.listen with TLS. It holds the whole TLS policy.

import { createServer, type TlsOptions } from "node:tls";
import { formatAddress, type Address } from "../lib/address.ts";
import type { Listener } from "../config/config.ts";
import type { Credentials } from "../config/credentials.ts";
import { StartError, cannotListen } from "../lib/errors.ts";
import { bindEverywhere } from "./claim.ts";
import { Answers, contextOf } from "./answers.ts";
import { leave, type Sockets } from "./handover.ts";
import { libcNow } from "../lib/libc.ts";
import { openPassed } from "../lib/systemd.ts";

/** An open port. */
export interface Port {
  /** The address as bound, with the port that the system picked if it was 0. */
  readonly address: Address;
  /**
   * Applies to handshakes that begin from now on; handshakes in progress and connections keep their context. Session
   * tickets from before become worthless: a new TLS context has new ticket keys.
   * @throws if TLS cannot use the credentials; then nothing has changed
   */
  replace(credentials: Credentials, settings: TlsSettings): void;
  /**
   * Stops accepting; accepted connections continue. If the operator shares the port with other processes, it is left
   * without a gap and so accepts for a moment longer. A socket of systemd stays open there: connections wait in it for
   * the next process.
   * @param atOnce whether to drop the connections that wait to be accepted instead
   * @returns when the port is closed
   */
  stop(atOnce?: boolean): Promise<void>;
}

/** What of a listener's settings concerns TLS. */
type TlsSettings = Pick<Listener, "sessionTickets"> & Partial<Pick<Listener, "alpn">>;

// BoringSSL's numbers for the options; TLS 1.3 is what remains (RFC 8446).
const SSL_OP_NO_TLSv1 = 0x04000000;
const SSL_OP_NO_TLSv1_1 = 0x10000000;
const SSL_OP_NO_TLSv1_2 = 0x08000000;
const SSL_OP_NO_TICKET = 0x00004000;

/** What one TLS context is made of. */
interface ContextFiles {
  readonly ca: readonly string[];
  readonly cert: string | string[];
  readonly key: string | string[];
}

function tlsOptions({ ca, cert, key }: ContextFiles, sessionTickets: boolean) {
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

/** Sets what a port answers in a handshake. The rules for clients are the same for every server name. */
function answer(answers: Answers, { certificates, ca }: Credentials, { sessionTickets, alpn }: TlsSettings) {
  answers.replace(certificates, alpn, (cert, key) => tlsOptions({ ca, cert, key }, sessionTickets));
}

type Handlers<Data> = Bun.SocketHandler<Data>;

/** What a port does with its sockets. */
export interface PortHandlers<Data> {
  readonly tls: Handlers<Data>;
  /**
   * For a port that takes PROXY headers: until `begin` is called on a socket, TLS has not begun on it.
   * @param begin answers with the TLS socket, paused; with undefined if the client has left
   */
  plain?(begin: (socket: Bun.Socket<undefined>) => Bun.Socket<Data> | undefined): Handlers<undefined>;
}

/**
 * Opens the port: TLS 1.3 only, with a mandatory client certificate.
 * @param sockets the sockets that this process has for the same port, in all its threads
 * @throws StartError if the address is not available
 */
export function listen<Data>(
  listener: Pick<Listener, "address" | "reusePort"> & Partial<Pick<Listener, "acceptProxy">> & TlsSettings,
  credentials: Credentials,
  handlers: PortHandlers<Data>,
  sockets: Sockets = { count: 1, last: true },
): Port {
  const { address, sessionTickets, reusePort } = listener;
  const { systemd } = address;
  const shared = reusePort && systemd === undefined;
  const reuse = shared || sockets.count > 1;
  const answers = new Answers();
  answer(answers, credentials, listener);
  const tls = tlsOptions(credentials, sessionTickets);
  const secured = { ...handlers.tls, ...answers.handlers };
  const plain = listener.acceptProxy && handlers.plain;
  if (plain !== undefined && libcNow() === undefined)
    throw new StartError(`cannot listen on ${formatAddress(address)}: acceptProxy needs Linux`);
  // The runtime would call it at once.
  const later = { ...secured, open() {} };
  let late: object = {};
  const open = (place: { hostname: string } | { fd: number }): Bun.TCPSocketListener<unknown> => {
    const options = {
      // Bun's types leave descriptors and reusePort out.
      ...("fd" in place
        ? (place as unknown as { hostname: string; port: number })
        : { ...place, port: address.port, exclusive: !reuse, reusePort: reuse }),
      // Without it Bun answers the client's end with its own, and half-close does not work.
      allowHalfOpen: true,
    };
    if (plain === undefined)
      return Bun.listen<Data>({ ...options, tls: tls as Bun.TLSOptions, socket: secured });
    late = lateOptions(tls);
    return Bun.listen<undefined>({
      ...options,
      socket: plain((socket) => begin(socket, late, later)),
    });
  };
  const bind = (hostname: string) => open({ hostname });
  const passed = systemd === undefined ? undefined : openPassed(systemd);
  if (typeof passed === "string")
    throw new StartError(`cannot listen on ${formatAddress(address)}: ${passed}`);
  try {
    const server =
      passed !== undefined
        ? open({ fd: passed })
        : address.hostname === ""
          ? bindEverywhere(bind)
          : bind(address.hostname);
    const hurry = new AbortController();
    const close = () => server.stop();
    let closed: Promise<void> | undefined;
    return {
      address: systemd === undefined ? { hostname: server.hostname, port: server.port } : address,
      replace(next, settings) {
        const options = tlsOptions(next, settings.sessionTickets);
        // It throws where TLS cannot use them, before anything has changed.
        const made = lateOptions(options);
        answer(answers, next, settings);
        if (plain === undefined) replaceContext(server, options as TlsOptions);
        else late = made;
      },
      stop(atOnce = !shared) {
        if (atOnce) {
          hurry.abort();
          close();
        }
        const { fd } = server as Bound;
        return (closed ??= atOnce ? Promise.resolve() : leave(fd, sockets, hurry.signal).then(close));
      },
    };
  } catch (error) {
    throw cannotListen(formatAddress(address), error);
  }
}

/** Bun's types leave the descriptor out. */
type Bound = Bun.TCPSocketListener<unknown> & { readonly fd: number };

/**
 * The same as {@link tlsOptions}, for many sockets: the TLS context is made once.
 * @throws if TLS cannot use them
 */
function lateOptions(options: ReturnType<typeof tlsOptions>): object {
  const { requestCert, rejectUnauthorized } = options;
  return { secureContext: contextOf(options), requestCert, rejectUnauthorized };
}

/** Begins TLS on a socket that nobody has read from. */
function begin<Data>(
  socket: Bun.Socket<undefined>,
  tls: object,
  handlers: Bun.SocketHandler<Data>,
): Bun.Socket<Data> | undefined {
  // Bun's types know this for clients only.
  const upgrade = socket.upgradeTLS as unknown as (options: object) => [unknown, Bun.Socket<Data>];
  try {
    const [, secure] = upgrade.call(socket, { isServer: true, tls, socket: handlers });
    secure.pause();
    return secure;
  } catch {
    return undefined;
  }
}

/**
 * Gives a live listener another TLS context. Bun.listen has no method for it. The servers of node:tls use the same
 * listeners and have one, so that this function borrows it. (To open another listener on the same port and close this
 * one would lose the connections that wait to be accepted.)
 */
function replaceContext(server: Bun.TCPSocketListener<unknown>, options: TlsOptions): void {
  const lender = createServer(options);
  (lender as typeof lender & { _handle: unknown })._handle = server;
  lender.setSecureContext(options);
}
