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
])("an unknown name %j gets the suggestion %j", (name, expected) => {
  expect(suggest(name, KNOWN)).toBe(expected);
});

test("a suggestion needs a known name", () => {
  expect(suggest("timeout", [])).toBeUndefined();
});

test("a very long name gets no suggestion", () => {
  expect(suggest("timeout".repeat(10_000), KNOWN)).toBeUndefined();
});
