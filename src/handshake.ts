// What the TLS library says of a failed handshake, as a reason for the log. Pure.

import { codeOf, type RefusalReason } from "./errors.ts";

/**
 * Why a handshake was no good.
 * @param success false where TLS itself gave up; true also for a certificate that does not verify
 * @param error BoringSSL's verdict: a verification code, or a message such as
 *   `error:100000f0:SSL routines:OPENSSL_internal:UNSUPPORTED_PROTOCOL`
 * @returns the reason, and the library's own word for it
 */
export function handshakeRefusal(success: boolean, error: Error | null): [RefusalReason, string | undefined] {
  const code = codeOf(error);
  const word = error?.message.split(":").at(-1)?.trim();
  if (!success) {
    if (word === "PEER_DID_NOT_RETURN_A_CERTIFICATE") return ["certificate_missing", undefined];
    return ["handshake_failed", code === "EPROTO" ? word : (code ?? word)];
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
