// Stands before a server that does not know the PROXY protocol: takes the header off, and passes on the rest as it is,
// ends and resets included. The header is ahead of TLS, so that this is no part of it.

import { Relay } from "../../src/connection/relay.ts";

interface Side {
  /** What this side sends. */
  readonly out: Relay;
  /** What it is sent. */
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

  /** @param port where the server is */
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

  /** The headers in the order in which they came, one a call. */
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

/** How long the header is that begins so; undefined where that cannot be said yet. */
export function lengthOf(bytes: Buffer): number | undefined {
  if (bytes.length < 16 && bytes[0] === 0x0d) return undefined;
  if (bytes[0] === 0x0d) return 16 + bytes.readUInt16BE(14);
  const end = bytes.indexOf("\r\n");
  return end < 0 ? undefined : end + 2;
}
