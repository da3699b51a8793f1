// Echo upstreams for trying the proxy out: they send back what they receive, and support half-close and slow readers.

import { formatAddress, type Address } from "../lib/address.ts";
import { cannotListen } from "../lib/errors.ts";
import { Relay } from "../connection/relay.ts";

/** A running echo server. */
export interface Echo {
  /** The address as bound, with the port that the system picked if it was 0. */
  readonly address: Address;
  /** The number of open connections. */
  connections(): number;
  /** Stops at once and closes its connections. */
  stop(): void;
}

/**
 * Starts an echo server.
 * @throws StartError if the address is not available
 */
export function echo(address: Address): Echo {
  let open = 0;
  const bind = () =>
    Bun.listen<Relay>({
      hostname: address.hostname || "::",
      port: address.port,
      exclusive: true,
      allowHalfOpen: true,
      socket: {
        open(socket) {
          open++;
          socket.data = new Relay();
          socket.data.source = socket.data.sink = socket;
        },
        data: (socket, chunk) => void socket.data.push(chunk),
        drain: (socket) => void socket.data.flush(),
        end: (socket) => socket.data.end(),
        close: () => void open--,
      },
    });
  try {
    const server = bind();
    return {
      address: { hostname: server.hostname, port: server.port },
      connections: () => open,
      stop: () => server.stop(true),
    };
  } catch (error) {
    throw cannotListen(formatAddress(address), error);
  }
}
