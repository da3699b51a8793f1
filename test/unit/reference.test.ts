// The declarations of keys and reasons, and all that is made from them: files, help texts, the JSON Schema, the resolver.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { BUILT_IN } from "../../src/config/config.ts";
import { configHelp, reasonsHelp } from "../../src/config/help.ts";
import { jsonSchema } from "../../src/config/json-schema.ts";
import { GENERATED_FILES } from "../../src/config/reference.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { EDITORS, rows } from "../../src/config/rows.ts";
import type { Fault } from "../../src/lib/errors.ts";
import { CLOSE_REASONS, REFUSAL_REASONS } from "../../src/lib/reasons.ts";
import { wrap } from "../../src/lib/wrap.ts";
import { isValid } from "../support/json-schema.ts";

const ROOT = `${import.meta.dir}/../..`;

test.each(Object.entries(GENERATED_FILES))("the file %s is what the declarations say", (path, text) => {
  const said = readFileSync(`${ROOT}/${path}`, "utf8");
  expect(said === text() || `${path} is out of date: run bun src/config/reference.ts`).toBe(true);
});

describe("help", () => {
  test.each([
    ["config", configHelp()],
    ["reasons", reasonsHelp()],
  ])("of %s fits 80 columns and has no trailing space and no Markdown", (_, text) => {
    const lines = text.split("\n");
    expect(lines.filter((line) => line.length > 80)).toEqual([]);
    expect(lines.filter((line) => line !== line.trimEnd())).toEqual([]);
    expect(text).not.toContain("`");
  });

  test("of config has every key at the start of a line, once", () => {
    const lines = configHelp().split("\n");
    for (const { key } of rows()) expect(lines.filter((line) => line === key)).toEqual([key]);
  });

  test("of config has the line for each kind of editor", () => {
    for (const [, line] of EDITORS) expect(configHelp()).toContain(line);
  });

  test("of reasons has every reason", () => {
    const lines = reasonsHelp().split("\n");
    for (const code of [...Object.keys(REFUSAL_REASONS), ...Object.keys(CLOSE_REASONS)])
      expect(lines).toContain(code);
  });
});

test("every meaning and remedy is made of sentences", () => {
  const reasons = [...Object.values(REFUSAL_REASONS), ...Object.values(CLOSE_REASONS)];
  const texts = [...rows().map(({ meaning }) => meaning), ...reasons.flatMap((each) => Object.values(each))];
  for (const text of texts) expect(text).toMatch(/^[A-Z`"].*\.$/);
});

describe("the JSON Schema", () => {
  const schema = jsonSchema() as Readonly<Record<string, unknown>>;

  const files = { ca: "a", certificate: "b", privateKey: "c" };
  const whole = {
    listener: { address: ":1", ...files },
    upstreams: [
      {
        name: "db",
        targets: [{ address: "a:1" }],
        authorizedGroups: ["x"],
        healthCheck: {},
        tls: { ca: "a" },
      },
    ],
    handshakes: {},
    rateLimit: {},
    fleet: { store: { url: "rediss://store.example.com" }, tls: { ca: "a" } },
  };
  const resolves = (input: unknown) => {
    const faults: Fault[] = [];
    resolveConfig(input, { directory: "/", cores: 1, fromFile: true }, faults);
    return faults.length === 0;
  };

  /** The same configuration with another value at a key such as `upstreams[].name`. */
  function having(key: string, value: unknown): unknown {
    const copy = structuredClone(whole) as Record<string, unknown>;
    const path = key.replaceAll("[]", ".0").split(".");
    let place = copy;
    for (const name of path.slice(0, -1)) place = place[name] as Record<string, unknown>;
    place[path.at(-1)!] = value;
    return copy;
  }

  const PROBES: unknown[] = [
    ...[0, 1, -1, 1.5, 64, 65, 100, 101, 1_000, 1_001, 1_000_000, 1_000_001, true, false, null, {}],
    ...["", "x", "1s", "1m30s", "1s1m", "5", "auto", "unlimited", "v1", "v3", "info", "loud"],
    ...[":5000", "a:1", "5000", "unix:/x", "db.example.com", "*.example.com", "*", "x@y"],
    ...[[], ["x"], ["a:1"], ["*.example.com"], ["10.0.0.0/8"], [{}], [{ address: "a:1" }], [1]],
    { unknown: 1 },
  ];

  /** Values that only the resolver can refuse: what a pattern does not tell, and what follows from other keys. */
  const ONLY_RESOLVER = new Set([
    'handshakes.exempt=["x"]',
    'handshakes.exempt=["a:1"]',
    'handshakes.exempt=["*.example.com"]',
    "listener.upstream",
    "listener.address",
    "upstreams[].targets[].address",
    "upstreams[].tls.certificate",
    "upstreams[].tls.privateKey",
    "upstreams[].tls.serverName",
    "upstreams[].targets",
    "fleet.tls.certificate",
    "fleet.tls.privateKey",
    "fleet.timeout",
    "fleet.lease",
    "fleet.heartbeat",
  ]);

  test.each(rows().map(({ key }) => key))("and the resolver agree on %s", (key) => {
    for (const value of PROBES) {
      const input = having(key, value);
      const told = `${key}=${JSON.stringify(value)}`;
      const valid = isValid(schema, input);
      if (resolves(input)) expect(valid, told).toBe(true);
      else if (!ONLY_RESOLVER.has(key) && !ONLY_RESOLVER.has(told)) expect(valid, told).toBe(false);
    }
  });

  test("and the resolver refuse a file in which something required is missing", () => {
    const { listener, upstreams } = whole;
    expect([isValid(schema, whole), resolves(whole)]).toEqual([true, true]);
    for (const input of [
      { upstreams },
      { listener },
      { listener: {}, upstreams },
      { listener, upstreams: [{}] },
      { listeners: [files], upstreams },
      { listener, listeners: [{ address: ":1", ...files }], upstreams },
      { ...whole, timeuot: "1s" },
    ]) {
      expect([isValid(schema, input), resolves(input)]).toEqual([false, false]);
    }
  });

  test("has the dialect, and the built-in values as defaults", () => {
    expect(schema).toMatchObject({
      $schema: "https://json-schema.org/draft/2020-12/schema",
      properties: {
        timeout: { default: BUILT_IN.timeout },
        handshakes: { properties: { perSource: { default: BUILT_IN.handshakes.perSource } } },
      },
    });
  });

  test("can be written as JSON", () => {
    expect(JSON.parse(JSON.stringify(schema))).toEqual(schema);
  });
});

describe("text is wrapped", () => {
  test("between words, with an indent, and a long word has its own line", () => {
    expect(wrap("one two three", 2, 9)).toBe("  one two\n  three");
    expect(wrap("a verylongword b", 0, 5)).toBe("a\nverylongword\nb");
  });
});
