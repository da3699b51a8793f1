// The documentation agrees with the code: configurations resolve, command lines parse, tables and links are right.

import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { ACTIONS } from "../../src/cli/dispatch.ts";
import { FLAGS, checkFlags, positionals } from "../../src/cli/flags.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import * as library from "../../src/index.ts";
import type { CloseReason, Fault, RefusalReason } from "../../src/index.ts";
import { parseListenAddress, parseTarget } from "../../src/lib/address.ts";
import { resolveConnect } from "../../src/tunnel/config.ts";

type Table = Record<string, unknown>;

const ROOT = new URL("../..", import.meta.url).pathname;
const TOPICS = readdirSync(`${ROOT}src/cli/topics`).map((name) => `src/cli/topics/${name}`);
const PAGES = [
  "README.md",
  "certs/README.md",
  "test/README.md",
  "test/bench/README.md",
  "test/examples/README.md",
  "src/tunnel/README.md",
  "src/fleet/README.md",
  ...TOPICS,
];

const texts = new Map(PAGES.map((page) => [page, readFileSync(ROOT + page, "utf8")]));
const all = [...texts.values()].join("\n");
const readme = texts.get("README.md")!;

/** The fenced blocks of one language, with the page they are on. */
function blocks(language: string): { page: string; text: string }[] {
  return [...texts].flatMap(([page, text]) =>
    [...text.matchAll(RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"))].map(([, block]) => ({
      page,
      text: block!,
    })),
  );
}

/** The texts between backticks, outside of fenced blocks. */
function inlineCode(text: string): string[] {
  return [...text.replace(/^```.*?^```$/gms, "").matchAll(/`([^`\n]+)`/g)].map(([, code]) => code!);
}

/** The rows of the table that has a certain heading, cell by cell. */
function rows(text: string, heading: string): string[][] {
  const lines = text.split("\n");
  const first = lines.findIndex((line) => line.startsWith(`| ${heading} `));
  expect(first).toBeGreaterThan(-1);
  const end = lines.findIndex((line, i) => i > first && !line.startsWith("|"));
  return lines.slice(first + 2, end).map((line) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

function faultsOf(input: unknown): Fault[] {
  const faults: Fault[] = [];
  if ("tunnels" in (input as Table)) resolveConnect(input, { directory: "/" }, faults);
  else resolveConfig(input as Table, { directory: "/", cores: 1, fromFile: true }, faults);
  return faults;
}

describe("configurations in the documentation", () => {
  /** A listener and upstreams for blocks that show only other tables. The upstreams are those that blocks pin listeners to. */
  const listener = { ca: "a", certificate: "b", privateKey: "c" };
  const upstreams = ["orders", "cache"].map((name) => ({
    name,
    targets: ["a:1"],
    authorizedGroups: ["x"],
    serverNames: [`${name}.example`],
  }));

  test("the README has a complete configuration", () => {
    const [first] = blocks("toml");
    expect(first!.page).toBe("README.md");
    expect(faultsOf(Bun.TOML.parse(first!.text))).toEqual([]);
  });

  test.each(blocks("toml").map((block, i) => ({ ...block, i })))(
    "the TOML block $i, on $page, resolves",
    ({ text }) => {
      const block = Bun.TOML.parse(text) as Table;
      if ("tunnels" in block) return expect(faultsOf(block)).toEqual([]);
      const whole = "listener" in block || "listeners" in block ? block : { ...block, listener };
      expect(faultsOf({ upstreams, ...whole })).toEqual([]);
    },
  );

  const keys = new Set(
    inlineCode(all).filter((code) => /^(listener|upstreams\[\d?\]|rateLimit|handshakes)\.[\w.]+$/.test(code)),
  );

  test.each([...keys])("the documented key %s exists", (key) => {
    const input: Table = {};
    const path = key.replace("[]", "[0]").split(/\.|(?=\[)/);
    path.reduce<Table>((table, step, i) => {
      const name = step.startsWith("[") ? step.slice(1, -1) : step;
      const value = i === path.length - 1 ? null : path[i + 1]!.startsWith("[") ? [] : {};
      return (table[name] = value) as Table;
    }, input);
    expect(faultsOf(input).filter(({ problem }) => problem.includes("unknown key"))).toEqual([]);
  });
});

/** The flags of each command, by its name. */
const COMMANDS = new Map(
  await Promise.all(
    Object.entries(ACTIONS).map(async ([name, load]) => [name, (await load()).flags] as const),
  ),
);

describe("command lines in the documentation", () => {
  /** Everything that `proxy help` prints: the generated pages, the one on certificates, and the topics. */
  const topics = [
    "config",
    "reasons",
    "certificates",
    "connect",
    "fleet",
    ...TOPICS.map((page) => page.replace(/.*\/|\.md$/g, "")),
  ];

  const inScripts = blocks("sh").flatMap(({ text }) => text.replaceAll("\\\n", " ").split("\n"));
  const inUnits = blocks("ini").flatMap(({ text }) =>
    text.split("\n").map((line) => line.replace(/^Exec\w+=/, "")),
  );
  const calls = [...inScripts, ...inUnits, ...inlineCode(all)]
    .map((line) => line.replace(/\s+#.*$|\s*&$/g, "").trim())
    .filter((line) => /^\S*\bproxy(?= |$)/.test(line) && !/^proxy[.:]/.test(line))
    .filter((line) => !/\[(address|flags)/.test(line) && !/^proxy$/.test(line));

  test("the documentation has command lines", () => {
    expect(calls.length).toBeGreaterThan(5);
  });

  test.each([...new Set(calls)])("the documented command line parses: %s", (line) => {
    const [, ...words] = line.split(/\s+/);
    if (words[0] === "--help" || words[0] === "--version") return;
    if (words[0] === "help") {
      expect([...topics, "TOPIC"]).toContain(words[1]!);
      return;
    }
    if (words[0] === "completion") return expect(["bash", "zsh", "fish"]).toContain(words[1]!);
    const flags = COMMANDS.get(words[0]!);
    const own = words.slice(
      flags === undefined ? 0 : 1,
      words.includes("--") ? words.indexOf("--") : undefined,
    );
    checkFlags(own, flags ?? FLAGS);
    if (words[0] === "connect") {
      for (const { value } of positionals(own, flags!)) expect(parseTarget(value)).toBeDefined();
    }
    if (flags !== undefined && words[0] !== "check" && words[0] !== "echo") return;
    const args = own;
    for (const { value } of positionals(args, FLAGS)) expect(parseListenAddress(value)).toBeDefined();
  });

  test("the README names every page that `proxy help` prints", () => {
    const line = readme.split("\n").find((each) => each.includes("`proxy help config`"))!;
    expect(
      inlineCode(line.slice(line.indexOf("`proxy help")))
        .map((code) => code.replace("proxy help ", ""))
        .sort(),
    ).toEqual(topics.sort());
  });

  test("the documented table of flags has every flag once", () => {
    const named = rows(texts.get("src/cli/topics/operations.md")!, "flag").flatMap(([flag]) =>
      [...flag!.matchAll(/`--([\w-]+)/g)].map(([, name]) => name!),
    );
    expect(named.sort()).toEqual(Object.keys(FLAGS).sort());
  });
});

describe("documented reasons and messages", () => {
  // The compiler compares these with the code's own types: none is missing and none is unknown.
  const refusals: Record<RefusalReason, true> = {
    handshake_failed: true,
    proxy_header_missing: true,
    proxy_header_invalid: true,
    handshake_timeout: true,
    certificate_missing: true,
    certificate_untrusted: true,
    certificate_expired: true,
    certificate_revoked: true,
    certificate_weak: true,
    identity_invalid: true,
    unknown_server_name: true,
    group_not_authorized: true,
    blocked: true,
    connection_limit: true,
    rate_limited: true,
    address_denied: true,
    source_limited: true,
    overloaded: true,
    no_target: true,
    proxy_header: true,
    fleet_unavailable: true,
  };
  const closes: Record<CloseReason, true> = {
    closed: true,
    client_reset: true,
    upstream_reset: true,
    client_error: true,
    idle_timeout: true,
    max_duration: true,
    certificate_expired: true,
    authorization_revoked: true,
    kicked: true,
    blocked: true,
    shutdown: true,
    internal_error: true,
  };

  test("the README's table of refusals has every reason once", () => {
    const named = rows(readme, "reason").flatMap(([cell]) => inlineCode(cell!));
    expect(new Set(named).size).toBe(named.length);
    // Those of PROXY headers are rare; the page on services explains them.
    const rare = ["proxy_header", "proxy_header_missing", "proxy_header_invalid", "fleet_unavailable"];
    expect([...named, ...rare].sort()).toEqual(Object.keys(refusals).sort());
  });

  test("the page on the log has every reason for which connections close", () => {
    const named = rows(texts.get("src/cli/topics/log.md")!, "reason").flatMap(([cell]) => inlineCode(cell!));
    expect(named.sort()).toEqual(Object.keys(closes).sort());
  });

  test("the page on the log has every message that the proxy writes, and the page on the tunnel the others", () => {
    const source = new Map(
      readdirSync(`${ROOT}src`, { recursive: true, encoding: "utf8" })
        .filter((name) => name.endsWith(".ts"))
        .map((name) => [name, readFileSync(`${ROOT}src/${name}`, "utf8")]),
    );
    const code = [...source.values()].join("\n");
    const log = texts.get("src/cli/topics/log.md")!;
    const page = log + texts.get("src/tunnel/README.md")!;
    const named = [...log.matchAll(/^\| (`[^|]+`) /gm)].flatMap(([, cell]) => inlineCode(cell!));
    for (const message of named) expect(code).toContain(`"${message}"`);
    const written = [...code.matchAll(/\b(?:log|logger)\.(?:debug|info|warn|error)\(\s*"([^"]+)"/gi)];
    expect(written.length).toBeGreaterThan(5);
    // Messages of the demonstration's echo servers are not part of the proxy's log.
    const missing = written
      .map(([, message]) => message!)
      .filter((message) => !page.includes(`\`${message}\``));
    expect(missing.filter((message) => !message.startsWith("echo "))).toEqual([]);
  });
});

test("the README has at most 14 KB", () => {
  expect(statSync(`${ROOT}README.md`).size).toBeLessThanOrEqual(14 * 1024);
});

test("the README's figures are those of the benchmark's page", () => {
  const MEASURES: Record<string, string> = {
    "full handshake, µs": "handshake-rsa",
    "the same with ECDSA, µs": "handshake-ecdsa",
    "round trip, µs": "roundtrip",
    "download, s per GiB": "download",
    "memory per connection, kB": "memory-2000",
    "start, ms": "startup",
  };
  const measured = new Map(
    rows(texts.get("test/bench/README.md")!, "measure").map(([name, , ...cells]) => [name, cells]),
  );
  const shown = rows(readme, "measure");
  expect(shown.map(([name]) => name!)).toEqual(Object.keys(MEASURES));
  for (const [name, ...cells] of shown) expect(cells).toEqual(measured.get(MEASURES[name!]!)!.slice(0, 4));
});

test("the README's example of the library is TypeScript, and the library has what it imports", () => {
  const [example] = blocks("ts");
  new Bun.Transpiler({ loader: "ts" }).transformSync(example!.text);
  const [, names] = example!.text.match(/import \{ ([^}]+) \} from "tcpproxy"/)!;
  for (const name of names!.split(", ")) expect(Object.keys(library)).toContain(name);
});

describe("links in the documentation", () => {
  const links = [...texts].flatMap(([page, text]) =>
    [...text.matchAll(/\]\((?!https?:)([^)]+)\)/g)].map(([, to]) => ({ page, to: to! })),
  );

  test.each(links)("the link on $page to $to leads to a file and a title that exist", ({ page, to }) => {
    const [path, anchor] = to.split("#") as [string, string?];
    const file = path === "" ? ROOT + page : `${dirname(ROOT + page)}/${path}`;
    expect(existsSync(file)).toBe(true);
    if (anchor === undefined) return;
    const titles = [...readFileSync(file, "utf8").matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
      title!
        .toLowerCase()
        .replace(/[^\w\- ]/g, "")
        .replaceAll(" ", "-"),
    );
    expect(titles).toContain(anchor);
  });
});
