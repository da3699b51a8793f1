// Standard input and output as the program's end of a tunnel, for ssh's ProxyCommand: pipes, files, sockets and terminals.
// Standard output is given one chunk at a time. Until it has taken it, the relay holds what follows and pauses the proxy's
// socket.

import { closeSync, openSync } from "node:fs";
import type { Local, TunnelConnection } from "./connection.ts";

/** Connects standard input and output to a connection. */
export function attachStdio(connection: TunnelConnection): void {
  const local = new StandardStreams(connection);
  connection.attach(local);
  void local.read();
}

class StandardStreams implements Local {
  readonly #connection: TunnelConnection;
  readonly #output = Bun.stdout.writer();
  /** Standard output has not taken the last chunk yet. */
  #busy = false;
  #closed = false;
  /** When standard output is closed, if it is being closed. */
  #shut: Promise<void> = Promise.resolve();
  /** While the source is paused. */
  #paused: PromiseWithResolvers<void> | undefined;

  constructor(connection: TunnelConnection) {
    this.#connection = connection;
  }

  /** Reads standard input to its end. */
  async read(): Promise<void> {
    try {
      for await (const chunk of Bun.stdin.stream()) {
        if (this.#closed) return;
        this.#connection.localSent(chunk);
        await this.#paused?.promise;
      }
      this.#connection.localEnded();
    } catch (error) {
      this.#lost(error);
    }
  }

  pause(): void {
    this.#paused ??= Promise.withResolvers();
  }

  resume(): void {
    this.#paused?.resolve();
    this.#paused = undefined;
  }

  write(data: Uint8Array): number {
    if (this.#closed) return -1;
    if (this.#busy) return 0;
    this.#busy = true;
    void this.#put(data);
    return data.length;
  }

  async #put(data: Uint8Array): Promise<void> {
    try {
      // Both calls may return a promise, and both promises may fail.
      await Promise.all([this.#output.write(data), this.#output.flush()]);
    } catch (error) {
      return this.#lost(error);
    }
    this.#busy = false;
    if (!this.#closed) this.#connection.localDrained();
  }

  /** The reader sees the end while standard input is still read. Called once. */
  shutdown(): void {
    this.#shut = this.#close();
  }

  async #close(): Promise<void> {
    try {
      await this.#output.end();
      closeSync(1);
      // Another file takes the number 1, so that no socket can get it and be mistaken for standard output.
      openSync("/dev/null", "w");
    } catch (error) {
      this.#lost(error);
    }
  }

  end(): void {
    void this.#shut.then(() => this.terminate());
  }

  terminate(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.resume();
    queueMicrotask(() => this.#connection.localClosed());
  }

  /** Its reader is gone, or the terminal is. */
  #lost(error: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#connection.localClosed(error as Error);
  }
}
