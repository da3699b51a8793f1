// Certificates and revocation lists as the proxy reads them, from PEM.

import { X509Certificate } from "node:crypto";
import { readCertificate, type Certificate } from "../../src/auth/certificate.ts";
import { readPem } from "../../src/auth/pem.ts";
import { atOnce } from "../../src/lib/portions.ts";
import { readRevocationList, type RevocationList } from "../../src/auth/revocation.ts";
import { trustIn, type Trust } from "../../src/auth/trust.ts";

/** All PEM blocks of a text, as DER. */
export function blocksOf(pem: string): Uint8Array[] {
  return readPem(pem).blocks.map(({ der }) => der);
}

export function certificateOf(pem: string): Certificate {
  return readCertificate(new X509Certificate(pem));
}

/** The revocation lists of a text. */
export function listsOf(pem: string): RevocationList[] {
  return blocksOf(pem).map((der) => atOnce(readRevocationList(der)));
}

/** The CAs that are trusted, from PEM. Without lists, revocation is not checked. */
export function trusting(ca: readonly string[], crl?: readonly string[]): Trust {
  return trustIn({ ca, crl: crl?.flatMap(listsOf) });
}
