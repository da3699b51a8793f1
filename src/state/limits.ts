// What each client may do: so many connections in so much time, and so many at once. Pure: time is an argument.
// Every admission is a lease; the open count of a client is the number of its living leases and cannot drift.

import { returnToken, takeToken, type BucketRule } from "./token-bucket.ts";

/** The limits of every client. */
export interface ClientRule extends BucketRule {
  /** Connections one client may have open at a time; undefined for no such limit. */
  readonly maxConnections?: number | undefined;
}

interface Client {
  fullAt: number;
  open: number;
}

/** One admitted connection of a client. */
export class ClientLease {
  #client: Client | undefined;
  readonly #rule: BucketRule;

  constructor(client: Client, rule: BucketRule) {
    client.open++;
    this.#client = client;
    this.#rule = rule;
  }

  /** The connection is over. Releasing again does nothing. */
  release(): void {
    if (this.#client === undefined) return;
    this.#client.open--;
    this.#client = undefined;
  }

  /** The connection never came to be: gives back the token too. */
  cancel(): void {
    if (this.#client === undefined) return;
    this.#client.fullAt = returnToken(this.#client.fullAt, this.#rule);
    this.release();
  }
}

/** All clients that have a connection open or a bucket that is not full; others are not stored. */
export class Limits {
  readonly #rule: ClientRule;
  readonly #clients = new Map<string, Client>();

  constructor(rule: ClientRule) {
    this.#rule = rule;
  }

  /**
   * Admits a connection, or says why not; a refusal changes nothing.
   * @param client the client's whole name, `user@group`
   * @param now whole milliseconds, never less than in an earlier call
   */
  admit(client: string, now: number): ClientLease | "connection_limit" | "rate_limited" {
    const known = this.#clients.get(client);
    if (known !== undefined && known.open >= (this.#rule.maxConnections ?? Infinity))
      return "connection_limit";
    const fullAt = takeToken(known?.fullAt ?? 0, now, this.#rule);
    if (fullAt === undefined) return "rate_limited";
    const entry = known ?? { fullAt, open: 0 };
    entry.fullAt = fullAt;
    if (known === undefined) this.#clients.set(client, entry);
    return new ClientLease(entry, this.#rule);
  }

  /** Forgets clients that are back at a full bucket with nothing open. Call it now and then. */
  sweep(now: number): void {
    for (const [name, client] of this.#clients) {
      if (client.open === 0 && client.fullAt <= now) this.#clients.delete(name);
    }
  }

  /** Connections that a client has open. */
  open(client: string): number {
    return this.#clients.get(client)?.open ?? 0;
  }

  /** Clients stored. */
  get size(): number {
    return this.#clients.size;
  }
}
