// Requests to the doors for operators.

import { connect } from "node:net";
import { certPath, cert } from "./peer.ts";
import { Folder } from "./folder.ts";

/** An answer, read whole. */
export interface Answered {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** Of JSON. */
  readonly json: any;
}

/** How a door is asked. */
export interface Asking {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
}

const CHANGE = { "x-tcpproxy": "1" };

/** What changes something. */
export const change = (body?: string): Asking => ({
  method: "POST",
  headers: CHANGE,
  ...(body !== undefined && { body }),
});

async function read(response: Response): Promise<Answered> {
  const text = await response.text();
  const { status, headers } = response;
  const isJson = headers.get("content-type")?.startsWith("application/json");
  return { status, headers, text, json: isJson ? JSON.parse(text) : undefined };
}

/** Asks through a Unix socket. */
export async function askSocket(unix: string, path: string, asking: Asking = {}): Promise<Answered> {
  return read(await fetch(`http://tcpproxy${path}`, { unix, keepalive: false, ...asking }));
}

/** Asks over HTTPS, as one of the clients of test/certs; as nobody with null. */
export async function askHttps(
  port: number,
  path: string,
  client: string | null,
  asking: Asking = {},
): Promise<Answered> {
  const tls = {
    ca: cert("ca.crt"),
    ...(client !== null && { cert: cert(`${client}.crt`), key: cert("key.pem") }),
  };
  return read(await fetch(`https://localhost:${port}${path}`, { tls, keepalive: false, ...asking }));
}

/** Sends bytes through a Unix socket, and answers all that comes back before it closes. */
export async function sendRaw(unix: string, bytes: string | Uint8Array): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect(unix, () => socket.write(bytes));
    socket.on("data", (chunk) => (text += String(chunk)));
    socket.on("error", () => {});
    socket.on("close", () => resolve(text));
  });
}

/** A folder for a socket: nobody else may write to it. */
export class SocketFolder extends Folder {
  readonly socket = this.path("admin.sock");
}

/** The keys of HTTPS, with certificates of test/certs. */
export const httpsKeys = {
  address: "127.0.0.1:0",
  ca: certPath("ca.crt"),
  certificate: certPath("server.crt"),
  privateKey: certPath("key.pem"),
  readers: ["*@ops"],
  operators: ["alice@admin"],
};

/** The objects of an answer that has one a line. */
export function linesOf({ text }: Answered): any[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}
