// Which listener of a new configuration an open port goes on with.

import { describe, expect, test } from "bun:test";
import { parseListenAddress } from "../../src/lib/address.ts";
import type { Listener } from "../../src/config/config.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { pairPorts, targetKeys } from "../../src/engine/snapshot.ts";

function listener(address: string): Listener {
  return {
    key: "listener",
    address: parseListenAddress(address)!,
    ca: "/ca",
    certificate: "/certificate",
    privateKey: "/key",
    crl: undefined,
    sessionTickets: true,
    reusePort: false,
    upstream: undefined,
  };
}

/** Ports are named by their number; "" is one that has been closed. */
function pair(open: string[], next: string[]): (number | undefined)[] {
  return pairPorts(
    open.map((port) => (port === "" ? undefined : listener(`127.0.0.1:${port}`))),
    next.map((port) => listener(`127.0.0.1:${port}`)),
  );
}

describe("ports are paired with listeners", () => {
  test.each<[string, string[], string[], (number | undefined)[]]>([
    ["by address", ["1", "2"], ["1", "2"], [0, 1]],
    ["by address, whatever the order", ["1", "2", "3"], ["3", "1", "2"], [1, 2, 0]],
    ["one that changed its address with the one that is left", ["1", "2"], ["1", "9"], [0, 1]],
    ["one that is new elsewhere in the list with none", ["1", "2"], ["9", "1"], [1, undefined]],
    ["all that changed their address, in order", ["1", "2"], ["8", "9"], [0, 1]],
    ["one that is new with none", ["1"], ["9", "1"], [1]],
    ["one that is gone with nothing", ["1", "2"], ["2"], [undefined, 0]],
    ["one that is gone with nothing, the last", ["1", "2"], ["1"], [0, undefined]],
    ["one that was closed with nothing, though it is back", ["", "2"], ["1", "2"], [undefined, 1]],
    ["one that was closed with nothing, though another is new", ["", "2"], ["2", "9"], [undefined, 0]],
    ["several whose number the system picks, in order", ["0", "0"], ["0", "0"], [0, 1]],
    [
      "more that are gone than are new: those with nothing",
      ["1", "2", "3"],
      ["1", "9"],
      [0, undefined, undefined],
    ],
    ["more that are new than are gone: those with nothing", ["1", "2"], ["1", "8", "9"], [0, undefined]],
    ["the only one that is left, though others are new", ["1"], ["8", "9"], [0]],
    ["the first one where all have changed and fewer are left", ["1", "2"], ["9"], [0, undefined]],
    [
      "none where all have changed and their places are gone",
      ["", "2", "3"],
      ["9"],
      [undefined, undefined, undefined],
    ],
  ])("%s", (_, open, next, pairs) => {
    expect(pair(open, next)).toEqual(pairs);
  });

  test("no listener gets two ports", () => {
    for (const next of [["1"], ["2", "1"], ["3"], ["3", "1"], ["4", "3", "2", "1"]]) {
      const used = pair(["1", "2", "1"], next).filter((each) => each !== undefined);
      expect(new Set(used).size).toBe(used.length);
    }
  });

  test("every interface is another address than one of them", () => {
    expect(
      pairPorts([listener(":1"), listener("127.0.0.1:1")], [listener("127.0.0.1:1"), listener(":1")]),
    ).toEqual([1, 0]);
  });
});

test("the same address in two upstreams is two targets, and its weight does not make it another", () => {
  const keys = (weight: number) =>
    targetKeys(
      resolveConfig(
        {
          upstreams: [
            { name: "a", targets: [{ address: "127.0.0.1:1", weight }], authorizedGroups: ["x"] },
            { name: "b", targets: ["127.0.0.1:1"], authorizedGroups: ["x"], serverNames: ["b.example"] },
          ],
        },
        { directory: "/", cores: 1 },
        [],
      ),
    ).flat();
  expect(new Set(keys(1)).size).toBe(2);
  expect(keys(2)).toEqual(keys(1));
});
