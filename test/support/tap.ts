// A wire between a TLS client and the proxy that a test can look at, hold and spoil. For small amounts of data: it
// pays no heed to slow readers.

import { connect, type ClientOptions, type Peer } from "./peer.ts";

export class Tap implements Disposable {
  /** What the proxy sent, as it was on the wire. */
  fromProxy: Buffer = Buffer.alloc(0);
  /** The proxy's FIN (not a reset) has come. */
  readonly proxyEnded: Promise<void>;

  #listener: Bun.TCPSocketListener<undefined>;
  #near: Bun.Socket | undefined;
  #far: Bun.Socket | undefined;
  #held: Buffer[] | undefined;
  #heldEnd = false;
  #toProxy: Buffer[] = [];

  /** @param proxyPort where the proxy listens */
  constructor(proxyPort: number) {
    const ended = Promise.withResolvers<void>();
    this.proxyEnded = ended.promise;
    this.#listener = Bun.listen<undefined>({
      hostname: "127.0.0.1",
      port: 0,
      allowHalfOpen: true,
      socket: {
        open: async (near) => {
          this.#near = near;
          // Bun reports the end of a socket whose own half is ended as a close.
          const over = () => {
            ended.resolve();
            near.shutdown();
          };
          this.#far = await Bun.connect({
            hostname: "127.0.0.1",
            port: proxyPort,
            allowHalfOpen: true,
            socket: {
              data: (_, chunk) => {
                this.fromProxy = Buffer.concat([this.fromProxy, chunk]);
                near.write(chunk);
              },
              end: over,
              close: (_, error) => (error === undefined ? over() : void near.terminate()),
            },
          });
          for (const chunk of this.#toProxy.splice(0)) this.#far.write(chunk);
        },
        data: (_, chunk) => this.#forward(chunk),
        end: () => {
          if (this.#held !== undefined) this.#heldEnd = true;
          else this.#far?.shutdown();
        },
        close: (_, error) => void (error && this.#far?.terminate()),
      },
    });
  }

  /** A client at the near end. */
  async client(options?: ClientOptions): Promise<Peer> {
    return connect(this.#listener.port, options);
  }

  /** From now on keeps what the client sends, its FIN included, but not its ClientHello, until {@link release}. */
  hold(): void {
    this.#held = [];
  }

  /** Bytes that are held now. */
  get holding(): number {
    return (this.#held ?? []).reduce((sum, chunk) => sum + chunk.length, 0);
  }

  /** Sends what was held, as one segment. */
  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    this.#far?.write(Buffer.concat(held));
    if (this.#heldEnd) this.#far?.shutdown();
  }

  /** Sends the proxy something that the client did not. */
  inject(bytes: Uint8Array): void {
    this.#far?.write(bytes);
  }

  /** Ends the wire towards the proxy with a bare FIN, whatever the client wants. */
  fin(): void {
    this.#far?.shutdown();
  }

  /**
   * Whether the last thing the proxy sent is a close_notify: an encrypted alert (RFC 8446, section 6.1), which is the
   * only record of 19 bytes where no application data of two bytes was sent.
   */
  get endsWithCloseNotify(): boolean {
    let last: Buffer = Buffer.alloc(0);
    for (let at = 0; at + 5 <= this.fromProxy.length;) {
      const length = this.fromProxy.readUInt16BE(at + 3);
      last = this.fromProxy.subarray(at, at + 5 + length);
      at += 5 + length;
    }
    return last[0] === 23 && last.length === 5 + 19;
  }

  [Symbol.dispose](): void {
    this.#near?.terminate();
    this.#far?.terminate();
    this.#listener.stop(true);
  }

  #hello = false;

  #forward(chunk: Buffer): void {
    if (this.#hello && this.#held !== undefined) this.#held.push(chunk);
    else if (this.#far === undefined) this.#toProxy.push(chunk);
    else this.#far.write(chunk);
    this.#hello = true;
  }
}
