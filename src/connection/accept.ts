// From an accepted socket to a connection in its handshake, or to a refusal before TLS: by its address, its source, the
// blocks, and the places that are left. A balancer's connection gives its PROXY header first; from then on its caller's
// address counts.

import { networkDetail } from "../auth/networks.ts";
import { formatAddress } from "../lib/address.ts";
import { DESCRIPTORS_PER_CONNECTION } from "../lib/descriptors.ts";
import type { RefusalReason } from "../lib/errors.ts";
import { sourceOf } from "../lib/source.ts";
import type { ListenerState } from "./admission.ts";
import { Connection, countRefusal, nextId, type Origin, type Shared } from "./connection.ts";
import type { HeaderSocket, Heard } from "./header-wait.ts";

type Socket = Bun.Socket<Connection>;
/** A socket before TLS begins on it. Bun's types leave the descriptor out. */
type PlainSocket = Bun.Socket<undefined> & HeaderSocket;

/** Begins TLS on a socket; undefined if its client has left. The new socket is not read from before its turn. */
export type BeginTls = (socket: Bun.Socket<undefined>) => Socket | undefined;

/** Handlers for clients' sockets. A socket's `data` is its connection, or undefined if the client was turned away. */
export function clientHandlers(
  shared: Shared,
  listener: ListenerState,
): Bun.SocketHandler<Connection | undefined> {
  return {
    open: (socket) => accept(shared, listener, socket as unknown as PlainSocket, undefined),
    handshake: (socket, success, error) => socket.data?.handshakeDone(success, error),
    data: (socket, chunk) => socket.data?.clientSent(chunk),
    drain: (socket) => socket.data?.clientDrained(),
    end: (socket) => socket.data?.clientEnded(),
    close: (socket, error) => (socket.data ? socket.data.clientClosed(error) : shared.tarpit.closed(socket)),
    error: (socket, error) =>
      socket.data ? socket.data.clientFailed(error) : acceptFailed(shared, socket, error),
  };
}

/**
 * Handlers for the sockets of a port that takes PROXY headers, until TLS begins on them; then they go on as those of
 * {@link clientHandlers}. There is no handler for data: without one the runtime does not copy what TLS reads.
 */
export function plainHandlers(
  shared: Shared,
  listener: ListenerState,
  begin: BeginTls,
): Bun.SocketHandler<undefined> {
  return {
    open: (socket) => accept(shared, listener, socket as PlainSocket, begin),
    drain() {},
    close(socket) {
      shared.headers.closed(socket as PlainSocket);
      shared.tarpit.closed(socket);
    },
    error: (socket, error) => acceptFailed(shared, socket, error),
  };
}

/** @param begin undefined where TLS has begun: the socket reads nothing before its turn */
function accept(
  shared: Shared,
  listener: ListenerState,
  socket: PlainSocket,
  begin: BeginTls | undefined,
): void {
  shared.ledger.counters.accepted(listener.row);
  const { remoteAddress: address, remotePort: port } = socket as Partial<PlainSocket>;
  if (address === undefined || port === undefined) {
    // The client has already reset its connection. Its address is unknown, so TLS must not read from it.
    socket.terminate();
    return turnedAway(shared, listener, { remote: "unknown" }, "handshake_failed", "the client left");
  }
  const remote = formatAddress({ hostname: address, port });
  const acceptedAt = shared.now();
  const from = { remote, address, acceptedAt };
  if (listener.balancers?.(address) === true && begin !== undefined)
    readHeader(shared, listener, socket, begin, from);
  else enter(shared, listener, socket, begin, from);
}

/** Where a connection comes from, before its source is counted. */
type From = Omit<Origin, "row">;

/** Reads the header of a balancer's connection, which may have to come yet: until then it holds a place. */
function readHeader(
  shared: Shared,
  listener: ListenerState,
  socket: PlainSocket,
  begin: BeginTls,
  balancer: From,
): void {
  const { headers, rules, changed } = shared;
  // What the runtime reads now would be lost.
  socket.pause();
  const heard = (header: Heard): void => {
    if ("reason" in header) {
      socket.terminate();
      return turnedAway(shared, listener, balancer, header.reason, header.detail);
    }
    const { ends, length } = header;
    const { acceptedAt, remote, address } = balancer;
    const caller = ends && { remote: formatAddress(ends.source), address: ends.source.hostname };
    const balanced = { peer: remote, peerAddress: address, ends, received: length, acceptedAt };
    enter(shared, listener, socket, begin, { remote, address, ...caller, ...balanced });
  };
  const header = headers.read(socket);
  if (header !== undefined) return heard(header);
  // What waits is a handshake under way, of which there is a limit.
  const isFull = headers.size >= shared.handshakes.max && !headers.evict();
  if (isFull || (!takeSlot(shared) && !makeRoom(shared, undefined))) {
    socket.terminate();
    return turnedAway(shared, listener, balancer, "overloaded");
  }
  headers.wait(socket, balancer.acceptedAt + rules.config.handshakeTimeout, (late) => {
    giveBackSlot(shared);
    heard(late);
    changed();
  });
}

function enter(
  shared: Shared,
  listener: ListenerState,
  socket: PlainSocket,
  begin: BeginTls | undefined,
  from: From,
): void {
  const { sources, rules, tarpit, now } = shared;
  const { address } = from;
  const denied = listener.networks?.(address);
  if (denied !== undefined) {
    socket.terminate();
    return turnedAway(shared, listener, from, "address_denied", networkDetail(denied));
  }
  const source = rules.isExempt(address) ? undefined : sourceOf(address);
  const row = source && sources.enter(source, now());
  if (source !== undefined && row === undefined) {
    tarpit.hold(socket);
    return turnedAway(shared, listener, from, "source_limited");
  }
  const refuse = (reason: RefusalReason, detail?: string) => {
    if (row !== undefined) sources.leave(row);
    // A reset, unlike an end, leaves nothing behind in the kernel.
    socket.terminate();
    turnedAway(shared, listener, from, reason, detail);
  };
  if (rules.blocks.findNetwork(address, Date.now()) !== undefined) return refuse("blocked");
  if (!takeSlot(shared) && !makeRoom(shared, row)) return refuse("overloaded");
  const client = begin === undefined ? (socket as unknown as Socket) : begin(socket);
  if (client === undefined) {
    giveBackSlot(shared);
    return refuse("handshake_failed", "the client left");
  }
  client.data = new Connection(shared, listener, client, { ...from, row });
}

function takeSlot({ ledger, budget, rules }: Shared): boolean {
  if (!ledger.takeConnection(rules.config.maxConnections)) return false;
  if (budget.take(DESCRIPTORS_PER_CONNECTION)) return true;
  ledger.giveBackConnection();
  return false;
}

function giveBackSlot({ ledger, budget }: Shared): void {
  budget.giveBack(DESCRIPTORS_PER_CONNECTION);
  ledger.giveBackConnection();
}

/** Takes a slot from a connection that is not admitted yet. @param row the source of the new one */
function makeRoom(shared: Shared, row: number | undefined): boolean {
  const { tarpit, headers, handshakes } = shared;
  return [() => tarpit.clear(), () => headers.evict(), () => handshakes.evict(row)].some(
    (free) => free() && takeSlot(shared),
  );
}

/** Logs a connection that is refused before it has a {@link Connection}. */
function turnedAway(
  shared: Shared,
  { address, row }: ListenerState,
  { remote, peer }: Pick<From, "remote" | "peer">,
  reason: RefusalReason,
  detail?: string,
): void {
  countRefusal(shared, row, undefined, reason);
  const id = nextId(shared);
  shared.refusals.add(reason, undefined, remote, () => ({
    id,
    remote,
    peer,
    listener: address,
    reason,
    detail,
  }));
}

function acceptFailed(shared: Shared, socket: Bun.Socket<unknown>, error: Error): void {
  shared.log.error("internal error", { error: error.stack ?? String(error) });
  socket.terminate();
}
