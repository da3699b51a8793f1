// After a reload, which listener of the new configuration each open port belongs to.

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
    certificates: undefined,
    alpn: undefined,
    crl: undefined,
    allow: undefined,
    deny: undefined,
    acceptProxy: undefined,
    sessionTickets: true,
    reusePort: false,
    upstream: undefined,
    identity: undefined,
  };
}

/** Ports are named by their number; "" is one that has been closed. */
function pair(open: string[], next: string[]): (number | undefined)[] {
  return pairPorts(
    open.map((port) => (port === "" ? undefined : listener(`127.0.0.1:${port}`))),
    next.map((port) => listener(`127.0.0.1:${port}`)),
  );
}

describe("pairPorts", () => {
  test.each<[string, string[], string[], (number | undefined)[]]>([
    ["the listeners of the same address", ["1", "2"], ["1", "2"], [0, 1]],
    ["the listeners of the same address, in any order", ["1", "2", "3"], ["3", "1", "2"], [1, 2, 0]],
    ["the only listener left, where one changed its address", ["1", "2"], ["1", "9"], [0, 1]],
    ["no listener, where the new one is elsewhere in the list", ["1", "2"], ["9", "1"], [1, undefined]],
    ["the listeners in order, where all changed their address", ["1", "2"], ["8", "9"], [0, 1]],
    ["the listener of the same address, where one was added", ["1"], ["9", "1"], [1]],
    ["no listener, where it was removed", ["1", "2"], ["2"], [undefined, 0]],
    ["no listener, where the last one was removed", ["1", "2"], ["1"], [0, undefined]],
    ["no listener, where the port was closed and its address is back", ["", "2"], ["1", "2"], [undefined, 1]],
    ["no listener, where the port was closed and another one is new", ["", "2"], ["2", "9"], [undefined, 0]],
    ["the listeners in order, where the system picks the port numbers", ["0", "0"], ["0", "0"], [0, 1]],
    [
      "no listener, where more were removed than added",
      ["1", "2", "3"],
      ["1", "9"],
      [0, undefined, undefined],
    ],
    ["no listener, where more were added than removed", ["1", "2"], ["1", "8", "9"], [0, undefined]],
    ["the first listener, where it is the only port and all are new", ["1"], ["8", "9"], [0]],
    ["the first listener, where all changed and fewer are left", ["1", "2"], ["9"], [0, undefined]],
    [
      "no listener, where all changed and their places are gone",
      ["", "2", "3"],
      ["9"],
      [undefined, undefined, undefined],
    ],
  ])("an open port is paired with %s", (_, open, next, pairs) => {
    expect(pair(open, next)).toEqual(pairs);
  });

  test("a listener is never paired with two ports", () => {
    for (const next of [["1"], ["2", "1"], ["3"], ["3", "1"], ["4", "3", "2", "1"]]) {
      const used = pair(["1", "2", "1"], next).filter((each) => each !== undefined);
      expect(new Set(used).size).toBe(used.length);
    }
  });

  test("a port on every interface is not paired with a listener on one interface", () => {
    expect(
      pairPorts([listener(":1"), listener("127.0.0.1:1")], [listener("127.0.0.1:1"), listener(":1")]),
    ).toEqual([1, 0]);
  });
});

test("the key of a target is different in each upstream, and does not depend on its weight", () => {
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
