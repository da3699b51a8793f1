// Revocation lists, and whether a chain would still pass a handshake under other CAs, lists and dates.

import { X509Certificate, createPrivateKey } from "node:crypto";
import { describe, expect, test } from "bun:test";
import { atOnce } from "../../src/lib/portions.ts";
import { isListed, readRevocationList } from "../../src/auth/revocation.ts";
import { judge as judgeLeaf } from "../../src/auth/certificate-check.ts";
import type { Verdict } from "../../src/auth/chain-rules.ts";
import type { Trust } from "../../src/auth/trust.ts";
import { issue, makeAuthority, revoke, testAuthority, type Authority } from "../support/issue.ts";
import { blocksOf, certificateOf, listsOf, trusting as trustOf } from "../support/lists.ts";
import { cert } from "../support/peer.ts";
import { Random } from "../support/random.ts";

/** All PEM blocks of a file, as DER. */
const der = (name: string) => blocksOf(cert(name));

/** A chain, the client's certificate first. */
function judge(chain: readonly Uint8Array[], trust: Trust, at: Date): Verdict["reason"] | undefined {
  const [leaf, ...above] = chain;
  return judgeLeaf(leaf && new X509Certificate(leaf), () => above, trust, at.getTime())?.reason;
}

const list = (name: string) => listsOf(cert(name))[0]!;
const now = new Date("2026-06-01");

describe("revocation lists", () => {
  test("a revocation list has its issuer, its serial numbers, and the date of the next list", () => {
    const revoked = certificateOf(cert("revoked.crt"));
    const read = list("crl.pem");
    expect(read.issuer).toBe(revoked.issuer);
    expect(read.count).toBe(1);
    expect(isListed(read, revoked.serial)).toBe(true);
    expect(isListed(read, certificateOf(cert("alice.crt")).serial)).toBe(false);
    expect(new Date(read.nextUpdate!).getUTCFullYear()).toBeGreaterThan(2100);
    expect(list("crl-outdated.pem").nextUpdate).toEqual(Date.UTC(2025, 0, 1));
  });

  test("a certificate's serial number is the one that the runtime reads", () => {
    for (const name of ["alice.crt", "revoked.crt", "ca.crt", "server.crt"]) {
      const { serial } = certificateOf(cert(name));
      expect(BigInt(`0x${serial}`)).toBe(BigInt(`0x${new X509Certificate(cert(name)).serialNumber}`));
    }
  });

  test("a revocation list finds each serial number that it has, and no other", () => {
    const random = new Random(2);
    for (let round = 0; round < 20; round++) {
      const held = new Set(Array.from({ length: random.int(0, 300) }, () => random.int(1, 2_000)));
      const [read] = listsOf(revoke([...held]));
      expect(read!.count).toBe(held.size);
      for (let serial = 1; serial <= 2_000; serial++) {
        const hex = serial.toString(16);
        expect(isListed(read!, hex.padStart(hex.length + (hex.length % 2), "0"))).toBe(held.has(serial));
      }
    }
  });

  test("a revocation list that is cut short anywhere is refused with an exception", () => {
    const [good] = der("crl.pem");
    for (let length = 0; length < good!.length; length++) {
      expect(() => atOnce(readRevocationList(good!.subarray(0, length)))).toThrow();
    }
  });

  test("a revocation list that is damaged is never accepted as signed", () => {
    const [good] = der("crl.pem");
    const random = new Random(1);
    let refused = 0;
    for (let i = 0; i < 3_000; i++) {
      const bad = Buffer.from(good!);
      for (let n = random.int(1, 3); n > 0; n--) bad[random.int(0, bad.length - 1)] = random.int(0, 255);
      if (bad.equals(good!)) continue;
      let read;
      try {
        read = atOnce(readRevocationList(bad));
      } catch {
        refused++;
        continue;
      }
      const trust = { ...trustOf([cert("ca.crt")]), revocations: [read] };
      expect(judge(der("alice.crt"), trust, now)).toBe("certificate_untrusted");
    }
    expect(refused).toBeGreaterThan(100);
  });
});

describe("the check of a known chain", () => {
  const one = trustOf([cert("ca.crt")]);
  const listed: Trust = { ...one, revocations: [list("crl.pem")] };

  test.each<[string, Uint8Array[], Trust, Date, string | undefined]>([
    ["is accepted while nothing changes", der("alice.crt"), one, now, undefined],
    [
      "is accepted when its root is one of several",
      der("alice.crt"),
      trustOf([cert("ca2.crt"), cert("ca.crt")]),
      now,
      undefined,
    ],
    [
      "is untrusted when its root was removed",
      der("alice.crt"),
      trustOf([cert("ca2.crt")]),
      now,
      "certificate_untrusted",
    ],
    [
      "is untrusted when its root has the same name and another key",
      der("alice.crt"),
      trustOf([cert("stranger-ca.crt")]),
      now,
      "certificate_untrusted",
    ],
    ["is untrusted when there is no CA", der("alice.crt"), trustOf([]), now, "certificate_untrusted"],
    ["is expired after its notAfter", der("expired.crt"), one, now, "certificate_expired"],
    ["is expired before its notBefore", der("not-yet-valid.crt"), one, now, "certificate_expired"],
    ["is revoked when it is listed", der("revoked.crt"), listed, now, "certificate_revoked"],
    ["is accepted when another one is listed", der("alice.crt"), listed, now, undefined],
    [
      "is untrusted when the list is outdated",
      der("alice.crt"),
      { ...one, revocations: [list("crl-outdated.pem")] },
      now,
      "certificate_untrusted",
    ],
    [
      "is revoked when an outdated list has it",
      der("revoked.crt"),
      { ...one, revocations: [list("crl-outdated.pem")] },
      now,
      "certificate_revoked",
    ],
    [
      "is untrusted when there are lists, but none of its issuer",
      der("second-root.crt"),
      trustOf([cert("ca2.crt")], [cert("crl.pem")]),
      now,
      "certificate_untrusted",
    ],
    [
      "of three certificates is accepted through its intermediate CA",
      [...der("chained.crt"), ...der("ca.crt")],
      one,
      now,
      undefined,
    ],
    [
      "of three certificates needs a list of its intermediate CA too",
      [...der("chained.crt"), ...der("ca.crt")],
      listed,
      now,
      "certificate_untrusted",
    ],
  ])("a chain %s", (_, chain, trust, at, verdict) => {
    expect(judge(chain, trust, at)).toBe(verdict as ReturnType<typeof judge>);
  });

  test("a chain is valid until the millisecond before notAfter", () => {
    const { validToDate } = new X509Certificate(cert("expired.crt"));
    expect(judge(der("expired.crt"), one, new Date(validToDate.getTime() - 1))).toBeUndefined();
    expect(judge(der("expired.crt"), one, validToDate)).toBe("certificate_expired");
  });
});

describe("the path to a root", () => {
  const bytes = (pem: string) => blocksOf(pem)[0]!;
  const trusting = (authorities: Pick<Authority, "cert">[], ...lists: string[]): Trust =>
    trustOf(
      authorities.map((each) => each.cert),
      lists.length === 0 ? undefined : lists,
    );
  const old = makeAuthority([["CN", "old root"]]);
  const fresh = makeAuthority([["CN", "new root"]]);
  const middleOfOld = makeAuthority([["CN", "middle"]], old);
  const middleOfNew = makeAuthority([["CN", "middle"]], fresh, { serial: 77 });

  test("the path to a root follows signatures, not names", () => {
    const client = issue("alice@admin", middleOfOld);
    for (const chain of [
      [client.cert, middleOfNew.cert],
      [client.cert, middleOfNew.cert, middleOfOld.cert],
      [client.cert, middleOfOld.cert, issue("bob@admin", fresh).cert],
      [client.cert, middleOfOld.cert, fresh.cert],
    ]) {
      expect(judge(chain.map(bytes), trusting([fresh]), now)).toBe("certificate_untrusted");
      expect(judge([...chain, middleOfOld.cert].map(bytes), trusting([old]), now)).toBeUndefined();
    }
  });

  test("the path to a root does not lead through a certificate that is not a CA's", () => {
    const alice = issue("alice@admin", fresh);
    const forger: Authority = {
      ...fresh,
      name: [["CN", "alice@admin"]],
      signer: createPrivateKey(alice.key),
    };
    const forged = issue("root@admin", forger);
    expect(judge([forged.cert, alice.cert].map(bytes), trusting([fresh]), now)).toBe("certificate_untrusted");
  });

  test("the path to a root does not end at a trusted intermediate CA, as in a handshake", () => {
    const client = issue("alice@admin", middleOfNew);
    const chain = [client.cert, middleOfNew.cert].map(bytes);
    expect(judge(chain, trusting([middleOfNew]), now)).toBe("certificate_untrusted");
    expect(judge(chain, trusting([middleOfNew, fresh]), now)).toBeUndefined();
  });

  test("the path to a root does not lead through a revoked intermediate CA, sent or configured", () => {
    const client = issue("alice@admin", middleOfNew);
    const chain = [client.cert, middleOfNew.cert].map(bytes);
    const lists = (serials: number[]) => [revoke(serials, fresh), revoke([], middleOfNew)];
    for (const authorities of [[fresh], [middleOfNew, fresh]]) {
      expect(judge(chain, trusting(authorities, ...lists([77])), now)).toBe("certificate_revoked");
      expect(judge(chain, trusting(authorities, ...lists([78])), now)).toBeUndefined();
    }
  });

  test("the path to a root is expired where one of its certificates is, unless it is revoked or untrusted", () => {
    const late = makeAuthority([["CN", "middle"]], fresh, { notAfter: new Date("2026-05-01"), serial: 5 });
    const client = issue("alice@admin", late, { serial: 6 });
    const chain = [client.cert, late.cert].map(bytes);
    expect(judge(chain, trusting([fresh]), now)).toBe("certificate_expired");
    expect(judge(chain, trusting([fresh], revoke([], fresh), revoke([6], late)), now)).toBe(
      "certificate_revoked",
    );
    expect(judge(chain, trusting([old]), now)).toBe("certificate_untrusted");
  });

  test("the path to a root is found when the root is there twice, expired and renewed, under one key", () => {
    const expired = issue("x", fresh);
    const again = { ...fresh, cert: rootAgain(fresh) };
    expect(judge([bytes(expired.cert)], trusting([again, fresh]), now)).toBeUndefined();
    expect(judge([bytes(expired.cert)], trusting([again]), now)).toBe("certificate_expired");
  });

  test("the path to a root is given up among many certificates that all sign each other", () => {
    const maze = Array.from({ length: 15 }, (_, serial) =>
      bytes(
        makeAuthority([["CN", "maze"]], { ...old, name: [["CN", "maze"]] }, { serial, key: old.key }).cert,
      ),
    );
    const client = issue("alice@admin", { ...old, name: [["CN", "maze"]] });
    expect(judge([bytes(client.cert), ...maze], trusting([testAuthority]), now)).toBe(
      "certificate_untrusted",
    );
  });

  test("the path to a root is not found for unreadable certificates or an empty chain", () => {
    expect(judge([], trusting([fresh]), now)).toBe("certificate_untrusted");
    expect(judge([...der("alice.crt"), Buffer.from("rubbish")], trusting([fresh]), now)).toBe(
      "certificate_untrusted",
    );
    expect(judge([bytes(issue("x", old).cert), new Uint8Array()], trusting([fresh]), now)).toBe(
      "certificate_untrusted",
    );
  });

  /** An expired certificate of a root, for the same name and key. */
  function rootAgain({ name, signer }: Authority): string {
    const notAfter = new Date("2026-01-01");
    return makeAuthority(name, { ...fresh, signer }, { notAfter, key: fresh.key }).cert;
  }
});
