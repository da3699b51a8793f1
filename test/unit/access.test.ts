// Who may reach an upstream, and under which groups admissions are counted.

import { describe, expect, test } from "bun:test";
import { accessOf, countedGroups, type Access } from "../../src/auth/access.ts";
import { seriesOf } from "../../src/admin/metrics-reading.ts";
import { summary } from "../../src/cli/summary.ts";
import { differences } from "../../src/cli/differences.ts";
import type { Config } from "../../src/config/config.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { CounterRows } from "../../src/engine/counter-rows.ts";
import { groupRow, type Pool } from "../../src/upstreams/pool.ts";
import { small } from "../support/ledger.ts";

const access = (over: Partial<Access>): Access => ({
  authorizedGroups: [],
  authorizedClients: [],
  anyGroup: false,
  ...over,
});

function configOf(rule: Partial<Access>): Config {
  const faults: object[] = [];
  const config = resolveConfig(
    { upstreams: [{ name: "db", targets: ["a:1"], ...rule }], metrics: { address: "127.0.0.1:0" } },
    { directory: "/", cores: 1 },
    faults as [],
  );
  expect(faults).toEqual([]);
  return config;
}

const both = { authorizedGroups: ["dba", "ops"], authorizedClients: ["alice@etl", "bob@etl", "carol@dba"] };

describe("access", () => {
  test.each<[string, Partial<Access>, client: string, key: string | undefined]>([
    ["a member of a listed group", both, "dave@dba", "authorizedGroups"],
    ["a listed client of another group", both, "alice@etl", "authorizedClients"],
    ["a listed client of a listed group", both, "carol@dba", "authorizedGroups"],
    ["another client of a listed client's group", both, "dave@etl", undefined],
    ["a listed client by another case", both, "Alice@etl", undefined],
    ["a listed client's user in another group", both, "alice@web", undefined],
    ["a longer name than a listed one", both, "alice@etl2", undefined],
    ["a listed client where no group is listed", { authorizedClients: ["a@b"] }, "a@b", "authorizedClients"],
    ["anybody where everybody may enter", { anyGroup: true }, "x@y", "anyGroup"],
    ["anybody where nobody is listed", {}, "x@y", undefined],
    ["a client that is called as an object's member", both, "constructor@toString", undefined],
  ])("%s", (_, rule, client, key) => {
    expect(accessOf(access(rule), client, client.slice(client.indexOf("@") + 1))).toBe(key as never);
  });
});

describe("the groups that are counted", () => {
  test("they are those of the configuration, each once", () => {
    expect(countedGroups(access(both))).toEqual(["dba", "ops", "etl"]);
  });

  test("they are a single nameless one where everybody may enter", () => {
    expect(countedGroups(access({ anyGroup: true }))).toEqual([""]);
  });

  test("each has a row, and any group of a peer goes to the nameless one", () => {
    const rows = (rule: Partial<Access>) => {
      const config = configOf(rule);
      const { groups } = new CounterRows(small()).assign(config, [0]);
      return { upstream: config.upstreams[0], groups: groups.get("db") } as Pool;
    };
    const listed = rows(both);
    expect([...listed.groups.keys()]).toEqual(["dba", "ops", "etl"]);
    expect(groupRow(listed, "etl")).toBe(listed.groups.get("etl")!);
    const open = rows({ anyGroup: true });
    expect([...open.groups.keys()]).toEqual([""]);
    expect(groupRow(open, "chosen-by-a-peer")).toBe(open.groups.get("")!);
    expect(groupRow(open, "chosen-by-a-peer")).toBeNumber();
  });

  test("they are as many as the series that check announces", () => {
    const one = seriesOf(configOf({ authorizedGroups: ["dba"] }));
    expect(seriesOf(configOf(both))).toBe(one + 2);
    expect(seriesOf(configOf({ anyGroup: true }))).toBe(one);
  });
});

describe("the summary", () => {
  test.each<[string, Partial<Access>, string[]]>([
    [
      "lists groups and clients",
      both,
      ["for groups: dba, ops", "for clients: alice@etl, bob@etl, carol@dba"],
    ],
    ["lists clients alone", { authorizedClients: ["a@b"] }, ["for clients: a@b"]],
    [
      "says that everybody may enter",
      { anyGroup: true },
      ["for everybody: with a valid identity, whatever the group is (anyGroup)"],
    ],
  ])("%s", (_, rule, lines) => {
    const text = summary(configOf(rule)).split("\n");
    expect(
      text.filter((line) => line.startsWith("  for ")).map((line) => line.trim().replace(/ {2,}/, ": ")),
    ).toEqual(lines);
  });

  test("lists limits of groups and clients with what comes from wider rules, and caps", () => {
    const faults: never[] = [];
    const written = {
      upstreams: [
        {
          name: "a",
          targets: [{ address: "10.0.0.1:1", maxConnections: 5 }],
          anyGroup: true,
          maxConnections: 9,
        },
      ],
      rateLimit: { maxConnections: 3 },
      limits: [
        { match: "*@etl", capacity: "unlimited" as const },
        { match: "a@dba", fillRate: "2s", maxConnections: 4 },
      ],
    };
    const config = resolveConfig(written, { directory: "/", cores: 1 }, faults);
    const text = summary(config, { differences: differences(written) });
    expect(text).toMatch(/^ {2}targets +10\.0\.0\.1:1 \(at most 5 open\)$/m);
    expect(text).toMatch(/^ {2}limit of +\*@etl: no bucket, 3 open at once$/m);
    expect(text).toMatch(/^ {2}limit of +a@dba: 10 connections, one more every 2s, 4 open at once$/m);
    expect(text).toMatch(/^ *upstreams\[0\]\.maxConnections +9 \(built-in: none\)$/m);
    expect(text).not.toContain("limits[");
  });

  test("shows it there alone, and not as a difference again", () => {
    const upstream = { name: "a", targets: ["10.0.0.1:1"] };
    expect(differences({ upstreams: [{ ...upstream, anyGroup: true }] })).toEqual([]);
    expect(differences({ upstreams: [{ ...upstream, authorizedClients: ["a@b"] }] })).toEqual([]);
  });
});
