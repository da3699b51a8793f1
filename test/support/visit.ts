// A TLS client that keeps its session ticket and can connect again with it.

import { connect } from "node:tls";
import { cert } from "./peer.ts";

/** How a client connects. */
export interface VisitOptions {
  /** PEM. Default: alice of test/certs. */
  readonly identity?: { readonly cert: string; readonly key: string };
  /** The server name in its ClientHello (SNI). Default: `"localhost"`. */
  readonly serverName?: string;
  /** The session of an earlier visit. */
  readonly session?: Buffer | undefined;
}

/** The outcome of a visit. */
export interface Visit {
  /** The proxy resumed the session: no certificate was sent. */
  readonly reused: boolean;
  /** The byte that it sent came back. */
  readonly served: boolean;
  /** The newest ticket that it received. */
  readonly session: Buffer | undefined;
  /** Closes the connection. */
  leave(): void;
}

/** Connects, sends a byte, and waits until an echo server answers or the connection is closed. */
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
