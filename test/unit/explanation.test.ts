// The words of an explanation: the key that decided, and what would change the answer.

import { X509Certificate } from "node:crypto";
import { describe, expect, test } from "bun:test";
import { Blocks } from "../../src/auth/blocks.ts";
import { readPem } from "../../src/auth/pem.ts";
import { explanationText } from "../../src/cli/explanation-text.ts";
import { marksFor } from "../../src/cli/marks.ts";
import { testReport } from "../../src/cli/test-report.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { decide, type Question, type Step } from "../../src/connection/admission.ts";
import { explain, presenting, type Explanation } from "../../src/connection/explanation.ts";
import { offlineRules, type OfflineRules } from "../../src/engine/offline.ts";
import { testPolicy } from "../../src/engine/policy-tests.ts";
import { atOnce } from "../../src/lib/portions.ts";
import { parseMoment } from "../../src/lib/moment.ts";
import { issue, makeAuthority, revoke, testAuthority } from "../support/issue.ts";
import { listsOf } from "../support/lists.ts";
import { cert } from "../support/peer.ts";

const NOW = Date.UTC(2026, 5, 1);
const middle = makeAuthority([["CN", "middle"]], testAuthority);

function rulesOf(listener: object = {}, crl?: string, upstreams?: readonly object[]): OfflineRules {
  const faults: { key: string; problem: string }[] = [];
  const config = resolveConfig(
    {
      listener: { address: ":7443", ca: "/ca.crt", ...(crl && { crl: "/crl.pem" }), ...listener },
      upstreams: upstreams ?? [
        {
          name: "db",
          serverNames: ["db.example.com", "*.db.example.com"],
          targets: ["a:1"],
          authorizedGroups: ["dba", "Ops"],
        },
        {
          name: "web",
          targets: ["a:2"],
          authorizedGroups: ["admin"],
          ...("upstream" in listener ? {} : { serverNames: ["web"] }),
        },
      ],
    },
    { directory: "/", cores: 1 },
    faults,
  );
  expect(faults).toEqual([]);
  const credentials = {
    ca: [testAuthority.cert],
    cert: "",
    key: "",
    crl: crl === undefined ? undefined : listsOf(crl),
  };
  return offlineRules({
    config,
    credentials: {
      listeners: [credentials],
      upstreams: [],
      tests: [],
      admin: undefined,
      fleet: undefined,
      warnings: [],
    },
    maxConnections: 10,
  });
}

/** The rules of one upstream, with who may reach it. */
function openTo(access: object): OfflineRules {
  return rulesOf({}, undefined, [{ name: "db", targets: ["a:1"], ...access }]);
}

interface Asked {
  readonly cert?: string;
  readonly client?: string;
  readonly serverName?: string;
  readonly address?: string | undefined;
  readonly rules?: OfflineRules;
  readonly blocks?: Blocks;
}

function ask({
  cert: pem,
  client,
  serverName,
  address,
  rules: over = rulesOf(),
  blocks,
}: Asked): Explanation {
  const from: Question["from"] =
    client === undefined
      ? presenting(readPem(pem!).blocks.map(({ pem: each }) => new X509Certificate(each)))
      : { client, group: client.split("@")[1]! };
  const rules = blocks === undefined ? over.rules : { ...over.rules, blocks };
  const question = { listener: over.listeners[0]!, from, serverName, address, date: NOW };
  return explain(question, { rules, place: over.config.listeners[0]!, live: blocks !== undefined });
}

describe("the step that refuses", () => {
  const day = new Date(NOW - 86_400_000);
  test.each<[string, Asked, object]>([
    [
      "names the CA file for a stranger",
      { cert: cert("second-root.crt") },
      {
        step: "chain",
        text: 'no chain to a CA: "frank@admin", issued by "tcpproxy second CA"',
        key: "listener.ca",
        remedy:
          'Issue the certificate from a CA in "/ca.crt", add its CA there, or have the client send the intermediate CAs that are missing.',
      },
    ],
    [
      "tells a CA from its namesake",
      { cert: cert("stranger.crt") },
      {
        step: "chain",
        text: 'no chain to a CA: "alice@admin", issued by "tcpproxy test CA", but not signed by the CA of that name that is trusted',
      },
    ],
    [
      "says when a certificate expired",
      { cert: issue("alice@dba", testAuthority, { notAfter: day }).cert },
      {
        step: "dates",
        text: '"alice@dba" expired on 2026-05-31T00:00Z',
        remedy: "Issue a new certificate.",
      },
    ],
    [
      "says what a certificate is not for",
      { cert: cert("server-only.crt") },
      { step: "purposes", text: "the certificate: not usable for client authentication" },
    ],
    [
      "names the list that a certificate is on",
      { cert: issue("alice@dba", testAuthority, { serial: 5 }).cert, rules: rulesOf({}, revoke([5])) },
      { step: "revocation", text: '"/crl.pem" lists "alice@dba" as revoked', key: "listener.crl" },
    ],
    [
      "says that a CA has no list",
      { cert: issue("alice@dba", middle).cert + middle.cert, rules: rulesOf({}, revoke([5])) },
      { step: "revocation", text: '"/crl.pem" lacks the list of a CA in the chain', key: "listener.crl" },
    ],
    [
      "says that a list is outdated",
      { cert: issue("alice@dba").cert, rules: rulesOf({}, revoke([5], testAuthority, day)) },
      {
        step: "revocation",
        text: '"/crl.pem" has a list that is outdated',
        remedy: "Get a new list from the CA.",
      },
    ],
    [
      "says what is wrong with a name",
      { cert: cert("hostile-two-ats.crt") },
      {
        step: "identity",
        text: "2 times @",
        remedy: "Issue a certificate whose Common Name is exactly one user@group.",
      },
    ],
    [
      "names the server name that was most likely meant",
      { client: "alice@dba", serverName: "db.exmaple.com" },
      {
        step: "route",
        text: '"db.exmaple.com" is no upstream\'s, and there is no fallback',
        remedy:
          "Set the server name in the client (did you mean db.example.com?), or add it to an upstream's serverNames.",
      },
    ],
    [
      "says that no server name was asked for",
      { client: "alice@dba" },
      { step: "route", text: "no server name is asked for, and there is no fallback" },
    ],
    [
      "names the list of groups",
      { client: "alice@etl", serverName: "db.example.com" },
      {
        step: "authorization",
        text: 'the group "etl" is not listed for "db"',
        key: "upstreams[0].authorizedGroups",
        remedy: 'Add "etl" to it, or issue a certificate for a group that is listed.',
      },
    ],
    [
      "says that case matters",
      { client: "alice@ops", serverName: "db.example.com" },
      { step: "authorization", text: 'the group "ops" is not listed for "db"; "Ops" is, and case matters' },
    ],
    [
      "names the list of clients where there is no other",
      { client: "eve@etl", rules: openTo({ authorizedClients: ["bob@etl", "alice@etl"] }) },
      {
        step: "authorization",
        ok: false,
        text: 'neither the group "etl" nor the client "eve@etl" is listed for "db"',
        key: "upstreams[0].authorizedClients",
        remedy: 'Add "eve@etl" to it, or "etl" to authorizedGroups.',
      },
    ],
    [
      "names the list of groups where there are two lists",
      {
        client: "eve@etl",
        rules: openTo({ authorizedGroups: ["dba"], authorizedClients: ["alice@etl"] }),
      },
      {
        step: "authorization",
        text: 'neither the group "etl" nor the client "eve@etl" is listed for "db"',
        key: "upstreams[0].authorizedGroups",
      },
    ],
    [
      "names the block",
      {
        client: "alice@dba",
        blocks: new Blocks([
          { subject: "*@dba", kind: "group", reason: "audit", actor: "x", since: 0, until: undefined },
        ]),
      },
      { step: "blocks", text: "*@dba: audit", remedy: "An operator ends it: proxy unblock *@dba" },
    ],
  ])("%s", (_, asked, expected) => {
    const { steps, reason } = ask(asked);
    expect(reason).toBeString();
    expect(steps.at(-1)).toMatchObject({ ok: false, ...expected });
    expect(steps.slice(0, -1).filter(({ ok }) => ok === false)).toEqual([]);
  });
});

describe("the step that routes", () => {
  const pinned = rulesOf({ upstream: "web" });
  test.each<[string, Asked, string, string]>([
    [
      "names an exact server name",
      { client: "a@dba", serverName: "DB.example.com" },
      '"DB.example.com" to "db"',
      "upstreams[0].serverNames[0]",
    ],
    [
      "names a pattern",
      { client: "a@dba", serverName: "x.db.example.com" },
      '"x.db.example.com" to "db"',
      "upstreams[0].serverNames[1]",
    ],
    [
      "names the listener's pin",
      { client: "a@admin", rules: pinned },
      '"web", for every server name',
      "listener.upstream",
    ],
  ])("%s", (_, asked, text, key) => {
    const { steps, upstream } = ask(asked);
    expect(upstream).toBeString();
    expect(steps.find(({ step }) => step === "route")).toMatchObject({ ok: true, text, key });
  });
});

describe("a trace", () => {
  test("hears each step in order, and the decision is the same without one", () => {
    const { rules, listeners } = rulesOf();
    const question = {
      listener: listeners[0]!,
      from: presenting([new X509Certificate(issue("alice@dba").cert)]),
      serverName: "db.example.com",
      address: undefined,
      date: NOW,
    };
    const steps: Step[] = [];
    const traced = decide(question, rules, (step) => void steps.push(step));
    expect(steps.map(({ name }) => name)).toEqual([
      "listener",
      "certificate",
      "identity",
      "blocks",
      "route",
      "authorization",
    ]);
    expect(traced).toEqual(decide(question, rules));
  });

  test("of a certificate that is known to be good has the same steps", () => {
    const rules = rulesOf();
    const asked = { cert: issue("alice@dba").cert, serverName: "db.example.com", rules };
    expect(ask(asked)).toEqual(ask(asked));
    expect(ask(asked).steps.map(({ step }) => step)).toEqual([
      "listener",
      "chain",
      "dates",
      "purposes",
      "strength",
      "revocation",
      "identity",
      "blocks",
      "route",
      "authorization",
    ]);
  });
});

describe("the text of an explanation", () => {
  const unicode = marksFor({}, false);
  const names = [`${"x".repeat(200)}\u202e\n@dba`, "алиса@dba"];

  test.each(names)("fits 80 columns and has no character that deceives a terminal: %j", (name) => {
    for (const serverName of ["db.example.com", "web", `${"y".repeat(70)}\u001b[31m`]) {
      const text = explanationText(ask({ cert: issue(name).cert, serverName }), unicode);
      expect(text).not.toMatch(/[\u202e\u001b]/);
      for (const line of text.split("\n")) {
        expect(line.length <= 80 || !line.trimStart().includes(" "), line).toBe(true);
      }
    }
  });

  test("ends with the answer", () => {
    expect(explanationText(ask({ client: "a@dba", serverName: "db.example.com" }), unicode)).toEndWith(
      "\nallowed: db",
    );
    expect(explanationText(ask({ client: "a@dba" }), unicode)).toEndWith("\nrefused: unknown_server_name");
  });

  test.each<[Record<string, string>, boolean, string]>([
    [{ LANG: "en_US.UTF-8" }, true, "✓"],
    [{ LANG: "C" }, true, "+"],
    [{ LANG: "en_US.UTF-8", LC_ALL: "C" }, true, "+"],
    [{ LC_CTYPE: "C.utf8" }, true, "✓"],
    [{}, true, "+"],
    [{}, false, "✓"],
    [{ LANG: "C" }, false, "+"],
  ])("has marks that the terminal can show: %j, terminal %p", (env, isTerminal, yes) => {
    expect(marksFor(env, isTerminal).yes).toBe(yes);
  });
});

describe("the address", () => {
  const lists = { allow: ["10.0.0.0/8", "2001:db8::/32"], deny: ["192.0.2.1", "10.6.0.0/16"] };
  const rules = rulesOf(lists);

  test.each<[address: string | undefined, over: OfflineRules, reason: string | undefined, line: object]>([
    ["10.6.1.1", rules, "address_denied", { ok: false, text: "10.6.1.1 is denied", key: "listener.deny[1]" }],
    [
      "11.0.0.1",
      rules,
      "address_denied",
      { ok: false, text: "11.0.0.1 is not in allow", key: "listener.allow" },
    ],
    [
      "2001:db8::1",
      rules,
      undefined,
      { ok: true, text: "2001:db8::1 may connect", key: "listener.allow[1]" },
    ],
    ["10.0.0.1", rulesOf({ deny: lists.deny }), undefined, { ok: true, key: "listener.deny" }],
    [undefined, rules, undefined, { ok: undefined, text: expect.stringContaining("not checked") }],
  ])("is judged before the certificate: %p", (address, over, reason, line) => {
    const told = ask({ cert: issue("alice@dba").cert, serverName: "db.example.com", address, rules: over });
    expect(told.reason as string | undefined).toBe(reason);
    expect(told.steps[1]).toMatchObject({ step: "address", ...line });
    if (reason !== undefined)
      expect([told.steps.length, told.steps[1]?.remedy]).toEqual([2, expect.any(String)]);
  });

  test("is no step where the listener has no list", () => {
    const told = ask({ client: "a@dba", serverName: "db.example.com", address: "10.6.1.1" });
    expect(told.steps.map(({ step }) => step)).not.toContain("address");
    expect(told.upstream).toBe("db");
  });
});

test.each<[unknown, number | undefined]>([
  ["2027-01-01", Date.UTC(2027, 0, 1)],
  ["2027-01-01T08:00:00Z", Date.UTC(2027, 0, 1, 8)],
  ["2027-01-01T08:00+02:00", Date.UTC(2027, 0, 1, 6)],
  [Bun.TOML.parse("x = 2027-01-01T08:00:00Z")["x" as never], Date.UTC(2027, 0, 1, 8)],
  [Bun.TOML.parse("x = 2027-01-01")["x" as never], Date.UTC(2027, 0, 1)],
  ["2027-01-01T08:00:00", undefined],
  ["2027-13-01", undefined],
  ["tomorrow", undefined],
  [1, undefined],
  [null, undefined],
  [{}, undefined],
])("a moment is read from %j", (written, expected) => {
  expect(parseMoment(written)).toBe(expected);
});

test("a configuration without tests runs none, and makes nothing for them", () => {
  const { config } = rulesOf();
  // The files are not even looked at.
  const loaded = { config, credentials: undefined as never, maxConnections: 1 };
  expect(atOnce(testPolicy(loaded, NOW))).toEqual([]);
  expect(testReport([], marksFor({}, false))).toEqual([]);
});

test("an explanation says which name of a certificate the listener wants, and what is wrong with it", () => {
  const rules = rulesOf({ identity: { from: "uri", pattern: "spiffe://example.org/{group}/{user}" } });
  const identityOf = (uri: string) => {
    const { cert } = issue("eve@ops", testAuthority, { names: [[0x86, uri]] });
    return ask({ cert, serverName: "db.example.com", rules }).steps.find(({ step }) => step === "identity");
  };
  expect(identityOf("spiffe://example.org/dba/alice")).toEqual({
    step: "identity",
    ok: true,
    text: '"alice@dba"',
    key: "listener.identity",
  });
  expect(identityOf("spiffe://example.com/dba/alice")).toEqual({
    step: "identity",
    ok: false,
    text: "its URI is not of the form spiffe://example.org/{group}/{user}",
    key: "listener.identity",
    remedy: "Issue a certificate with exactly one URI, of the form spiffe://example.org/{group}/{user}.",
  });
});

test.each<[string, object, string, string]>([
  [
    "the group",
    { authorizedGroups: ["dba", "etl"], authorizedClients: ["alice@etl"] },
    'the group "etl" may reach "db"',
    "authorizedGroups[1]",
  ],
  [
    "the client",
    { authorizedGroups: ["dba"], authorizedClients: ["bob@etl", "alice@etl"] },
    'the client "alice@etl" may reach "db"',
    "authorizedClients[1]",
  ],
  [
    "that everybody may enter",
    { anyGroup: true },
    'everybody with a valid identity may reach "db"',
    "anyGroup",
  ],
])("an explanation names what lets a client through: %s", (_, access, text, key) => {
  const { steps, upstream } = ask({ client: "alice@etl", rules: openTo(access) });
  expect(upstream).toBe("db");
  expect(steps).toContainEqual({ step: "authorization", ok: true, text, key: `upstreams[0].${key}` });
});
