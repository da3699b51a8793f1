// Stands before a server that does not know the PROXY protocol: removes the header and passes on all other bytes, ends
// and resets. The header comes before TLS, so this needs no TLS of its own.

import { Relay } from "../../src/connection/relay.ts";

interface Side {
  /** Takes what this side sends. */
  readonly out: Relay;
  /** Takes what the other side sends. */
  readonly back: Relay;
  readonly other: () => Bun.Socket<Side> | undefined;
  readonly take: (chunk: Buffer) => void;
}

export class Front implements Disposable {
  readonly port: number;
  readonly target: string;
  readonly #server: Bun.TCPSocketListener<Side>;
  readonly #headers: Buffer[] = [];
  readonly #waiting: ((header: Buffer) => void)[] = [];

  /** @param port the server's port */
  constructor(port: number) {
    this.#server = Bun.listen<Side>({
      hostname: "127.0.0.1",
      port: 0,
      allowHalfOpen: true,
      socket: {
        ...handlers,
        open: (near) => {
          const out = new Relay();
          const back = new Relay();
          let far: Bun.Socket<Side> | undefined;
          let seen: Buffer | undefined = Buffer.alloc(0);
          const take = (chunk: Buffer) => {
            if (seen === undefined) return void out.push(chunk);
            seen = Buffer.concat([seen, chunk]);
            const length = lengthOf(seen);
            if (length === undefined || seen.length < length) return;
            const all = seen;
            seen = undefined;
            this.#came(all.subarray(0, length));
            if (all.length > length) out.push(all.subarray(length));
          };
          near.data = { out, back, other: () => far, take };
          out.source = back.sink = near;
          const data: Side = {
            out: back,
            back: out,
            other: () => near,
            take: (chunk) => void back.push(chunk),
          };
          void Bun.connect<Side>({
            hostname: "127.0.0.1",
            port,
            allowHalfOpen: true,
            data,
            socket: handlers,
          }).then(
            (socket) => {
              far = out.sink = back.source = socket;
              out.flush();
            },
            () => near.terminate(),
          );
        },
      },
    });
    this.port = this.#server.port;
    this.target = `127.0.0.1:${this.port}`;
  }

  /** The next header, in the order in which they arrived. */
  async header(): Promise<Buffer> {
    return this.#headers.shift() ?? new Promise((resolve) => this.#waiting.push(resolve));
  }

  #came(header: Buffer): void {
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#headers.push(header);
    else waiting(header);
  }

  [Symbol.dispose](): void {
    this.#server.stop(true);
  }
}

const handlers: Bun.SocketHandler<Side> = {
  data: ({ data }, chunk) => data.take(chunk),
  drain: ({ data }) => void data.back.flush(),
  end: ({ data }) => ended(data),
  close: ({ data }, error) => {
    if (error === undefined && data.back.finished) ended(data);
    else data.other()?.terminate();
  },
  error() {},
};

function ended({ out }: Side): void {
  out.end();
}

/** The length of the header that begins with these bytes; undefined if more bytes are needed to tell. */
export function lengthOf(bytes: Buffer): number | undefined {
  if (bytes.length < 16 && bytes[0] === 0x0d) return undefined;
  if (bytes[0] === 0x0d) return 16 + bytes.readUInt16BE(14);
  const end = bytes.indexOf("\r\n");
  return end < 0 ? undefined : end + 2;
}
