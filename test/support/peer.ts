// One end of a connection, for tests: promises for events, writes that wait, reads by length.
// It is used for the TLS client before the proxy and for the server behind it.

import { setDefaultTimeout } from "bun:test";
import { readFileSync } from "node:fs";

// Tests on real sockets need time on a busy machine. The default of `bun test` is five seconds.
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
  /** Bytes of {@link send} that the socket has taken so far. */
  sent = 0;
  /** The other side sent its end, or the socket is closed. */
  readonly ended: Promise<void>;
  /** The socket is closed. The value is the error's code if the connection was broken off. */
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

  /** From now on counts received bytes without keeping them. */
  discard(): this {
    this.#keep = false;
    return this;
  }

  /** Sends all bytes, and waits while the other side is slow. Returns false if the socket closed before all was sent. */
  async send(data: string | Uint8Array): Promise<boolean> {
    let rest = typeof data === "string" ? Buffer.from(data) : data;
    for (;;) {
      const written = this.socket.write(rest);
      if (written < 0) return false;
      this.sent += written;
      rest = rest.subarray(written);
      if (rest.length === 0) return true;
      await this.#stirred();
    }
  }

  /** Reads exactly `length` bytes, or all bytes up to the end if they are fewer. */
  async read(length: number): Promise<Buffer> {
    while (this.#buffered < length && !this.#over) await this.#stirred();
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [all.subarray(length)];
    return all.subarray(0, length);
  }

  /** Reads what has arrived, at least one byte. Returns an empty buffer at the end. */
  async some(): Promise<Buffer> {
    while (this.#buffered === 0 && !this.#over) await this.#stirred();
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [];
    return all;
  }

  /** Reads all bytes up to the end. */
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

  /** Resets the connection. */
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

/** How a client connects. */
export interface ClientOptions {
  /** Name of the certificate in test/certs, without extension; null for none. Default: `"alice"`. */
  name?: string | null;
  /** Name of the key's file. Default: the one that most certificates share. */
  key?: string;
  /** Where the certificates are. Default: test/certs. */
  folder?: string;
  hostname?: string;
  /** PEM of a certificate, or a chain, and its key, instead of files. */
  identity?: { readonly cert: string; readonly key: string };
  /** The server name in its ClientHello (SNI); "" for none. Default: `"localhost"`. */
  serverName?: string;
  /** Protocols that it offers (ALPN), each behind its length. */
  alpn?: Uint8Array;
}

/**
 * Connects a TLS client and waits until its side of the handshake is done. In TLS 1.3 that is before the server's
 * decision: a client that is refused gets this far too, and then sees its connection close.
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
      // The proxy's certificate holds this one name only.
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

/** How an {@link Origin} listens. Default: plain TCP on a port that the system picks. */
export interface OriginOptions {
  port?: number;
  /** The path of a Unix socket. */
  unix?: string;
  tls?: {
    /** Name of the certificate in test/certs, without extension. Default: `"server"`. */
    name?: string;
    /** The CA in test/certs whose clients alone are accepted. Default: all clients are accepted. */
    clients?: string;
  };
}

/** A server behind the proxy. */
export class Origin implements Disposable {
  readonly port: number;
  readonly target: string;
  /** All connections that were accepted; over TLS, those that completed the handshake. */
  readonly accepted: Peer[] = [];
  /** The Common Names of clients that showed a certificate. */
  readonly clients: string[] = [];
  #server: Bun.TCPSocketListener<Peer> | Bun.UnixSocketListener<Peer>;
  #next: ((peer: Peer) => void)[] = [];
  #taken = 0;

  /** @param serve called for each connection when it is accepted; over TLS, after its handshake */
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

  /** The next connection, in the order in which they were accepted. */
  async next(): Promise<Peer> {
    const peer = this.accepted[this.#taken];
    if (peer !== undefined) {
      this.#taken++;
      return peer;
    }
    return new Promise((resolve) => this.#next.push(resolve));
  }

  /** Stops listening and resets all connections. */
  [Symbol.dispose](): void {
    this.#server.stop(true);
  }

  /** Stops listening. Open connections stay open. */
  stop(): void {
    this.#server.stop();
  }
}

/** A server that sends back what it receives, and closes after its client's end. */
export function echoOrigin(options: OriginOptions = {}): Origin {
  return new Origin(async (peer) => {
    for (let chunk = await peer.some(); chunk.length > 0; chunk = await peer.some()) {
      if (!(await peer.send(chunk))) return;
    }
    peer.close();
  }, options);
}
