// Holds connections that are refused at accept for a moment before it resets them. A client that is reset at once
// returns at once, and the proxy pays for each accept. The proxy does not read from a held connection and does not
// count it in `maxConnections`.

/** The part of a socket that the tarpit needs. */
export interface HeldSocket {
  pause(): void;
  terminate(): void;
}

/** The budget that counts the descriptors of held connections. */
export interface HeldDescriptors {
  take(count: number): boolean;
  giveBack(count: number): void;
}

/** How long a connection is held, in milliseconds. */
const HOLD_MS = 1_000;

/** Connections held at a time, in one thread. */
const MAX_HELD = 256;

export class Tarpit {
  readonly #descriptors: HeldDescriptors;
  readonly #now: () => number;
  /** When each socket is reset, oldest first. */
  readonly #held = new Map<HeldSocket, number>();
  #timer: Timer | undefined;

  constructor(descriptors: HeldDescriptors, now: () => number) {
    this.#descriptors = descriptors;
    this.#now = now;
  }

  /** Holds a connection, or resets it at once if there is no room. */
  hold(socket: HeldSocket): void {
    if (this.#held.size >= MAX_HELD || !this.#descriptors.take(1)) return socket.terminate();
    socket.pause();
    this.#held.set(socket, this.#now() + HOLD_MS);
    this.#timer ??= setTimeout(this.#expire, HOLD_MS);
  }

  /** A socket is closed; the tarpit may have held it. */
  closed(socket: HeldSocket): void {
    if (this.#held.delete(socket)) this.#descriptors.giveBack(1);
  }

  /**
   * Resets all held connections and gives back their descriptors.
   * @returns whether there were any
   */
  clear(): boolean {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const sockets = [...this.#held.keys()];
    for (const socket of sockets) this.#reset(socket);
    return sockets.length > 0;
  }

  readonly #expire = (): void => {
    this.#timer = undefined;
    const now = this.#now();
    for (const [socket, until] of this.#held) {
      if (until > now) {
        this.#timer = setTimeout(this.#expire, until - now);
        return;
      }
      this.#reset(socket);
    }
  };

  #reset(socket: HeldSocket): void {
    this.closed(socket);
    socket.terminate();
  }
}
