// The page of a running proxy on a loopback port, for a browser: it lets in the one browser that was given the address, and
// passes requests on to the proxy's socket. Every process of this machine can reach the port, and every page that the browser
// has open can send requests to it: hence the token, the session, and the checks of Host, Origin and Sec-Fetch-Site.

import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { cannotListen } from "../lib/errors.ts";

const HOST = "127.0.0.1";

/** The largest body of a request, as the proxy's own door has it. */
const MAX_BODY = 65_536;

/** What is passed on of a request, and of an answer. */
const ASKED = ["accept", "content-type", "x-tcpproxy"];
const ANSWERED = [
  "cache-control",
  "content-security-policy",
  "content-type",
  "referrer-policy",
  "x-content-type-options",
];

/** Headers of what is said here. */
const OWN = {
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "content-type": "text/plain; charset=utf-8",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

/** A page that is served. */
export interface Dashboard {
  /** Opens it, once. */
  readonly address: string;
  close(): void;
}

/** What is answered here, and not by the proxy. */
export interface Said {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

/**
 * @param socket path of the proxy's socket
 * @param port 0: one that the system picks
 * @throws StartError
 */
export async function openDashboard(socket: string, port: number): Promise<Dashboard> {
  const server = createServer({ maxHeaderSize: 8_192 });
  await new Promise<void>((resolve, fail) => {
    server.once("error", (error) => fail(cannotListen(`${HOST}:${port}`, error)));
    server.listen(port, HOST, resolve);
  });
  const doorkeeper = new Doorkeeper(new URL(`http://${HOST}:${(server.address() as AddressInfo).port}`));
  server.on("request", (request, response) => {
    const said = doorkeeper.stop(request);
    if (said !== undefined) say(response, said);
    else void passOn(request, response, socket);
  });
  return {
    address: doorkeeper.address,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Decides which requests come from the page in the browser that was let in. */
export class Doorkeeper {
  readonly #origin: URL;
  readonly #cookie: string;
  /** Undefined once it has been used. */
  #token: string | undefined = secret();
  #session: string | undefined;
  readonly address: string;

  constructor(origin: URL) {
    this.#origin = origin;
    // A browser sends a cookie to every port of a host.
    this.#cookie = `tcpproxy_${origin.port || "80"}`;
    this.address = `${origin.href}?token=${this.#token}`;
  }

  /** @returns what to answer instead; undefined where the request may be passed on */
  stop({ method, url = "", headers }: Pick<IncomingMessage, "method" | "url" | "headers">): Said | undefined {
    // To the browser, a foreign name that was made to lead here (DNS rebinding) is an origin of its own.
    if (headers.host !== this.#origin.host) return said(403, "this page does not go by that host");
    const [, pathname, query] = /^([^?#]*)(?:\?(.*))?$/.exec(url) ?? [];
    const token = pathname === "/" ? new URLSearchParams(query).get("token") : null;
    if (token !== null && method === "GET") return this.#enter(token, headers);
    if (!this.#hasSession(headers)) {
      return said(403, "open the address that `proxy dashboard` printed; it lets one browser in, once");
    }
    if (!this.#isOwn(method, headers)) return said(403, "requests of other pages are not answered");
    if (pathname !== "/" && !/^\/v1\/[a-z]+$/.test(pathname ?? ""))
      return said(403, "nothing is shown at this path");
    return undefined;
  }

  #enter(token: string, headers: IncomingHttpHeaders): Said {
    // Opened again in the same browser.
    if (this.#hasSession(headers)) return redirect();
    if (!isSame(token, this.#token)) return said(403, "this address has been used, or is not the right one");
    this.#token = undefined;
    this.#session = secret();
    return redirect({ "set-cookie": `${this.#cookie}=${this.#session}; Path=/; HttpOnly; SameSite=Strict` });
  }

  #hasSession(headers: IncomingHttpHeaders): boolean {
    const pairs = (headers.cookie ?? "").split("; ").map((pair) => pair.split("="));
    return pairs.some(([name, value = ""]) => name === this.#cookie && isSame(value, this.#session));
  }

  /** Another port of this host is the same site, so that the cookie alone does not tell. */
  #isOwn(method: string | undefined, { origin, ...headers }: IncomingHttpHeaders): boolean {
    const site = headers["sec-fetch-site"];
    if (site !== undefined && site !== "same-origin" && site !== "none") return false;
    return origin === undefined ? method === "GET" || method === "HEAD" : origin === this.#origin.origin;
  }
}

/** Hands a request to the proxy, and its answer back piece by piece, at the browser's pace. */
async function passOn(request: IncomingMessage, response: ServerResponse, socket: string): Promise<void> {
  const abort = new AbortController();
  response.on("close", () => abort.abort());
  response.on("error", () => {});
  try {
    const answer = await ask(request, socket, abort.signal);
    if (answer === undefined) return say(response, said(413, "the request is too large"));
    response.writeHead(answer.status, only(ANSWERED, Object.fromEntries(answer.headers)));
    response.flushHeaders();
    for await (const chunk of answer.body ?? []) {
      if (!response.write(chunk)) await once(response, "drain", { signal: abort.signal });
    }
    response.end();
  } catch {
    // Half an answer must not look like a whole one.
    if (response.headersSent) response.destroy();
    else say(response, said(502, "no proxy answers at its socket"));
  }
}

/** @returns undefined where the request has too long a body */
async function ask(
  request: IncomingMessage,
  socket: string,
  signal: AbortSignal,
): Promise<Response | undefined> {
  const { method = "GET", url = "/" } = request;
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY) return undefined;
    chunks.push(chunk);
  }
  const body = size === 0 ? null : Buffer.concat(chunks);
  const options = { method, body, headers: only(ASKED, request.headers), redirect: "manual", signal };
  // The runtime's own limit on time would end a stream. A connection for each request: on one that the proxy is closing
  // at that moment, the runtime waits for ever.
  const own = { unix: socket, timeout: false, keepalive: false };
  return fetch(`http://localhost${url}`, { ...options, ...own } as RequestInit);
}

function only(names: readonly string[], headers: IncomingHttpHeaders): Record<string, string> {
  return Object.fromEntries(
    names.flatMap((name) => (headers[name] === undefined ? [] : [[name, String(headers[name])]])),
  );
}

function say(response: ServerResponse, { status, headers, text }: Said): void {
  response.writeHead(status, { ...headers, "content-length": Buffer.byteLength(text), connection: "close" });
  response.end(text);
}

function said(status: number, text: string): Said {
  return { status, headers: OWN, text: `${text}\n` };
}

function redirect(headers: Record<string, string> = {}): Said {
  return { status: 303, headers: { ...OWN, location: "/", ...headers }, text: "" };
}

function secret(): string {
  return randomBytes(32).toString("base64url");
}

/** In a time that does not depend on where they differ. */
function isSame(given: string, expected: string | undefined): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return expected !== undefined && timingSafeEqual(digest(given), digest(expected));
}
