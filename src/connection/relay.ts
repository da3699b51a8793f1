// One direction of a relay: what one socket receives, the other sends. Every byte, in order, in bounded memory.
// Nothing is done per byte and nothing is allocated per chunk: a chunk is written as it came; what the sink does not
// take is held by reference, and the source is paused until the sink has taken all.

/** The part of a socket that a relay needs. */
export interface Stream {
  /** Returns the bytes taken, possibly fewer than given; -1 if the socket is closed or broken. */
  write(data: Uint8Array): number;
  /** Ends the sending half: FIN, or close_notify over TLS. */
  shutdown(): void;
  pause(): void;
  resume(): void;
}

/** Moves bytes from a source to a sink; either can be attached later. */
export class Relay {
  source: Stream | undefined;
  sink: Stream | undefined;
  /** Bytes that the sink has taken. */
  bytes = 0;
  /** The source has sent its last byte. */
  ended = false;
  /** This direction is done: the sink has the source's end, or is given up. */
  finished = false;

  // Chunks that arrived while the sink was missing or busy. After a pause a TLS source may still deliver what it has
  // decrypted, so that there can be several. One receive buffer of the runtime (512 KiB) limits their sum.
  #pending: Uint8Array[] | undefined;

  /** Holds bytes that the sink has not taken yet. */
  get waiting(): boolean {
    return this.#pending !== undefined;
  }

  /**
   * The source received a chunk. The relay owns it from now on: the caller must not write into it.
   * @returns false if the sink is broken. The caller must act on it: the failed write consumed the socket's error, so
   *   that the socket may report an orderly end next
   */
  push(chunk: Uint8Array): boolean {
    if (this.finished) return true;
    let intact = true;
    if (this.#pending === undefined && this.sink !== undefined) {
      const written = this.sink.write(chunk);
      if (written > 0) this.bytes += written;
      if (written === chunk.length) return true;
      if (written > 0) chunk = chunk.subarray(written);
      intact = written >= 0;
    }
    if (this.#pending === undefined) {
      this.#pending = [chunk];
      this.source?.pause();
    } else this.#pending.push(chunk);
    return intact;
  }

  /**
   * The sink is attached, or ready to take more.
   * @returns false if the sink is broken, as in {@link push}
   */
  flush(): boolean {
    if (this.sink === undefined || this.finished) return true;
    if (this.#pending !== undefined) {
      for (let i = 0; i < this.#pending.length; i++) {
        const chunk = this.#pending[i] as Uint8Array;
        const written = this.sink.write(chunk);
        if (written > 0) this.bytes += written;
        if (written === chunk.length) continue;
        this.#pending.splice(0, i);
        if (written > 0) this.#pending[0] = chunk.subarray(written);
        return written >= 0;
      }
      this.#pending = undefined;
      this.source?.resume();
    }
    if (this.ended) this.#finish();
    return true;
  }

  /** The source sent its end. The relay passes it on after all bytes before it. */
  end(): void {
    this.ended = true;
    if (this.sink !== undefined && this.#pending === undefined) this.#finish();
  }

  /** The sink is gone: the relay drops what the sink has not taken, and everything that follows. */
  abandon(): void {
    this.finished = true;
    this.#pending = undefined;
    this.source?.resume();
  }

  #finish(): void {
    if (this.finished) return;
    this.finished = true;
    this.sink?.shutdown();
  }
}
