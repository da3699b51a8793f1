// A balancer before the proxy: it passes connections on from an address of its own, and sends a PROXY header first.

import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { encodeV2 } from "./header.ts";

export interface BalancerOptions {
  /** Its own address. Default: `127.0.0.2`. */
  from?: string;
  /** What it sends first, each piece in a segment of its own. Default: a header of version 2 for {@link CALLER}. */
  header?: readonly Uint8Array[] | ((number: number) => readonly Uint8Array[]);
  /** The last piece goes in one segment with the client's first bytes. */
  together?: boolean;
}

/** The caller that a balancer names if it is not told another one. */
export const CALLER = { source: "203.0.113.7", sourcePort: 40_001, destination: "198.51.100.1", port: 443 };

export class Balancer implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #count = 0;

  private constructor(proxyPort: number, { from = "127.0.0.2", header, together = false }: BalancerOptions) {
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
      const proxy = connect({
        port: proxyPort,
        host: "127.0.0.1",
        localAddress: from,
        allowHalfOpen: true,
        noDelay: true,
      });
      for (const socket of [client, proxy]) {
        this.#sockets.add(socket);
        socket.on("error", () => {});
        socket.on("close", (broken) => {
          this.#sockets.delete(socket);
          const other = socket === client ? proxy : client;
          if (broken) other.resetAndDestroy();
        });
      }
      const number = this.#count++;
      const pieces = typeof header === "function" ? header(number) : (header ?? [encodeV2(CALLER)]);
      proxy.once("connect", () => void this.#begin(client, proxy, pieces, together));
    });
  }

  static async start(proxyPort: number, options: BalancerOptions = {}): Promise<Balancer> {
    const balancer = new Balancer(proxyPort, options);
    await new Promise<void>((resolve) => balancer.#server.listen(0, "127.0.0.1", resolve));
    return balancer;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async #begin(client: Socket, proxy: Socket, pieces: readonly Uint8Array[], together: boolean) {
    const first = together ? pieces.slice(0, -1) : pieces;
    for (const [i, piece] of first.entries()) {
      // Longer than the proxy's first looks, so that it sees the pieces apart.
      if (i > 0) await Bun.sleep(4);
      proxy.write(piece);
    }
    if (together) {
      client.once("data", (chunk: Buffer) => {
        client.pause();
        proxy.write(Buffer.concat([pieces.at(-1) ?? Buffer.alloc(0), chunk]));
        client.pipe(proxy);
      });
      client.resume();
    } else client.pipe(proxy);
    proxy.pipe(client);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
