// A TLS socket of the listener as a stream, which is what the runtime's HTTP server takes. Bounded both ways: it reads on when what it
// has read is taken, and takes more to write when the socket has taken the last.

import { Duplex } from "node:stream";

/** The part of a socket that is needed. */
export type BridgedSocket = Pick<
  Bun.Socket<unknown>,
  "write" | "pause" | "resume" | "end" | "shutdown" | "terminate"
>;

type Done = (error?: Error | null) => void;

export class Bridge extends Duplex {
  readonly #socket: BridgedSocket;
  /** What the socket has not taken yet. */
  #left: { bytes: Uint8Array; done: Done } | undefined;

  constructor(socket: BridgedSocket) {
    super({ allowHalfOpen: true });
    this.#socket = socket;
  }

  // ---- what the socket tells

  received(bytes: Uint8Array): void {
    if (!this.push(bytes)) this.#socket.pause();
  }

  drain(): void {
    const left = this.#left;
    this.#left = undefined;
    if (left !== undefined) this.#send(left.bytes, left.done);
  }

  ended(): void {
    this.push(null);
  }

  gone(): void {
    this.destroy();
  }

  // ---- what the stream asks for

  override _read(): void {
    this.#socket.resume();
  }

  override _write(bytes: Uint8Array, _: string, done: Done): void {
    this.#send(bytes, done);
  }

  override _final(done: Done): void {
    this.#socket.shutdown();
    done();
  }

  /** With what is left to send there would be no end: it is cut off. */
  override _destroy(error: Error | null, done: Done): void {
    if (this.#left === undefined) this.#socket.end();
    this.#left = undefined;
    this.#socket.terminate();
    done(error);
  }

  #send(bytes: Uint8Array, done: Done): void {
    const taken = this.#socket.write(bytes);
    if (taken < 0) return done(new Error("the socket is closed"));
    if (taken === bytes.length) return done();
    this.#left = { bytes: bytes.subarray(taken), done };
  }

  // ---- what the server asks of sockets, and nothing depends on

  setTimeout(): this {
    return this;
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }
}
