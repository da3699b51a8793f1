// The page of a running proxy on a loopback port, for a browser: it lets in the one browser that was given the address, and
// passes requests on to the proxy's socket. Every process of this machine can reach the port, and every page that the browser
// has open can send requests to it: hence the token, the session, and the checks of Host, Origin and Sec-Fetch-Site.

import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
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

/**
 * @param socket path of the proxy's socket
 * @param port 0: one that the system picks
 * @throws StartError
 */
export function openDashboard(socket: string, port: number): Dashboard {
  let server: Bun.Server<undefined>;
  let answer: (request: Request) => Promise<Response> | Response = () => said(503, "not yet");
  try {
    server = Bun.serve({
      hostname: HOST,
      port,
      maxRequestBodySize: MAX_BODY,
      development: false,
      fetch(request, own) {
        // A stream of events is silent for longer than the runtime's limit.
        own.timeout(request, 0);
        return answer(request);
      },
      error: () => said(500, "internal error"),
    });
  } catch (error) {
    throw cannotListen(`${HOST}:${port}`, error);
  }
  const origin = new URL(`http://${HOST}:${server.port}`);
  const doorkeeper = new Doorkeeper(origin);
  answer = (request) => doorkeeper.stop(request) ?? passOn(request, socket);
  return { address: doorkeeper.address, close: () => void server.stop(true) };
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
  stop(request: Pick<Request, "method" | "url" | "headers">): Response | undefined {
    const { method, headers } = request;
    // A foreign name that was made to lead here (DNS rebinding) is another origin to the browser.
    if (headers.get("host") !== this.#origin.host) return said(403, "this page does not go by that host");
    const { pathname, searchParams } = new URL(request.url);
    const token = pathname === "/" && method === "GET" ? searchParams.get("token") : null;
    if (token !== null) return this.#enter(token, headers);
    if (!this.#hasSession(headers)) {
      return said(403, "open the address that `proxy dashboard` printed; it lets one browser in, once");
    }
    if (!this.#isOwn(method, headers)) return said(403, "requests of other pages are not answered");
    if (pathname !== "/" && !/^\/v1\/[a-z]+$/.test(pathname))
      return said(403, "nothing is shown at this path");
    return undefined;
  }

  #enter(token: string, headers: Headers): Response {
    // Opened again in the same browser.
    if (this.#hasSession(headers)) return redirect();
    if (!isSame(token, this.#token)) return said(403, "this address has been used, or is not the right one");
    this.#token = undefined;
    this.#session = secret();
    return redirect({ "set-cookie": `${this.#cookie}=${this.#session}; Path=/; HttpOnly; SameSite=Strict` });
  }

  #hasSession(headers: Headers): boolean {
    const pairs = (headers.get("cookie") ?? "").split("; ").map((pair) => pair.split("="));
    return pairs.some(([name, value = ""]) => name === this.#cookie && isSame(value, this.#session));
  }

  /** Another port of this host is the same site, so that the cookie alone does not tell. */
  #isOwn(method: string, headers: Headers): boolean {
    const origin = headers.get("origin");
    const site = headers.get("sec-fetch-site");
    if (site !== null && site !== "same-origin" && site !== "none") return false;
    return origin === null ? method === "GET" || method === "HEAD" : origin === this.#origin.origin;
  }
}

async function passOn(request: Request, socket: string): Promise<Response> {
  const { pathname, search } = new URL(request.url);
  const { method, signal } = request;
  const body = method === "GET" || method === "HEAD" ? null : await request.text();
  const options = { method, body, signal, unix: socket, redirect: "manual", timeout: false };
  try {
    const headers = only(ASKED, request.headers);
    const answer = await fetch(`http://localhost${pathname}${search}`, {
      ...options,
      headers,
    } as RequestInit);
    return new Response(answer.body, { status: answer.status, headers: only(ANSWERED, answer.headers) });
  } catch {
    return said(502, "no proxy answers at its socket");
  }
}

function only(names: readonly string[], headers: Headers): Record<string, string> {
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = headers.get(name);
      return value === null ? [] : [[name, value]];
    }),
  );
}

function said(status: number, text: string): Response {
  return new Response(`${text}\n`, { status, headers: OWN });
}

function redirect(headers: Record<string, string> = {}): Response {
  return new Response(null, { status: 303, headers: { ...OWN, location: "/", ...headers } });
}

function secret(): string {
  return randomBytes(32).toString("base64url");
}

/** In a time that does not depend on where they differ. */
function isSame(given: string, expected: string | undefined): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return expected !== undefined && timingSafeEqual(digest(given), digest(expected));
}
