// The flags of the command line: which are refused, what they set, and how a fault refers to them.

import { describe, expect, test } from "bun:test";
import { BUILT_IN } from "../../src/config/config.ts";
import { applyFlags, locate } from "../../src/cli/apply-flags.ts";
import {
  FLAGS,
  UsageError,
  checkFlags,
  choose,
  parseFlags,
  positionals,
  switchesOf,
  type Flags,
} from "../../src/cli/flags.ts";

describe("checkFlags", () => {
  test.each([
    ["--frob x", 'unknown flag "--frob"'],
    ["--fillRate 1s", 'unknown flag "--fillRate"; did you mean --fill-rate?'],
    ["--no-timeout", 'unknown flag "--no-timeout"; did you mean --timeout?'],
    ["--constructor x", 'unknown flag "--constructor"'],
    ["-c x", 'unknown flag "-c"'],
    ["--ca", "--ca needs a value"],
    ["--ca=", "--ca needs a value"],
    ["--ca --cert x", "--ca needs a value"],
    ["--ca x --ca y", "--ca is given twice"],
  ])("checkFlags refuses what citty lets pass: %s", (line, message) => {
    expect(() => checkFlags(line.split(" "), FLAGS)).toThrow(new UsageError(message));
  });

  test("checkFlags accepts known flags with values", () => {
    checkFlags([":5000", "--ca", "x", "--timeout=1s", "--", "--frob"], FLAGS);
  });
});

describe("a switch", () => {
  const flags: Flags = {
    json: { type: "boolean", description: "" },
    admin: { type: "string", valueHint: "", description: "" },
  };

  test("takes no value: the word after it is a word", () => {
    const args = ["--json", "x", "--admin", "y"];
    checkFlags(args, flags);
    expect(positionals(args, flags).map(({ value }) => value)).toEqual(["x"]);
    expect(parseFlags(args, flags)).toMatchObject({ admin: "y" });
    expect(switchesOf(args, flags)).toEqual(new Set(["json"]));
  });

  test("is not there unless it is given", () => {
    for (const args of [[], ["--admin", "y"], ["--", "--json"], ["json"]]) {
      expect(switchesOf(args, flags)).toEqual(new Set());
    }
  });

  test.each([
    ["--json=yes", "--json takes no value"],
    ["--json=", "--json takes no value"],
    ["--json --json", "--json is given twice"],
    ["--no-json", 'unknown flag "--no-json"; did you mean --json?'],
    ["--jsn", 'unknown flag "--jsn"; did you mean --json?'],
    ["-json", 'unknown flag "-json"; did you mean --json?'],
    ["--admin --json", "--admin needs a value"],
  ])("%s is refused", (line, message) => {
    expect(() => checkFlags(line.split(" "), flags)).toThrow(new UsageError(message));
  });
});

test("positionals are the words that are neither flags nor their values", () => {
  const words = ["--ca", "check", "check", "--timeout=1s", ":5000", "--", "--x"];
  expect(positionals(words, FLAGS).map(({ value }) => value)).toEqual(["check", ":5000", "--x"]);
});

test("a flag with fixed choices accepts only those", () => {
  expect(choose("log-level", "warn", ["info", "warn"])).toBe("warn");
  expect(choose("log-level", undefined, ["info", "warn"])).toBeUndefined();
  expect(() => choose("log-level", "loud", ["info", "warn"])).toThrow(
    '--log-level: "loud" is none of info, warn',
  );
});

describe("applyFlags", () => {
  test("a flag sets its key, and relative paths start at the working directory", () => {
    const flags = {
      address: ":1",
      ca: "a.crt",
      cert: "/b.crt",
      key: "../c.key",
      targets: "x:1, y:2",
      groups: "ops,dba",
      capacity: "3",
      "fill-rate": "2s",
      "max-connections": "9",
      timeout: "4s",
    };
    expect(applyFlags({}, flags, "/here")).toEqual({
      timeout: "4s",
      maxConnections: 9,
      listener: { address: ":1", ca: "/here/a.crt", certificate: "/b.crt", privateKey: "/c.key" },
      upstreams: [{ name: "echo", targets: ["x:1", "y:2"], authorizedGroups: ["ops", "dba"] }],
      rateLimit: { capacity: 3, fillRate: "2s" },
    });
  });

  test("flags win over the file, and leave its other keys", () => {
    const file = {
      timeout: "1s",
      listener: { ca: "file.crt", address: ":9" },
      upstreams: [{ name: "db", targets: ["db:1"], authorizedGroups: ["dba"] }],
      rateLimit: { capacity: 1, maxConnections: 2 },
    };
    expect(applyFlags(file, { address: ":1", targets: "x:1", capacity: "5" }, "/here")).toEqual({
      timeout: "1s",
      listener: { ca: "file.crt", address: ":1" },
      upstreams: [{ name: "db", targets: ["x:1"], authorizedGroups: ["dba"] }],
      rateLimit: { capacity: 5, maxConnections: 2 },
    });
  });

  test("flags that are not given leave the configuration as it is", () => {
    expect(applyFlags({ timeout: "1s" }, {}, "/here")).toEqual({
      timeout: "1s",
      listener: {},
      upstreams: BUILT_IN.upstreams,
      rateLimit: {},
    });
  });

  test("flags give a file without upstreams neither a name nor the built-in targets and groups", () => {
    expect(applyFlags({}, { config: "p.toml", targets: "x:1" }, "/here")).toMatchObject({
      upstreams: [{ targets: ["x:1"] }],
    });
    expect(applyFlags({}, { config: "p.toml", ca: "x" }, "/here")).toMatchObject({ upstreams: undefined });
  });

  test('the capacity flag may be "unlimited"', () => {
    expect(applyFlags({}, { capacity: "unlimited" }, "/here")).toMatchObject({
      rateLimit: { capacity: "unlimited" },
    });
  });

  test("flags leave what is not a table for the resolver to refuse", () => {
    expect(applyFlags(null, { ca: "x" }, "/")).toBeNull();
    const odd = { listener: 5, upstreams: "x", rateLimit: [] };
    expect(applyFlags(odd, { ca: "x", targets: "x:1", capacity: "1" }, "/")).toEqual(odd);
  });

  test("a flag that is not a number is left as text for the resolver to refuse", () => {
    expect(applyFlags({}, { capacity: "-1", "max-connections": "1e3" }, "/")).toMatchObject({
      maxConnections: "1e3",
      rateLimit: { capacity: "-1" },
    });
  });
});

describe("locate", () => {
  const fault = { key: "upstreams[0].targets[1]", problem: "" };
  test("a fault's place is the flag that set the value", () => {
    expect(locate(fault, { targets: "x" }, "p.toml")).toBe("--targets");
    expect(locate({ key: "listener.address", problem: "" }, { address: "x" }, undefined)).toBe("address");
  });
  test("a fault's place is the file and the key where a file set it", () => {
    expect(locate(fault, {}, "p.toml")).toBe("p.toml: upstreams[0].targets[1]");
    expect(locate({ key: "p.toml", problem: "" }, {}, "p.toml")).toBe("p.toml");
  });
  test("a fault's place is the key, and the flag that would set it, where neither did", () => {
    expect(locate({ key: "listener.ca", problem: "" }, {}, undefined)).toBe("listener.ca (--ca)");
    expect(locate({ key: "handshakeTimeout", problem: "" }, {}, undefined)).toBe("handshakeTimeout");
  });
});
