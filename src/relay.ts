// One direction of a relay: what one socket receives, the other sends. Every byte, in order, in bounded memory.
// Nothing is done per byte and nothing is allocated per chunk: a chunk is written as it came; what the sink does not
// take is kept by reference, and the source is paused until the sink has taken all.

/** The part of a socket that a relay needs. */
export interface Stream {
  /** Bytes taken, possibly fewer than given; -1 where the socket is closed. */
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
  /** The source has sent its last byte. */
  ended = false;
  /** The source's end has been passed on to the sink: this direction is done. */
  finished = false;

  // What arrived while the sink was not there or not ready. After a pause a TLS source may still deliver what it has
  // decrypted, so that this can be more than one chunk; one receive buffer of the runtime (512 KiB) bounds them all.
  #pending: Uint8Array[] | undefined;

  /** The source received a chunk. It stays the relay's: nobody may write into it any more. */
  push(chunk: Uint8Array): void {
    if (this.#pending === undefined && this.sink !== undefined) {
      const written = this.sink.write(chunk);
      if (written === chunk.length) {
        this.bytes += written;
        return;
      }
      if (written > 0) {
        this.bytes += written;
        chunk = chunk.subarray(written);
      }
    }
    if (this.#pending !== undefined) {
      this.#pending.push(chunk);
      return;
    }
    this.#pending = [chunk];
    this.source?.pause();
  }

  /** The sink is there, or ready to take more. */
  flush(): void {
    if (this.sink === undefined) return;
    if (this.#pending !== undefined) {
      for (let i = 0; i < this.#pending.length; i++) {
        const chunk = this.#pending[i] as Uint8Array;
        const written = this.sink.write(chunk);
        if (written > 0) this.bytes += written;
        if (written !== chunk.length) {
          this.#pending.splice(0, i);
          if (written > 0) this.#pending[0] = chunk.subarray(written);
          return;
        }
      }
      this.#pending = undefined;
      this.source?.resume();
    }
    if (this.ended) this.#finish();
  }

  /** The source sent its end: it is passed on once all before it is. */
  end(): void {
    this.ended = true;
    if (this.sink !== undefined && this.#pending === undefined) this.#finish();
  }

  #finish(): void {
    if (this.finished) return;
    this.finished = true;
    this.sink?.shutdown();
  }
}
