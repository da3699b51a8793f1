// A relay between a TLS client and the proxy, with which a test can read, hold and damage what is on the wire. It is for
// small amounts of data, as it does not wait for slow readers.

import { connect, type ClientOptions, type Peer } from "./peer.ts";

export class Tap implements Disposable {
  /** All bytes that the proxy has sent. */
  fromProxy: Buffer = Buffer.alloc(0);
  /** The proxy's FIN (not a reset) has arrived. */
  readonly proxyEnded: Promise<void>;

  #listener: Bun.TCPSocketListener<undefined>;
  #near: Bun.Socket | undefined;
  #far: Bun.Socket | undefined;
  #held: Buffer[] | undefined;
  #heldEnd = false;
  #toProxy: Buffer[] = [];

  /** @param proxyPort the proxy's port */
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
          // Bun reports an end as a close if the socket has already ended its own half.
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

  /** Connects a client through this tap. */
  async client(options?: ClientOptions): Promise<Peer> {
    return connect(this.#listener.port, options);
  }

  /** Holds back what the client sends from now on, FIN included, except its ClientHello, until {@link release}. */
  hold(): void {
    this.#held = [];
  }

  /** The number of bytes that are held back now. */
  get holding(): number {
    return (this.#held ?? []).reduce((sum, chunk) => sum + chunk.length, 0);
  }

  /** Sends what was held back, as one segment. */
  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    this.#far?.write(Buffer.concat(held));
    if (this.#heldEnd) this.#far?.shutdown();
  }

  /** Sends bytes to the proxy that the client did not send. */
  inject(bytes: Uint8Array): void {
    this.#far?.write(bytes);
  }

  /** Sends the proxy a bare FIN. */
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
