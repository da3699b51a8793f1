// Bytes that can be checked without keeping them: a pattern of a prime length, repeated, so that a piece that is lost,
// doubled or misplaced shows.

const PERIOD = 65_521;

/** The pattern, repeated to a length that is a whole number of periods and makes large writes. */
export const PATTERN = (() => {
  const once = new Uint8Array(PERIOD);
  for (let i = 0; i < PERIOD; i++) once[i] = (i * 167 + (i >> 8)) & 255;
  const all = new Uint8Array(PERIOD * 8);
  for (let i = 0; i < 8; i++) all.set(once, i * PERIOD);
  return all;
})();

/** Compares a stream with the pattern. */
export class Checker {
  right = true;
  /** Bytes seen. */
  count = 0;

  take(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      const from = this.count % PERIOD;
      const length = Math.min(chunk.length - at, PATTERN.length - from);
      if (
        !Buffer.from(chunk.buffer, chunk.byteOffset + at, length).equals(
          PATTERN.subarray(from, from + length),
        )
      ) {
        this.right = false;
      }
      at += length;
      this.count += length;
    }
  }
}
