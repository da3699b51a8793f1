// One end of a connection as a test wants it: promises for what happens, writes that wait, reads by length.
// Serves as the TLS client before the proxy and as the plain server behind it.

import { setDefaultTimeout } from "bun:test";
import { readFileSync } from "node:fs";

// Real sockets on a busy machine: what matters is that they get there. `bun test` alone would give them five seconds.
setDefaultTimeout(30_000);

const CERTS = new URL("../certs", import.meta.url).pathname;

/** The path of a file in test/certs. */
export function certPath(name: string): string {
  return `${CERTS}/${name}`;
}

/** A file in test/certs. */
export function cert(name: string): string {
  return readFileSync(certPath(name), "utf8");
}

export class Peer {
  socket!: Bun.Socket<Peer>;
  /** Bytes received so far. */
  received = 0;
  /** The peer sent its end. */
  readonly ended: Promise<void>;
  /** The socket is gone; the error's code if it was broken off. */
  readonly closed: Promise<string | undefined>;

  #chunks: Buffer[] = [];
  #keep = true;
  #over = false;
  #wake = new Set<() => void>();
  readonly #ended = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<string | undefined>();

  constructor() {
    this.ended = this.#ended.promise;
    this.closed = this.#closed.promise;
  }

  static readonly handlers: Bun.SocketHandler<Peer> = {
    data(socket, chunk) {
      const peer = socket.data;
      peer.received += chunk.length;
      if (peer.#keep) peer.#chunks.push(chunk);
      peer.#stir();
    },
    drain: (socket) => socket.data.#stir(),
    end(socket) {
      socket.data.#over = true;
      socket.data.#ended.resolve();
      socket.data.#stir();
    },
    close(socket, error) {
      if (socket.data === undefined) return;
      socket.data.#over = true;
      socket.data.#ended.resolve();
      socket.data.#closed.resolve((error as NodeJS.ErrnoException | undefined)?.code);
      socket.data.#stir();
    },
    error() {},
  };

  /** Counts what comes in without keeping it. */
  discard(): this {
    this.#keep = false;
    return this;
  }

  /** Sends all of it, waiting where the other side is slow. False where the socket closed before all was taken. */
  async send(data: string | Uint8Array): Promise<boolean> {
    let rest = typeof data === "string" ? Buffer.from(data) : data;
    for (;;) {
      const written = this.socket.write(rest);
      if (written < 0) return false;
      rest = rest.subarray(written);
      if (rest.length === 0) return true;
      await this.#stirred();
    }
  }

  /** Exactly `length` bytes, or what came before the end. */
  async read(length: number): Promise<Buffer> {
    while (this.#buffered < length && !this.#over) await this.#stirred();
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [all.subarray(length)];
    return all.subarray(0, length);
  }

  /** What has come in, at least one byte; nothing at the end. */
  async some(): Promise<Buffer> {
    while (this.#buffered === 0 && !this.#over) await this.#stirred();
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [];
    return all;
  }

  /** All bytes up to the end. */
  async rest(): Promise<Buffer> {
    return this.read(Infinity);
  }

  /** Ends the sending half: a FIN; over TLS a close_notify, without a FIN. */
  end(): void {
    this.socket.shutdown();
  }

  /** Ends both halves: over TLS with close_notify and FIN. */
  close(): void {
    this.socket.end();
  }

  /** Breaks the connection off. */
  reset(): void {
    this.socket.terminate();
  }

  get #buffered(): number {
    return this.#chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  #stirred(): Promise<void> {
    return new Promise((resolve) => this.#wake.add(resolve));
  }

  #stir(): void {
    const wake = [...this.#wake];
    this.#wake.clear();
    for (const resolve of wake) resolve();
  }
}

/** How a client presents itself. */
export interface ClientOptions {
  /** Name of the certificate in test/certs, without extension; null for none. Default: `"alice"`. */
  name?: string | null;
  /** Name of the key's file. Default: the one that most certificates share. */
  key?: string;
  /** Where the certificates are. Default: test/certs. */
  folder?: string;
  hostname?: string;
  /** PEM of a certificate, or a chain, and its key, in the place of files. */
  identity?: { readonly cert: string; readonly key: string };
  /** What it asks for (SNI); "" for nothing. Default: `"localhost"`. */
  serverName?: string;
  /** Protocols that it offers (ALPN), each behind its length. */
  alpn?: Uint8Array;
}

/**
 * A TLS client whose side of the handshake is done. In TLS 1.3 that comes before the server's verdict: a client that is
 * refused gets this far too, and then sees its connection close.
 */
export async function connect(port: number, options: ClientOptions = {}): Promise<Peer> {
  const { name = "alice", key = "key.pem", folder = CERTS, hostname = "127.0.0.1" } = options;
  const { serverName = "localhost", identity, alpn } = options;
  const pem = (file: string) => readFileSync(`${folder}/${file}`, "utf8");
  const peer = new Peer();
  const ready = Promise.withResolvers<void>();
  peer.socket = await Bun.connect<Peer>({
    hostname,
    port,
    data: peer,
    allowHalfOpen: true,
    tls: {
      ca: pem("ca.crt"),
      ...(name !== null && (identity ?? { cert: pem(`${name}.crt`), key: pem(key) })),
      serverName,
      ...(alpn && { ALPNProtocols: alpn }),
      // The proxy's certificate is for one name; those that are only asked for are not in it.
      rejectUnauthorized: serverName === "localhost",
    },
    socket: {
      ...Peer.handlers,
      handshake: () => ready.resolve(),
    },
  });
  await Promise.race([ready.promise, peer.closed]);
  return peer;
}

/** A plain TCP client. */
export async function connectPlain(port: number, hostname = "127.0.0.1"): Promise<Peer> {
  const peer = new Peer();
  peer.socket = await Bun.connect<Peer>({
    hostname,
    port,
    data: peer,
    allowHalfOpen: true,
    socket: Peer.handlers,
  });
  return peer;
}

/** How an {@link Origin} listens, where it is not plain TCP on a port of the system's choice. */
export interface OriginOptions {
  port?: number;
  /** The path of a socket in the file system. */
  unix?: string;
  tls?: {
    /** Name of the certificate in test/certs, without extension. Default: `"server"`. */
    name?: string;
    /** The CA in test/certs whose clients alone are let in. Default: none, everybody is. */
    clients?: string;
  };
}

/** A server: what stands behind the proxy. */
export class Origin implements Disposable {
  readonly port: number;
  readonly target: string;
  /** All connections ever accepted; over TLS those whose handshake is done. */
  readonly accepted: Peer[] = [];
  /** The common names of clients that showed a certificate. */
  readonly clients: string[] = [];
  #server: Bun.TCPSocketListener<Peer> | Bun.UnixSocketListener<Peer>;
  #next: ((peer: Peer) => void)[] = [];
  #taken = 0;

  /** @param serve called for each connection as it is accepted; over TLS when its handshake is done */
  constructor(serve: (peer: Peer) => unknown = () => {}, { port = 0, unix, tls }: OriginOptions = {}) {
    const accept = (socket: Bun.Socket<Peer>) => {
      const peer = new Peer();
      peer.socket = socket;
      socket.data = peer;
      if (tls === undefined) this.#came(peer, serve);
    };
    const handshake = (socket: Bun.Socket<Peer>, success: boolean) => {
      if (!success || (tls?.clients !== undefined && !socket.authorized)) return;
      const name = (socket.getPeerCertificate() as { subject?: { CN?: string } } | null)?.subject?.CN;
      if (name !== undefined) this.clients.push(name);
      this.#came(socket.data, serve);
    };
    const options = {
      allowHalfOpen: true,
      socket: { ...Peer.handlers, open: accept, ...(tls && { handshake }) },
      ...(tls && {
        tls: {
          cert: cert(`${tls.name ?? "server"}.crt`),
          key: cert("key.pem"),
          ...(tls.clients !== undefined && {
            ca: cert(`${tls.clients}.crt`),
            requestCert: true,
            rejectUnauthorized: true,
          }),
        },
      }),
    };
    if (unix !== undefined) {
      this.#server = Bun.listen<Peer>({ ...options, unix });
      this.port = 0;
      this.target = `unix:${unix}`;
    } else {
      const server = Bun.listen<Peer>({ ...options, hostname: "127.0.0.1", port });
      this.#server = server;
      this.port = server.port;
      this.target = `127.0.0.1:${this.port}`;
    }
  }

  #came(peer: Peer, serve: (peer: Peer) => unknown): void {
    this.accepted.push(peer);
    const waiting = this.#next.shift();
    if (waiting !== undefined) {
      this.#taken++;
      waiting(peer);
    }
    serve(peer);
  }

  /** The connections in the order in which they came, one a call. */
  async next(): Promise<Peer> {
    const peer = this.accepted[this.#taken];
    if (peer !== undefined) {
      this.#taken++;
      return peer;
    }
    return new Promise((resolve) => this.#next.push(resolve));
  }

  /** Stops listening and breaks every connection. */
  [Symbol.dispose](): void {
    this.#server.stop(true);
  }

  /** Stops listening; connections go on. */
  stop(): void {
    this.#server.stop();
  }
}

/** A server that sends back what it gets, and ends when its client has. */
export function echoOrigin(options: OriginOptions = {}): Origin {
  return new Origin(async (peer) => {
    for (let chunk = await peer.some(); chunk.length > 0; chunk = await peer.some()) {
      if (!(await peer.send(chunk))) return;
    }
    peer.close();
  }, options);
}
