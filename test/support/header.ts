// PROXY headers as balancers write them, right and wrong ones, written apart from the code that reads them.

/** The ends of a connection, for a header. */
export interface Ends {
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly port: number;
}

export const SIGNATURE_V2 = Buffer.from("0d0a0d0a000d0a515549540a", "hex");

/** A header of version 1. */
export function encodeV1({ source, sourcePort, destination, port }: Ends): Buffer {
  const family = source.includes(":") ? "TCP6" : "TCP4";
  return Buffer.from(`PROXY ${family} ${source} ${destination} ${sourcePort} ${port}\r\n`);
}

/** A value after the addresses. */
export function value(type: number, bytes: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([type, bytes.length >> 8, bytes.length & 0xff]), bytes]);
}

/** A header of version 2 of any contents; `length` may lie. */
export function rawV2(command: number, family: number, rest: Uint8Array, length = rest.length): Buffer {
  return Buffer.concat([SIGNATURE_V2, Buffer.from([command, family, length >> 8, length & 0xff]), rest]);
}

/** The addresses of version 2, with family and protocol. IPv6 addresses are written out in full. */
export function addresses({ source, sourcePort, destination, port }: Ends): [family: number, Buffer] {
  const isIPv6 = source.includes(":");
  const bytes = (text: string) =>
    isIPv6 ? Buffer.from(text.replaceAll(":", ""), "hex") : Buffer.from(text.split(".").map(Number));
  const ports = Buffer.from([sourcePort >> 8, sourcePort & 0xff, port >> 8, port & 0xff]);
  return [isIPv6 ? 0x21 : 0x11, Buffer.concat([bytes(source), bytes(destination), ports])];
}

/** A header of version 2 for a connection, with these values after the addresses. */
export function encodeV2(ends: Ends, values: readonly Uint8Array[] = []): Buffer {
  const [family, bytes] = addresses(ends);
  return rawV2(0x21, family, Buffer.concat([bytes, ...values]));
}
