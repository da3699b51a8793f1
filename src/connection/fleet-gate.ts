// What the data path asks of a fleet, where there is one: may this client have one more connection, over all proxies?

/** A place that a connection holds. Giving it back twice does nothing. */
export interface Lease {
  /** The connection is over. */
  release(): void;
  /** The connection never came to be: gives back its token too. */
  cancel(): void;
}

/** Why a fleet refuses a client. */
export type FleetRefusal = "connection_limit" | "rate_limited" | "fleet_unavailable";

/** The door to a fleet, for one thread. */
export interface FleetGate {
  /**
   * Asks for one more connection of a client that the thread's own limits admit.
   * @param answered called once, within `fleet.timeout` and a little; it may be called at once
   */
  ask(client: string, answered: (answer: Lease | FleetRefusal) => void): void;
  /** Counts a connection that was admitted before there was a fleet. */
  adopt(client: string): Lease;
}

/** Two leases of one connection, given back together. */
export function both(first: Lease, second: Lease): Lease {
  return {
    release() {
      first.release();
      second.release();
    },
    cancel() {
      first.cancel();
      second.cancel();
    },
  };
}
