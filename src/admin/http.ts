// HTTP for the port for monitoring: one request a connection, its head only, in bounded memory and time. Bun.serve has no
// bound on its connections: some hundred idle ones use up the descriptors that clients need.

import { createServer, type AddressInfo, type Socket } from "node:net";
import type { Address } from "../lib/address.ts";

/** Connections at a time; more are closed at once. Their descriptors are among those that are kept free for such things. */
const MAX_CONNECTIONS = 32;

/** How long a connection lasts, in milliseconds: to ask, to be answered, and to read the answer. */
const MAX_MS = 10_000;

const MAX_HEAD_BYTES = 8_192;

/** What may follow the head. Nobody reads it, but a client may send it before it reads the answer. */
const MAX_REST_BYTES = 65_536;

/** The part of a request that is looked at. Its host is not. */
export interface HttpRequest {
  readonly method: string;
  /** As it was sent: path and query. */
  readonly target: string;
  readonly accept: string;
}

export interface HttpAnswer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A request that is at fault, and the answer to it. */
export class HttpFault extends Error {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

/** An open port. */
export interface HttpPort {
  /** As bound. */
  readonly address: Address;
  /** Closes it, with all connections. */
  close(): void;
}

/**
 * Opens a port.
 * @param answer what it throws, but for an {@link HttpFault}, is for `failed` and answered with 500
 * @throws the system's error where the address cannot be had
 */
export async function serveHttp(
  { hostname, port }: Address,
  answer: (request: HttpRequest) => Promise<HttpAnswer>,
  failed: (error: unknown) => void,
): Promise<HttpPort> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    serve(socket, answer, failed);
  });
  server.maxConnections = MAX_CONNECTIONS;
  const listen = (host: string) =>
    new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port }, () => {
        server.off("error", reject);
        resolve();
      });
    });
  await (hostname === "" ? listen("::").catch((error: unknown) => again(error, listen)) : listen(hostname));
  server.on("error", failed);
  const bound = server.address() as AddressInfo;
  return {
    address: { hostname: bound.address, port: bound.port },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** A machine may have no IPv6. */
function again(error: unknown, listen: (host: string) => Promise<void>): Promise<void> {
  const { code } = error as { code?: string };
  if (code === "EADDRINUSE" || code === "EACCES") throw error;
  return listen("0.0.0.0");
}

function serve(
  socket: Socket,
  answer: (request: HttpRequest) => Promise<HttpAnswer>,
  failed: (error: unknown) => void,
): void {
  let head = "";
  let rest = 0;
  let answered = false;
  const deadline = setTimeout(() => socket.destroy(), MAX_MS);
  socket.on("close", () => clearTimeout(deadline));
  socket.on("error", () => socket.destroy());
  const say = (method: string, what: Promise<HttpAnswer>) => {
    answered = true;
    head = "";
    void what
      .catch((error: unknown) => faultAnswer(error, failed))
      .then((each) => void (socket.destroyed || socket.end(written(method, each))));
  };
  socket.on("data", (chunk) => {
    if (answered) {
      rest += chunk.length;
      if (rest > MAX_REST_BYTES) socket.destroy();
      return;
    }
    head += chunk.toString("latin1");
    const end = head.indexOf("\r\n\r\n");
    if (end === -1 ? head.length > MAX_HEAD_BYTES : end > MAX_HEAD_BYTES) {
      return say("GET", Promise.reject(new HttpFault(431, "the head of the request is too large")));
    }
    if (end === -1) return;
    const request = parseHead(head.slice(0, end));
    if (request === undefined) say("GET", Promise.reject(new HttpFault(400, "not a request of HTTP/1.1")));
    else say(request.method, answer(request));
  });
  // One that has asked may have ended its half, and still waits for the answer.
  socket.on("end", () => void (answered || socket.destroy()));
}

/** Reads a request's head without its last, empty line; undefined where it is none. */
export function parseHead(head: string): HttpRequest | undefined {
  const [first = "", ...lines] = head.split("\r\n");
  const [, method, target] = /^([A-Z]{1,20}) ([!-~]+) HTTP\/1\.[01]$/.exec(first) ?? [];
  if (method === undefined || target === undefined) return undefined;
  if (lines.some((line) => !/^[!#$%&'*+.^_`|~\w-]+:[^\r\n\0]*$/.test(line))) return undefined;
  const accept = lines.filter((line) => /^accept:/i.test(line)).map((line) => line.slice(7).trim());
  return { method, target, accept: accept.join(",") };
}

function faultAnswer(error: unknown, failed: (error: unknown) => void): HttpAnswer {
  if (!(error instanceof HttpFault)) failed(error);
  const { status, message, headers } =
    error instanceof HttpFault ? error : new HttpFault(500, "internal error");
  return { status, type: "application/json", body: `${JSON.stringify({ error: message })}\n`, headers };
}

const PHRASES: Readonly<Record<number, string>> = {
  200: "OK",
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

function written(method: string, { status, type, body, headers }: HttpAnswer): Buffer {
  const fields = {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    connection: "close",
    ...headers,
  };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = `HTTP/1.1 ${status} ${PHRASES[status] ?? ""}\r\n${lines.join("")}\r\n`;
  return Buffer.from(method === "HEAD" ? head : head + body);
}
