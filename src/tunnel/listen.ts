// Where programs on this machine connect to: a TCP port, or a Unix socket that belongs to its owner alone. No other
// file of the tunnel opens ports.

import { closeSync, lstatSync, unlinkSync } from "node:fs";
import { formatAddress, type TargetAddress } from "../lib/address.ts";
import { StartError, cannotListen, codeOf } from "../lib/errors.ts";
import { connectUnix } from "../lib/libc.ts";
import type { TunnelConnection } from "./connection.ts";

/** An open port or socket. */
export interface LocalPort {
  /** As bound, with the port that the system picked if it was 0. */
  readonly address: TargetAddress;
  /** Accepts no more; connections go on. A Unix socket is removed. */
  stop(): void;
}

/** Undefined where a socket was not let in. */
type Data = TunnelConnection | undefined;

/**
 * @param accepted answers with the connection that the socket belongs to; undefined where it is turned away
 * @throws StartError where the address cannot be had
 */
export async function openLocal(
  listen: TargetAddress,
  accepted: (socket: Bun.Socket<Data>) => Data,
  bug: (error: Error) => void,
): Promise<LocalPort> {
  const socket: Bun.SocketHandler<Data> = {
    open(socket) {
      socket.data = undefined;
      socket.data = accepted(socket);
      if (socket.data === undefined) socket.terminate();
    },
    data: (socket, chunk) => socket.data?.localSent(chunk),
    drain: (socket) => socket.data?.localDrained(),
    end: (socket) => socket.data?.localEnded(),
    close: (socket, error) => socket.data?.localClosed(error),
    error(socket, error) {
      if (codeOf(error) === undefined) bug(error);
      socket.terminate();
    },
  };
  const options = { allowHalfOpen: true, socket };
  if ("unix" in listen) await removeStale(listen.unix);
  try {
    if ("unix" in listen) {
      const server = privately(() => Bun.listen<Data>({ ...options, unix: listen.unix }));
      return { address: listen, stop: () => server.stop() };
    }
    const { hostname, port } = listen;
    // Every interface: the IPv6 wildcard takes IPv4 too.
    const server = Bun.listen<Data>({ ...options, hostname: hostname || "::", port, exclusive: true });
    return { address: { hostname: server.hostname, port: server.port }, stop: () => server.stop() };
  } catch (error) {
    throw cannotListen(formatAddress(listen), error);
  }
}

/** Runs `make` with a umask that gives new files the mode 0600 from their first moment. */
function privately<T>(make: () => T): T {
  const before = process.umask(0o177);
  try {
    return make();
  } finally {
    process.umask(before);
  }
}

/**
 * Removes the socket of a process that has died.
 * @throws StartError where there is a file that is no socket, or somebody listens on it
 */
async function removeStale(path: string): Promise<void> {
  const cannot = (why: string) => new StartError(`cannot listen on unix:${path}: ${why}`);
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw cannot("there is a file that is no socket; it is left alone");
  const answer = await connectUnix(path);
  if (answer === undefined) throw cannot("there is a socket already; remove it if no process uses it");
  if (typeof answer === "number") closeSync(answer);
  if (answer !== "ECONNREFUSED") throw cannot("another process listens there");
  try {
    unlinkSync(path);
  } catch (error) {
    throw cannotListen(`unix:${path}`, error);
  }
}
