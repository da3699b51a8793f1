// Translates the TLS library's error of a failed handshake into a reason for the log. Pure.

import { codeOf, type RefusalReason } from "../lib/errors.ts";

/** The TLS error for a client's alert that it rejects the proxy's certificate (RFC 8446, section 6.2). */
const DISTRUST =
  /_ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_UNKNOWN|CERTIFICATE_EXPIRED|CERTIFICATE_REVOKED|UNSUPPORTED_CERTIFICATE)$/;

/**
 * Says why a handshake failed.
 * @param success false if TLS itself gave up; true also for a certificate that does not verify
 * @param error BoringSSL's verdict: a verification code, or a message such as `error:100000f0:SSL
 *   routines:OPENSSL_internal:UNSUPPORTED_PROTOCOL`
 * @param answered whether TLS 1.3 was negotiated, so that the client has seen the proxy's certificate
 * @returns the reason, and the library's word for it, with its meaning if known
 */
export function handshakeRefusal(
  success: boolean,
  error: Error | null,
  answered = false,
): [RefusalReason, string | undefined] {
  const code = codeOf(error);
  const word = error?.message.split(":").at(-1)?.trim();
  if (!success) {
    if (word === "PEER_DID_NOT_RETURN_A_CERTIFICATE") return ["certificate_missing", undefined];
    const said = code === "EPROTO" ? word : (code ?? word);
    return ["handshake_failed", said && meaningOf(said, answered)];
  }
  switch (code) {
    case "CERT_HAS_EXPIRED":
    case "CERT_NOT_YET_VALID":
      return ["certificate_expired", code];
    case "CERT_REVOKED":
      return ["certificate_revoked", code];
    default:
      return ["certificate_untrusted", code];
  }
}

function meaningOf(word: string, answered: boolean): string {
  if (DISTRUST.test(word)) return `the client does not trust the proxy's certificate (${word})`;
  if (word === "NO_APPLICATION_PROTOCOL")
    return `the client offers no protocol that listener.alpn lists (${word})`;
  if (!answered) return word;
  switch (word) {
    // OpenSSL sends this alert unencrypted, and so too short for BoringSSL. The alert's number is lost.
    case "BAD_PACKET_LENGTH":
      return `the client most likely does not trust the proxy's certificate (TLS alert, ${word})`;
    // Node reports the same in this way.
    case "ECONNRESET":
      return `the client left after it saw the proxy's certificate, and possibly does not trust it (${word})`;
    default:
      return word;
  }
}
