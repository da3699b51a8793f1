// Which requests the admin API lets through to an endpoint: a table.

import { expect, test } from "bun:test";
import { objectIn } from "../../src/admin/body.ts";
import type { Route } from "../../src/admin/route.ts";
import { isLoopbackName, mayAsk, route, type RequestHead } from "../../src/admin/router.ts";
import { ROUTES } from "../../src/admin/routes.ts";

const routes: Pick<Route, "method" | "path" | "query">[] = [
  { method: "GET", path: "/v1/status" },
  { method: "GET", path: "/v1/things", query: ["client", "from"] },
  { method: "PUT", path: "/v1/things" },
  { method: "POST", path: "/v1/reload", query: ["dryRun"] },
];

const door = {
  scheme: "https" as const,
  isHost: (name: string) => isLoopbackName(name) || name === "proxy.example",
};

function ask(
  method: string | undefined,
  url: string | undefined,
  headers: RequestHead["headers"] = {},
): number | string {
  const match = route(routes, { method, url, headers: { host: "localhost:9443", ...headers } }, door);
  if ("error" in match) return match.status;
  return `${match.route.method} ${match.route.path}${[...match.query].map((pair) => ` ${pair.join("=")}`).join("")}`;
}

const CHANGE = { "x-tcpproxy": "1" };

test.each<[string, [string | undefined, string | undefined, RequestHead["headers"]?], number | string]>([
  ["a path is found", ["GET", "/v1/status"], "GET /v1/status"],
  ["a method chooses among the routes of a path", ["PUT", "/v1/things", CHANGE], "PUT /v1/things"],
  ["another path is not found", ["GET", "/v1/statu"], 404],
  ["a path with a slash at its end is another one", ["GET", "/v1/status/"], 404],
  ["a path is not decoded", ["GET", "/v1/%73tatus"], 404],
  ["a path does not climb", ["GET", "/v1/x/../status"], 404],
  ["another method is refused", ["DELETE", "/v1/status", CHANGE], 405],
  ["HEAD is another method", ["HEAD", "/v1/status"], 405],
  ["a method in lower case is another one", ["get", "/v1/status"], 405],
  ["a request without a method is refused", [undefined, "/v1/status"], 405],
  ["a request without a path is malformed", ["GET", undefined], 400],
  ["an absolute URL is malformed", ["GET", "http://localhost/v1/status"], 400],
  ["an asterisk is malformed", ["OPTIONS", "*"], 400],
  ["a very long path is malformed", ["GET", `/${"a".repeat(5_000)}`], 400],
  [
    "a query with known keys is read",
    ["GET", "/v1/things?from=10.0.0.0%2F8&client=a%40b"],
    "GET /v1/things from=10.0.0.0/8 client=a@b",
  ],
  ["an empty query is none", ["GET", "/v1/status?"], "GET /v1/status"],
  ["a key without a value is read", ["POST", "/v1/reload?dryRun", CHANGE], "POST /v1/reload dryRun="],
  ["an unknown key is refused", ["GET", "/v1/things?user=a"], 400],
  ["a key of another route is refused", ["GET", "/v1/status?client=a"], 400],
  ["a repeated key is refused", ["GET", "/v1/things?client=a&client=b"], 400],
  ["a change without the header is refused", ["PUT", "/v1/things"], 403],
  [
    "a change with another value of the header is refused",
    ["PUT", "/v1/things", { "x-tcpproxy": "yes" }],
    403,
  ],
  ["the door is called localhost", ["GET", "/v1/status", { host: "localhost" }], "GET /v1/status"],
  [
    "the door is called by its name, in any case",
    ["GET", "/v1/status", { host: "Proxy.Example:9443" }],
    "GET /v1/status",
  ],
  ["the door is called by the IPv6 loopback", ["GET", "/v1/status", { host: "[::1]:1" }], "GET /v1/status"],
  ["a rebound name is refused", ["GET", "/v1/status", { host: "evil.example:9443" }], 421],
  ["a rebound name is refused whatever the path", ["GET", "/nothing", { host: "evil.example" }], 421],
  ["a name that ends in the door's is refused", ["GET", "/v1/status", { host: "x.localhost" }], 421],
  ["an IPv6 address without brackets is malformed", ["GET", "/v1/status", { host: "::1" }], 400],
  ["a host with a user is malformed", ["GET", "/v1/status", { host: "localhost@evil.example" }], 400],
  ["a request without a host is malformed", ["GET", "/v1/status", { host: undefined }], 400],
  ["an empty host is malformed", ["GET", "/v1/status", { host: "" }], 400],
  [
    "a page of the door's own may ask",
    ["GET", "/v1/status", { origin: "https://localhost:9443" }],
    "GET /v1/status",
  ],
  ["a page of another port is refused", ["GET", "/v1/status", { origin: "https://localhost:1" }], 403],
  ["a page of another scheme is refused", ["GET", "/v1/status", { origin: "http://localhost:9443" }], 403],
  [
    "a page of another host is refused",
    ["PUT", "/v1/things", { origin: "https://evil.example", ...CHANGE }],
    403,
  ],
  ["a page without an origin is refused", ["GET", "/v1/status", { origin: "null" }], 403],
])("%s", (_, [method, url, headers], expected) => {
  expect(ask(method, url, headers)).toBe(expected);
});

test("a refused method says which ones there are", () => {
  const request = { method: "DELETE", url: "/v1/things", headers: { host: "localhost", ...CHANGE } };
  expect(route(routes, request, door)).toMatchObject({ status: 405, allow: "GET, PUT" });
});

test("operators may do both, readers look, and others nothing", () => {
  expect(mayAsk("operate", "operate")).toBe(true);
  expect(mayAsk("operate", "read")).toBe(true);
  expect(mayAsk("read", "read")).toBe(true);
  expect(mayAsk("read", "operate")).toBe(false);
  expect(mayAsk(undefined, "read")).toBe(false);
});

test("each change of the table needs an operator, and nothing that looks does", () => {
  // A question changes nothing, and is too long for a query.
  const looks = ({ method, path }: Route) => method === "GET" || path === "/v1/explain";
  for (const each of ROUTES) expect(each.right).toBe(looks(each) ? "read" : "operate");
  const keys = ROUTES.map(({ method, path }) => `${method} ${path}`);
  expect(new Set(keys).size).toBe(keys.length);
});

test.each<[string, string]>([
  ["a list", "[]"],
  ["a number", "1"],
  ["null", "null"],
  ["half an object", '{"a":'],
  ["two objects", "{}{}"],
  ["bytes that are not UTF-8", "\xff"],
])("a body that is %s is refused", (_, text) => {
  expect(() => objectIn(Buffer.from(text, "latin1"))).toThrow("the body is not");
});

test("a body that is an object is read, and no body is an empty one", () => {
  expect(objectIn(Buffer.from('{"for":"8h"}'))).toEqual({ for: "8h" });
  expect(objectIn(new Uint8Array())).toEqual({});
});
