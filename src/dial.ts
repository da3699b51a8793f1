// The way to a target: the only place that calls Bun.connect, over TCP or a socket in the file system, plain or with TLS.
// Runtime facts that it hides: an attempt cannot be called off and never times out by itself, a refusal is told twice,
// and a TLS connection counts as made whoever is at the other end.

import { isIP } from "node:net";
import type { TargetAddress } from "./address.ts";

/** Who wants the connection. Exactly one of the two is called, and never at once, unless the attempt is abandoned. */
export interface Dialer {
  /** Connected and, over TLS, verified; the socket's `data` is the dialer. */
  dialed(socket: Bun.Socket<this>): void;
  /** Refused, unreachable, a name that does not resolve, or a target that is not who it should be. */
  dialFailed(error: Error): void;
}

/** Counts descriptors that nobody else counts. */
export interface Descriptors {
  add(): void;
  giveBack(count: number): void;
}

/** TLS towards a target, PEM. */
export interface TargetTls {
  readonly ca: readonly string[];
  readonly cert: string | undefined;
  readonly key: string | undefined;
  /** The name that the target's certificate has to hold; undefined for the host that is dialled. */
  readonly serverName: string | undefined;
}

/** One attempt to reach one target. */
export class Attempt<D extends Dialer> {
  readonly #dialer: D;
  readonly #descriptors: Descriptors;
  /** What the target's certificate has to be for; undefined where there is no TLS. */
  readonly #serverName: string | undefined;
  #state: "pending" | "settled" | "abandoned" = "pending";
  /** Open, and in its TLS handshake. */
  #socket: Bun.Socket<unknown> | undefined;

  constructor(dialer: D, descriptors: Descriptors, serverName: string | undefined) {
    this.#dialer = dialer;
    this.#descriptors = descriptors;
    this.#serverName = serverName;
  }

  /**
   * The dialer hears no more of it. A socket that is open goes now, one that opens late is closed at once. Until the
   * kernel gives the latter up it goes on holding a descriptor, which is counted.
   */
  abandon(): void {
    if (this.#state !== "pending") return;
    this.#state = "abandoned";
    this.#descriptors.add();
    if (this.#socket !== undefined) this.#done(this.#socket);
  }

  /** TCP is there; over TLS the handshake is yet to come. */
  opened(socket: Bun.Socket<unknown>): void {
    if (this.#serverName === undefined || this.#state === "abandoned") this.#done(socket);
    else this.#socket = socket;
  }

  /** `success` is true whoever is at the other end: `authorized` and the name are what decide. */
  handshook(socket: Bun.Socket<unknown>, success: boolean, error: Error | null): void {
    if (this.#state === "settled") return;
    if (success && error === null && socket.authorized && this.#isFor(socket)) return this.#done(socket);
    this.failed(error ?? new Error(success ? "the certificate is for another name" : "TLS handshake failed"));
    socket.terminate();
  }

  failed(error: Error): void {
    if (this.#settle() === "pending") this.#dialer.dialFailed(error);
  }

  #isFor(socket: Bun.Socket<unknown>): boolean {
    const certificate = socket.getPeerX509Certificate();
    const name = this.#serverName ?? "";
    const holds = isIP(name)
      ? certificate?.checkIP(name)
      : certificate?.checkHost(name, { subject: "never" });
    return holds !== undefined;
  }

  #done(socket: Bun.Socket<unknown>): void {
    socket.data = this.#dialer;
    const was = this.#settle();
    if (was === "pending") this.#dialer.dialed(socket as Bun.Socket<D>);
    else if (was === "abandoned") socket.terminate();
  }

  #settle() {
    const was = this.#state;
    this.#state = "settled";
    if (was === "abandoned") this.#descriptors.giveBack(1);
    return was;
  }
}

/** Starts an attempt. It has no time limit of its own: abandon it. */
export type Dial<D extends Dialer> = (
  target: TargetAddress,
  tls: TargetTls | undefined,
  dialer: D,
  descriptors: Descriptors,
) => Attempt<D>;

/** @param handlers for open sockets, one set for all of them; `open`, `handshake` and `connectError` are this module's own */
export function createDial<D extends Dialer>(handlers: Bun.SocketHandler<D>): Dial<D> {
  const plain = {
    ...handlers,
    open: (socket: Bun.Socket<Attempt<D>>) => socket.data.opened(socket),
    connectError: (socket: Bun.Socket<Attempt<D>>, error: Error) => socket.data.failed(error),
    // Until a socket is open its data is the attempt, and none of the handlers proper is called.
  } as unknown as Bun.SocketHandler<Attempt<D>>;
  const secure = { ...plain, ...secureHandlers(handlers) } as Bun.SocketHandler<Attempt<D>>;
  return (target, tls, dialer, descriptors) => {
    const where = "unix" in target ? { unix: target.unix } : target;
    const serverName = tls && (tls.serverName ?? ("unix" in target ? "" : target.hostname));
    const data = new Attempt(dialer, descriptors, serverName);
    const options =
      tls === undefined
        ? { ...where, allowHalfOpen: true, data, socket: plain }
        : { ...where, allowHalfOpen: true, data, socket: secure, tls: tlsOptions(tls, serverName ?? "") };
    // A promise of our own: what Bun.connect throws at once comes back later too, like everything else.
    Promise.resolve()
      .then(() => Bun.connect<Attempt<D>>(options as Bun.TCPSocketConnectOptions<Attempt<D>>))
      .catch((error: Error) => data.failed(error));
    return data;
  };
}

function tlsOptions({ ca, cert, key }: TargetTls, serverName: string): Bun.TLSOptions {
  return {
    ca: [...ca],
    ...(cert !== undefined && { cert, key: key as string }),
    // RFC 6066, section 3: a literal address is no server name.
    serverName: isIP(serverName) === 0 ? serverName : "",
    rejectUnauthorized: true,
  };
}

/** The handlers proper, for sockets that have an attempt for their data until their handshake is done. */
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
      if (socket.data instanceof Attempt) socket.data.handshook(socket, success, error);
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
