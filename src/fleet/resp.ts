// The protocol of Redis and Valkey, RESP2: commands as bytes, and replies out of bytes. Pure.
// https://redis.io/docs/latest/develop/reference/protocol-spec/

/** An error that the store answers. */
export class StoreFault extends Error {
  override name = "StoreFault";
}

export type Reply = string | number | null | StoreFault | Reply[];

/** The most bytes of a reply that has not come whole yet. */
const MAX_REPLY_BYTES = 64 * 1024 * 1024;

/** Lists in lists, at most. */
const MAX_DEPTH = 8;

/** A command and its arguments, as they are sent. */
export function encode(words: readonly (string | number)[]): string {
  let text = `*${words.length}\r\n`;
  for (const word of words) {
    const argument = typeof word === "string" ? word : String(word);
    text += `$${Buffer.byteLength(argument)}\r\n${argument}\r\n`;
  }
  return text;
}

/** Takes bytes as they come and gives replies, whole ones only. */
export class ReplyReader {
  #buffer: Buffer = Buffer.alloc(0);
  #at = 0;

  push(chunk: Buffer): void {
    this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
    if (this.#buffer.length > MAX_REPLY_BYTES) throw new Error("a reply of the store is too long");
  }

  /**
   * @returns the next reply; undefined where it has not come whole
   * @throws Error where what came is no reply
   */
  next(): Reply | undefined {
    if (this.#buffer.length === 0) return undefined;
    this.#at = 0;
    const reply = this.#read(0);
    if (reply !== undefined) this.#buffer = this.#buffer.subarray(this.#at);
    return reply;
  }

  #read(depth: number): Reply | undefined {
    const line = this.#line();
    if (line === undefined) return undefined;
    const rest = line.slice(1);
    switch (line[0]) {
      case "+":
        return rest;
      case "-":
        return new StoreFault(rest);
      case ":":
        return whole(rest);
      case "$":
        return this.#bulk(whole(rest));
      case "*":
        return this.#list(whole(rest), depth + 1);
      default:
        throw new Error("the store does not speak the protocol of Redis");
    }
  }

  #line(): string | undefined {
    const end = this.#buffer.indexOf("\r\n", this.#at);
    if (end === -1) {
      // No line is long, an error message perhaps: what goes on and on is something else.
      if (this.#buffer.length - this.#at > 65_536)
        throw new Error("the store does not speak the protocol of Redis");
      return undefined;
    }
    const line = this.#buffer.toString("utf8", this.#at, end);
    this.#at = end + 2;
    return line;
  }

  #bulk(length: number): string | null | undefined {
    if (length === -1) return null;
    if (this.#buffer.length < this.#at + length + 2) return undefined;
    const text = this.#buffer.toString("utf8", this.#at, this.#at + length);
    this.#at += length + 2;
    return text;
  }

  #list(length: number, depth: number): Reply[] | null | undefined {
    if (length === -1) return null;
    if (depth > MAX_DEPTH) throw new Error("the store does not speak the protocol of Redis");
    const list: Reply[] = [];
    while (list.length < length) {
      const entry = this.#read(depth);
      if (entry === undefined) return undefined;
      list.push(entry);
    }
    return list;
  }
}

function whole(text: string): number {
  if (!/^-?\d{1,15}$/.test(text)) throw new Error("the store does not speak the protocol of Redis");
  return Number(text);
}
