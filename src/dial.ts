// The way to a target: the only place that calls Bun.connect. Runtime facts that it hides: an attempt cannot be called
// off and never times out by itself, and a refusal is told twice.

import type { Address } from "./address.ts";
import type { DescriptorBudget } from "./descriptors.ts";

/** Who wants the connection. Exactly one of the two is called, and never at once, unless the attempt is abandoned. */
export interface Dialer {
  /** Connected; the socket's `data` is the dialer. */
  dialed(socket: Bun.Socket<this>): void;
  /** Refused, unreachable, or a name that does not resolve. */
  dialFailed(error: Error): void;
}

/** One attempt to reach one target. */
export class Attempt<D extends Dialer> {
  readonly #dialer: D;
  readonly #budget: DescriptorBudget;
  #state: "pending" | "settled" | "abandoned" = "pending";

  constructor(dialer: D, budget: DescriptorBudget) {
    this.#dialer = dialer;
    this.#budget = budget;
  }

  /**
   * The dialer hears no more of it, and a socket that opens late is closed at once. Until the kernel gives it up it goes
   * on holding a descriptor, which is counted.
   */
  abandon(): void {
    if (this.#state !== "pending") return;
    this.#state = "abandoned";
    this.#budget.add();
  }

  opened(socket: Bun.Socket<unknown>): void {
    socket.data = this.#dialer;
    const was = this.#settle();
    if (was === "pending") this.#dialer.dialed(socket as Bun.Socket<D>);
    else if (was === "abandoned") socket.terminate();
  }

  failed(error: Error): void {
    if (this.#settle() === "pending") this.#dialer.dialFailed(error);
  }

  #settle() {
    const was = this.#state;
    this.#state = "settled";
    if (was === "abandoned") this.#budget.giveBack(1);
    return was;
  }
}

/** Starts an attempt. It has no time limit of its own: abandon it. */
export type Dial<D extends Dialer> = (target: Address, dialer: D, budget: DescriptorBudget) => Attempt<D>;

/** @param handlers for open sockets, one set for all of them; `open` and `connectError` are this module's own */
export function createDial<D extends Dialer>(handlers: Bun.SocketHandler<D>): Dial<D> {
  const socket = {
    ...handlers,
    open: (socket: Bun.Socket<Attempt<D>>) => socket.data.opened(socket),
    connectError: (socket: Bun.Socket<Attempt<D>>, error: Error) => socket.data.failed(error),
    // Until a socket is open its data is the attempt, and none of the handlers proper is called.
  } as unknown as Bun.SocketHandler<Attempt<D>>;
  return ({ hostname, port }, dialer, budget) => {
    const attempt = new Attempt(dialer, budget);
    // A promise of our own: what Bun.connect throws at once comes back later too, like everything else.
    Promise.resolve()
      .then(() => Bun.connect<Attempt<D>>({ hostname, port, allowHalfOpen: true, data: attempt, socket }))
      .catch((error: Error) => attempt.failed(error));
    return attempt;
  };
}
