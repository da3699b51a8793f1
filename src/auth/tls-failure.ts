// What the TLS library says of a failed handshake, as a reason for the log. Pure.

import { codeOf, type RefusalReason } from "../lib/errors.ts";

/** What TLS says when a client alerts that the proxy's certificate is not good (RFC 8446, section 6.2). */
const DISTRUST =
  /_ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_UNKNOWN|CERTIFICATE_EXPIRED|CERTIFICATE_REVOKED|UNSUPPORTED_CERTIFICATE)$/;

/**
 * Why a handshake was no good.
 * @param success false where TLS itself gave up; true also for a certificate that does not verify
 * @param error BoringSSL's verdict: a verification code, or a message such as
 *   `error:100000f0:SSL routines:OPENSSL_internal:UNSUPPORTED_PROTOCOL`
 * @param answered whether TLS 1.3 was agreed on, so that the client has seen the proxy's certificate
 * @returns the reason, and the library's own word for it, with what it means where that is known
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
  if (!answered) return word;
  switch (word) {
    // OpenSSL's alert at this point is not encrypted, and so too short for what BoringSSL expects. Its number is lost.
    case "BAD_PACKET_LENGTH":
      return `the client most likely does not trust the proxy's certificate (TLS alert, ${word})`;
    // Node's way to say the same.
    case "ECONNRESET":
      return `the client left once it had seen the proxy's certificate, and may not trust it (${word})`;
    default:
      return word;
  }
}
