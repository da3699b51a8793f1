// One direction of a relay: what one socket receives, the other sends. Every byte, in order, in bounded memory.
// Nothing is done per byte and nothing is allocated per chunk: a chunk is written as it came; what the sink does not
// take is held by reference, and the source is paused until the sink has taken all.

/** The part of a socket that a relay needs. */
export interface Stream {
  /** Bytes taken, possibly fewer than given; -1 where the socket is closed or broken. */
  write(data: Uint8Array): number;
  /** Ends the sending half: FIN, or close_notify over TLS. */
  shutdown(): void;
  pause(): void;
  resume(): void;
}

/** From a source to a sink, either of which may come later. */
export class Relay {
  source: Stream | undefined;
  sink: Stream | undefined;
  /** Bytes that the sink has taken. */
  bytes = 0;
  #counted = 0;
  /** The source has sent its last byte. */
  ended = false;
  /** The source's end has been passed on to the sink, or given up: this direction is done. */
  finished = false;

  // What arrived while the sink was not there or not ready. After a pause a TLS source may still deliver what it has
  // decrypted, so that this can be more than one chunk; one receive buffer of the runtime (512 KiB) bounds them all.
  #pending: Uint8Array[] | undefined;

  /** Holds bytes that the sink has not taken yet. */
  get waiting(): boolean {
    return this.#pending !== undefined;
  }

  /** Bytes that the sink has taken since the last call. */
  takeCount(): number {
    const count = this.bytes - this.#counted;
    this.#counted = this.bytes;
    return count;
  }

  /**
   * The source received a chunk. It is the relay's from now on: the caller must not write into it any more.
   * @returns false where the sink turned out to be broken. It has to be acted upon: a socket whose write has failed may
   *   report an orderly end next, since the failed write was what the kernel told the error to
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
   * The sink is there, or ready to take more.
   * @returns false where it turned out to be broken, as in {@link push}
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

  /** The source sent its end: it is passed on once all before it is. */
  end(): void {
    this.ended = true;
    if (this.sink !== undefined && this.#pending === undefined) this.#finish();
  }

  /** The sink is gone: what it has not taken, and what still comes, is dropped. */
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
