// One buffer cut into arrays. Every thread that cuts the buffer in the same order to the same lengths gets the same
// arrays. Worker threads share state in this way, and so the buffer holds nothing but numbers. Fresh memory is all
// zeros, and this module writes none of it: unused memory costs nothing.

/** Each array begins on its own cache line. */
const CACHE_LINE_BYTES = 64;

/** Cuts arrays off a buffer, one after the other; without a buffer, only measures. */
export class Layout {
  readonly #buffer: ArrayBuffer | SharedArrayBuffer | undefined;
  #bytes = 0;

  constructor(buffer?: ArrayBuffer | SharedArrayBuffer) {
    this.#buffer = buffer;
  }

  /** Bytes cut off so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whole numbers of 32 bits, with their sign. */
  int32(length: number): Int32Array {
    const at = this.#take(4 * length);
    return this.#buffer === undefined ? new Int32Array(0) : new Int32Array(this.#buffer, at, length);
  }

  /** Numbers of JavaScript, such as times in milliseconds. */
  float64(length: number): Float64Array {
    const at = this.#take(8 * length);
    return this.#buffer === undefined ? new Float64Array(0) : new Float64Array(this.#buffer, at, length);
  }

  #take(bytes: number): number {
    const at = this.#bytes;
    this.#bytes += Math.ceil(bytes / CACHE_LINE_BYTES) * CACHE_LINE_BYTES;
    return at;
  }
}
