// HTTP over the connections of one door: from a socket to a handler and back. Everything is bounded: sockets, the time for a
// request, its size, what waits for a reader, and the time that one may take. The runtime's HTTP server reads and writes;
// its own limits on time do not apply to sockets that it is given, and so they are here.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { ADMIN_CONNECTIONS } from "../lib/descriptors.ts";
import { readBody } from "./body.ts";
import { Reply } from "./reply.ts";
import type { Action, Requests, Result } from "./requests.ts";
import { errorAnswer, Refused, type Answer, type Call, type Right, type Route } from "./route.ts";
import { mayAsk, route, type DoorNames } from "./router.ts";
import { ROUTES } from "./routes.ts";

/** How long a connection that is being closed may take to send what is left, in milliseconds. */
const CLOSE_WAIT_MS = 1_000;

const MAX_HEADERS = 8_192;

/** Who is at the other end. */
export interface Visitor {
  readonly actor: string;
  /** Undefined for none: every request is refused. */
  readonly right: Right | undefined;
}

/** Where a connection came in. */
export interface Door extends DoorNames {
  /** Asked for each request. @returns undefined where the connection has to end without an answer */
  visitor(socket: Duplex): Visitor | undefined;
}

/** What the handlers are given, and what is counted. */
export interface ServerOptions extends Pick<Call, "subject" | "recent" | "operations"> {
  readonly requests: Requests;
}

export class AdminServer {
  /** How long the next request may take to come, and its body after it, in milliseconds. Tests shorten it. */
  static requestWaitMs = 10_000;

  readonly #options: ServerOptions;
  readonly #door: Door;
  readonly #http = createServer({ maxHeaderSize: MAX_HEADERS });
  readonly #sockets = new Map<Duplex, { busy: boolean; deadline: Timer | undefined }>();

  constructor(options: ServerOptions, door: Door) {
    this.#options = options;
    this.#door = door;
    this.#http.on("request", (request, response) => this.#asked(request, response));
    // A client that waits for leave to send its body is told so by what it gets.
    this.#http.on("checkContinue", (request, response) => {
      response.writeContinue();
      this.#asked(request, response);
    });
    this.#http.on("checkExpectation", (request, response) => this.#asked(request, response));
    this.#http.on("clientError", (_, socket) => this.#turnAway(socket));
  }

  /** Takes a connection over; one too many is closed. */
  take(socket: Duplex): void {
    socket.on("error", () => {});
    if (this.#sockets.size >= ADMIN_CONNECTIONS) return void socket.destroy();
    this.#sockets.set(socket, { busy: false, deadline: undefined });
    socket.once("close", () => {
      clearTimeout(this.#sockets.get(socket)?.deadline);
      this.#sockets.delete(socket);
    });
    this.#within(socket, AdminServer.requestWaitMs);
    this.#http.emit("connection", socket);
  }

  /** The connections that there are. */
  sockets(): Duplex[] {
    return [...this.#sockets.keys()];
  }

  close(): void {
    for (const socket of this.sockets()) socket.destroy();
  }

  /** The connection ends unless something happens in time. */
  #within(socket: Duplex, ms: number | undefined): void {
    const state = this.#sockets.get(socket);
    if (state === undefined) return;
    clearTimeout(state.deadline);
    state.deadline = ms === undefined ? undefined : setTimeout(() => socket.destroy(), ms);
  }

  /** What came is not HTTP. */
  #turnAway(socket: Duplex): void {
    if (socket.destroyed || !socket.writable) return void socket.destroy();
    const body = '{"error":"this is not a request in HTTP/1.1"}\n';
    const head = `content-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: close`;
    socket.end(`HTTP/1.1 400 Bad Request\r\n${head}\r\n\r\n${body}`);
    this.#within(socket, CLOSE_WAIT_MS);
  }

  #asked(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    const state = this.#sockets.get(socket);
    // One request at a time: answers to others would have to be kept.
    if (state === undefined || state.busy) return void socket.destroy();
    state.busy = true;
    this.#within(socket, AdminServer.requestWaitMs);
    request.on("error", () => {});
    response.on("error", () => {});
    response.once("close", () => {
      state.busy = false;
      this.#within(socket, response.shouldKeepAlive ? AdminServer.requestWaitMs : CLOSE_WAIT_MS);
    });
    void this.#answer(request, socket, new Reply(socket, response)).catch((error: unknown) => {
      // Nothing that happens here may end the process: it carries connections.
      this.#options.subject.log.error("internal error", { error: String(error) });
      socket.destroy();
    });
  }

  async #answer(request: IncomingMessage, socket: Duplex, reply: Reply): Promise<void> {
    const { subject } = this.#options;
    const visitor = this.#door.visitor(socket);
    if (visitor === undefined) return void socket.destroy();
    const match = route(ROUTES, request, this.#door);
    const found = match.route;
    let answer: Answer;
    let result: Result = "ok";
    let detail: string | undefined;
    try {
      const { actor, right } = visitor;
      if (right === undefined || !mayAsk(right, found?.right ?? "read")) {
        throw new Refused(403, "you have no right to this");
      }
      if ("error" in match) {
        const { status, error, allow } = match;
        throw new Refused(status, error, {}, allow === undefined ? {} : { allow });
      }
      const body = await readBody(request);
      this.#within(socket, undefined);
      const { recent, operations } = this.#options;
      answer = await match.route.handler({
        ...{ subject, recent, operations, actor, right },
        query: match.query,
        body,
      });
      detail = answer.detail;
    } catch (error) {
      // What is left of a body is not waited for.
      reply.closes = reply.closes || hasBody(request);
      if (error instanceof Refused) {
        result = "refused";
        detail = error.message;
        answer = errorAnswer(error.status, error.message, error.more, error.headers);
      } else {
        if (socket.destroyed) return;
        result = "failed";
        detail = "internal error";
        subject.log.error("internal error", { error: error instanceof Error ? error.stack : String(error) });
        answer = errorAnswer(500, "internal error");
      }
    }
    this.#within(socket, undefined);
    this.#record(found, visitor, result, detail);
    await reply.send(answer);
  }

  #record(found: Route | undefined, { actor }: Visitor, result: Result, detail: string | undefined): void {
    const { subject, requests } = this.#options;
    const action: Action = found?.action ?? "unknown";
    requests.count(action, result);
    if (found === undefined || found.right === "read") return;
    const level = result === "ok" ? "info" : result === "refused" ? "warn" : "error";
    subject.log[level]("admin", { action, actor, result, detail });
  }
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0";
}
