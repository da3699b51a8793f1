// The examples in the README, as configuration files.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Fault } from "../../src/lib/errors.ts";
import { resolveConfig } from "../../src/config/resolve.ts";

type Table = Record<string, unknown>;

const text = readFileSync(`${import.meta.dir}/../../README.md`, "utf8");
const examples = [...text.matchAll(/^```toml\n(.*?)^```$/gms)].map(
  ([, toml]) => Bun.TOML.parse(toml!) as Table,
);

/** A listener and upstreams for the examples that show something else only; every upstream that a listener may name. */
const listener = { ca: "a", certificate: "b", privateKey: "c" };
const named = (name: string) => ({
  name,
  targets: ["a:1"],
  authorizedGroups: ["x"],
  serverNames: [`${name}.example`],
});
const upstreams = ["orders", "cache"].map(named);

test("the README has examples, and the first is a whole configuration", () => {
  expect(examples.length).toBeGreaterThanOrEqual(4);
  expect(examples[0]).toMatchObject({ listener: {}, upstreams: [{}] });
});

test.each(examples)("an example in the README is a valid configuration file: %j", (example) => {
  const whole = "listener" in example || "listeners" in example ? example : { ...example, listener };
  const faults: Fault[] = [];
  resolveConfig({ upstreams, ...whole }, { directory: "/", cores: 1, fromFile: true }, faults);
  expect(faults).toEqual([]);
});
