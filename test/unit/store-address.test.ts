// The addresses of a fleet's store, and that no password in one is ever shown.

import { describe, expect, test } from "bun:test";
import { differences } from "../../src/cli/differences.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { parseStore } from "../../src/config/store-address.ts";
import type { Fault } from "../../src/lib/errors.ts";

const tcp = (hostname: string, port = 6379) => ({ address: { hostname, port }, tls: false, database: 0 });
const nobody = { user: undefined, password: undefined };

test.each([
  ["redis://10.0.0.5", { ...tcp("10.0.0.5"), ...nobody, shown: "redis://10.0.0.5:6379/0" }],
  ["redis://h:7000/3", { ...tcp("h", 7000), ...nobody, database: 3, shown: "redis://h:7000/3" }],
  ["redis://[::1]:7000/", { ...tcp("::1", 7000), ...nobody, shown: "redis://[::1]:7000/0" }],
  ["redis://:p%40ss%2F@h", { ...tcp("h"), user: undefined, password: "p@ss/", shown: "redis://h:6379/0" }],
  [
    "rediss://u:p@h/1",
    { ...tcp("h"), tls: true, database: 1, user: "u", password: "p", shown: "rediss://h:6379/1" },
  ],
  [
    "redis+unix:///run/redis.sock?db=2",
    {
      address: { unix: "/run/redis.sock" },
      tls: false,
      database: 2,
      ...nobody,
      shown: "redis+unix:///run/redis.sock?db=2",
    },
  ],
])("%s is one", (text, expected) => {
  expect(parseStore(text)).toEqual(expected);
});

test.each([
  "",
  "h:6379",
  "http://h",
  "redis://",
  "redis:///0",
  "redis://h/x",
  "redis://h/-1",
  "redis://h/0#f",
  "redis://h?db=1",
])("%j is none", (text) => expect(parseStore(text)).toBeUndefined());
test.each([
  "redis://h:0",
  "redis://h:70000",
  "redis+unix://host/run/s",
  "redis+unix://",
  "redis://%ff@h",
  " redis://h",
  5,
  null,
  {},
])("%p is none", (text) => expect(parseStore(text)).toBeUndefined());

describe("the keys of a fleet", () => {
  function faultsOf(fleet: object): Fault[] {
    const faults: Fault[] = [];
    resolveConfig({ fleet }, { directory: "/etc", cores: 1 }, faults);
    return faults;
  }

  test("have built-in values", () => {
    const faults: Fault[] = [];
    const { fleet } = resolveConfig(
      { fleet: { store: "redis://h" } },
      { directory: "/etc", cores: 1 },
      faults,
    );
    expect(faults).toEqual([]);
    expect(fleet).toEqual({
      store: { url: parseStore("redis://h")!, passwordFile: undefined },
      tls: undefined,
      namespace: "tcpproxy",
      node: undefined,
      timeout: 50,
      lease: 10_000,
      heartbeat: 2_000,
      whenDown: "share",
    });
  });

  test.each<[object, string[]]>([
    [{}, ["fleet.store"]],
    [{ store: "redis//u:secret@h" }, ["fleet.store"]],
    [{ store: { url: "redis://:secret@h", passwordFile: "pw" } }, ["fleet.store.passwordFile"]],
    [{ store: { url: "redis://h", password: "secret" } }, ["fleet.store.password"]],
    [{ store: "rediss://h" }, ["fleet.tls"]],
    [{ store: "redis://h", tls: { ca: "a" } }, ["fleet.tls"]],
    [{ store: "rediss://h", tls: { ca: "a", certificate: "b" } }, ["fleet.tls"]],
    [{ store: "redis://h", namespace: "a{b}" }, ["fleet.namespace"]],
    [{ store: "redis://h", node: "a b" }, ["fleet.node"]],
    [{ store: "redis://h", lease: "3s" }, ["fleet.lease"]],
    [{ store: "redis://h", timeout: "3s" }, ["fleet.timeout"]],
    [{ store: "redis://h", whenDown: "open" }, ["fleet.whenDown"]],
  ])("%j is a fault, which shows no secret", (fleet, keys) => {
    const faults = faultsOf(fleet);
    expect(faults.map(({ key }) => key)).toEqual(keys);
    expect(JSON.stringify(faults)).not.toContain("secret");
  });

  test("are shown without the password", () => {
    for (const store of ["redis://u:secret@h", { url: "redis://u:secret@h" }]) {
      const shown = differences({ fleet: { store, lease: "20s" } });
      expect(shown.map(({ value }) => value)).toEqual(['"redis://h:6379/0"', '"20s"']);
    }
  });
});
