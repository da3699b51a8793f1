// The client's identity from an alternative name: exactly one of the configured kind, of the form of the pattern.

import { X509Certificate } from "node:crypto";
import { describe, expect, test } from "bun:test";
import { claimsOf } from "../../src/auth/claims.ts";
import { COMMON_NAME, identityRule, patternFault, type IdentityKind } from "../../src/auth/identity-rule.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { summary } from "../../src/cli/summary.ts";
import { INVISIBLE } from "../support/invisible.ts";
import { issue, testAuthority, type AltName } from "../support/issue.ts";
import { Random } from "../support/random.ts";

const [OTHER, EMAIL, DNS, DIRECTORY, URI] = [0xa0, 0x81, 0x82, 0xa4, 0x86] as const;

const KINDS = {
  uri: {
    tag: URI,
    pattern: "spiffe://example.org/{group}/{user}",
    of: (u: string, g: string) => `spiffe://example.org/${g}/${u}`,
  },
  dns: {
    tag: DNS,
    pattern: "{user}.{group}.clients.example.org",
    of: (u: string, g: string) => `${u}.${g}.clients.example.org`,
  },
  email: { tag: EMAIL, pattern: "{user}@{group}", of: (u: string, g: string) => `${u}@${g}` },
} as const;
type Kind = keyof typeof KINDS;
const ALL = Object.entries(KINDS) as [Kind, (typeof KINDS)[Kind]][];

const certificate = (names: readonly AltName[] | undefined, commonName = "mallory@guest") =>
  new X509Certificate(issue(commonName, testAuthority, { names }).cert);

const ruleOf = (kind: Kind) => identityRule({ from: kind, pattern: KINDS[kind].pattern });
const clientOf = (kind: Kind, names: readonly AltName[] | undefined) =>
  ruleOf(kind).identify(certificate(names))?.client;

describe.each(ALL)("identity from %s", (kind, { tag, of }) => {
  const good = of("alice", "dba");
  const elsewhere = ALL.filter(([other]) => other !== kind).map(([, other]): AltName => [
    other.tag,
    other.of("eve", "ops"),
  ]);

  test("is the one name of this kind, whatever else the certificate says", () => {
    expect(ruleOf(kind).identify(certificate([[tag, good]]))).toEqual({
      client: "alice@dba",
      user: "alice",
      group: "dba",
    });
    expect(clientOf(kind, [...elsewhere, [tag, good], [OTHER, "x"]])).toBe("alice@dba");
  });

  test.each<[string, readonly AltName[] | undefined, string]>([
    ["no alternative names", undefined, "no "],
    ["an empty list of them", [], "no "],
    ["other kinds alone, with a Common Name", elsewhere, "no "],
    ["the right text in another kind", elsewhere.map(([other]) => [other, good]), "no "],
    ["the right text as otherName", [[OTHER, good]], "no "],
    [
      "the same name twice",
      [
        [tag, good],
        [tag, good],
      ],
      "2 times",
    ],
    [
      "two names",
      [
        [tag, good],
        [tag, of("eve", "ops")],
      ],
      "2 times",
    ],
    [
      "a second name of another form",
      [
        [tag, "x"],
        [tag, good],
      ],
      "2 times",
    ],
    [
      "an empty second name",
      [
        [tag, good],
        [tag, ""],
      ],
      "2 times",
    ],
    ["a constructed name", [[tag | 0x20, good]], "cannot be read"],
    [
      "a constructed name beside a good one",
      [
        [tag, good],
        [tag | 0x20, ""],
      ],
      "cannot be read",
    ],
    [
      "a name that is no general name",
      [
        [tag, good],
        [0x0c, good],
      ],
      "cannot be read",
    ],
    ["an empty name", [[tag, ""]], "form"],
    ["nobody", [[tag, of("", "dba")]], "form"],
    ["no group", [[tag, of("alice", "")]], "form"],
    ["a text before it", [[tag, `x/${good}`]], "form"],
    ["a text behind it", [[tag, `${good}/x`]], "form"],
    ["a slash in the user", [[tag, of("al/ice", "dba")]], "form"],
    ["an @ in the user", [[tag, of("al@ice", "dba")]], "form"],
    ["an @ in the group", [[tag, of("alice", "d@ba")]], "form"],
    ["a NUL", [[tag, of("alice\0", "dba")]], "U+0000"],
    ["a NUL at its end", [[tag, `${good}\0`]], "U+0000"],
    ["a line feed at its end", [[tag, `${good}\n`]], "U+000A"],
    ["a space", [[tag, of("al ice", "dba")]], "U+0020"],
    ["a DEL", [[tag, of("alice\x7f", "dba")]], "U+007F"],
    ["a name that is not ASCII", [[tag, of("jürgen", "dba")]], ""],
    ["a Latin-1 name", [[tag, Buffer.from(of("j\xfcrgen", "dba"), "latin1")]], "not ASCII"],
    ["a Latin-1 no-break space", [[tag, Buffer.from(of("a\xa0b", "dba"), "latin1")]], "U+00A0"],
    ["an overlong UTF-8 slash", [[tag, Buffer.from(of("a\xc0\xafb", "dba"), "latin1")]], "not ASCII"],
    ["a name in UTF-16", [[tag, Buffer.from(good, "utf16le")]], "U+0000"],
    ["a huge name", [[tag, of("a".repeat(2_048), "dba")]], "longer"],
    ...INVISIBLE.map(
      (char) =>
        [`${JSON.stringify(char)}`, [[tag, of(`al${char}ice`, "dba")]], ""] as [string, AltName[], string],
    ),
  ])("there is none with %s", (_, names, fault) => {
    const shown = certificate(names);
    expect(ruleOf(kind).identify(shown)).toBeUndefined();
    expect(ruleOf(kind).fault(shown)).toContain(fault);
  });

  test("takes letters as they are, and decodes nothing", () => {
    expect(clientOf(kind, [[tag, of("Alice", "DBA")]])).toBe("Alice@DBA");
    expect(clientOf(kind, [[tag, of("a%40b%2Fc%00", "d%62a")]])).toBe("a%40b%2Fc%00@d%62a");
    expect(clientOf(kind, [[tag, of("al\\0Aice", "dba")]])).toBe("al\\0Aice@dba");
    expect(clientOf(kind, [[tag, of("xn--jrgen-kva", "dba")]])).toBe("xn--jrgen-kva@dba");
    expect(clientOf(kind, [[tag, of('a",URI:x', "dba")]])).toBe('a",URI:x@dba');
  });

  test("the log shows what was claimed of this kind, and never throws", () => {
    const claimed = (names: readonly AltName[]) => claimsOf(certificate(names), ruleOf(kind)).claimed;
    expect(claimed([[tag, good], [tag, "a\0b\u202e"], ...elsewhere])).toStartWith(`${good}, a\\u0000b`);
    expect(claimed(elsewhere)).toBeUndefined();
    expect(claimed([[tag | 0x20, good]])).toBeUndefined();
    expect(claimed([[tag, "x".repeat(5_000)]])!.length).toBe(257);
  });

  test("damaged bytes never throw, and never give another identity", () => {
    const { raw } = certificate([[tag, good]]);
    const rule = ruleOf(kind);
    const random = new Random(tag);
    for (let i = 0; i < 3_000; i++) {
      const damaged = Buffer.from(raw);
      damaged[random.int(0, raw.length - 1)] = random.int(0, 255);
      rule.fault({ raw: damaged });
      const found = rule.identify({ raw: damaged });
      if (found !== undefined) expect(found.client).toBe(`${found.user}@${found.group}`);
      rule.identify({ raw: raw.subarray(0, random.int(0, raw.length)) });
    }
    expect(rule.identify(undefined)).toBeUndefined();
    expect(rule.identify({})).toBeUndefined();
  });
});

test("a literal's case, dots and other characters are themselves alone", () => {
  const rule = identityRule({ from: "uri", pattern: "spiffe://ex.org/a+(b)|/{user}-x/{group}$" });
  const of = (text: string) => rule.identify(certificate([[URI, text]]))?.client;
  expect(of("spiffe://ex.org/a+(b)|/al-ice-x/dba$")).toBe("al-ice@dba");
  for (const text of [
    "SPIFFE://ex.org/a+(b)|/u-x/g$",
    "spiffe://ex-org/a+(b)|/u-x/g$",
    "spiffe://ex.org/a+(b)|/u/g$",
  ])
    expect(of(text)).toBeUndefined();
});

test("a DNS name has a label for each part, and an e-mail's parts may have dots", () => {
  expect(clientOf("dns", [[DNS, "a.b.dba.clients.example.org"]])).toBeUndefined();
  expect(clientOf("dns", [[DNS, "alice.dba.clients.example.org."]])).toBeUndefined();
  expect(clientOf("email", [[EMAIL, "a.b+c@mail.example.org"]])).toBe("a.b+c@mail.example.org");
});

test("an internationalized e-mail address, which is an otherName, is no e-mail address", () => {
  const smtpUtf8 = Buffer.from("06082b06010505070809a00d0c0b616c69636540646261", "hex");
  expect(clientOf("email", [[OTHER, smtpUtf8]])).toBeUndefined();
  expect(clientOf("email", [[DIRECTORY, Buffer.from("3000", "hex")]])).toBeUndefined();
});

test("the Common Name stays the identity without a setting, and with cn", () => {
  const shown = certificate([[URI, "spiffe://example.org/dba/alice"]]);
  for (const rule of [
    COMMON_NAME,
    identityRule(undefined),
    identityRule({ from: "cn", pattern: undefined }),
  ]) {
    expect(rule.identify(shown)?.client).toBe("mallory@guest");
    expect(rule.claimed(shown)).toEqual(["mallory@guest"]);
  }
});

describe("a pattern", () => {
  test.each<[IdentityKind, string]>([
    ["uri", "spiffe://example.org/{group}/{user}"],
    ["uri", "spiffe://example.org/ns/{group}/sa/{user}"],
    ["uri", "{user}-x/{group}"],
    ["email", "{user}@{group}"],
    ["email", "{user}@{group}.example.org"],
    ["dns", "{user}.{group}.example.org"],
  ])("of %s is fine: %s", (from, pattern) => {
    expect(patternFault(pattern, from)).toBeUndefined();
  });

  test.each<[IdentityKind, string, string]>([
    ["uri", "spiffe://example.org/{user}", "each exactly once"],
    ["uri", "spiffe://example.org/{group}", "each exactly once"],
    ["uri", "{user}/{group}/{user}", "each exactly once"],
    ["uri", "{user}/{Group}", "each exactly once"],
    ["uri", "{user}/{group}/{zone}", "brace"],
    ["uri", "{{user}/{group}", "brace"],
    ["uri", "{user}{group}", "between"],
    ["uri", "{user}-{group}", "between"],
    ["uri", "/@{user}.{group}/@", "between"],
    ["email", "{user}.{group}@example.org", "between"],
    ["dns", "{user}-{group}.example.org", "between"],
    ["uri", "{user} /{group}", "ASCII"],
    ["uri", "{user}/{group}\0", "ASCII"],
    ["uri", "ü{user}/{group}", "ASCII"],
  ])("of %s is a fault: %s", (from, pattern, fault) => {
    expect(patternFault(pattern, from)).toContain(fault);
  });

  test("reads each name in one way: what it reads is what was written", () => {
    const random = new Random(7);
    const word = () => Array.from({ length: random.int(1, 4) }, () => "ab-%:+"[random.int(0, 5)]).join("");
    for (let i = 0; i < 500; i++) {
      const [a, b] = [word(), word()];
      const between = `${word()}${"/@"[random.int(0, 1)]}${word()}`;
      const [before, after] = [word(), word()];
      const rule = identityRule({ from: "uri", pattern: `${before}{user}${between}{group}${after}` });
      const found = rule.identify(certificate([[URI, `${before}${a}${between}${b}${after}`]]));
      expect(found?.client).toBe(`${a}@${b}`);
    }
  });
});

describe("the setting", () => {
  const resolved = (identity: object) => {
    const faults: { key: string; problem: string }[] = [];
    const config = resolveConfig({ listener: { identity } }, { directory: "/", cores: 1 }, faults);
    return { config, faults: faults.map(({ key }) => key) };
  };

  test.each<[object, string[]]>([
    [{ from: "cn" }, []],
    [{ from: "uri", pattern: "spiffe://example.org/{group}/{user}" }, []],
    [{}, ["listener.identity.from"]],
    [{ from: "ip", pattern: "{user}@{group}" }, ["listener.identity.from", "listener.identity.pattern"]],
    [{ from: "cn", pattern: "{user}@{group}" }, ["listener.identity.pattern"]],
    [{ from: "uri" }, ["listener.identity.pattern"]],
    [{ from: "email", pattern: "" }, ["listener.identity.pattern"]],
    [{ from: "email", pattern: "{user}{group}" }, ["listener.identity.pattern"]],
    [{ from: "dns", pattern: "{user}.{group}", fallback: "cn" }, ["listener.identity.fallback"]],
  ])("%p has the faults %p", (identity, keys) => {
    expect(resolved(identity).faults).toEqual(keys);
  });

  test("is in the summary", () => {
    const { config } = resolved({ from: "uri", pattern: "spiffe://example.org/{group}/{user}" });
    expect(summary(config)).toMatch(/\n  identity +URI spiffe:\/\/example\.org\/\{group\}\/\{user\}\n/);
  });
});
