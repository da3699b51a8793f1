// Which protocol the proxy agrees on with a client, by what it offers and what the listener lists.

import { expect, test } from "bun:test";
import { chooseProtocol, parseProtocol } from "../../src/lib/alpn.ts";
import { TUNNEL_OFFER } from "../../src/lib/tunnel-protocol.ts";

const offer = (...names: string[]) =>
  Buffer.concat(names.map((name) => Buffer.from([name.length, ...Buffer.from(name)])));

test.each<[string, Uint8Array, string | false]>([
  ["alone", TUNNEL_OFFER, "tcpproxy/1"],
  ["among others", offer("h2", "tcpproxy/1", "http/1.1"), "tcpproxy/1"],
  ["not", offer("h2"), false],
  ["as a part of another name", offer("tcpproxy/10", "xtcpproxy/1x"), false],
  ["in an empty list", Buffer.from(""), false],
  ["in a list that is cut", Buffer.from("\x20tcpproxy/1"), false],
  ["in a list of empty names", Buffer.from("\x00\x00\x00"), false],
])("without a list only the tunnel's protocol is chosen; offered: %s", (_, offered, chosen) => {
  expect(chooseProtocol(offered, undefined)).toBe(chosen);
});

test.each<[string, Uint8Array, string | undefined]>([
  ["the one listed", offer("postgresql"), "postgresql"],
  [
    "the first one listed, in whatever order they are offered",
    offer("h2", "mqtt", "postgresql"),
    "postgresql",
  ],
  ["the tunnel's before those listed", offer("postgresql", "tcpproxy/1"), "tcpproxy/1"],
  ["none for a client that offers others only", offer("h2", "http/1.1"), undefined],
  ["none for a part of a name", offer("postgresql2", "postgres"), undefined],
  ["none for another case", offer("PostgreSQL"), undefined],
  ["none for an empty list", Buffer.from(""), undefined],
  ["none for a list that is cut", Buffer.from("\x20postgresql"), undefined],
])("with a list the proxy chooses %s", (_, offered, chosen) => {
  expect(chooseProtocol(offered, ["postgresql", "mqtt"])).toBe(chosen);
});

test("any bytes have an answer that was offered and is listed", () => {
  const listed = ["a", "bb"];
  for (let length = 0; length < 6; length++) {
    for (let i = 0; i < 300; i++) {
      const bytes = Buffer.from(
        Array.from({ length }, (_, j) => [0, 1, 2, 0x61, 0x62, 255][(i * 7 + j * i) % 6]!),
      );
      const chosen = chooseProtocol(bytes, listed);
      if (chosen !== undefined) expect(listed).toContain(chosen as string);
    }
  }
});

test.each(["", "two words", "é", "tcpproxy/1", "x".repeat(256), 7, null])(
  "%p is no protocol to list",
  (text) => {
    expect(parseProtocol(text)).toBeUndefined();
  },
);

test.each(["postgresql", "http/1.1", "x".repeat(255)])("%p can be listed", (text) => {
  expect(parseProtocol(text)).toBe(text);
});
