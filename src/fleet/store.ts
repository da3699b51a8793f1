// One connection to the store, over TCP, TLS or a socket in the file system. Commands of one turn of the event loop go out
// together, and replies come in the order of the commands. It has no time limits and never connects again: its user does.
//
// It is not Bun's own client: that one does not say why a connection failed, takes no password on a socket in the file
// system, and lets an environment variable switch off the verification of the store's certificate.

import type { TargetAddress } from "../lib/address.ts";
import { codeOf } from "../lib/errors.ts";
import {
  createDial,
  type Attempt,
  type Descriptors,
  type Dialer,
  type TargetTls,
} from "../upstreams/dial.ts";
import { ReplyReader, StoreFault, encode, type Reply } from "./resp.ts";

/** The connection to the store failed or ended. */
export class StoreGone extends Error {
  override name = "StoreGone";
}

/** Where a store is, and how it is reached. */
export interface StorePlace {
  readonly address: TargetAddress;
  /** Undefined without TLS. */
  readonly tls: TargetTls | undefined;
}

/** The most bytes that wait for the store to take them. */
const MAX_BACKLOG_BYTES = 8 * 1024 * 1024;

export class StoreConnection implements Dialer {
  readonly #closed: (why: StoreGone) => void;
  readonly #opened = Promise.withResolvers<void>();
  readonly #attempt: Attempt<StoreConnection>;
  #socket: Bun.Socket<StoreConnection> | undefined;
  #over: StoreGone | undefined;
  /** Commands of this turn. */
  #out = "";
  /** What the socket has not taken yet. */
  #backlog: Buffer | undefined;
  readonly #reader = new ReplyReader();
  readonly #waiting: PromiseWithResolvers<Reply>[] = [];
  #first = 0;

  /** @param closed called once, when the connection has failed or ended; not after {@link close} */
  constructor({ address, tls }: StorePlace, descriptors: Descriptors, closed: (why: StoreGone) => void) {
    this.#closed = closed;
    this.#opened.promise.catch(() => {});
    this.#attempt = dial({ target: address, tls, header: undefined, dialer: this, descriptors });
  }

  /** Resolves when commands can be sent. */
  get opened(): Promise<void> {
    return this.#opened.promise;
  }

  /** @returns the reply; rejects with the store's error (StoreFault), or where there is no answer to come (StoreGone) */
  send(words: readonly (string | number)[]): Promise<Reply> {
    if (this.#over !== undefined) return Promise.reject(this.#over);
    if (this.#out === "") queueMicrotask(() => this.#flush());
    this.#out += encode(words);
    const waiting = Promise.withResolvers<Reply>();
    this.#waiting.push(waiting);
    return waiting.promise;
  }

  /** Closes at once. Commands without an answer are rejected. */
  close(why = "the connection was closed"): void {
    this.#end(new StoreGone(why), false);
  }

  dialed(socket: Bun.Socket<this>): void {
    this.#socket = socket;
    if (this.#over !== undefined) return void socket.terminate();
    this.#opened.resolve();
    this.#flush();
  }

  dialFailed(error: Error): void {
    this.#end(new StoreGone(codeOf(error) ?? error.message), true);
  }

  received(chunk: Buffer): void {
    if (this.#over !== undefined) return;
    try {
      this.#reader.push(chunk);
      for (let reply = this.#reader.next(); reply !== undefined; reply = this.#reader.next())
        this.#answer(reply);
    } catch (error) {
      this.#end(new StoreGone((error as Error).message), true);
    }
  }

  drained(): void {
    const rest = this.#backlog;
    this.#backlog = undefined;
    if (rest !== undefined) this.#write(rest);
  }

  ended(error: Error | undefined): void {
    this.#end(new StoreGone(codeOf(error) ?? "the store closed the connection"), true);
  }

  #answer(reply: Reply): void {
    const waiting = this.#waiting[this.#first];
    if (waiting === undefined) throw new Error("the store answered a command that it was not sent");
    this.#first++;
    if (this.#first === this.#waiting.length || this.#first > 1_024) {
      this.#waiting.splice(0, this.#first);
      this.#first = 0;
    }
    if (reply instanceof StoreFault) waiting.reject(reply);
    else waiting.resolve(reply);
  }

  #flush(): void {
    if (this.#out === "" || this.#socket === undefined || this.#over !== undefined) return;
    const bytes = Buffer.from(this.#out);
    this.#out = "";
    if (this.#backlog === undefined) return this.#write(bytes);
    this.#backlog = Buffer.concat([this.#backlog, bytes]);
    if (this.#backlog.length > MAX_BACKLOG_BYTES)
      this.#end(new StoreGone("the store reads too slowly"), true);
  }

  #write(bytes: Buffer): void {
    const written = this.#socket?.write(bytes) ?? -1;
    if (written < 0) this.#end(new StoreGone("ECONNRESET"), true);
    else if (written < bytes.length) this.#backlog = bytes.subarray(written);
  }

  #end(why: StoreGone, told: boolean): void {
    if (this.#over !== undefined) return;
    this.#over = why;
    this.#attempt.abandon();
    this.#socket?.terminate();
    this.#opened.reject(why);
    for (const { reject } of this.#waiting.splice(0).slice(this.#first)) reject(why);
    if (told) this.#closed(why);
  }
}

const dial = createDial<StoreConnection>({
  data: (socket, chunk) => socket.data.received(chunk),
  drain: (socket) => socket.data.drained(),
  end: (socket) => socket.data.ended(undefined),
  close: (socket, error) => socket.data.ended(error),
  error: (socket, error) => socket.data.ended(error),
});
