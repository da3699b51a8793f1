// Holds connections that are refused at accept for a moment before it resets them: a client that is reset at once comes
// back at once, and accepting is what it costs us. A held connection is not read from, and has no place among
// `maxConnections`.

/** The part of a socket that is needed here. */
export interface HeldSocket {
  pause(): void;
  terminate(): void;
}

/** The budget that a held connection's descriptor is taken from. */
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
  /** When each is reset, the oldest first. */
  readonly #held = new Map<HeldSocket, number>();
  #timer: Timer | undefined;

  constructor(descriptors: HeldDescriptors, now: () => number) {
    this.#descriptors = descriptors;
    this.#now = now;
  }

  /** Holds a connection, or resets it at once where there is no room. */
  hold(socket: HeldSocket): void {
    if (this.#held.size >= MAX_HELD || !this.#descriptors.take(1)) return socket.terminate();
    socket.pause();
    this.#held.set(socket, this.#now() + HOLD_MS);
    this.#timer ??= setTimeout(this.#expire, HOLD_MS);
  }

  /** A socket is closed; it may have been held. */
  closed(socket: HeldSocket): void {
    if (this.#held.delete(socket)) this.#descriptors.giveBack(1);
  }

  /**
   * Resets what is held, and gives back its descriptors.
   * @returns whether there was any
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
