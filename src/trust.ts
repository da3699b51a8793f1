// Whether a certificate that was good when its session was made is good under the rules of now. TLS verifies a chain
// once, in a full handshake; this is for what changes after it, and for sessions that are resumed. Pure.

import { X509Certificate } from "node:crypto";
import { pemBlocks, readCertificateId, readRevocationList, type RevocationList } from "./der.ts";

/** Who is trusted, and what has been revoked. */
export interface Trust {
  readonly authorities: readonly X509Certificate[];
  /** Undefined where revocation is not checked at all. */
  readonly revocations: readonly RevocationList[] | undefined;
}

/** Why a certificate is no good any more. */
export type Verdict = "certificate_untrusted" | "certificate_expired" | "certificate_revoked";

/** What PEM blocks of certificates and of revocation lists come to; both have been checked before. */
export function trustIn({ ca, crl }: { ca: readonly string[]; crl: readonly string[] | undefined }): Trust {
  return {
    authorities: ca.map((pem) => new X509Certificate(pem)),
    revocations: crl?.flatMap((pem) => pemBlocks(pem, "X509 CRL").map(({ der }) => readRevocationList(der))),
  };
}

/**
 * Judges a certificate that was good in the handshake. It may be good now by another way than then, so that every
 * signature on the way is verified anew. What cannot be read is not trusted.
 * @param sent answers, in DER, what there is above the certificate: as far as TLS followed it, or as the client sent it.
 *   Asked only where the authorities alone do not tell, as it takes its time
 * @returns undefined where it is still good; what is worse than being out of date comes first
 */
export function judge(
  leaf: X509Certificate | undefined,
  sent: () => readonly Uint8Array[],
  trust: Trust,
  now: Date,
): Verdict | undefined {
  if (leaf === undefined) return "certificate_untrusted";
  try {
    const verdict = judgeOne(leaf, trust.authorities, trust, now, new Map());
    if (verdict === undefined || verdict === "certificate_revoked") return verdict;
    const between = sent().map((der) => new X509Certificate(der));
    const issuers = [...trust.authorities, ...between.filter(({ ca }) => ca)];
    return judgeOne(leaf, issuers, trust, now, new Map());
  } catch {
    return "certificate_untrusted";
  }
}

/** @param known what has been found out of others; whoever is being judged is not yet trusted to vouch for itself */
function judgeOne(
  certificate: X509Certificate,
  issuers: readonly X509Certificate[],
  trust: Trust,
  now: Date,
  known: Map<string, Verdict | undefined>,
): Verdict | undefined {
  const id = certificate.fingerprint256;
  if (known.has(id)) return known.get(id);
  known.set(id, "certificate_untrusted");
  const late = isCurrent(certificate, now) ? undefined : "certificate_expired";
  let verdict: Verdict | undefined;
  if (isRoot(certificate, trust)) verdict = late;
  else {
    verdict = revocationOf(certificate, trust, now);
    if (verdict === undefined) {
      const above = issuers
        .filter((issuer) => certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey))
        .map((issuer) => judgeOne(issuer, issuers, trust, now, known));
      // Of several ways up, the best one counts.
      verdict = above.includes(undefined)
        ? late
        : above.includes("certificate_expired")
          ? "certificate_expired"
          : (above[0] ?? "certificate_untrusted");
    }
  }
  known.set(id, verdict);
  return verdict;
}

/** A root needs nobody to vouch for it, and no revocation list of its own. An authority under another one does. */
function isRoot(certificate: X509Certificate, { authorities }: Trust): boolean {
  return certificate.checkIssued(certificate) && authorities.some(({ raw }) => raw.equals(certificate.raw));
}

function revocationOf({ raw }: X509Certificate, { revocations }: Trust, now: Date): Verdict | undefined {
  if (revocations === undefined) return undefined;
  const { serial, issuer } = readCertificateId(raw);
  const lists = revocations.filter((list) => list.issuer === issuer);
  if (lists.some(({ serials }) => serials.has(serial))) return "certificate_revoked";
  // Nobody knows: a full handshake would be refused too.
  const known = lists.some(({ nextUpdate }) => nextUpdate === undefined || now < nextUpdate);
  return known ? undefined : "certificate_untrusted";
}

function isCurrent({ validFromDate, validToDate }: X509Certificate, now: Date): boolean {
  return validFromDate <= now && now < validToDate;
}
