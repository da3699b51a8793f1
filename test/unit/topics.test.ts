// The topics of `proxy help` as a terminal shows them.

import { describe, expect, test } from "bun:test";
import { TOPICS } from "../../src/cli/topics.ts";
import { rows } from "../../src/config/rows.ts";
import { REFUSAL_REASONS } from "../../src/lib/reasons.ts";

describe("a help topic", () => {
  test.each(["config", "reasons"])("the help topic %s fits 80 columns", (name) => {
    const lines = TOPICS.get(name)!.text().split("\n");
    expect(lines.filter((line) => line.length > 80)).toEqual([]);
  });

  test("the help topic config has each key on a line of its own", () => {
    const lines = TOPICS.get("config")!.text().split("\n");
    expect(rows().filter(({ key }) => !lines.includes(key))).toEqual([]);
  });

  test("the help topic reasons has each reason on a line of its own", () => {
    const lines = TOPICS.get("reasons")!.text().split("\n");
    expect(Object.keys(REFUSAL_REASONS).filter((reason) => !lines.includes(reason))).toEqual([]);
  });
});
