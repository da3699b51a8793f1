// The client's identity from a certificate's subject. Anything but one Common Name user@group is no identity.

import { X509Certificate } from "node:crypto";
import { describe, expect, test } from "bun:test";
import { identify, isGroupName } from "../../src/auth/identity.ts";
import { INVISIBLE } from "../support/invisible.ts";
import { issue } from "../support/issue.ts";
import { cert } from "../support/peer.ts";

describe("identify on printed subjects", () => {
  test.each([
    ["CN=alice@admin", "alice@admin"],
    ["O=Example\nOU=platform\nCN=alice@admin", "alice@admin"],
    ["CN=alice@admin\nemailAddress=mallory@guest", "alice@admin"],
    ["CN=mallory@guest\\,CN=alice", "mallory@guest,CN=alice"],
    ["CN=a\\+b@admin", "a+b@admin"],
    ["CN=a\\\\0A@admin", "a\\0A@admin"],
    ["O=x\\0ACN=alice@admin\nCN=mallory@guest", "mallory@guest"],
    ["OU=x \\+ CN=alice@admin\nCN=mallory@guest", "mallory@guest"],
    ["CN=jürgen@größe", "jürgen@größe"],
    ["C=DE + CN=alice@admin", "alice@admin"],
  ])("the identity in the subject %p is %p", (subject, client) => {
    expect(identify(subject)?.client).toBe(client);
  });

  test.each([
    undefined,
    "",
    "O=alice@admin",
    "CN=",
    "CN=alice",
    "CN=@",
    "CN=@admin",
    "CN=alice@",
    "CN=alice@admin@admin",
    "CN=alice@admin\nCN=alice@admin",
    "CN=alice@admin\nCN=mallory@guest",
    "CN=mallory@guest + CN=alice@admin",
    "CN=al ice@admin",
    "CN=alice@admin\\ ",
    "CN=alice@admin\\0A",
    "CN=alice@admin\\00",
    "CN=alice@admin\\7F",
    "CN=alice@admin\u00a0",
    "CN=ali\u200bce@admin",
    "CN=\u202enimda@ecila",
    "CN=alice@admin\u2028",
    "CN=alice@admin\ufeff",
    "CN=alice@admin\ud800",
    ...INVISIBLE.map((char) => `CN=ali${char}ce@admin`),
    ...INVISIBLE.map((char) => `CN=alice@admin${char}`),
    "cn=alice@admin",
    " CN=alice@admin",
    "serialNumber=CN=alice@admin",
  ])("the identity in the subject %p is undefined", (subject) => {
    expect(identify(subject)).toBeUndefined();
  });
});

test("an identity's user and group are the two sides of the @", () => {
  expect(identify("CN=alice@admin")).toEqual({ client: "alice@admin", user: "alice", group: "admin" });
});

describe("identify on certificates", () => {
  test.each([
    ["alice", "alice@admin"],
    ["dave", "dave@admin"],
    ["lookalike-newline-in-o", "mallory@guest"],
    ["lookalike-group-case", "alice@Admin"],
    ["lookalike-escaped", "mallory@guest,CN=alice"],
    ["hostile-two-cns", undefined],
    ["hostile-two-cns-reversed", undefined],
    ["hostile-two-cns-in-one-rdn", undefined],
    ["hostile-no-cn", undefined],
    ["hostile-newline", undefined],
    ["hostile-newline-in-o", undefined],
    ["hostile-nbsp", undefined],
    ["hostile-bidi", undefined],
  ])("the identity in the certificate %s is %p", (name, client) => {
    const certificate = new X509Certificate(cert(`${name}.crt`));
    expect(identify(certificate.subject)?.client).toBe(client!);
  });

  test.each(INVISIBLE)("a certificate whose name contains %j has no identity", (char) => {
    const certificate = new X509Certificate(issue(`ali${char}ce@admin`).cert);
    expect(certificate.subject).toContain("@admin");
    expect(identify(certificate.subject)).toBeUndefined();
  });

  test("an identity is the only Common Name of the certificate as node:crypto parses it", () => {
    for (const name of ["alice", "dave", "ecdsa", "lookalike-escaped", "lookalike-newline-in-o"]) {
      const certificate = new X509Certificate(cert(`${name}.crt`));
      const { subject } = certificate.toLegacyObject() as { subject: { CN: string } };
      expect(identify(certificate.subject)?.client).toBe(subject.CN);
    }
  });
});

test.each([
  ["admin", true],
  ["größe", true],
  ["", false],
  ["a@b", false],
  ["a b", false],
  ["a\n", false],
  ["a\u200b", false],
])("the name %j can be a group: %p", (name, can) => {
  expect(isGroupName(name)).toBe(can);
});

test("of ASCII, every visible character but @ and * can be in a group", () => {
  const all = Array.from({ length: 128 }, (_, code) => String.fromCharCode(code));
  const visible = all.slice(33, 127).filter((char) => char !== "@" && char !== "*");
  expect(all.filter((char) => isGroupName(`a${char}b`))).toEqual(visible);
});
