// Accepts clients: the only place that calls Bun.listen with TLS. It holds the whole TLS policy.

import { createSecureContext, createServer, type TlsOptions } from "node:tls";
import { formatAddress, type Address } from "../lib/address.ts";
import type { Listener } from "../config/config.ts";
import type { Credentials } from "../config/credentials.ts";
import { StartError, cannotListen } from "../lib/errors.ts";
import { Answers } from "./answers.ts";
import { leave, type Sockets } from "./handover.ts";
import { isFree, libc, listenerOf } from "../lib/libc.ts";
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

/**
 * Opens the port: TLS 1.3 only, with a mandatory client certificate.
 * @param sockets the sockets that this process has for the same port, in all its threads
 * @throws StartError if the address is not available
 */
export function listen<Data>(
  listener: Pick<Listener, "address" | "reusePort"> & TlsSettings,
  credentials: Credentials,
  handlers: Bun.SocketHandler<Data>,
  sockets: Sockets = { count: 1, last: true },
): Port {
  const { address, sessionTickets, reusePort } = listener;
  const { systemd } = address;
  const shared = reusePort && systemd === undefined;
  const reuse = shared || sockets.count > 1;
  const answers = new Answers();
  answer(answers, credentials, listener);
  const open = (place: { hostname: string } | { fd: number }) =>
    Bun.listen<Data>({
      // Bun's types leave descriptors and reusePort out.
      ...("fd" in place
        ? (place as unknown as { hostname: string; port: number })
        : { ...place, port: address.port, exclusive: !reuse, reusePort: reuse }),
      // Without it Bun answers the client's end with its own, and half-close does not work.
      allowHalfOpen: true,
      tls: tlsOptions(credentials, sessionTickets) as Bun.TLSOptions,
      socket: { ...handlers, ...answers.handlers },
    });
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
        const options = tlsOptions(next, settings.sessionTickets) as TlsOptions;
        // It throws where TLS cannot use them, before anything has changed.
        createSecureContext(options);
        answer(answers, next, settings);
        replaceContext(server, options);
      },
      stop(atOnce = !shared) {
        if (atOnce) {
          hurry.abort();
          close();
        }
        // Bun's types leave this out.
        const { fd } = server as typeof server & { readonly fd: number };
        return (closed ??= atOnce ? Promise.resolve() : leave(fd, sockets, hurry.signal).then(close));
      },
    };
  } catch (error) {
    throw cannotListen(formatAddress(address), error);
  }
}

/** A port that only this process may open. */
export interface Claim {
  release(): void;
}

/** How long to ask for a name's user when there is no answer, in milliseconds: a proxy's claim always answers. */
const CLAIM_ANSWER_WAIT_MS = 500;

/**
 * Claims a port for this process. Its threads open the port in a way that the kernel also allows other processes of the
 * same user. The claim is a name among the kernel's local sockets, and it ends with the process. Any user can take any
 * name, so that a name counts only if the kernel says that this user listens on it. If another user has taken the usual
 * name, the claim adds a part that cannot be guessed.
 * @throws StartError if another process of this user has claimed the port
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
  // A host whose name is too long for a claim goes without one.
  if (typeof sign === "string") return { release() {} };
  const release = () => sign.stop(true);
  // Another process of this user may have had to take an unusual name.
  if (!(await keeps(await signsOn(address, name)))) return { release };
  release();
  throw isKept(address);
}

/**
 * Checks that a port can be shared: every process that has it must share it.
 * @throws StartError if another process of this user has claimed the port; the kernel refuses other users
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

/** All claims on a port, of any process, except one's own. */
async function signsOn(address: Address, own?: string): Promise<string[]> {
  // A system without this list has no such names.
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
  // The owner cannot be determined: refusing is better than sharing a port unnoticed.
  if (calls === undefined) return true;
  const deadline = performance.now() + CLAIM_ANSWER_WAIT_MS;
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
 * Checks that no other process has the port. Processes that share a port do not notice each other.
 * @throws StartError if another process has it
 */
export async function probePort({ hostname, port }: Address): Promise<void> {
  if (port === 0 || (await isFree(hostname === "" ? "::" : hostname, port))) return;
  // Opens the port for a moment: that gives a certain answer, with the error.
  const bind = (host: string) => Bun.listen({ hostname: host, port, exclusive: true, socket: { data() {} } });
  try {
    (hostname === "" ? bindEverywhere(bind) : bind(hostname)).stop(true);
  } catch (error) {
    throw cannotListen(formatAddress({ hostname, port }), error);
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

/** Binds to every interface: the IPv6 wildcard takes IPv4 too, but a machine may have no IPv6. */
function bindEverywhere<T>(bind: (hostname: string) => T): T {
  try {
    return bind("::");
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "EADDRINUSE" || code === "EACCES") throw error;
    return bind("0.0.0.0");
  }
}
