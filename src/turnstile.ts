// Lets new connections begin their handshakes one by one. A handshake keeps the thread busy for most of a millisecond,
// and the runtime would do five in a row before it looks at live connections again: a storm of new clients would be
// felt by everybody who is inside. Every other turn of the event loop belongs to live connections alone.

/** A socket that has just been accepted. */
export interface Newcomer {
  pause(): void;
  resume(): void;
}

/** Turns of the event loop per handshake that begins. */
const TURNS = 2;

export class Turnstile {
  readonly #schedule: (turn: () => void) => unknown;
  readonly #waiting = new Set<Newcomer>();
  #turn = 0;
  #scheduled = false;

  /** @param schedule calls back in the next turn of the event loop, after what is ready has been served */
  constructor(schedule: (turn: () => void) => unknown = setImmediate) {
    this.#schedule = schedule;
  }

  /** Holds a socket back until its turn comes. First come, first served; a silent one holds up nobody after it. */
  enter(socket: Newcomer): void {
    socket.pause();
    this.#waiting.add(socket);
    this.#again();
  }

  /** It is gone, or no longer wanted. */
  leave(socket: Newcomer): void {
    this.#waiting.delete(socket);
  }

  #again(): void {
    if (this.#scheduled || this.#waiting.size === 0) return;
    this.#scheduled = true;
    this.#schedule(this.#next);
  }

  readonly #next = (): void => {
    this.#scheduled = false;
    this.#turn = (this.#turn + 1) % TURNS;
    const [first] = this.#waiting;
    if (first !== undefined && this.#turn === 0) {
      this.#waiting.delete(first);
      first.resume();
    }
    this.#again();
  };
}
