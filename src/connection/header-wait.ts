// Reads the PROXY headers of balancers' connections. It looks at what has arrived where it lies, in the kernel, and takes
// the header alone: TLS then begins with its own first byte, and measures and bounds what comes as for other clients. A
// header that is not there yet is looked for again, less and less often, until the time for handshakes is up.

import type { Libc } from "../lib/libc.ts";
import { MAX_RECEIVED_BYTES, readProxyHeader, type HeaderFault, type ProxyHeader } from "./proxy-header.ts";

/** The part of a socket that is needed. It is paused. */
export interface HeaderSocket {
  readonly fd: number;
}

const MSG_PEEK = 0x02;
const POLLRDHUP = 0x2000;

/** How long to wait before the second look, and at most between two, in milliseconds. */
const FIRST_WAIT_MS = 1;
const LONGEST_WAIT_MS = 1_000;

/** Looks at a socket's header, and takes it when it is whole. */
export interface HeaderSource {
  /** @returns undefined while more of the header has to come */
  read(fd: number): ProxyHeader | HeaderFault | undefined;
  /** Whether the peer has ended or reset the connection. */
  hasEnded(fd: number): boolean;
  /** Whether a part of the header has come. */
  hasBegun(fd: number): boolean;
}

export function headerSource({ recv, poll }: Libc): HeaderSource {
  const window = new Uint8Array(MAX_RECEIVED_BYTES);
  // A copy: optimized code would not know that the call has changed the array.
  const peek = (fd: number) => window.slice(0, Math.max(0, recv(fd, window, window.length, MSG_PEEK)));
  return {
    read(fd) {
      const heard = readProxyHeader(peek(fd));
      if (heard !== undefined && "length" in heard) recv(fd, window, heard.length, 0);
      return heard;
    },
    hasEnded: (fd) => poll(Int32Array.of(fd, POLLRDHUP), 1, 0) !== 0,
    hasBegun: (fd) => peek(fd).length > 0,
  };
}

/** Why a connection that waits is given up. */
type GivenUp = HeaderFault | { readonly reason: "overloaded" | "handshake_failed"; readonly detail: string };

/** What has become of a connection's header. */
export type Heard = ProxyHeader | GivenUp;

interface Waiting {
  readonly since: number;
  timer: Timer | undefined;
  readonly heard: (heard: Heard) => void;
}

/** A connection that has waited this long, in milliseconds, can lose its place. */
const EVICT_MS = 100;

const LEFT: HeaderFault = { reason: "proxy_header_missing", detail: "nothing came" };
const CUT_SHORT: HeaderFault = { reason: "proxy_header_invalid", detail: "it is cut short" };

/** The connections whose headers have to come yet. */
export class HeaderWait {
  readonly #source: () => HeaderSource;
  readonly #now: () => number;
  /** In the order of arrival. */
  readonly #waiting = new Map<HeaderSocket, Waiting>();

  /**
   * @param source made at the first use: most proxies never need it
   * @param now whole milliseconds of a monotonic clock
   */
  constructor(source: () => HeaderSource, now: () => number) {
    let made: HeaderSource | undefined;
    this.#source = () => (made ??= source());
    this.#now = now;
  }

  /** Connections that wait. */
  get size(): number {
    return this.#waiting.size;
  }

  /** @returns undefined if the header is not whole yet */
  read({ fd }: HeaderSocket): Heard | undefined {
    return this.#source().read(fd);
  }

  /**
   * Waits for the header.
   * @param until when to give up
   * @param heard called once
   */
  wait(socket: HeaderSocket, until: number, heard: (heard: Heard) => void): void {
    const waiting: Waiting = { since: this.#now(), timer: undefined, heard };
    this.#waiting.set(socket, waiting);
    const look = (wait: number) => {
      const source = this.#source();
      // Asked before the reading: what came before the end is read.
      const left = until - this.#now();
      const isLate = left <= 0 || source.hasEnded(socket.fd);
      const found = source.read(socket.fd) ?? (isLate ? this.#missed(socket) : undefined);
      if (found !== undefined) return this.#settle(socket, found);
      waiting.timer = setTimeout(look, Math.min(wait, left), Math.min(2 * wait, LONGEST_WAIT_MS));
    };
    waiting.timer = setTimeout(look, FIRST_WAIT_MS, 2 * FIRST_WAIT_MS);
  }

  /** A socket is closed; it may have waited. */
  closed(socket: HeaderSocket): void {
    this.#settle(socket, LEFT);
  }

  /** Makes room for a new connection. @returns whether one that waited has lost its place */
  evict(): boolean {
    const [oldest] = this.#waiting;
    if (oldest === undefined || this.#now() - oldest[1].since < EVICT_MS) return false;
    this.#settle(oldest[0], { reason: "overloaded", detail: "gave its place to a newer connection" });
    return true;
  }

  /** Gives up all, because the proxy shuts down. */
  cut(): void {
    for (const socket of [...this.#waiting.keys()])
      this.#settle(socket, { reason: "handshake_failed", detail: "shutdown" });
  }

  #missed({ fd }: HeaderSocket): HeaderFault {
    return this.#source().hasBegun(fd) ? CUT_SHORT : LEFT;
  }

  #settle(socket: HeaderSocket, heard: Heard): void {
    const waiting = this.#waiting.get(socket);
    if (waiting === undefined) return;
    this.#waiting.delete(socket);
    clearTimeout(waiting.timer);
    waiting.heard(heard);
  }
}
