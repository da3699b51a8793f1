// A connection in the handshake queue, and the list of connections from one source that wait.

/** The part of a client's socket that the queue needs. */
export interface HandshakeSocket {
  readonly fd: number;
  pause(): void;
  resume(): void;
}

/** The queue tells it that its handshake is refused. */
export interface HandshakeOwner {
  handshakeRefused(reason: "source_limited" | "overloaded", detail?: string): void;
}

type State = "waiting" | "free" | "reading";

/** One connection in the queue. */
export class Ticket {
  readonly socket: HandshakeSocket;
  readonly owner: HandshakeOwner;
  /** Its source's row; undefined if the source is not counted. */
  readonly row: number | undefined;
  state: State = "waiting";
  enteredAt = 0;
  startedAt = 0;
  /** Turns in which TLS may still read. */
  turns = 0;
  /** Bytes received when TLS last read, and at the last check. */
  received = 0;
  seen = 0;
  /**
   * The thread's processor time when TLS was last allowed to read, and what the handshake took before; in milliseconds.
   */
  cpuAt = 0;
  cpu = 0;
  /** TLS has been fed: from now on a failure has cost something. */
  fed = false;
  /** TLS has read all that had arrived, outside of its turns. */
  stolen = false;
  /** TLS gets only measured bytes. */
  watched = false;
  /** Large flights that TLS has read. */
  large = 0;
  /** Failures that its source was charged for its bytes so far. */
  charged = 0;

  /** @param received bytes that were taken from the socket before TLS begins */
  constructor(socket: HandshakeSocket, owner: HandshakeOwner, row: number | undefined, received = 0) {
    this.socket = socket;
    this.owner = owner;
    this.row = row;
    this.received = received;
  }
}

/** Stands in for a row, for connections whose source is not counted. */
export const EXEMPT = -1;

/** The connections of one source that wait for a turn, each kind in the order of arrival. */
export class WaitingList {
  /** TLS has read nothing of these. Every other time they come before the others. */
  readonly fresh = new Set<Ticket>();
  readonly fed = new Set<Ticket>();
  #turn = 0;

  get size(): number {
    return this.fresh.size + this.fed.size;
  }

  add(ticket: Ticket): void {
    (ticket.fed ? this.fed : this.fresh).add(ticket);
  }

  delete(ticket: Ticket): boolean {
    return this.fresh.delete(ticket) || this.fed.delete(ticket);
  }

  /** The newest of those that have cost least. */
  last(): Ticket | undefined {
    return [...this.fresh].at(-1) ?? [...this.fed].at(-1);
  }

  /** Both kinds, starting with the one whose turn it is. */
  kinds(): readonly Set<Ticket>[] {
    return this.#turn++ % 2 === 0 ? [this.fresh, this.fed] : [this.fed, this.fresh];
  }

  *[Symbol.iterator](): Iterator<Ticket> {
    yield* this.fresh;
    yield* this.fed;
  }
}
