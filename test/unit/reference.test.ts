// What is generated from the declarations of keys and reasons (files, help texts, JSON Schema) agrees with the resolver.

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

test.each(Object.entries(GENERATED_FILES))("the generated file %s is up to date", (path, text) => {
  const said = readFileSync(`${ROOT}/${path}`, "utf8");
  expect(said === text() || `${path} is out of date: run bun src/config/reference.ts`).toBe(true);
});

describe("help topics", () => {
  test.each([
    ["config", configHelp()],
    ["reasons", reasonsHelp()],
  ])("the help on %s fits 80 columns and has no trailing space and no Markdown", (_, text) => {
    const lines = text.split("\n");
    expect(lines.filter((line) => line.length > 80)).toEqual([]);
    expect(lines.filter((line) => line !== line.trimEnd())).toEqual([]);
    expect(text).not.toContain("`");
  });

  test("the help on config has every key at the start of a line, once", () => {
    const lines = configHelp().split("\n");
    for (const { key } of rows()) expect(lines.filter((line) => line === key)).toEqual([key]);
  });

  test("the help on config has the line for each kind of editor", () => {
    for (const [, line] of EDITORS) expect(configHelp()).toContain(line);
  });

  test("the help on reasons has every reason", () => {
    const lines = reasonsHelp().split("\n");
    for (const code of [...Object.keys(REFUSAL_REASONS), ...Object.keys(CLOSE_REASONS)])
      expect(lines).toContain(code);
  });
});

test("the declared meanings and remedies consist of sentences", () => {
  const reasons = [...Object.values(REFUSAL_REASONS), ...Object.values(CLOSE_REASONS)];
  const texts = [...rows().map(({ meaning }) => meaning), ...reasons.flatMap((each) => Object.values(each))];
  for (const text of texts) expect(text).toMatch(/^[A-Z`"].*\.$/);
});

describe("the JSON Schema", () => {
  const schema = jsonSchema() as Readonly<Record<string, unknown>>;

  const files = { ca: "a", certificate: "b", privateKey: "c" };
  const whole = {
    listener: {
      address: ":1",
      ...files,
      identity: { from: "uri", pattern: "{user}/{group}" },
      acceptProxy: { from: ["10.0.0.0/8"] },
      certificates: [{ certificate: "b", privateKey: "c" }],
    },
    upstreams: [
      {
        name: "db",
        targets: [{ address: "a:1" }],
        authorizedGroups: ["x"],
        healthCheck: {},
        tls: { ca: "a" },
      },
    ],
    log: {},
    metrics: { address: ":1" },
    admin: { socket: "/x", address: ":1", ...files },
    shadow: { config: "next.toml" },
    handshakes: {},
    rateLimit: {},
    limits: [{ match: "*@x", capacity: 1 }],
    tests: [{ client: "x@y", expect: "group_not_authorized" }],
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

  /** Keys and values that only the resolver can refuse: a pattern cannot check them, or they depend on other keys. */
  const ONLY_RESOLVER = new Set([
    ...["allow", "deny"].flatMap((key) =>
      ["x", "a:1", "*.example.com"].map((value) => `listener.${key}=["${value}"]`),
    ),
    ...["x", "a:1", "*.example.com"].map((value) => `listener.acceptProxy.from=["${value}"]`),
    'handshakes.exempt=["x"]',
    'handshakes.exempt=["a:1"]',
    'handshakes.exempt=["*.example.com"]',
    "admin={}",
    "admin.ca",
    "admin.certificate",
    "admin.privateKey",
    "listener.identity.from",
    "listener.identity.pattern",
    "listener.upstream",
    "listener.address",
    "upstreams[].targets[].address",
    "upstreams[].tls.certificate",
    "upstreams[].tls.privateKey",
    "upstreams[].tls.serverName",
    "upstreams[].anyGroup=true",
    "upstreams[].targets",
    "tests[].certificate",
    "tests[].listener",
    "tests[].from",
    "tests[].expect",
    "fleet.tls.certificate",
    "fleet.tls.privateKey",
    "fleet.timeout",
    "fleet.lease",
    "fleet.heartbeat",
  ]);

  test.each(rows().map(({ key }) => key))("the JSON Schema and the resolver agree on %s", (key) => {
    for (const value of PROBES) {
      const input = having(key, value);
      const told = `${key}=${JSON.stringify(value)}`;
      const valid = isValid(schema, input);
      if (resolves(input)) expect(valid, told).toBe(true);
      else if (!ONLY_RESOLVER.has(key) && !ONLY_RESOLVER.has(told)) expect(valid, told).toBe(false);
    }
  });

  test("the JSON Schema and the resolver refuse a file in which a required key is missing", () => {
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

  test("the JSON Schema names its dialect, and has the built-in values as defaults", () => {
    expect(schema).toMatchObject({
      $schema: "https://json-schema.org/draft/2020-12/schema",
      properties: {
        timeout: { default: BUILT_IN.timeout },
        handshakes: { properties: { perSource: { default: BUILT_IN.handshakes.perSource } } },
      },
    });
  });

  test("the JSON Schema can be written as JSON", () => {
    expect(JSON.parse(JSON.stringify(schema))).toEqual(schema);
  });
});

describe("wrap", () => {
  test("wrapped text breaks between words, with an indent, and a long word has its own line", () => {
    expect(wrap("one two three", 2, 9)).toBe("  one two\n  three");
    expect(wrap("a verylongword b", 0, 5)).toBe("a\nverylongword\nb");
  });
});
