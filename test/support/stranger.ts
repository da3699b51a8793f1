// Clients that connect from a chosen loopback address. On Linux, all of 127.0.0.0/8 belongs to the machine itself.

import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { cert } from "./peer.ts";

/** Opens a TCP connection from an address, and sends nothing. */
export async function silent(port: number, localAddress: string): Promise<Socket> {
  const socket = connectTcp({ host: "127.0.0.1", port, localAddress });
  socket.on("error", () => {});
  await new Promise<void>((resolve) => {
    socket.once("connect", () => resolve());
    socket.once("close", () => resolve());
  });
  return socket;
}

/** Connects from an address with a certificate to an echo server, and disconnects. Returns whether it was served. */
export async function isServed(
  port: number,
  localAddress: string,
  identity: { readonly cert: string; readonly key: string } = {
    cert: cert("alice.crt"),
    key: cert("key.pem"),
  },
): Promise<boolean> {
  const outcome = Promise.withResolvers<boolean>();
  const raw = connectTcp({ host: "127.0.0.1", port, localAddress });
  raw.on("error", () => outcome.resolve(false));
  raw.on("close", () => outcome.resolve(false));
  const socket = connectTls({
    socket: raw,
    ...identity,
    servername: "localhost",
    ca: cert("ca.crt"),
    rejectUnauthorized: false,
  });
  socket.on("secureConnect", () => socket.write("x"));
  socket.on("data", () => outcome.resolve(true));
  socket.on("error", () => outcome.resolve(false));
  socket.on("close", () => outcome.resolve(false));
  const served = await outcome.promise;
  socket.destroy();
  raw.destroy();
  return served;
}
