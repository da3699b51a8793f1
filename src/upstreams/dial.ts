// Dials a target: the only place that calls Bun.connect, over TCP or a Unix socket, plain or with TLS. It hides facts
// of the runtime: an attempt cannot be cancelled and never times out by itself, a refusal is reported twice, and a TLS
// connection counts as open with any certificate at the other end.
//
// A PROXY header precedes everything, TLS too: HAProxy, nginx and Envoy write and expect it there.

import { isIP } from "node:net";
import type { TargetAddress } from "../lib/address.ts";
import { connectUnix } from "../lib/libc.ts";

/**
 * Wants the connection. The attempt calls exactly one of the two methods, never synchronously, unless it is abandoned.
 */
export interface Dialer {
  /** Connected and, over TLS, verified; the socket's `data` is the dialer. */
  dialed(socket: Bun.Socket<this>): void;
  /** The target refused, is unreachable, does not resolve, or has the wrong certificate. */
  dialFailed(error: Error): void;
}

/** Counts descriptors that belong to no connection. */
export interface Descriptors {
  add(): void;
  giveBack(count: number): void;
}

/** TLS towards a target, PEM. */
export interface TargetTls {
  readonly ca: readonly string[];
  readonly cert: string | undefined;
  readonly key: string | undefined;
  /** The name that the target's certificate must hold; undefined for the host that is dialled. */
  readonly serverName: string | undefined;
  /** More options, in the runtime's words. */
  readonly options?: Bun.TLSOptions;
}

/** What an {@link Attempt} does once TCP is connected. */
interface Opening {
  /** Sent first, as it is. */
  readonly header: Uint8Array | undefined;
  /** The name that the target's certificate must hold; undefined without TLS. */
  readonly serverName: string | undefined;
  /** Starts TLS on a plain socket; undefined without TLS, or if the socket has started it by itself. */
  readonly secure: ((socket: Bun.Socket<unknown>) => Bun.Socket<unknown>) | undefined;
}

/** One attempt to reach one target. */
export class Attempt<D extends Dialer> {
  readonly #dialer: D;
  readonly #descriptors: Descriptors;
  readonly #opening: Opening;
  #state: "pending" | "settled" | "abandoned" = "pending";
  /** Open, and in its TLS handshake. */
  #socket: Bun.Socket<unknown> | undefined;

  constructor(dialer: D, descriptors: Descriptors, opening: Opening) {
    this.#dialer = dialer;
    this.#descriptors = descriptors;
    this.#opening = opening;
  }

  /**
   * The dialer hears no more of the attempt. An open socket is closed now, one that opens later is closed at once.
   * Until the kernel gives up such a late one, it holds a descriptor, which is counted.
   */
  abandon(): void {
    if (this.#state !== "pending") return;
    this.#state = "abandoned";
    this.#descriptors.add();
    if (this.#socket !== undefined) this.#done(this.#socket);
  }

  /** The attempt is abandoned, but the kernel still tries; if no host answers, it gives up after some two minutes. */
  get lingers(): boolean {
    return this.#state === "abandoned";
  }

  /** TCP is connected; over TLS the handshake follows. */
  opened(socket: Bun.Socket<unknown>): void {
    const { header, serverName, secure } = this.#opening;
    if (this.#state === "abandoned") return this.#done(socket);
    // A socket that has just opened takes the whole header, or is broken.
    if (header !== undefined && socket.write(header) !== header.length) {
      this.failed(new Error("the target did not take the PROXY header"));
      socket.terminate();
    } else if (serverName === undefined) this.#done(socket);
    else this.#socket = secure === undefined ? socket : secure(socket);
  }

  /** `success` is true for any certificate; `authorized` and the name decide. */
  handshakeDone(socket: Bun.Socket<unknown>, success: boolean, error: Error | null): void {
    if (this.#state === "settled") return;
    if (success && error === null && socket.authorized && this.#isFor(socket)) return this.#done(socket);
    this.failed(error ?? new Error(success ? "the certificate is for another name" : "TLS handshake failed"));
    socket.terminate();
  }

  failed(error: Error): void {
    if (this.#finish() === "pending") this.#dialer.dialFailed(error);
  }

  #isFor(socket: Bun.Socket<unknown>): boolean {
    const certificate = socket.getPeerX509Certificate();
    const name = this.#opening.serverName ?? "";
    const holds = isIP(name)
      ? certificate?.checkIP(name)
      : certificate?.checkHost(name, { subject: "never" });
    return holds !== undefined;
  }

  #done(socket: Bun.Socket<unknown>): void {
    socket.data = this.#dialer;
    const was = this.#finish();
    if (was === "pending") this.#dialer.dialed(socket as Bun.Socket<D>);
    else if (was === "abandoned") socket.terminate();
  }

  #finish() {
    const was = this.#state;
    this.#state = "settled";
    if (was === "abandoned") this.#descriptors.giveBack(1);
    return was;
  }
}

/** Where an attempt goes, and how. */
export interface DialOptions<D extends Dialer> {
  readonly target: TargetAddress;
  /** Undefined for a plain connection. */
  readonly tls: TargetTls | undefined;
  /** Bytes that the target gets before anything else, TLS included. */
  readonly header: Uint8Array | undefined;
  readonly dialer: D;
  readonly descriptors: Descriptors;
}

/** Starts an attempt. It has no time limit: the caller abandons it. */
export type Dial<D extends Dialer> = (options: DialOptions<D>) => Attempt<D>;

/**
 * @param handlers for open sockets, one set for all of them; this module sets `open`, `handshake` and `connectError`
 */
export function createDial<D extends Dialer>(handlers: Bun.SocketHandler<D>): Dial<D> {
  type Own = Bun.SocketHandler<Attempt<D>>;
  const own: Own = {
    open: (socket) => socket.data.opened(socket),
    connectError: (socket, error) => socket.data.failed(error),
  };
  // Until a socket is open its data is the attempt, and none of the caller's handlers is called.
  const plain = { ...handlers, ...own } as Own;
  const secure = { ...handlers, ...own, ...secureHandlers(handlers) } as Own;
  // A plain socket that becomes a secure one: both live together, and events are reported on the secure one.
  const lower: Own = { ...own, data() {}, error: (socket, error) => socket.data.failed(error) };
  const upper: Own = { ...secure, open() {} };
  return ({ target, tls, header, dialer, descriptors }) => {
    const serverName = tls && (tls.serverName ?? ("unix" in target ? "" : target.hostname));
    const secrets = tls && tlsOptions(tls, serverName ?? "");
    const late = secrets !== undefined && header !== undefined;
    const data: Attempt<D> = new Attempt(dialer, descriptors, {
      header,
      serverName,
      secure: late ? (socket) => socket.upgradeTLS({ data, tls: secrets, socket: upper })[1] : undefined,
    });
    const options = {
      allowHalfOpen: true,
      data,
      socket: late ? lower : secrets === undefined ? plain : secure,
      ...(secrets !== undefined && !late && { tls: secrets }),
    };
    // Bun's types leave out that it takes descriptors.
    const connect = (where: object) =>
      Bun.connect<Attempt<D>>({ ...where, ...options } as Bun.TCPSocketConnectOptions<Attempt<D>>);
    // An own promise defers errors that Bun.connect throws synchronously, so that all errors arrive later.
    Promise.resolve()
      .then(() => ("unix" in target ? reach(target.unix, data).then(connect) : connect(target)))
      .catch((error: Error) => data.failed(error));
    return data;
  };
}

/** How long to wait before a Unix socket whose queue is full is tried again, in milliseconds. */
const QUEUE_WAIT_MS = 10;

/**
 * Connects to a Unix socket without the runtime. If the server sends something and closes at once, the runtime sees the
 * hang-up before the connection and reports a refusal. A connected descriptor it reads to the end.
 */
async function reach(
  path: string,
  attempt: { lingers: boolean },
): Promise<{ fd: number } | { unix: string }> {
  for (;;) {
    const fd = await connectUnix(path);
    if (fd === undefined) return { unix: path };
    if (typeof fd === "number") return { fd };
    // A full queue is the one error that passes by itself.
    if (fd !== "EAGAIN" || attempt.lingers) throw Object.assign(new Error(`connect ${fd}`), { code: fd });
    await Bun.sleep(QUEUE_WAIT_MS);
  }
}

function tlsOptions({ ca, cert, key, options }: TargetTls, serverName: string): Bun.TLSOptions {
  return {
    ...options,
    ca: [...ca],
    ...(cert !== undefined && { cert, key: key as string }),
    // RFC 6066, section 3: a literal address is not a server name.
    serverName: isIP(serverName) === 0 ? serverName : "",
    rejectUnauthorized: true,
  };
}

/** The caller's handlers, for sockets whose data is the attempt until their handshake is done. */
function secureHandlers<D extends Dialer>(handlers: Bun.SocketHandler<D>): object {
  type Either = Bun.Socket<D | Attempt<D>>;
  const broken = (socket: Either, error?: Error): boolean => {
    if (!(socket.data instanceof Attempt)) return false;
    socket.data.failed(error ?? new Error("the target left during the TLS handshake"));
    return true;
  };
  const ready = (socket: Either) => !(socket.data instanceof Attempt);
  return {
    handshake: (socket: Bun.Socket<Attempt<D>>, success: boolean, error: Error | null) => {
      if (socket.data instanceof Attempt) socket.data.handshakeDone(socket, success, error);
    },
    data: (socket: Bun.Socket<D>, chunk: Buffer) => void (ready(socket) && handlers.data?.(socket, chunk)),
    drain: (socket: Bun.Socket<D>) => void (ready(socket) && handlers.drain?.(socket)),
    end: (socket: Bun.Socket<D>) => {
      if (broken(socket)) socket.terminate();
      else handlers.end?.(socket);
    },
    close: (socket: Bun.Socket<D>, error?: Error) =>
      void (broken(socket, error) || handlers.close?.(socket, error)),
    error: (socket: Bun.Socket<D>, error: Error) =>
      void (broken(socket, error) || handlers.error?.(socket, error)),
  };
}
