// DER as a tree that can be mutated and encoded again with correct lengths, so that parsers reach the mutated contents.
// Pure.

import type { Random } from "../support/random.ts";

/** An element. Its contents are other elements, or bytes. */
export interface Node {
  tag: number;
  contents: Node[] | Buffer;
}

/** @throws where the bytes are not DER, of tags below 31 and lengths below 4 GiB */
export function parseDer(der: Uint8Array): Node {
  const [node, end] = parseAt(Buffer.from(der), 0);
  if (end !== der.length) throw new Error("something follows");
  return node;
}

function parseAt(der: Buffer, start: number): [Node, number] {
  const tag = der.readUInt8(start);
  let length = der.readUInt8(start + 1);
  let at = start + 2;
  if (length > 0x80) {
    const size = length - 0x80;
    length = der.readUIntBE(at, size);
    at += size;
  }
  const end = at + length;
  if (end > der.length) throw new Error("it ends early");
  if ((tag & 0x20) === 0) return [{ tag, contents: der.subarray(at, end) }, end];
  const contents: Node[] = [];
  while (at < end) {
    const [node, next] = parseAt(der, at);
    contents.push(node);
    at = next;
  }
  return [{ tag, contents }, end];
}

export function encodeDer({ tag, contents }: Node): Buffer {
  const body = Array.isArray(contents) ? Buffer.concat(contents.map(encodeDer)) : contents;
  const { length } = body;
  const size =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), body]);
}

/** Every element of a tree, from the top down. */
export function allOf(node: Node): Node[] {
  return [node, ...(Array.isArray(node.contents) ? node.contents.flatMap(allOf) : [])];
}

const TAGS = [
  0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0a, 0x0c, 0x12, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1c, 0x1e, 0x80, 0x82,
];

/** Changes a few elements of a tree in place. */
export function mutateTree(root: Node, random: Random, contents: readonly Uint8Array[]): void {
  for (let changes = random.int(1, 3); changes > 0; changes--) {
    const node = random.pick(allOf(root));
    if (!Array.isArray(node.contents)) {
      if (random.int(0, 3) === 0) node.tag = random.pick(TAGS);
      else if (random.int(0, 2) === 0) node.contents = Buffer.from(random.pick(contents));
      else if (node.contents.length === 0 || random.int(0, 4) === 0) {
        node.contents = Buffer.from(random.bytes(random.int(0, 24)));
      } else {
        const bytes = Buffer.from(node.contents);
        bytes[random.int(0, bytes.length - 1)] = random.int(0, 255);
        node.contents = bytes;
      }
      continue;
    }
    const at = random.int(0, Math.max(0, node.contents.length - 1));
    const other = random.pick(allOf(root));
    const copy = parseDer(encodeDer(other));
    switch (random.int(0, 3)) {
      case 0:
        node.contents.splice(at, 1);
        break;
      case 1:
        node.contents.splice(at, 0, copy);
        break;
      case 2:
        if (node.contents.length > 0) node.contents[at] = copy;
        break;
      default:
        node.contents.reverse();
    }
  }
}
