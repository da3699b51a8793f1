// What a refusal shows of a certificate that proves nothing: escaped and short, whatever is in its fields.

import { X509Certificate } from "node:crypto";
import { describe, expect, test } from "bun:test";
import { claimsOf } from "../../src/auth/claims.ts";
import { identityFault } from "../../src/auth/identity.ts";
import { cert } from "../support/peer.ts";
import { issue, makeAuthority } from "../support/issue.ts";

test("a certificate's claims are its names, serial number, issuer and end", () => {
  const certificate = new X509Certificate(cert("alice.crt"));
  expect(claimsOf(certificate)).toEqual({
    claimed: "alice@admin",
    serial: certificate.serialNumber,
    issuer: "O=tcpproxy test, CN=tcpproxy test CA",
    notAfter: certificate.validToDate.toISOString(),
  });
});

test.each([
  ["hostile-two-cns", /^[^,]+, [^,]+$/],
  ["hostile-newline", /\\u000a/],
  ["hostile-bidi", /\\u202e/],
])("a certificate's claims are escaped: %s", (name, claimed) => {
  const shown = claimsOf(new X509Certificate(cert(`${name}.crt`))).claimed!;
  expect(shown).toMatch(claimed);
  expect(shown).toMatch(/^[\x20-\x7e]*$/);
});

test("a certificate's claims are cut short where names have 60,000 bytes", () => {
  const huge = makeAuthority([["O", "\u202e".repeat(500)]]);
  const { cert: pem } = issue("x".repeat(60_000), huge);
  const claims = claimsOf(new X509Certificate(pem));
  for (const value of Object.values(claims)) expect(value!.length).toBeLessThanOrEqual(257);
  expect(claims.claimed).toBe(`${"x".repeat(256)}…`);
});

test("a certificate's claims leave out what is missing or cannot be read", () => {
  expect(claimsOf(undefined)).toEqual({});
  expect(claimsOf(new X509Certificate(cert("hostile-no-cn.crt"))).claimed).toBeUndefined();
  const odd = {
    get subject(): string {
      throw new Error("odd");
    },
    serialNumber: "01",
    validTo: "never",
    validToDate: new Date(NaN),
  };
  expect(claimsOf(odd)).toEqual({ claimed: undefined, serial: "01", issuer: undefined, notAfter: "never" });
});

describe("identityFault", () => {
  test.each([
    [undefined, "no Common Name"],
    ["O=alice@admin", "no Common Name"],
    ["CN=alice@admin\nCN=bob@admin", "2 Common Names"],
    ["CN=alice", "no @"],
    ["CN=a@b@c", "2 times @"],
    ["CN=@admin", "nothing before the @"],
    ["CN=alice@", "nothing after the @"],
    ["CN=ali\u200bce@admin", "the forbidden character U+200B"],
    ["CN=al ice@admin", "the forbidden character U+0020"],
    ["CN=alice@admin\\0A", "the forbidden character U+000A"],
  ])("the identity fault of the subject %p is %p", (subject, fault) => {
    expect(identityFault(subject)).toBe(fault);
  });
});
