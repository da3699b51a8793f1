// HTTP for the port for monitoring: heads of requests, in bounded memory and time. Bun.serve has no bound on its
// connections: some hundred idle ones use up the descriptors that clients need.

import { createServer, type AddressInfo, type Socket } from "node:net";
import type { Address } from "../lib/address.ts";

/** Connections at a time; for one more, the one that has been silent the longest is closed. Their descriptors are among those that are kept free for such things. */
const MAX_CONNECTIONS = 32;

/** How long a request may take, in milliseconds: to come, to be answered, and to be read. */
const REQUEST_MS = 10_000;

/** How long a connection may wait for its next request, in milliseconds: more than most scrapers take. */
const IDLE_MS = 75_000;

const MAX_HEAD_BYTES = 8_192;

/** What is kept of a client that sends more than heads, before it is let go. */
const MAX_RECEIVED_BYTES = 262_144;

/** The part of a request that is looked at. Its host is not. */
export interface HttpRequest {
  readonly method: string;
  /** As it was sent: path and query. */
  readonly target: string;
  readonly accept: string;
  /** The connection ends after it: the client wants that, or may send a body, which nobody reads. */
  readonly last: boolean;
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
    const [oldest] = sockets;
    if (oldest !== undefined && sockets.size >= MAX_CONNECTIONS) {
      sockets.delete(oldest);
      oldest.destroy();
    }
    const active = () => void (sockets.delete(socket), sockets.add(socket));
    active();
    socket.on("close", () => sockets.delete(socket));
    serve(socket, active, answer, failed);
  });
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
  active: () => void,
  answer: (request: HttpRequest) => Promise<HttpAnswer>,
  failed: (error: unknown) => void,
): void {
  let received = "";
  let answering = false;
  let ended = false;
  let deadline = setTimeout(() => socket.destroy(), REQUEST_MS);
  const grant = (ms: number) => {
    clearTimeout(deadline);
    deadline = setTimeout(() => socket.destroy(), ms);
  };
  const reply = async (asked: Promise<HttpAnswer>, method: string, last: boolean) => {
    answering = true;
    grant(REQUEST_MS);
    const said = await asked.catch((error: unknown) => faultAnswer(error, failed));
    if (socket.destroyed) return;
    const closes = last || ended;
    const bytes = written(method, said, closes);
    if (closes) return void socket.end(bytes);
    socket.write(bytes, () => {
      if (socket.destroyed) return;
      answering = false;
      grant(IDLE_MS);
      next();
    });
  };
  const next = () => {
    if (answering || received === "") return void (ended && !answering && socket.destroy());
    const end = received.indexOf("\r\n\r\n");
    if (end > MAX_HEAD_BYTES || (end === -1 && received.length > MAX_HEAD_BYTES)) {
      return void reply(Promise.reject(TOO_LARGE), "GET", true);
    }
    if (end === -1) return void (ended && socket.destroy());
    const request = parseHead(received.slice(0, end));
    received = received.slice(end + 4);
    if (request === undefined) return void reply(Promise.reject(NO_REQUEST), "GET", true);
    return void reply(answer(request), request.method, request.last);
  };
  socket.on("close", () => clearTimeout(deadline));
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk) => {
    active();
    // What comes while an answer is made, or after the last one, is a client's that does not wait for it.
    if (received.length + chunk.length > MAX_RECEIVED_BYTES) return void socket.destroy();
    if (received === "" && !answering) grant(REQUEST_MS);
    received += chunk.toString("latin1");
    next();
  });
  // One that has asked may have ended its half, and still waits for the answer.
  socket.on("end", () => {
    ended = true;
    next();
  });
}

const TOO_LARGE = new HttpFault(431, "the head of the request is too large");
const NO_REQUEST = new HttpFault(400, "not a request of HTTP/1.1");

/** Reads a request's head without its last, empty line; undefined where it is none. */
export function parseHead(head: string): HttpRequest | undefined {
  const [first = "", ...lines] = head.split("\r\n");
  const [, method, target, minor] = /^([A-Z]{1,20}) ([!-~]+) HTTP\/1\.([01])$/.exec(first) ?? [];
  if (method === undefined || target === undefined) return undefined;
  if (lines.some((line) => !/^[!#$%&'*+.^_`|~\w-]+:[^\r\n\0]*$/.test(line))) return undefined;
  const accept = lines.filter((line) => /^accept:/i.test(line)).map((line) => line.slice(7).trim());
  const last =
    minor === "0" ||
    (method !== "GET" && method !== "HEAD") ||
    lines.some((line) => /^(content-length|transfer-encoding|connection:.*close)/i.test(line));
  return { method, target, accept: accept.join(","), last };
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

function written(method: string, { status, type, body, headers }: HttpAnswer, closes: boolean): Buffer {
  const fields = {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    ...(closes && { connection: "close" }),
    ...headers,
  };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = `HTTP/1.1 ${status} ${PHRASES[status] ?? ""}\r\n${lines.join("")}\r\n`;
  return Buffer.from(method === "HEAD" ? head : head + body);
}
