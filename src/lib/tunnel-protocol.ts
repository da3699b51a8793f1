// What the proxy and its tunnels agree on beyond TLS. A client that offers the protocol `tcpproxy/1` by ALPN (RFC 7301)
// gets one status record before the first byte of the upstream: admitted, or refused and why. Only clients whose identity
// is verified are told why. Pure.
//
//   byte 0       0: admitted, 1: refused
//   bytes 1, 2   length of the text, most significant byte first
//   the rest     UTF-8; empty for an admitted client

/** The protocol's name in ALPN. */
export const TUNNEL_PROTOCOL = "tcpproxy/1";

/** What a tunnel offers in ALPN, in the format of TLS: each name behind its length. */
export const TUNNEL_OFFER: Uint8Array = Buffer.from(
  `${String.fromCharCode(TUNNEL_PROTOCOL.length)}${TUNNEL_PROTOCOL}`,
);

/** The longest text, in bytes. */
const MAX_TEXT = 1_024;

const HEADER = 3;
const REFUSED = 1;

/** The record for an admitted client. */
export const ADMITTED: Uint8Array = Uint8Array.of(0, 0, 0);

/** The record for a refused client; a text that is too long is cut. */
export function encodeRefusal(text: string): Uint8Array {
  const bytes = Buffer.from(text).subarray(0, MAX_TEXT);
  const record = Buffer.alloc(HEADER + bytes.length);
  record[0] = REFUSED;
  record.writeUInt16BE(bytes.length, 1);
  record.set(bytes, HEADER);
  return record;
}

/** What a {@link StatusReader} found: the verdict, and the bytes that follow it. */
export interface Status {
  /** Why the client is refused; undefined for an admitted one. */
  readonly refused: string | undefined;
  /** The first bytes of the upstream. */
  readonly rest: Uint8Array;
}

/** Reads the status record, however it is split. */
export class StatusReader {
  #read: Uint8Array = new Uint8Array(0);

  /** @returns undefined while the record is incomplete; "invalid" where it is none */
  push(chunk: Uint8Array): Status | "invalid" | undefined {
    const all = this.#read.length === 0 ? chunk : Buffer.concat([this.#read, chunk]);
    const kind = all[0] ?? 0;
    const length = all.length < HEADER ? 0 : (all[1]! << 8) | all[2]!;
    if (kind > REFUSED || length > MAX_TEXT || (kind === 0 && length > 0)) return "invalid";
    if (all.length < HEADER + length) {
      this.#read = all;
      return undefined;
    }
    const text = Buffer.from(all.subarray(HEADER, HEADER + length)).toString("utf8");
    return { refused: kind === REFUSED ? text : undefined, rest: all.subarray(HEADER + length) };
  }
}
