// The tunnel's own certificate: when to warn that it expires, and when it cannot be used. Pure.

import { X509Certificate } from "node:crypto";

/** What is to be said of a certificate. */
export interface CertificateNotice {
  /** It cannot be used: the proxy would refuse it. */
  readonly unusable: boolean;
  /** As in "the certificate "alice.crt" …". */
  readonly text: string;
}

const DAY_MS = 86_400_000;

/** For a certificate that lives less than ten days, the warning comes in this last share of its life. */
const SHARE = 0.1;

/** @param now milliseconds since 1970 */
export function noticeOf(pem: string, now: number): CertificateNotice | undefined {
  const { validFromDate, validToDate } = new X509Certificate(pem);
  const [from, until] = [validFromDate.getTime(), validToDate.getTime()];
  if (now < from) return { unusable: true, text: `is not valid before ${validFromDate.toISOString()}` };
  if (now >= until) {
    return { unusable: true, text: `expired on ${validToDate.toISOString()}: renew it` };
  }
  if (until - now > Math.min(DAY_MS, (until - from) * SHARE)) return undefined;
  return { unusable: false, text: `expires on ${validToDate.toISOString()}: renew it` };
}
