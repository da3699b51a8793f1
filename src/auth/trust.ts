// What a listener trusts: CAs with the known good chains to them, and revocation lists. Pure.

import { X509Certificate } from "node:crypto";
import { readCertificate, type Certificate } from "./certificate.ts";
import type { RevocationList } from "./revocation.ts";

/** The trusted CAs, and the revoked certificates. */
export interface Trust {
  readonly authorities: Authorities;
  /** Undefined if revocation is not checked at all. */
  readonly revocations: readonly RevocationList[] | undefined;
}

/** The CAs that may vouch for clients, and the known good chains to them. */
interface Authorities {
  /** PEM. */
  readonly pem: readonly string[];
  readonly all: readonly Certificate[];
  /** By the fingerprint of a client's certificate: a chain whose signatures, purposes and names are good. */
  readonly chains: Map<string, Chain>;
}

/** Certificates, each issued by the next; the first is a client's, the last a root. */
export type Chain = readonly Certificate[];

/**
 * Builds what a listener trusts.
 * @param ca PEM, checked before
 * @param before its known chains are kept if the authorities are the same
 */
export function trustIn(
  { ca, crl }: { readonly ca: readonly string[]; readonly crl: readonly RevocationList[] | undefined },
  before?: Trust,
): Trust {
  const same =
    before?.authorities.pem.length === ca.length && ca.every((pem, i) => pem === before.authorities.pem[i]);
  const authorities = same
    ? before!.authorities
    : {
        pem: ca,
        all: ca.map((pem) => readCertificate(new X509Certificate(pem))),
        chains: new Map<string, Chain>(),
      };
  return { authorities, revocations: crl };
}
