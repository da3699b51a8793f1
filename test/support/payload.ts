// Bytes to send, and a hash to compare: equal if all bytes arrived in their order.

import { Random } from "./random.ts";

export const KiB = 1_024;
export const MiB = 1_024 * KiB;

/** Bytes that look random. The same length gives the same bytes. */
export function payload(length: number): Uint8Array {
  const block = new Random(length).bytes(64 * KiB);
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += block.length) bytes.set(block.subarray(0, length - at), at);
  return bytes;
}

export function hash(data: Uint8Array): string {
  return Bun.hash.xxHash64(data).toString(16);
}
