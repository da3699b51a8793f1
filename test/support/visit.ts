// A TLS client that keeps its session and can come back with it.

import { connect } from "node:tls";
import { cert } from "./peer.ts";

/** How a client comes. */
export interface VisitOptions {
  /** PEM. Default: alice of test/certs. */
  readonly identity?: { readonly cert: string; readonly key: string };
  /** What it asks for (SNI). Default: `"localhost"`. */
  readonly serverName?: string;
  /** Of a visit before. */
  readonly session?: Buffer | undefined;
}

/** What became of it. */
export interface Visit {
  /** The proxy took up the session again: no certificate was sent. */
  readonly reused: boolean;
  /** What it sent came back. */
  readonly served: boolean;
  /** The newest ticket that it was given. */
  readonly session: Buffer | undefined;
  /** Breaks the connection off. */
  leave(): void;
}

/** Comes, sends a byte, and waits until it is served by an echo or sent away. */
export async function visit(port: number, options: VisitOptions = {}): Promise<Visit> {
  const { identity = { cert: cert("alice.crt"), key: cert("key.pem") }, session } = options;
  const outcome = Promise.withResolvers<boolean>();
  let ticket: Buffer | undefined;
  let reused = false;
  const socket = connect({
    host: "127.0.0.1",
    port,
    ...identity,
    servername: options.serverName ?? "localhost",
    ca: cert("ca.crt"),
    rejectUnauthorized: false,
    ...(session && { session }),
  });
  socket.on("session", (newest) => (ticket = newest));
  socket.on("secureConnect", () => {
    reused = socket.isSessionReused();
    socket.write("x");
  });
  socket.on("data", () => outcome.resolve(true));
  socket.on("error", () => outcome.resolve(false));
  socket.on("close", () => outcome.resolve(false));
  const served = await outcome.promise;
  if (!served) socket.destroy();
  return { reused, served, session: ticket, leave: () => void socket.destroy() };
}
