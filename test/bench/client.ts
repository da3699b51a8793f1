// One client of a proxy under measurement: a mutual TLS 1.3 connection on which nothing is left to chance. Every proxy
// has to do the same arithmetic, and a handshake has to be of the kind that is measured, full or resumed.

import { readFileSync } from "node:fs";

/** Where to connect; `certs` is a folder with ca.crt and each client's certificate and key. */
export interface Server {
  readonly port: number;
  readonly certs: string;
  /** Without TLS: there is a tunnel that sees to it. */
  readonly plain?: boolean;
  /** Whose certificate is presented; built in: "client". The others are strangers'. */
  readonly who?: "client" | "stranger" | "hostile";
}

/** What one connection does. Exceptions thrown here fail it. */
export interface Conversation {
  /** A session to resume: the connection fails if it is not resumed, and if it is although there is none. */
  session?: Buffer | undefined;
  ready(socket: Socket): void;
  data(socket: Socket, chunk: Buffer): void;
  drain?(socket: Socket): void;
}

/** A connection's socket. */
export type Socket = Bun.Socket<State>;

interface State {
  readonly conversation: Conversation;
  /** The first call counts. */
  readonly over: (problem?: string) => void;
}

const VERSION = "TLSv1.3";
const CIPHER = "TLS_AES_128_GCM_SHA256";
// What every peer can do: without it Bun's client and this proxy would agree on a post-quantum exchange.
const GROUP = "X25519";

/** Makes connections to one server. */
export class Client {
  readonly #port: number;
  readonly #tls: (Bun.TLSOptions & { ecdhCurve: string }) | undefined;

  constructor({ port, certs, plain = false, who = "client" }: Server) {
    const pem = (name: string) => readFileSync(`${certs}/${name}`, "utf8");
    this.#port = port;
    if (plain) return;
    this.#tls = {
      ca: pem("ca.crt"),
      cert: pem(`${who}.crt`),
      key: pem(`${who}.key`),
      serverName: "localhost",
      rejectUnauthorized: true,
      ecdhCurve: GROUP,
    };
  }

  /** Opens a connection and answers when it is over; any problem is an exception. */
  open(conversation: Conversation): Promise<void> {
    return new Promise((resolve, reject) => {
      const over = (problem?: string) => (problem === undefined ? resolve() : reject(new Error(problem)));
      Bun.connect<State>({
        hostname: "127.0.0.1",
        port: this.#port,
        allowHalfOpen: true,
        data: { conversation, over },
        ...(this.#tls === undefined ? { socket: PLAIN_HANDLERS } : { socket: HANDLERS, tls: this.#tls }),
      }).catch(reject);
    });
  }

  /**
   * A handshake, one byte there and back, and an orderly end.
   * @returns the newest session that the server gave, if it gave any
   */
  async exchange(session?: Buffer): Promise<Buffer | undefined> {
    let right = false;
    let newest = session;
    const secure = this.#tls !== undefined;
    await this.open({
      session,
      ready: (socket) => void socket.write("ex"),
      data(socket, chunk) {
        right = chunk.length === 1 && chunk[0] === 0x78;
        if (secure) newest = sessionOf(socket) ?? newest;
        socket.end();
      },
    });
    if (!right) throw new Error("the byte did not come back");
    return newest;
  }

  /** The same by a client that may be refused. Answers whether a byte came back. */
  async isServed(): Promise<boolean> {
    let served = false;
    const conversation: Conversation = {
      ready: (socket) => void socket.write("ex"),
      data(socket) {
        served = true;
        socket.end();
      },
    };
    // However it is refused: an alert, an end or a reset.
    await this.open(conversation).catch(() => {});
    return served;
  }
}

const HANDLERS: Bun.SocketHandler<State> = {
  open(socket) {
    const { session } = socket.data.conversation;
    // Only here, before the handshake, does it take effect.
    if (session !== undefined) socket.setSession(session);
  },
  handshake(socket, success, error) {
    const problem = success && !error ? wrong(socket) : `handshake: ${error?.message}`;
    if (problem === undefined) return socket.data.conversation.ready(socket);
    socket.data.over(problem);
    socket.terminate();
  },
  data: (socket, chunk) => socket.data.conversation.data(socket, chunk),
  drain: (socket) => socket.data.conversation.drain?.(socket),
  end: (socket) => void socket.end(),
  close: (socket, error) => socket.data.over(error && String(error)),
  error(socket, error) {
    socket.data.over(String(error));
    socket.terminate();
  },
};

const { handshake: _, ...others } = HANDLERS;
const PLAIN_HANDLERS: Bun.SocketHandler<State> = {
  ...others,
  open: (socket) => socket.data.conversation.ready(socket),
};

/** Says what was negotiated, if it is not what is measured. */
function wrong(socket: Socket): string | undefined {
  const resumed = socket.isSessionReused();
  if (resumed !== (socket.data.conversation.session !== undefined))
    return resumed ? "a session was resumed" : "a session was not resumed";
  const version = socket.getTLSVersion();
  const { name: cipher } = socket.getCipher() as { name: string };
  const { name: group } = socket.getEphemeralKeyInfo() as { name: string };
  if (version === VERSION && cipher === CIPHER && group === GROUP) return undefined;
  return `negotiated ${version}, ${cipher}, ${group} and not ${VERSION}, ${CIPHER}, ${GROUP}`;
}

/** The session of a ticket that has come; in TLS 1.3 they come after the handshake, here before the first byte. */
function sessionOf(socket: Socket): Buffer | undefined {
  // The declared type is void; it is a Buffer, and of no use for resumption before a ticket is there.
  return socket.getTLSTicket() && (socket.getSession() as unknown as Buffer);
}
