// Rows in columns: they fit the width, and what matters most stays.

import { describe, expect, test } from "bun:test";
import type { ConnectionView } from "../../src/admin/api-types.ts";
import { CONNECTION, certificateColumn } from "../../src/cli/connection-columns.ts";
import { fitGrid, fits, gridLine, gridTitle } from "../../src/cli/grid.ts";
import { widthOf } from "../../src/cli/human.ts";
import { aConnection } from "../support/fake-door.ts";
import { Random } from "../support/random.ts";

const NOW = Date.parse("2026-01-01T00:00:00.000Z");
const columns = [...Object.values(CONNECTION), certificateColumn(NOW)];
const notAfter = "2026-03-31T12:00:00.000Z";

const rows: ConnectionView[] = [
  aConnection({ notAfter }),
  aConnection({
    id: "0a1b2c3d-2-1z",
    client: "a-long-service-account@platform-operations",
    upstream: "warehouse",
    target: "[2001:db8:0:1::5]:5432",
    remote: "[2001:db8:1:2:3:4:5:6]:50123",
    ageMs: 860_000_000,
    bytesIn: 5e12,
    bytesOut: 1e6,
    notAfter: "2025-12-31T00:00:00.000Z",
  }),
  aConnection({ client: "\x1b[2J\n\u202emallory@x", target: undefined, phase: "dialing", notAfter }),
];

function page(width: number): string {
  const grid = fitGrid(columns, rows, width);
  return [gridTitle(grid), ...rows.map((row) => gridLine(grid, row))].join("\n");
}

describe("connections", () => {
  test("in 80 columns", () => {
    expect(page(80)).toBe(`\
ID            CLIENT      FROM       TO           AGE IDLE      IN     OUT  CERT
0a1b2c3d-1    alice@dba   192.0.2.7… orders 10… 3h12m   4s 1.2 MiB   340 B   89d
0a1b2c3d-2-1z a-lon…tions [2001:db8… warehouse… 9d22h   4s 4.5 TiB 977 KiB ended
0a1b2c3d-1    \\u001…ory@x 192.0.2.7… orders -   3h12m   4s 1.2 MiB   340 B   89d`);
  });

  test("in 120 columns", () => {
    expect(page(120)).toBe(`\
ID             CLIENT                 FROM                   TO                       AGE  IDLE       IN      OUT   CERT
0a1b2c3d-1     alice@dba              192.0.2.7:50123        orders 10.0.0.5:5432   3h12m    4s  1.2 MiB    340 B    89d
0a1b2c3d-2-1z  a-long-ser…operations  [2001:db8:1:2:3:4:5:…  warehouse [2001:db8:…  9d22h    4s  4.5 TiB  977 KiB  ended
0a1b2c3d-1     \\u001b[2J\\…emallory@x  192.0.2.7:50123        orders -               3h12m    4s  1.2 MiB    340 B    89d`);
  });

  test("in 60 columns, where the less important ones make way", () => {
    expect(page(60)).toBe(`\
ID            CLIENT       TO            AGE      IN     OUT
0a1b2c3d-1    alice@dba    orders 10.… 3h12m 1.2 MiB   340 B
0a1b2c3d-2-1z a-long…tions warehouse … 9d22h 4.5 TiB 977 KiB
0a1b2c3d-1    \\u001b…ory@x orders -    3h12m 1.2 MiB   340 B`);
  });

  test("in a width that has room for all", () => {
    expect(page(300)).toContain("a-long-service-account@platform-operations");
    expect(page(300)).not.toContain("…");
  });
});

test("a line is never wider than the width, for any rows and any width", () => {
  const random = new Random(4);
  const names = ["a@b", "\x1b[31m@x", "漢字漢字漢字@dba", "x".repeat(300), "", "🙂@🙂"];
  for (let round = 0; round < 300; round++) {
    const some = Array.from({ length: random.int(0, 5) }, () =>
      aConnection({
        client: random.pick(names),
        upstream: random.pick(names),
        target: random.pick([undefined, ...names]),
        remote: random.pick(names),
        ageMs: 2 ** random.int(0, 45),
        bytesIn: 2 ** random.int(0, 50),
      }),
    );
    const width = random.int(1, 200);
    const grid = fitGrid(columns, some.slice(0, 2), width);
    for (const line of [gridTitle(grid), ...some.map((row) => gridLine(grid, row))]) {
      expect(widthOf(line)).toBeLessThanOrEqual(width);
      expect(line).not.toMatch(/[\x00-\x1f\x7f-\x9f]/);
    }
  }
});

test("a row whose numbers do not fit the widths that are chosen is told", () => {
  const first = [aConnection({ ageMs: 1_000, bytesIn: 1, notAfter })];
  const grid = fitGrid(columns, first, 200);
  expect(fits(grid, first[0]!)).toBe(true);
  expect(fits(grid, aConnection({ ageMs: 1_000, bytesIn: 1, client: "x".repeat(300), notAfter }))).toBe(true);
  expect(fits(grid, aConnection({ ageMs: 86_399_000, bytesIn: 1, notAfter }))).toBe(false);
});
