// The way to a target: the only place that calls Bun.connect. Runtime facts that it hides: an attempt cannot be called
// off and never times out by itself, and a refusal is told twice.

import type { Address } from "./address.ts";
import type { DescriptorBudget } from "./descriptors.ts";

/** Who wants the connection. Exactly one of the two is called, and never at once, unless the attempt is abandoned. */
export interface Dialer<Data> {
  /** Connected. */
  dialed(socket: Bun.Socket<Data>): void;
  /** Refused, unreachable, or a name that does not resolve. */
  dialFailed(error: Error): void;
}

/** One attempt to reach one target. */
export interface Attempt {
  /** The dialer hears no more of it, and a socket that opens late is closed at once. */
  abandon(): void;
}

/**
 * Starts an attempt. It has no time limit of its own: abandon it.
 * @param dialer also the `data` of the open socket
 * @param handlers for the open socket; `open` and `connectError` are this module's own
 * @param budget an abandoned attempt goes on holding a descriptor, which is counted here until the kernel gives it up
 */
export function dial<Data extends Dialer<Data>>(
  { hostname, port }: Address,
  dialer: Data,
  handlers: Bun.SocketHandler<Data>,
  budget: DescriptorBudget,
): Attempt {
  let state: "pending" | "settled" | "abandoned" = "pending";
  const settle = () => {
    const was = state;
    state = "settled";
    if (was === "abandoned") budget.giveBack(1);
    return was;
  };
  const failed = (error: Error) => {
    if (settle() === "pending") dialer.dialFailed(error);
  };
  const socket: Bun.SocketHandler<Data> = {
    ...handlers,
    open(socket) {
      const was = settle();
      if (was === "pending") dialer.dialed(socket);
      else if (was === "abandoned") socket.terminate();
    },
    connectError: (_, error) => failed(error),
  };
  // A promise of our own: what Bun.connect throws at once comes back later too, like everything else.
  Promise.resolve()
    .then(() => Bun.connect<Data>({ hostname, port, allowHalfOpen: true, data: dialer, socket }))
    .catch(failed);

  return {
    abandon() {
      if (state !== "pending") return;
      state = "abandoned";
      budget.add();
    },
  };
}
