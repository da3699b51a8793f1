import { X509Certificate, createPrivateKey } from "node:crypto";
import { describe, expect, test } from "bun:test";
import { atOnce } from "../../src/lib/portions.ts";
import { isListed, readRevocationList } from "../../src/auth/revocation.ts";
import { judge as judgeLeaf, type Trust, type Verdict } from "../../src/auth/certificate-check.ts";
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
  test("have their issuer, what is revoked, and when the next one is due", () => {
    const revoked = certificateOf(cert("revoked.crt"));
    const read = list("crl.pem");
    expect(read.issuer).toBe(revoked.issuer);
    expect(read.count).toBe(1);
    expect(isListed(read, revoked.serial)).toBe(true);
    expect(isListed(read, certificateOf(cert("alice.crt")).serial)).toBe(false);
    expect(new Date(read.nextUpdate!).getUTCFullYear()).toBeGreaterThan(2100);
    expect(list("crl-outdated.pem").nextUpdate).toEqual(Date.UTC(2025, 0, 1));
  });

  test("serial numbers are those that the runtime has for the certificate", () => {
    for (const name of ["alice.crt", "revoked.crt", "ca.crt", "server.crt"]) {
      const { serial } = certificateOf(cert(name));
      expect(BigInt(`0x${serial}`)).toBe(BigInt(`0x${new X509Certificate(cert(name)).serialNumber}`));
    }
  });

  test("find each of the numbers they hold, and no other", () => {
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

  test("that end early are an exception, wherever they end", () => {
    const [good] = der("crl.pem");
    for (let length = 0; length < good!.length; length++) {
      expect(() => atOnce(readRevocationList(good!.subarray(0, length)))).toThrow();
    }
  });

  test("that are damaged are read or are an exception, and nothing else; none is believed", () => {
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

describe("a chain that was good", () => {
  const one = trustOf([cert("ca.crt")]);
  const listed: Trust = { ...one, revocations: [list("crl.pem")] };

  test.each<[string, Uint8Array[], Trust, Date, string | undefined]>([
    ["is good while nothing changes", der("alice.crt"), one, now, undefined],
    [
      "is good when its root is one of several",
      der("alice.crt"),
      trustOf([cert("ca2.crt"), cert("ca.crt")]),
      now,
      undefined,
    ],
    [
      "is not trusted when its root is gone",
      der("alice.crt"),
      trustOf([cert("ca2.crt")]),
      now,
      "certificate_untrusted",
    ],
    [
      "is not trusted when its root has the same name and another key",
      der("alice.crt"),
      trustOf([cert("stranger-ca.crt")]),
      now,
      "certificate_untrusted",
    ],
    ["is not trusted when nobody is", der("alice.crt"), trustOf([]), now, "certificate_untrusted"],
    ["is expired when its time is over", der("expired.crt"), one, now, "certificate_expired"],
    ["is expired when its time has not come", der("not-yet-valid.crt"), one, now, "certificate_expired"],
    ["is revoked when it is listed", der("revoked.crt"), listed, now, "certificate_revoked"],
    ["is good when another is listed", der("alice.crt"), listed, now, undefined],
    [
      "is not trusted when the list is outdated",
      der("alice.crt"),
      { ...one, revocations: [list("crl-outdated.pem")] },
      now,
      "certificate_untrusted",
    ],
    [
      "is revoked when it is listed, outdated or not",
      der("revoked.crt"),
      { ...one, revocations: [list("crl-outdated.pem")] },
      now,
      "certificate_revoked",
    ],
    [
      "is not trusted when there are lists, but none of its issuer",
      der("second-root.crt"),
      trustOf([cert("ca2.crt")], [cert("crl.pem")]),
      now,
      "certificate_untrusted",
    ],
    [
      "of three is good through the one in the middle",
      [...der("chained.crt"), ...der("ca.crt")],
      one,
      now,
      undefined,
    ],
    [
      "of three needs a list of the one in the middle too",
      [...der("chained.crt"), ...der("ca.crt")],
      listed,
      now,
      "certificate_untrusted",
    ],
  ])("%s", (_, chain, trust, at, verdict) => {
    expect(judge(chain, trust, at)).toBe(verdict as ReturnType<typeof judge>);
  });

  test("is judged by the second: its last moment is the one before notAfter", () => {
    const { validToDate } = new X509Certificate(cert("expired.crt"));
    expect(judge(der("expired.crt"), one, new Date(validToDate.getTime() - 1))).toBeUndefined();
    expect(judge(der("expired.crt"), one, validToDate)).toBe("certificate_expired");
  });
});

describe("a way up", () => {
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

  test("is by signatures, not by names: another's certificate beside one's own vouches for nobody", () => {
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

  test("does not lead through a certificate that is no CA's", () => {
    const alice = issue("alice@admin", fresh);
    const forger: Authority = {
      ...fresh,
      name: [["CN", "alice@admin"]],
      signer: createPrivateKey(alice.key),
    };
    const forged = issue("root@admin", forger);
    expect(judge([forged.cert, alice.cert].map(bytes), trusting([fresh]), now)).toBe("certificate_untrusted");
  });

  test("ends in a root: an authority under another one does not stand alone, as in a handshake", () => {
    const client = issue("alice@admin", middleOfNew);
    const chain = [client.cert, middleOfNew.cert].map(bytes);
    expect(judge(chain, trusting([middleOfNew]), now)).toBe("certificate_untrusted");
    expect(judge(chain, trusting([middleOfNew, fresh]), now)).toBeUndefined();
  });

  test("is closed by a revoked intermediate, whether the client sent it or it is an authority", () => {
    const client = issue("alice@admin", middleOfNew);
    const chain = [client.cert, middleOfNew.cert].map(bytes);
    const lists = (serials: number[]) => [revoke(serials, fresh), revoke([], middleOfNew)];
    for (const authorities of [[fresh], [middleOfNew, fresh]]) {
      expect(judge(chain, trusting(authorities, ...lists([77])), now)).toBe("certificate_revoked");
      expect(judge(chain, trusting(authorities, ...lists([78])), now)).toBeUndefined();
    }
  });

  test("is out of date where one on it is, and that is said last", () => {
    const late = makeAuthority([["CN", "middle"]], fresh, { notAfter: new Date("2026-05-01"), serial: 5 });
    const client = issue("alice@admin", late, { serial: 6 });
    const chain = [client.cert, late.cert].map(bytes);
    expect(judge(chain, trusting([fresh]), now)).toBe("certificate_expired");
    expect(judge(chain, trusting([fresh], revoke([], fresh), revoke([6], late)), now)).toBe(
      "certificate_revoked",
    );
    expect(judge(chain, trusting([old]), now)).toBe("certificate_untrusted");
  });

  test("is found when the same root is there twice, old and new, under one key", () => {
    const expired = issue("x", fresh);
    const again = { ...fresh, cert: rootAgain(fresh) };
    expect(judge([bytes(expired.cert)], trusting([again, fresh]), now)).toBeUndefined();
    expect(judge([bytes(expired.cert)], trusting([again]), now)).toBe("certificate_expired");
  });

  test("is none through a maze of certificates that all vouch for each other", () => {
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

  test("is none from what cannot be read, and none from nothing", () => {
    expect(judge([], trusting([fresh]), now)).toBe("certificate_untrusted");
    expect(judge([...der("alice.crt"), Buffer.from("rubbish")], trusting([fresh]), now)).toBe(
      "certificate_untrusted",
    );
    expect(judge([bytes(issue("x", old).cert), new Uint8Array()], trusting([fresh]), now)).toBe(
      "certificate_untrusted",
    );
  });

  /** A root's certificate of old, for the same name and key. */
  function rootAgain({ name, signer }: Authority): string {
    const notAfter = new Date("2026-01-01");
    return makeAuthority(name, { ...fresh, signer }, { notAfter, key: fresh.key }).cert;
  }
});
