// The rules for a complete chain of certificates: purposes, path lengths, names, strength, revocation and dates. Pure.

import type { Certificate } from "./certificate.ts";
import { violation } from "./name-constraints.ts";
import { isInForce, isListed, isSignedBy, mayHaveSigned, type RevocationList } from "./revocation.ts";
import type { Chain, Trust } from "./trust.ts";

/** Why a certificate is refused, with the detail. */
export interface Verdict {
  readonly reason:
    | "certificate_untrusted"
    | "certificate_expired"
    | "certificate_revoked"
    | "certificate_weak"
    | "handshake_failed";
  readonly detail?: string;
}

export function untrusted(detail: string): Verdict {
  return { reason: "certificate_untrusted", detail };
}

/** Checks purposes, path lengths and names. */
export function judgePurposes(chain: Chain, vouched: boolean): Verdict | undefined {
  const root = chain.length - 1;
  let below = 0;
  for (const [i, certificate] of chain.entries()) {
    const {
      problem,
      noAuthority,
      noClient,
      onlyRoot,
      pathLength,
      constraints,
      demandsPolicy,
      subject,
      issuer,
    } = certificate;
    const noCa = onlyRoot && i < root ? "it is not a CA" : noAuthority;
    const wrong = problem ?? (i === 0 ? noClient : noCa);
    if (wrong !== undefined) return untrusted(`${who(chain, i)}: ${wrong}`);
    if (i > 0) {
      if (below > pathLength)
        return untrusted(`${who(chain, i)}: its path length allows fewer authorities below it`);
      if (subject !== issuer) below++;
    }
    if (demandsPolicy && !vouched) {
      return untrusted(`${who(chain, i)}: it demands policies; only a full handshake checks them`);
    }
    if (constraints === undefined || i === 0) continue;
    for (const [j, each] of chain.slice(0, i).entries()) {
      if (j > 0 && each.subject === each.issuer) continue;
      const broken = violation(constraints, each.names(), j === 0);
      if (broken !== undefined) return untrusted(`${who(chain, j)}: ${broken}`);
    }
  }
  return undefined;
}

/** Checks the strength of keys and signatures. */
export function judgeStrength(chain: Chain): Verdict | undefined {
  const root = chain.length - 1;
  for (const [i, { weakKey, weakSignature }] of chain.entries()) {
    const weakness = weakKey ?? (i < root ? weakSignature : undefined);
    if (weakness !== undefined)
      return { reason: "certificate_weak", detail: `${who(chain, i)}: ${weakness}` };
  }
  return undefined;
}

function who(chain: Chain, i: number): string {
  return i === 0 ? "the certificate" : i === chain.length - 1 ? "its root CA" : "an intermediate CA";
}

/** Checks what depends on the moment: revocation, then dates. */
export function judgeMoment(chain: Chain, trust: Trust, now: number): Verdict | undefined {
  return judgeRevocation(chain, trust, now) ?? judgeDates(chain, now);
}

export function judgeRevocation(chain: Chain, { revocations }: Trust, now: number): Verdict | undefined {
  if (revocations === undefined) return undefined;
  const verdicts = chain.map((certificate, i) =>
    // A root is its own issuer.
    revocationOf(certificate, chain[i + 1] ?? certificate, revocations, now),
  );
  const revoked = verdicts.find((verdict) => verdict?.reason === "certificate_revoked");
  return revoked ?? verdicts.find((each) => each !== undefined);
}

export function judgeDates(chain: Chain, now: number): Verdict | undefined {
  const current = chain.every(({ notBefore, notAfter }) => notBefore <= now && now < notAfter);
  return current ? undefined : { reason: "certificate_expired" };
}

/** The details use the words of TLS. */
function revocationOf(
  { serial }: Certificate,
  issuer: Certificate,
  revocations: readonly RevocationList[],
  now: number,
): Verdict | undefined {
  const lists = revocations.filter(
    (list) => list.problem === undefined && mayHaveSigned(issuer, list) && isSignedBy(list, issuer),
  );
  if (lists.some((list) => isListed(list, serial))) {
    return { reason: "certificate_revoked", detail: "CERT_REVOKED" };
  }
  if (lists.some((list) => isInForce(list, now))) return undefined;
  // No list says whether it is revoked: fail closed.
  return untrusted(lists.length === 0 ? "UNABLE_TO_GET_CRL" : "CRL_HAS_EXPIRED");
}
