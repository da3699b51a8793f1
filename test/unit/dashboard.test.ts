// Who is let in by `proxy dashboard`: one browser, and only its own page.

import { expect, test } from "bun:test";
import { Doorkeeper } from "../../src/cli/dashboard-server.ts";

const ORIGIN = "http://127.0.0.1:8080";

type Asking = { method?: string; path?: string } & Record<string, string | undefined>;

/** @returns the status that it answers itself; undefined where the request is passed on */
function ask(doorkeeper: Doorkeeper, { method = "GET", path = "/", ...headers }: Asking) {
  return doorkeeper.stop({ method, url: path, headers: { host: "127.0.0.1:8080", ...headers } });
}

function enter(doorkeeper: Doorkeeper, headers: Asking = {}) {
  const { pathname, search } = new URL(doorkeeper.address);
  return ask(doorkeeper, { path: pathname + search, ...headers });
}

/** @returns the cookie of the session as it is sent */
function entered(): { doorkeeper: Doorkeeper; cookie: string } {
  const doorkeeper = new Doorkeeper(new URL(ORIGIN));
  const cookie = enter(doorkeeper)!.headers["set-cookie"]!.split(";")[0]!;
  return { doorkeeper, cookie };
}

test("the address is exchanged for a session that no script and no other site can use", () => {
  const doorkeeper = new Doorkeeper(new URL(ORIGIN));
  expect(doorkeeper.address).toMatch(/^http:\/\/127\.0\.0\.1:8080\/\?token=[\w-]{43}$/);
  const answer = enter(doorkeeper)!;
  expect(answer.status).toBe(303);
  expect(answer.headers["location"]).toBe("/");
  expect(answer.headers["set-cookie"]).toMatch(
    /^tcpproxy_8080=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict$/,
  );
});

test("the address works once; the browser that was let in may open it again", () => {
  const { doorkeeper, cookie } = entered();
  expect(enter(doorkeeper)?.status).toBe(403);
  const again = enter(doorkeeper, { cookie })!;
  expect(again.status).toBe(303);
  expect(again.headers["set-cookie"]).toBeUndefined();
});

test.each(["", "x", "undefined", "A".repeat(43)])("the token %p lets nobody in, before or after", (token) => {
  const doorkeeper = new Doorkeeper(new URL(ORIGIN));
  expect(ask(doorkeeper, { path: `/?token=${token}` })?.status).toBe(403);
  expect(enter(doorkeeper)?.status).toBe(303);
  expect(ask(doorkeeper, { path: `/?token=${token}` })?.status).toBe(403);
});

test.each<[string, Asking, number | undefined]>([
  ["the page", {}, undefined],
  ["the API", { path: "/v1/status" }, undefined],
  ["the API with a query", { path: "/v1/events?status" }, undefined],
  [
    "its own page's request",
    { path: "/v1/status", origin: ORIGIN, "sec-fetch-site": "same-origin" },
    undefined,
  ],
  ["its own page's change", { method: "POST", path: "/v1/reload", origin: ORIGIN }, undefined],
  ["a change without an origin", { method: "POST", path: "/v1/reload" }, 403],
  ["a change of another port", { method: "POST", path: "/v1/reload", origin: "http://127.0.0.1:80" }, 403],
  ["a change of nowhere", { method: "DELETE", path: "/v1/blocks", origin: "null" }, 403],
  ["a request of another port", { path: "/v1/status", "sec-fetch-site": "same-site" }, 403],
  ["a request of another site", { path: "/v1/status", "sec-fetch-site": "cross-site" }, 403],
  ["a request that names another origin", { path: "/v1/status", origin: "http://evil.example" }, 403],
  ["another name for this machine (DNS rebinding)", { host: "evil.example:8080" }, 403],
  ["the same host without the port", { host: "127.0.0.1" }, 403],
  ["no host", { host: undefined }, 403],
  ["another path", { path: "/favicon.ico" }, 403],
  ["a path below an endpoint", { path: "/v1/status/x" }, 403],
  ["a path that is none", { path: "http://evil.example/" }, 403],
  ["no session", { cookie: "a=b" }, 403],
  ["an empty session", { cookie: "tcpproxy_8080=" }, 403],
  ["a session of another port", { cookie: "tcpproxy_8081=x" }, 403],
])("with a session, %s is passed on, or refused as it should be", (_, asking, status) => {
  const { doorkeeper, cookie } = entered();
  expect(ask(doorkeeper, { cookie: `other=1; ${cookie}`, ...asking })?.status).toBe(status);
});

test.each(["/", "/v1/status", "/v1/events", "/x"])("before anybody is let in, %s is refused", (path) => {
  const doorkeeper = new Doorkeeper(new URL(ORIGIN));
  expect(ask(doorkeeper, { path })?.status).toBe(403);
  expect(ask(doorkeeper, { path, cookie: "tcpproxy_8080=undefined" })?.status).toBe(403);
});
