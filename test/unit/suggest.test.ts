// Which known name is suggested for an unknown one.

import { expect, test } from "bun:test";
import { suggest } from "../../src/lib/suggest.ts";

const KNOWN = [
  "timeout",
  "connectTimeout",
  "handshakeTimeout",
  "listener",
  "listeners",
  "upstreams",
  "tls",
  "ca",
];

test.each<[string, string | undefined]>([
  ["timeuot", "timeout"],
  ["Timeout", "timeout"],
  ["connect_timeout", "connectTimeout"],
  ["connect-timeout", "connectTimeout"],
  ["conectTimeout", "connectTimeout"],
  ["listner", "listener"],
  ["listenrs", "listeners"],
  ["upstream", "upstreams"],
  ["tsl", "tls"],
  ["cert", undefined],
  ["insecure", undefined],
  ["", undefined],
  ["x", undefined],
])("the suggestion for the unknown name %p is %p", (name, expected) => {
  expect(suggest(name, KNOWN)).toBe(expected);
});

test("the suggestion is undefined where no names are known", () => {
  expect(suggest("timeout", [])).toBeUndefined();
});

test("the suggestion for a very long name is undefined", () => {
  expect(suggest("timeout".repeat(10_000), KNOWN)).toBeUndefined();
});
