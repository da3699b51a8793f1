// A door for operators that answers what a test has it answer, on a Unix socket.

import type { ConnectionView, LoggedEvent, Status } from "../../src/admin/api-types.ts";
import { Folder } from "./folder.ts";

/** A connection as the door shows it. */
export function aConnection(over: Partial<ConnectionView> = {}): ConnectionView {
  return {
    id: "0a1b2c3d-1",
    client: "alice@dba",
    group: "dba",
    upstream: "orders",
    target: "10.0.0.5:5432",
    remote: "192.0.2.7:50123",
    peer: undefined,
    listener: ":7443",
    serverName: "orders.example.com",
    phase: "relaying",
    ageMs: 11_520_000,
    idleMs: 4_000,
    bytesIn: 1_258_291,
    bytesOut: 340,
    notAfter: new Date(Date.now() + 89.5 * 86_400_000).toISOString(),
    ...over,
  };
}

export function aStatus(over: Partial<Status> = {}): Status {
  return {
    version: "9.9.9",
    right: "operate",
    runtime: "bun 1.4.5",
    pid: 4711,
    phase: "running",
    startedAt: "2026-01-01T00:00:00.000Z",
    uptimeMs: 273_600_000,
    configFile: "/etc/tcpproxy/proxy.toml",
    threads: [
      { thread: 0, alive: true },
      { thread: 1, alive: true },
    ],
    reload: {
      succeeded: 3,
      refused: 0,
      succeededAt: "2026-01-01T00:00:00.000Z",
      triedAt: undefined,
      faults: [],
    },
    warnings: [],
    connections: { open: 120, limit: 5_000 },
    clients: { tracked: 33, limit: 262_144 },
    totals: {
      accepted: 12_345,
      admitted: 12_000,
      refused: 345,
      closed: 11_880,
      bytesIn: 5_000_000,
      bytesOut: 7_000_000_000,
    },
    listeners: [{ address: ":7443", upstream: undefined, accepted: 12_345, handshaking: 2 }],
    refusals: { rate_limited: 300, certificate_expired: 45 },
    upstreams: [
      {
        name: "orders",
        open: 120,
        admitted: 12_000,
        refused: 300,
        bytesIn: 5_000_000,
        bytesOut: 7_000_000_000,
        targets: [
          {
            upstream: "orders",
            target: "10.0.0.5:5432",
            open: 120,
            health: "up",
            weight: 1,
            backup: false,
            draining: false,
            failures: 7,
          },
        ],
      },
    ],
    certificates: [
      {
        listener: ":7443",
        kind: "server",
        what: "the proxy's certificate",
        notAfter: "2126-01-01T00:00:00.000Z",
      },
    ],
    logLinesDropped: 0,
    ...over,
  };
}

/** Leaving the scope closes it. */
export class FakeDoor implements Disposable {
  status = aStatus();
  connections: readonly ConnectionView[] = [aConnection()];
  /** Answers in place of all else. */
  answer: ((request: Request) => Response | Promise<Response>) | undefined;
  /** What was asked: method, path and query. */
  readonly asked: string[] = [];
  readonly bodies: unknown[] = [];
  readonly #folder = new Folder();
  readonly #streams = new Set<ReadableStreamDefaultController<string>>();
  readonly #server: Bun.Server<undefined>;
  #listening: (() => void)[] = [];

  constructor() {
    this.#server = Bun.serve({
      unix: this.path,
      fetch: async (request, server) => {
        server.timeout(request, 0);
        const { pathname, search } = new URL(request.url);
        this.asked.push(`${request.method} ${pathname}${search}`);
        if (request.method !== "GET") this.bodies.push(await request.json());
        return this.answer?.(request) ?? this.#usual(pathname);
      },
    });
  }

  get path(): string {
    return this.#folder.path("admin.sock");
  }

  #usual(pathname: string): Response {
    switch (pathname) {
      case "/v1/status":
        return Response.json(this.status);
      case "/v1/connections":
        return new Response(this.connections.map((each) => `${JSON.stringify(each)}\n`).join(""), {
          headers: { "content-type": "application/x-ndjson" },
        });
      case "/v1/events":
        return new Response(this.#stream() as ReadableStream, {
          headers: { "content-type": "text/event-stream" },
        });
      default:
        return Response.json({ error: "there is no such path" }, { status: 404 });
    }
  }

  #stream(): ReadableStream<string> {
    let own: ReadableStreamDefaultController<string>;
    return new ReadableStream({
      start: (controller) => {
        own = controller;
        controller.enqueue(": hello\n\n");
        this.#streams.add(controller);
        for (const resolve of this.#listening.splice(0)) resolve();
      },
      cancel: () => void this.#streams.delete(own),
    });
  }

  /** Resolves once somebody waits for events. */
  async listenedTo(): Promise<void> {
    if (this.#streams.size === 0) await new Promise<void>((resolve) => this.#listening.push(resolve));
  }

  /** Sends an event to all who wait for some. */
  send(name: string, data: object): void {
    for (const stream of this.#streams) stream.enqueue(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  log(msg: string, fields: Partial<LoggedEvent> = {}): void {
    this.send("log", { time: "2026-01-02T15:04:05.678Z", level: "info", msg, ...fields });
  }

  /** Goes away as a proxy does that ends. */
  close(): void {
    void this.#server.stop(true);
  }

  [Symbol.dispose](): void {
    this.close();
    this.#folder[Symbol.dispose]();
  }
}
