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
 * Judges a chain whose signatures have been verified before.
 * @param chain DER, the client's certificate first, as far as TLS followed it or as the client sent it
 * @returns undefined where it is still good
 */
export function judge(chain: readonly Uint8Array[], trust: Trust, now: Date): Verdict | undefined {
  const path: X509Certificate[] = [];
  let anchors: X509Certificate[] = [];
  for (const der of chain) {
    const certificate = new X509Certificate(der);
    anchors = trust.authorities.filter((authority) => isAnchored(certificate, authority));
    // An authority needs nobody to vouch for it, and no revocation list of its own.
    if (!trust.authorities.some((authority) => authority.raw.equals(certificate.raw))) path.push(certificate);
    if (anchors.length > 0) break;
  }
  if (anchors.length === 0) return "certificate_untrusted";
  if (!path.every((each) => isCurrent(each, now)) || !anchors.some((each) => isCurrent(each, now))) {
    return "certificate_expired";
  }
  for (const { raw } of trust.revocations === undefined ? [] : path) {
    const { serial, issuer } = readCertificateId(raw);
    const lists = trust.revocations!.filter((list) => list.issuer === issuer);
    if (lists.some(({ serials }) => serials.has(serial))) return "certificate_revoked";
    // Nobody knows: a full handshake would be refused too.
    if (!lists.some(({ nextUpdate }) => nextUpdate === undefined || now < nextUpdate)) {
      return "certificate_untrusted";
    }
  }
  return undefined;
}

/** An authority itself, or issued by it. */
function isAnchored(certificate: X509Certificate, authority: X509Certificate): boolean {
  if (authority.raw.equals(certificate.raw)) return true;
  return certificate.checkIssued(authority) && certificate.verify(authority.publicKey);
}

function isCurrent({ validFromDate, validToDate }: X509Certificate, now: Date): boolean {
  return validFromDate <= now && now < validToDate;
}
