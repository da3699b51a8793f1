// One answer on its way. No more is kept for a reader than what was written last, and one that takes nothing for some seconds is
// dropped.

import type { ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { Answer, Output } from "./route.ts";

/** Characters of a text that are written at a time. */
const PORTION = 65_536;

const ALWAYS = {
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
};

export class Reply implements Output {
  /** How long a reader may take for what it was sent last, in milliseconds. Tests shorten it. */
  static stallMs = 5_000;

  /** The connection ends with this answer. */
  closes = false;
  readonly #socket: Duplex;
  readonly #response: ServerResponse;
  readonly #gone = Promise.withResolvers<void>();
  #stalled: Timer | undefined;

  constructor(socket: Duplex, response: ServerResponse) {
    this.#socket = socket;
    this.#response = response;
    response.once("close", () => {
      clearTimeout(this.#stalled);
      this.#gone.resolve();
    });
    response.on("drain", () => this.#moves());
  }

  async send({ status, headers, body }: Answer): Promise<void> {
    if (this.closed) return;
    const length = typeof body === "string" ? { "content-length": Buffer.byteLength(body) } : {};
    const close = this.closes ? { connection: "close" } : {};
    this.#response.writeHead(status, { ...ALWAYS, ...headers, ...length, ...close });
    try {
      if (typeof body === "string") await this.#sendText(body);
      else await body(this);
    } catch {
      // Half an answer must not look like a whole one.
      this.abort();
    }
  }

  write(text: string): boolean {
    if (this.closed) return false;
    const more = this.#response.write(text);
    if (!more) this.#waits();
    return more;
  }

  async drained(): Promise<boolean> {
    while (!this.closed && this.#response.writableNeedDrain) {
      const drained = new Promise<void>((resolve) => this.#response.once("drain", resolve));
      await Promise.race([drained, this.#gone.promise]);
    }
    return !this.closed;
  }

  end(): void {
    if (this.closed) return;
    this.#waits();
    this.#response.end();
  }

  abort(): void {
    this.#socket.destroy();
  }

  onClose(call: () => void): void {
    void this.#gone.promise.then(call);
  }

  get closed(): boolean {
    return this.#socket.destroyed || this.#response.writableEnded || this.#response.destroyed;
  }

  async #sendText(text: string): Promise<void> {
    for (let at = 0; at < text.length; at += PORTION) {
      const portion = text.slice(at, at + PORTION);
      if (!this.write(portion) && !(await this.drained())) return;
    }
    this.end();
  }

  #waits(): void {
    this.#stalled ??= setTimeout(() => this.abort(), Reply.stallMs);
  }

  #moves(): void {
    clearTimeout(this.#stalled);
    this.#stalled = undefined;
  }
}
