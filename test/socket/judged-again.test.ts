// The same odd chains and lists are judged twice: by a full handshake of the runtime's TLS, and by the check that a reload
// makes of open connections. What a handshake refuses must not stay open.

import { X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { connect as tlsConnect } from "node:tls";
import { describe, expect, test } from "bun:test";
import { judge } from "../../src/auth/certificate-check.ts";
import { identify } from "../../src/auth/identity.ts";
import { trusting } from "../support/lists.ts";
import {
  FAR_OFF,
  OVER,
  PURPOSE,
  SIGNINGS,
  TO_COME,
  USAGE,
  certify,
  ecKey,
  edKey,
  ext,
  list,
  listExt,
  name,
  rsaKey,
  sharedKey,
  subject,
  utf8,
  type Extensions,
  type Odd,
  type OddChoices,
  type OddListChoices,
} from "../support/odd.ts";
import { encodeName, tagged } from "../support/issue.ts";
import { Folder } from "../support/folder.ts";
import { cert, connect, echoOrigin, type Peer } from "../support/peer.ts";
import { startProxy, testConfig, type TestProxy } from "../support/proxy.ts";
import { echoes } from "../support/served.ts";

interface Case {
  readonly name: string;
  readonly ca: readonly Odd[];
  /** The client's certificate first. */
  readonly chain: readonly Odd[];
  readonly lists?: readonly string[];
  /** Why the check rightly refuses what a handshake accepts; undefined where both must agree. */
  readonly stricter?: string;
}

const CA = USAGE.certSign | USAGE.crlSign;
const clientOnly = ext.purposes([PURPOSE.client]);

function authority(
  by: Odd | undefined,
  cn: string,
  extensions: Extensions = {},
  choices: OddChoices = {},
): Odd {
  const usual = { basic: ext.basic(true), usage: ext.usage(CA) };
  return certify(by, { subject: [["CN", cn]], ...choices, extensions: { ...usual, ...extensions } });
}

function client(by: Odd, extensions: Extensions = {}, choices: OddChoices = {}): Odd {
  const usual = { basic: ext.basic(false), usage: ext.usage(USAGE.signature), purposes: clientOnly };
  return certify(by, {
    subject: [["CN", "alice@admin"]],
    key: ecClient,
    ...choices,
    extensions: { ...usual, ...extensions },
  });
}

const ecClient = ecKey();
const rootKey = ecKey();
const middleKey = ecKey();
const root = (extensions: Extensions = {}, choices: OddChoices = {}) =>
  authority(undefined, "root", extensions, { key: rootKey, ...choices });
const middle = (by: Odd, extensions: Extensions = {}, choices: OddChoices = {}) =>
  authority(by, "middle", extensions, { key: middleKey, ...choices });

const plainRoot = root();
const plainMiddle = middle(plainRoot);

/** A client directly below a root with these extensions. */
function under(
  extensions: Extensions,
  choices: OddChoices = {},
  own: Extensions = {},
  ownChoices: OddChoices = {},
) {
  const ca = root(extensions, choices);
  return { ca: [ca], chain: [client(ca, own, ownChoices)] };
}

/** A client below an intermediate with these extensions. */
function below(
  extensions: Extensions,
  choices: OddChoices = {},
  own: Extensions = {},
  ownChoices: OddChoices = {},
) {
  const between = middle(plainRoot, extensions, choices);
  return { ca: [plainRoot], chain: [client(between, own, ownChoices), between] };
}

/** A client with these extensions. */
function own(extensions: Extensions, choices: OddChoices = {}) {
  return { ca: [plainRoot], chain: [client(plainRoot, extensions, choices)] };
}

/** A client below two intermediates, with these extensions of the root and of each of them. */
function deep(top: Extensions, upper: Extensions, lower: Extensions, lowerChoices: OddChoices = {}) {
  const ca = root(top);
  const first = authority(ca, "upper", upper);
  const second = authority(first, "lower", lower, lowerChoices);
  return { ca: [ca], chain: [client(second), second, first] };
}

const path = (length: number) => ({ basic: ext.basic(true, length) });
const san = (...names: Buffer[]) => ({ names: ext.altNames(names) });
const only = (...bases: Buffer[]) => ({ constraints: ext.constraints(bases) });
const never = (...bases: Buffer[]) => ({ constraints: ext.constraints([], bases) });
const P1 = "1.2.3.4.1";
const P2 = "1.2.3.4.2";

const chains: Case[] = [
  { name: "a plain client of a root", ...own({}) },
  { name: "a plain client of an intermediate", ...below({}) },
  { name: "a plain client of two intermediates", ...deep({}, {}, {}) },
  { name: "an intermediate that was not sent", ca: [plainRoot], chain: [client(plainMiddle)] },
  {
    name: "an intermediate that is trusted, but not its root",
    ca: [plainMiddle],
    chain: [client(plainMiddle)],
  },
  {
    name: "an intermediate that is trusted beside its root",
    ca: [plainMiddle, plainRoot],
    chain: [client(plainMiddle)],
  },

  { name: "path length 0 of the root, no intermediate", ...under(path(0)) },
  { name: "path length 0 of the root, one intermediate", ...deepOf(path(0), 1) },
  { name: "path length 0 of an intermediate, no other below it", ...below(path(0)) },
  { name: "path length 0 of an intermediate, one below it", ...deep({}, path(0), {}) },
  { name: "path length 1 of the root, two intermediates", ...deep(path(1), {}, {}) },
  { name: "path length 2 of the root, two intermediates", ...deep(path(2), {}, {}) },
  { name: "path length 0, one intermediate that issues itself", ...selfIssued() },
  { name: "a path length of what is no CA", ...own({ basic: ext.basic(false, 0) }) },
  {
    name: "a negative path length",
    ...under({ basic: ext.raw("2.5.29.19", true, sequenceOf(Buffer.of(0x01, 1, 0xff, 0x02, 1, 0xff))) }),
  },

  { name: "a root that is no CA any more", ...under({ basic: ext.basic(false) }) },
  {
    name: "a root that is no CA any more and signs no certificates",
    ...under({ basic: ext.basic(false), usage: ext.usage(USAGE.signature) }),
  },
  { name: "a root without basic constraints", ...under({ basic: undefined }) },
  {
    name: "a root without basic constraints and key usage",
    ...under({ basic: undefined, usage: undefined }),
  },
  { name: "an intermediate that is no CA", ...below({ basic: ext.basic(false) }) },
  { name: "an intermediate without basic constraints", ...below({ basic: undefined }) },
  {
    name: "an intermediate whose basic constraints are not critical",
    ...below({ basic: ext.basic(true, undefined, false) }),
  },
  { name: "a root of version 1", ...under({ basic: undefined, usage: undefined }, { version: 0 }) },
  { name: "an intermediate of version 1", ...below({ basic: undefined, usage: undefined }, { version: 0 }) },
  {
    name: "a client of version 1",
    ...own({ basic: undefined, usage: undefined, purposes: undefined }, { version: 0 }),
  },
  { name: "a client with extensions of version 2", ...own({}, { version: 1 }) },

  { name: "a root without keyCertSign", ...under({ usage: ext.usage(USAGE.crlSign) }) },
  { name: "a root without key usage", ...under({ usage: undefined }) },
  { name: "an intermediate without keyCertSign", ...below({ usage: ext.usage(USAGE.crlSign) }) },
  { name: "an intermediate without key usage", ...below({ usage: undefined }) },
  { name: "a client without key usage", ...own({ usage: undefined }) },
  { name: "a client for encipherment only", ...own({ usage: ext.usage(USAGE.encipherment) }) },
  { name: "a client for key agreement only", ...own({ usage: ext.usage(USAGE.agreement) }) },
  {
    name: "a client that signs certificates, but is no CA",
    ...own({ usage: ext.usage(USAGE.signature | USAGE.certSign) }),
  },
  {
    name: "a client that is a CA",
    ...own({ basic: ext.basic(true), usage: ext.usage(USAGE.signature | CA) }),
  },
  { name: "a key usage of nothing", ...own({ usage: ext.raw("2.5.29.15", true, Buffer.of(0x03, 1, 0)) }) },

  { name: "a root for servers only", ...under({ purposes: ext.purposes([PURPOSE.server]) }) },
  {
    name: "a root for servers and clients",
    ...under({ purposes: ext.purposes([PURPOSE.server, PURPOSE.client]) }),
  },
  { name: "a root for any purpose", ...under({ purposes: ext.purposes([PURPOSE.any]) }) },
  { name: "an intermediate for servers only", ...below({ purposes: ext.purposes([PURPOSE.server]) }) },
  {
    name: "an intermediate for servers only, critically",
    ...below({ purposes: ext.purposes([PURPOSE.server], true) }),
  },
  { name: "an intermediate for clients only", ...below({ purposes: clientOnly }) },
  { name: "an intermediate for any purpose", ...below({ purposes: ext.purposes([PURPOSE.any]) }) },
  { name: "a client for servers only", ...own({ purposes: ext.purposes([PURPOSE.server]) }) },
  { name: "a client for any purpose", ...own({ purposes: ext.purposes([PURPOSE.any]) }) },
  { name: "a client for signing code", ...own({ purposes: ext.purposes([PURPOSE.signing]) }) },
  { name: "a client without purposes", ...own({ purposes: undefined }) },
  { name: "a client with an empty list of purposes", ...own({ purposes: ext.purposes([]) }) },

  { name: "an unknown critical extension of a root", ...under({ x: ext.unknown(true) }) },
  { name: "an unknown critical extension of an intermediate", ...below({ x: ext.unknown(true) }) },
  { name: "an unknown critical extension of a client", ...own({ x: ext.unknown(true) }) },
  { name: "an unknown extension that is not critical", ...own({ x: ext.unknown(false) }) },
  { name: "an extension twice", ...own({ x: ext.basic(false) }) },
  {
    name: "an unknown extension twice",
    ...own({ x: ext.unknown(false), y: ext.unknown(false) }),
    stricter: "RFC 5280, 4.2: not more than one",
  },
  {
    name: "basic constraints of rubbish",
    ...own({ basic: ext.raw("2.5.29.19", true, Buffer.of(0x30, 3, 1)) }),
  },
  { name: "Netscape's type of a client", ...own({ x: ext.netscapeType(0x80) }) },
  { name: "Netscape's type of a server", ...own({ x: ext.netscapeType(0x40) }) },
  { name: "Netscape's type of a client, critical", ...own({ x: ext.netscapeType(0x80, true) }) },

  { name: "constraints of a root to hosts, none named", ...under(only(name.dns("example.com"))) },
  {
    name: "constraints of a root to hosts, one inside",
    ...under(only(name.dns("example.com")), {}, san(name.dns("a.example.com"))),
  },
  {
    name: "constraints of a root to hosts, one outside",
    ...under(only(name.dns("example.com")), {}, san(name.dns("a.example.org"))),
  },
  {
    name: "constraints to hosts, one that only ends alike",
    ...below(only(name.dns("example.com")), {}, san(name.dns("badexample.com"))),
  },
  {
    name: "constraints to hosts with a dot ahead",
    ...below(only(name.dns(".example.com")), {}, san(name.dns("a.example.com"))),
  },
  {
    name: "constraints to hosts in another case",
    ...below(only(name.dns("Example.COM")), {}, san(name.dns("a.eXample.com"))),
  },
  { name: "constraints to all hosts", ...below(only(name.dns("")), {}, san(name.dns("a.example.com"))) },
  {
    name: "hosts that are excluded",
    ...below(never(name.dns("example.com")), {}, san(name.dns("a.example.com"))),
  },
  {
    name: "hosts that are not excluded",
    ...below(never(name.dns("example.com")), {}, san(name.dns("a.example.org"))),
  },
  {
    name: "constraints to e-mail, inside",
    ...below(only(name.email("example.com")), {}, san(name.email("a@example.com"))),
  },
  {
    name: "constraints to e-mail, outside",
    ...below(only(name.email("example.com")), {}, san(name.email("a@b.example.com"))),
  },
  {
    name: "constraints to e-mail below a domain",
    ...below(only(name.email(".example.com")), {}, san(name.email("a@b.example.com"))),
  },
  {
    name: "constraints to one mailbox, another",
    ...below(only(name.email("a@example.com")), {}, san(name.email("A@example.com"))),
  },
  {
    name: "e-mail without an address",
    ...below(never(name.email("example.com")), {}, san(name.email("nobody"))),
  },
  {
    name: "constraints to e-mail, outside, in the subject",
    ...below(
      only(name.email("example.com")),
      {},
      {},
      {
        subject: subject(
          [["2.5.4.3", utf8("alice@admin")]],
          [["1.2.840.113549.1.9.1", tagged(0x16, Buffer.from("a@example.org"))]],
        ),
      },
    ),
  },
  {
    name: "constraints to e-mail, in the subject as UTF-8",
    ...below(
      only(name.email("example.com")),
      {},
      {},
      {
        subject: subject(
          [["2.5.4.3", utf8("alice@admin")]],
          [["1.2.840.113549.1.9.1", utf8("a@example.com")]],
        ),
      },
    ),
  },
  {
    name: "constraints to a URI's host, inside",
    ...below(only(name.uri("example.com")), {}, san(name.uri("https://example.com/x"))),
  },
  {
    name: "constraints to a URI's host, outside",
    ...below(only(name.uri("example.com")), {}, san(name.uri("https://a.example.com/x"))),
  },
  {
    name: "constraints to a URI's host below a domain",
    ...below(only(name.uri(".example.com")), {}, san(name.uri("spiffe://a.example.com/x"))),
  },
  { name: "a URI without a host", ...below(never(name.uri("example.com")), {}, san(name.uri("urn:x:y"))) },
  { name: "constraints to addresses, none named", ...below(only(name.ip(10, 0, 0, 0, 255, 0, 0, 0))) },
  {
    name: "constraints to addresses, inside",
    ...below(only(name.ip(10, 0, 0, 0, 255, 0, 0, 0)), {}, san(name.ip(10, 1, 2, 3))),
  },
  {
    name: "constraints to addresses, outside",
    ...below(only(name.ip(10, 0, 0, 0, 255, 0, 0, 0)), {}, san(name.ip(11, 1, 2, 3))),
  },
  {
    name: "addresses that are excluded",
    ...below(never(name.ip(10, 0, 0, 0, 255, 0, 0, 0)), {}, san(name.ip(10, 1, 2, 3))),
  },
  { name: "constraints to names below a root's, outside", ...below(only(name.directory([["O", "us"]]))) },
  {
    name: "constraints to names, inside",
    ...below(
      only(name.directory([["O", "us"]])),
      {},
      {},
      {
        subject: [
          ["O", "us"],
          ["CN", "alice@admin"],
        ],
      },
    ),
  },
  {
    name: "constraints to names, in another case and spacing",
    ...below(
      only(name.directory([["O", "Us  all"]])),
      {},
      {},
      {
        subject: [
          ["O", " uS all "],
          ["CN", "alice@admin"],
        ],
      },
    ),
  },
  {
    name: "constraints to names, of other letters that are alike in lower case",
    ...below(
      only(name.directory([["O", "É"]])),
      {},
      {},
      {
        subject: [
          ["O", "é"],
          ["CN", "alice@admin"],
        ],
      },
    ),
  },
  {
    name: "names that are excluded, in another encoding",
    ...below(
      never(name.directory([["O", "us"]])),
      {},
      {},
      {
        subject: subject(
          [["2.5.4.10", tagged(0x1e, Buffer.from("\0u\0s"))]],
          [["2.5.4.3", utf8("alice@admin")]],
        ),
      },
    ),
  },
  {
    name: "names that are excluded",
    ...below(
      never(name.directory([["O", "us"]])),
      {},
      {},
      {
        subject: [
          ["O", "us"],
          ["CN", "alice@admin"],
        ],
      },
    ),
  },
  {
    name: "constraints of a kind that has none, with such a name",
    ...below(only(name.other()), {}, san(name.other())),
  },
  { name: "constraints of a kind that has none, without such a name", ...below(only(name.other())) },
  { name: "registered ids that are excluded", ...below(never(name.rid()), {}, san(name.rid())) },
  {
    name: "constraints to hosts, beside another kind of name",
    ...below(only(name.dns("example.com")), {}, san(name.other(), name.dns("example.com"))),
  },
  {
    name: "constraints with a distance",
    ...below(
      {
        constraints: ext.raw(
          "2.5.29.30",
          true,
          sequenceOf(
            tagged(0xa0, sequenceOf(Buffer.concat([name.dns("example.com"), Buffer.of(0x80, 1, 1)]))),
          ),
        ),
      },
      {},
      san(name.dns("example.com")),
    ),
  },
  {
    name: "constraints of nothing",
    ...below({ constraints: ext.raw("2.5.29.30", true, Buffer.of(0x30, 0)) }),
    stricter: "RFC 5280, 4.2.1.10: must not be empty",
  },
  {
    name: "constraints of a root, broken by an intermediate",
    ...deepOf(only(name.directory([["CN", "alice@admin"]])), 1),
  },
  {
    name: "a host for a Common Name under constraints",
    ...below(only(name.dns("example.com")), {}, {}, { subject: [["CN", "www.example.org"]] }),
  },

  { name: "policies that nobody demands", ...below({ p: ext.policies(P1) }, {}, { p: ext.policies(P2) }) },
  { name: "a policy twice", ...own({ p: ext.policies(P1, P1) }) },
  {
    name: "an intermediate that demands a policy, and none",
    ...below({ p: ext.policies(P1), c: ext.policyConstraints(0) }),
  },
  {
    name: "an intermediate that demands a policy, and has it",
    ...below({ p: ext.policies(P1), c: ext.policyConstraints(0) }, {}, { p: ext.policies(P1) }),
    stricter: "policies are looked into in full handshakes only",
  },
  {
    name: "an intermediate that demands a policy, and another",
    ...below({ p: ext.policies(P1), c: ext.policyConstraints(0) }, {}, { p: ext.policies(P2) }),
  },
  { name: "a root that demands a policy", ...under({ c: ext.policyConstraints(0) }) },
  { name: "a client that demands a policy", ...own({ c: ext.policyConstraints(0) }) },
  {
    name: "a mapping from any policy",
    ...below({ p: ext.policies(P1), m: ext.mappings("2.5.29.32.0", P2) }),
  },
  { name: "no policy but those that are named", ...below({ x: ext.inhibitAny(0) }) },
  { name: "policy constraints of nothing", ...below({ c: ext.raw("2.5.29.36", true, Buffer.of(0x30, 0)) }) },

  {
    name: "key identifiers that fit",
    ...under({ k: ext.keyId("one") }, {}, { a: ext.authorityKeyId("one") }),
  },
  {
    name: "key identifiers that do not fit",
    ...under({ k: ext.keyId("one") }, {}, { a: ext.authorityKeyId("two") }),
  },
  { name: "an issuer of another name", ...own({}, { issuer: encodeName([["CN", "another"]]) }) },
  {
    name: "an issuer whose name is written otherwise",
    ...own({}, { issuer: encodeName([["CN", " ROOT "]]) }),
  },
  { name: "a signature that is forged", ...own({}, { forged: true }) },
  { name: "an intermediate's signature that is forged", ...below({}, { forged: true }) },
  { name: "two different signature algorithms", ...own({}, { claims: SIGNINGS.ecSha384 }) },
  { name: "a key of the same name", ca: [root({}, { key: ecKey() })], chain: [client(plainRoot)] },
  {
    name: "two CAs of one name, the client's first",
    ca: [plainRoot, root({}, { key: ecKey() })],
    chain: [client(plainRoot)],
    stricter: "undecided",
  },
  {
    name: "two CAs of one name, the client's last",
    ca: [root({}, { key: ecKey() }), plainRoot],
    chain: [client(plainRoot)],
    stricter: "undecided",
  },
  { name: "two CAs of one name that key identifiers tell apart", ...toldApart() },
  { name: "a client that is its own root", ...itself() },

  { name: "a client that is over", ...own({}, { notAfter: OVER }) },
  { name: "a client that is to come", ...own({}, { notBefore: TO_COME }) },
  { name: "an intermediate that is over", ...below({}, { notAfter: OVER }) },
  { name: "an intermediate that is to come", ...below({}, { notBefore: TO_COME }) },
  { name: "a root that is over", ...under({}, { notAfter: OVER }) },
  { name: "a root that is to come", ...under({}, { notBefore: TO_COME }) },
  {
    name: "a root of old beside the new one of the same key",
    ca: [root({}, { notAfter: OVER }), plainRoot],
    chain: [client(plainRoot)],
  },

  ...(["rsaSha256", "rsaSha384", "rsaSha512", "pss256", "pss384", "pss512"] as const).map((signing) => ({
    name: `a signature by ${signing}`,
    ...under({}, { key: sharedKey }, {}, { signing: SIGNINGS[signing] }),
  })),
  ...(["rsaMd5", "rsaSha1", "pss1"] as const).map((signing) => ({
    name: `a signature by ${signing}`,
    ...under({}, { key: sharedKey }, {}, { signing: SIGNINGS[signing] }),
    stricter: "weak",
  })),
  { name: "a signature by ecSha1", ...own({}, { signing: SIGNINGS.ecSha1 }), stricter: "weak" },
  { name: "a signature by ecSha384", ...own({}, { signing: SIGNINGS.ecSha384 }) },
  { name: "a signature by ecSha512", ...own({}, { signing: SIGNINGS.ecSha512 }) },
  { name: "a signature by P-384", ...under({}, { key: ecKey("P-384") }) },
  { name: "a signature by P-521", ...under({}, { key: ecKey("P-521") }) },
  { name: "a signature by Ed25519", ...under({}, { key: edKey() }) },
  {
    name: "an intermediate signed with SHA-1",
    ...weakMiddle({ signing: SIGNINGS.rsaSha1 }),
    stricter: "weak",
  },
  {
    name: "a root that has signed itself with SHA-1",
    ...under({}, { key: sharedKey, signing: SIGNINGS.rsaSha1 }),
  },
  { name: "a client's RSA key of 1024 bits", ...own({}, { key: rsaKey(1024) }), stricter: "weak" },
  { name: "a client's RSA key of 2048 bits", ...own({}, { key: sharedKey }) },
  { name: "an intermediate's RSA key of 1024 bits", ...below({}, { key: rsaKey(1024) }), stricter: "weak" },
  { name: "a root's RSA key of 1024 bits", ...under({}, { key: rsaKey(1024) }), stricter: "weak" },
];

function deepOf(top: Extensions, intermediates: 1) {
  const ca = root(top);
  const between = middle(ca);
  return { ca: [ca], chain: [client(between), between].slice(0, 1 + intermediates) };
}

/** An intermediate with its root's name, as for a new key of the same CA. */
function selfIssued() {
  const ca = root(path(0));
  const between = authority(ca, "root", {}, { key: middleKey });
  return { ca: [ca], chain: [client(between), between] };
}

function weakMiddle(choices: OddChoices) {
  const ca = root({}, { key: sharedKey });
  const between = middle(ca, {}, choices);
  return { ca: [ca], chain: [client(between), between] };
}

function toldApart() {
  const one = root({ k: ext.keyId("one") });
  const two = root({ k: ext.keyId("two") }, { key: ecKey() });
  return { ca: [one, two], chain: [client(two, { a: ext.authorityKeyId("two") })] };
}

function itself() {
  const self = authority(
    undefined,
    "alice@admin",
    { usage: ext.usage(USAGE.signature | CA) },
    { key: ecClient },
  );
  return { ca: [self], chain: [self] };
}

function sequenceOf(contents: Buffer): Buffer {
  return tagged(0x30, contents);
}

const alice = client(plainRoot);
const grace = client(plainMiddle);

/** A client of the root, with a list that is made so. */
const listed = (choices: OddListChoices) => ({
  ca: [plainRoot],
  chain: [alice],
  lists: [list(plainRoot, choices)],
});
/** A client below an intermediate. Root and intermediate have a list each. */
const listedBelow = (ofRoot: OddListChoices | undefined, ofMiddle: OddListChoices | undefined) => ({
  ca: [plainRoot],
  chain: [grace, plainMiddle],
  lists: [
    ...(ofRoot === undefined ? [] : [list(plainRoot, ofRoot)]),
    ...(ofMiddle === undefined ? [] : [list(plainMiddle, ofMiddle)]),
  ],
});

const { scope, flag, reasons, point } = listExt;
const other = root({}, { key: ecKey() });
const mute = root({ usage: ext.usage(USAGE.certSign) });
const identified = root({ k: ext.keyId("one") });
const anotherRoot = authority(undefined, "another root");

const lists: Case[] = [
  { name: "a list of nobody", ...listed({}) },
  { name: "a list of somebody else", ...listed({ serials: [1] }) },
  { name: "a list of the client", ...listed({ serials: [1, alice.serial] }) },
  {
    name: "a list of the client, with a reason",
    ...listed({ serials: [{ serial: alice.serial, extensions: [listExt.reason(1)] }] }),
  },
  {
    name: "a list of the client, on hold",
    ...listed({ serials: [{ serial: alice.serial, extensions: [listExt.reason(6)] }] }),
  },
  {
    name: "a list that takes the client off another",
    ...listed({ serials: [{ serial: alice.serial, extensions: [listExt.reason(8)] }] }),
    stricter: "only a delta list takes anybody off",
  },
  { name: "a list of the root itself", ...listed({ serials: [plainRoot.serial] }) },
  { name: "an outdated list", ...listed({ nextUpdate: OVER }) },
  { name: "an outdated list of the client", ...listed({ nextUpdate: OVER, serials: [alice.serial] }) },
  { name: "a list without an end", ...listed({ nextUpdate: null }) },
  { name: "a list that is to come", ...listed({ thisUpdate: TO_COME }) },
  { name: "a list by another key", ...listed({ signer: other.key }) },
  { name: "a list by another key, of the client", ...listed({ signer: other.key, serials: [alice.serial] }) },
  { name: "a list that is forged", ...listed({ forged: true }) },
  { name: "a list of two signature algorithms", ...listed({ claims: SIGNINGS.ecSha384 }) },
  { name: "a list of another CA", ca: [plainRoot], chain: [alice], lists: [list(anotherRoot)] },
  {
    name: "a list of another CA too",
    ca: [plainRoot, anotherRoot],
    chain: [alice],
    lists: [list(anotherRoot), list(plainRoot)],
  },
  { name: "a list whose issuer is written otherwise", ...listed({ issuer: encodeName([["CN", "ROOT"]]) }) },
  { name: "a list by a CA that signs none", ca: [mute], chain: [client(mute)], lists: [list(mute)] },
  { name: "a delta list", ...listed({ extensions: [listExt.number(), listExt.delta()] }) },
  {
    name: "a delta list that is not critical",
    ...listed({ extensions: [listExt.number(), listExt.delta(false)] }),
    stricter: "RFC 5280, 5.2.4: it is always critical",
  },
  { name: "a list for CAs", ...listed({ extensions: [scope(flag(2))] }) },
  { name: "a list for clients", ...listed({ extensions: [scope(flag(1))] }) },
  { name: "a list for attributes", ...listed({ extensions: [scope(flag(5))] }) },
  { name: "a list for some reasons", ...listed({ extensions: [scope(reasons())] }) },
  { name: "an indirect list", ...listed({ extensions: [scope(flag(4))] }) },
  { name: "a list for a distribution point", ...listed({ extensions: [scope(point("http://x/crl"))] }) },
  { name: "a list for CAs and for clients", ...listed({ extensions: [scope(flag(1), flag(2))] }) },
  {
    name: "one list for CAs, another for clients",
    ca: [plainRoot],
    chain: [alice],
    lists: [
      list(plainRoot, { extensions: [scope(flag(1))] }),
      list(plainRoot, { extensions: [scope(flag(2))] }),
    ],
    stricter: "lists of a limited scope are refused when they are loaded",
  },
  {
    name: "a scope of nothing",
    ...listed({ extensions: [scope()] }),
    stricter: "RFC 5280, 5.2.5: must not be empty",
  },
  { name: "an unknown critical extension of a list", ...listed({ extensions: [ext.unknown(true)] }) },
  { name: "an unknown extension of a list", ...listed({ extensions: [ext.unknown(false)] }) },
  { name: "a list whose number is critical", ...listed({ extensions: [listExt.number(true)] }) },
  {
    name: "an unknown critical extension of an entry",
    ...listed({ serials: [{ serial: 1, extensions: [ext.unknown(true)] }] }),
  },
  {
    name: "an entry of another issuer",
    ...listed({ serials: [{ serial: 1, extensions: [listExt.issuer(anotherRoot.subject)] }] }),
  },
  { name: "a list of version 1", ...listed({ version: undefined, extensions: [], serials: [1] }) },
  { name: "a list of version 1 with extensions", ...listed({ version: undefined }) },
  { name: "a list of version 3", ...listed({ version: 2 }) },
  {
    name: "key identifiers of a list that fit",
    ca: [identified],
    chain: [client(identified)],
    lists: [list(identified, { extensions: [ext.authorityKeyId("one")] })],
  },
  {
    name: "key identifiers of a list that do not fit",
    ca: [identified],
    chain: [client(identified)],
    lists: [list(identified, { extensions: [ext.authorityKeyId("two")] })],
  },
  { name: "lists of both", ...listedBelow({}, {}) },
  { name: "no list of the intermediate", ...listedBelow({}, undefined) },
  { name: "no list of the root", ...listedBelow(undefined, {}) },
  { name: "a list of the intermediate's certificate", ...listedBelow({ serials: [plainMiddle.serial] }, {}) },
  { name: "a list of the client, by the intermediate", ...listedBelow({}, { serials: [grace.serial] }) },
  { name: "a list of the client, by the root", ...listedBelow({ serials: [grace.serial] }, {}) },
  { name: "an outdated list of the root", ...listedBelow({ nextUpdate: OVER }, {}) },
  { name: "a list of the intermediate by the root's key", ...listedBelow({}, { signer: plainRoot.key }) },
  {
    name: "an outdated list beside a newer one",
    ca: [plainRoot],
    chain: [alice],
    lists: [list(plainRoot, { nextUpdate: OVER }), list(plainRoot, { nextUpdate: FAR_OFF })],
  },
  ...(["rsaSha256", "rsaSha384", "rsaSha512", "pss256", "pss384", "pss512"] as const).map((signing) => {
    const ca = root({}, { key: sharedKey });
    return {
      name: `a list signed by ${signing}`,
      ca: [ca],
      chain: [client(ca)],
      lists: [list(ca, { signing: SIGNINGS[signing] })],
    };
  }),
  ...(["ecSha384", "ecSha512"] as const).map((signing) => ({
    name: `a list signed by ${signing}`,
    ...listed({ signing: SIGNINGS[signing] }),
  })),
  {
    name: "a list signed by Ed25519",
    ...(() => {
      const ca = root({}, { key: edKey() });
      return { ca: [ca], chain: [client(ca)], lists: [list(ca)] };
    })(),
  },
  {
    name: "a list signed with SHA-1",
    ...(() => {
      const ca = root({}, { key: sharedKey });
      return { ca: [ca], chain: [client(ca)], lists: [list(ca, { signing: SIGNINGS.rsaSha1 })] };
    })(),
    stricter: "weak",
  },
];

/** Makes a full handshake by the runtime's TLS. Returns whether the client is accepted, and otherwise the error's code. */
async function handshake({ ca, chain, lists: crl }: Case): Promise<[boolean, string | undefined]> {
  const { promise, resolve } = Promise.withResolvers<[boolean, string | undefined]>();
  const listen = () =>
    Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      tls: {
        ca: ca.map(({ pem }) => pem),
        cert: cert("server.crt"),
        key: cert("key.pem"),
        crl: crl && [...crl],
        requestCert: true,
        rejectUnauthorized: true,
        secureOptions: 0x1c000000,
      } as unknown as Bun.TLSOptions,
      socket: {
        data() {},
        handshake(socket, success, error) {
          const good = success && error === null && socket.authorized;
          resolve([good, (error as { code?: string } | null)?.code ?? error?.message]);
        },
        error: (_, error) => resolve([false, error.message]),
        close: () => resolve([false, "closed"]),
      },
    });
  let server: ReturnType<typeof listen> | undefined;
  let socket: ReturnType<typeof tlsConnect> | undefined;
  // A configuration that the runtime's TLS rejects admits no client.
  try {
    server = listen();
    socket = tlsConnect({
      host: "127.0.0.1",
      port: server.port,
      rejectUnauthorized: false,
      cert: chain.map(({ pem }) => pem).join(""),
      key: String(chain[0]!.key.export({ type: "pkcs8", format: "pem" })),
    });
    socket.on("error", () => {});
    return await promise;
  } catch (error) {
    return [false, (error as Error).message];
  } finally {
    socket?.destroy();
    server?.stop(true);
  }
}

function judgeAgain({ ca, chain, lists: crl }: Case) {
  const [leaf, ...above] = chain.map(({ der }) => der);
  const trust = trusting(
    ca.map(({ pem }) => pem),
    crl,
  );
  let certificate: X509Certificate | undefined;
  try {
    certificate = new X509Certificate(leaf!);
  } catch {
    // The runtime cannot parse it, so no client can show it.
  }
  return judge(certificate, () => above, trust, Date.now());
}

describe.each([
  ["chains", chains, 50],
  ["lists", lists, 18],
] as const)("a handshake and a reload: %s", (_, cases, good) => {
  test.each(cases.map((each) => [each.name, each] as const))(
    "a handshake and a reload agree on this case: %s",
    async (_name, each) => {
      const [open, code] = await handshake(each);
      const verdict = judgeAgain(each);
      const stays = verdict === undefined;
      if (each.stricter === "weak" && each.lists === undefined)
        expect(verdict?.reason).toBe("certificate_weak");
      if (!open) expect([stays, code]).toEqual([false, code]);
      else expect([stays, verdict]).toEqual([each.stricter === undefined, verdict]);
    },
  );

  test("enough cases are good for the comparison to mean something", () => {
    expect(cases.filter((each) => judgeAgain(each) === undefined).length).toBeGreaterThanOrEqual(good);
  });
});

/** Several things wrong at a time: TLS reports only one of them. */
const combined: Case[] = [
  {
    name: "revoked and expired",
    ...own({}, { notAfter: OVER, serial: 4711 }),
    lists: [list(plainRoot, { serials: [4711] })],
  },
  {
    name: "revoked and weak",
    ...own({}, { key: rsaKey(1024), serial: 4711 }),
    lists: [list(plainRoot, { serials: [4711] })],
  },
  { name: "weak and expired", ...own({}, { key: rsaKey(1024), notAfter: OVER }) },
  {
    name: "for servers only, and expired",
    ...own({ purposes: ext.purposes([PURPOSE.server]) }, { notAfter: OVER }),
  },
  {
    name: "for servers only, and revoked",
    ...own({ purposes: ext.purposes([PURPOSE.server]) }, { serial: 4711 }),
    lists: [list(plainRoot, { serials: [4711] })],
  },
  {
    name: "a stranger's, and expired",
    ca: [plainRoot],
    chain: [client(authority(undefined, "stranger"), {}, { notAfter: OVER })],
  },
  {
    name: "of a CA of the same name, and expired",
    ca: [plainRoot],
    chain: [client(root({}, { key: ecKey() }), {}, { notAfter: OVER })],
  },
  {
    name: "without its intermediate, and expired",
    ca: [plainRoot],
    chain: [client(plainMiddle, {}, { notAfter: OVER })],
  },
  {
    name: "below an intermediate that is expired and has path length 0",
    ...below(path(0), { notAfter: OVER }),
  },
  {
    name: "below an intermediate that is revoked and expired",
    ...below({}, { notAfter: OVER, serial: 4712 }),
    lists: [list(plainRoot, { serials: [4712] }), list(plainMiddle)],
  },
  {
    name: "without a list of its intermediate",
    ca: [plainRoot],
    chain: [client(plainMiddle), plainMiddle],
    lists: [list(plainRoot)],
  },
  { name: "to come", ...own({}, { notBefore: TO_COME }) },
  {
    name: "not for signatures, and expired",
    ...own({ usage: ext.usage(USAGE.certSign) }, { notAfter: OVER }),
  },
];

/** What only TLS decides, in a full handshake. */
const LEFT_TO_TLS = /only a full handshake/;

/** Damaged so that TLS cannot even read them: it gives the handshake up. */
const DAMAGED = ["a path length of what is no CA", "an extension twice", "basic constraints of rubbish"];

describe("a certificate that no TLS has seen is judged as its client would be in a handshake", () => {
  test.each([...chains, ...combined].map((each) => [each.name, each] as const))("%s", async (name, each) => {
    const { ca, chain, lists } = each;
    const [leaf, ...above] = chain.map(({ der }) => der);
    let certificate: X509Certificate;
    let stand: Stand;
    try {
      certificate = new X509Certificate(leaf!);
      stand = await new Stand().start(ca, lists?.join(""));
    } catch {
      // Nobody can show such a certificate, or the proxy does not start with such a CA.
      return;
    }
    await using _stand = stand;
    let real: string | undefined;
    try {
      const peer = await stand.connect(chain);
      const refused = stand.proxy.log.line("refused").then(({ reason }) => reason);
      real = await Promise.race([refused, echoes(peer).then((served) => (served ? undefined : refused))]);
      peer.close();
    } catch {
      // The client's own TLS does not take it.
      return;
    }
    const trust = trusting(
      ca.map(({ pem }) => pem),
      lists,
    );
    const verdict = judge(certificate, () => above, trust, Date.now(), false, { fresh: true });
    if (LEFT_TO_TLS.test(verdict?.detail ?? "")) return;
    const offline =
      verdict?.reason ?? (identify(certificate.subject) === undefined ? "identity_invalid" : undefined);
    if (DAMAGED.includes(name)) {
      expect([offline, real]).toEqual(["certificate_untrusted", "handshake_failed"]);
    } else expect([offline, verdict?.detail]).toEqual([real, verdict?.detail]);
  });
});

/** A proxy, and the files that it reads. */
class Stand implements AsyncDisposable {
  readonly #folder = new Folder();
  readonly #origin = echoOrigin();
  proxy!: TestProxy;

  async start(ca: readonly Odd[], lists?: string): Promise<this> {
    this.proxy = await startProxy([this.#origin.target], this.#over(ca, lists));
    return this;
  }

  async reload(ca: readonly Odd[], lists?: string): Promise<void> {
    await this.proxy.proxy.reload(testConfig([this.#origin.target], this.#over(ca, lists)));
  }

  #over(ca: readonly Odd[], lists: string | undefined) {
    const path = (name: string, text: string) => {
      const file = this.#folder.path(name);
      writeFileSync(file, text);
      return file;
    };
    const crl = lists === undefined ? {} : { crl: path("crl.pem", lists) };
    return { watch: false, listener: { ca: path("ca.pem", ca.map(({ pem }) => pem).join("")), ...crl } };
  }

  /** Connects a client with this chain, which may be refused. */
  async connect(chain: readonly Odd[]): Promise<Peer> {
    const key = String(chain[0]!.key.export({ type: "pkcs8", format: "pem" }));
    return connect(this.proxy.port, { identity: { cert: chain.map(({ pem }) => pem).join(""), key } });
  }

  async [Symbol.asyncDispose]() {
    await this.proxy[Symbol.asyncDispose]();
    this.#origin[Symbol.dispose]();
    this.#folder[Symbol.dispose]();
  }
}

describe("a CA that changes", () => {
  const between = middle(plainRoot);
  const chain = [client(between), between];

  test.each<[string, Extensions]>([
    ["has path length 0 now", path(0)],
    ["is for servers only now", { purposes: ext.purposes([PURPOSE.server]) }],
    ["has name constraints now", only(name.directory([["O", "elsewhere"]]))],
    ["has an unknown critical extension now", { x: ext.unknown(true) }],
    ["is no CA any more", { basic: ext.basic(false) }],
  ])("a reload ends a connection, and no other is admitted, when its CA %s", async (_, extensions) => {
    await using stand = await new Stand().start([plainRoot]);
    const inside = await stand.connect(chain);
    expect(await echoes(inside)).toBe(true);
    await stand.reload([root(extensions)]);
    const reason = "certificate_untrusted";
    expect(await stand.proxy.log.line("closed", "authorization_revoked")).toMatchObject({ detail: reason });
    await inside.ended;
    const another = await stand.connect(chain);
    expect(await stand.proxy.log.line("refused", reason)).toBeDefined();
    inside.close();
    another.close();
  });

  test("a connection whose CA is the same but written anew stays open at a reload", async () => {
    await using stand = await new Stand().start([plainRoot]);
    const inside = await stand.connect(chain);
    expect(await echoes(inside)).toBe(true);
    await stand.reload([root({}, { serial: 77 })]);
    expect(await echoes(inside)).toBe(true);
    inside.close();
  });
});

describe("weak certificates", () => {
  const rsaRoot = root({}, { key: sharedKey });
  test.each<[string, Odd, readonly Odd[], RegExp]>([
    ["signed with SHA-1", rsaRoot, [client(rsaRoot, {}, { signing: SIGNINGS.rsaSha1 })], /SHA-1/],
    ["signed with MD5", rsaRoot, [client(rsaRoot, {}, { signing: SIGNINGS.rsaMd5 })], /MD5/],
    ["signed with RSA-PSS and SHA-1", rsaRoot, [client(rsaRoot, {}, { signing: SIGNINGS.pss1 })], /SHA-1/],
    ["of an RSA key of 1024 bits", plainRoot, [client(plainRoot, {}, { key: rsaKey(1024) })], /1024 bits/],
    [
      "below an intermediate that is signed with SHA-1",
      rsaRoot,
      weakMiddle({ signing: SIGNINGS.rsaSha1 }).chain,
      /intermediate.*SHA-1/,
    ],
  ])("a client certificate %s is refused as weak", async (_, ca, chain, detail) => {
    await using stand = await new Stand().start([ca]);
    const client_ = await stand.connect(chain);
    const line = await stand.proxy.log.line("refused");
    expect(line.reason).toBe("certificate_weak");
    expect(line.detail).toMatch(detail);
    client_.close();
  });

  test("certificate policies are left to TLS", async () => {
    await using stand = await new Stand().start([plainRoot]);
    const demanding = middle(plainRoot, { p: ext.policies(P1), c: ext.policyConstraints(0) });
    const good = await stand.connect([client(demanding, { p: ext.policies(P1) }), demanding]);
    expect(await echoes(good)).toBe(true);
    const bad = await stand.connect([client(demanding), demanding]);
    expect(await stand.proxy.log.line("refused")).toMatchObject({ reason: "certificate_untrusted" });
    // Adding revocation lists does not change this.
    await stand.reload([plainRoot], list(plainRoot) + list(demanding));
    expect(await echoes(good)).toBe(true);
    good.close();
    bad.close();
  });
});
