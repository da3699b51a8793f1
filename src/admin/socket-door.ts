// The door for commands on the same machine: HTTP over a Unix socket. A user who can open it is an operator; the kernel says
// which user it is.

import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { libc, peerUser } from "../lib/libc.ts";
import { isLoopbackName, SOCKET_HOST } from "./router.ts";
import { AdminServer, type ServerOptions } from "./server.ts";
import { listenOnPath } from "./socket-path.ts";
import type { Window } from "./subject.ts";

/** @throws StartError where the socket cannot be had */
export async function openSocketDoor(path: string, options: ServerOptions): Promise<Window> {
  const calls = await libc();
  const actorOf = (socket: Duplex): string => {
    // The types leave it out.
    const { fd = -1 } = (socket as unknown as { _handle?: { fd?: number } })._handle ?? {};
    const user = calls && fd >= 0 ? peerUser(calls, fd) : undefined;
    return user === undefined ? "local user" : `uid ${user}`;
  };
  const server = new AdminServer(options, {
    scheme: "http",
    isHost: (name) => name === SOCKET_HOST || isLoopbackName(name),
    visitor: (socket) => ({ actor: actorOf(socket), right: "operate" }),
  });
  const listening = await listenOnPath(path, (socket: Socket) => server.take(socket));
  options.subject.log.info("admin listening", { address: `unix:${path}` });
  return {
    follow() {},
    close() {
      listening.close();
      server.close();
    },
  };
}
