// Which endpoint a request is for, and whether it may be asked in this way: method, path, query, Host, Origin, and the header
// that a web page cannot add. Pure.

import type { Right, Route } from "./route.ts";

/** The name of the proxy as a host, for requests through its socket. */
export const SOCKET_HOST = "tcpproxy";

/** What changes something has this header: a web page cannot send it to another origin unasked (Fetch, CORS). */
export const CHANGE_HEADER = "x-tcpproxy";

/** What the router looks at. */
export interface RequestHead {
  readonly method?: string | undefined;
  /** As sent. */
  readonly url?: string | undefined;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
}

/** How a door is called. */
export interface DoorNames {
  readonly scheme: "http" | "https";
  /** Whether the door is meant by a host's name or address, in lower case; IPv6 without brackets. */
  isHost(name: string): boolean;
}

/** A request that may be asked. */
export interface Match<R> {
  readonly route: R;
  readonly query: ReadonlyMap<string, string>;
}

/** One that may not; `allow` lists the methods of its path. */
export interface Mismatch<R> {
  readonly status: number;
  readonly error: string;
  /** The route that it would have been. */
  readonly route?: R;
  readonly allow?: string;
}

type Key = Pick<Route, "method" | "path" | "query">;

/** The longest path with query. */
const MAX_URL = 4_096;

/** Finds the route of a request. Host and Origin come first: to a foreign page, every path looks the same. */
export function route<R extends Key>(
  routes: readonly R[],
  { method = "", url = "", headers }: RequestHead,
  door: DoorNames,
): Match<R> | Mismatch<R> {
  const host = hostIn(headers["host"]);
  if (host === undefined) return { status: 400, error: "the Host header is missing or malformed" };
  if (!door.isHost(host.name)) return { status: 421, error: "this proxy does not go by that host" };
  const { origin } = headers;
  if (origin !== undefined && !isSame(origin, `${door.scheme}://${host.text}`)) {
    return { status: 403, error: "requests of other origins are not answered" };
  }
  if (!url.startsWith("/") || url.length > MAX_URL || url.includes("#")) {
    return { status: 400, error: "the path is malformed" };
  }
  const mark = url.indexOf("?");
  const path = mark === -1 ? url : url.slice(0, mark);
  const there = routes.filter((each) => each.path === path);
  if (there.length === 0) return { status: 404, error: "there is nothing at this path" };
  const found = there.find((each) => each.method === method);
  if (found === undefined) {
    const allow = there.map((each) => each.method).join(", ");
    return { status: 405, error: `this path takes ${allow}`, allow };
  }
  if (method !== "GET" && headers[CHANGE_HEADER] !== "1") {
    return { status: 403, error: `a change needs the header ${CHANGE_HEADER}: 1`, route: found };
  }
  const query = queryIn(mark === -1 ? "" : url.slice(mark + 1), found.query ?? []);
  return typeof query === "string" ? { status: 400, error: query, route: found } : { route: found, query };
}

/** Whether somebody who has a right may ask for what needs another. */
export function mayAsk(has: Right | undefined, needs: Right): boolean {
  return has === "operate" || (has !== undefined && has === needs);
}

/** What every door is called. */
export function isLoopbackName(name: string): boolean {
  return name === "localhost" || name === "127.0.0.1" || name === "::1";
}

type Header = RequestHead["headers"][string];

function hostIn(header: Header): { text: string; name: string } | undefined {
  if (typeof header !== "string" || header.length > 300) return undefined;
  const text = header.toLowerCase();
  const match = /^(?:\[([\da-f:.]+)\]|([a-z\d_.-]+))(?::\d{1,5})?$/.exec(text);
  const name = match?.[1] ?? match?.[2];
  return name === undefined ? undefined : { text, name };
}

/** A browser leaves the scheme's own port out of both. */
function isSame(origin: Header, expected: string): boolean {
  return typeof origin === "string" && origin.toLowerCase() === expected;
}

/** @returns what is wrong with it, where something is */
function queryIn(text: string, allowed: readonly string[]): ReadonlyMap<string, string> | string {
  const query = new Map<string, string>();
  for (const [key, value] of new URLSearchParams(text)) {
    if (!allowed.includes(key)) {
      const known = allowed.length === 0 ? "none" : allowed.join(", ");
      return `the query has an unknown key; known here: ${known}`;
    }
    if (query.has(key)) return `the query has ${key} twice`;
    query.set(key, value);
  }
  return query;
}
