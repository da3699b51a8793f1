// Which reason and which detail the log gives for a failed handshake.

import { expect, test } from "bun:test";
import { handshakeRefusal } from "../../src/auth/tls-failure.ts";

const error = (message: string, code?: string) => Object.assign(new Error(message), code && { code });
const boring = (word: string) => error(`error:100000f0:SSL routines:OPENSSL_internal:${word}`, "EPROTO");

test.each([
  [false, boring("PEER_DID_NOT_RETURN_A_CERTIFICATE"), ["certificate_missing", undefined]],
  [false, boring("UNSUPPORTED_PROTOCOL"), ["handshake_failed", "UNSUPPORTED_PROTOCOL"]],
  [false, error("the socket was closed", "ECONNRESET"), ["handshake_failed", "ECONNRESET"]],
  [
    false,
    boring("NO_APPLICATION_PROTOCOL"),
    ["handshake_failed", "the client offers no protocol that listener.alpn lists (NO_APPLICATION_PROTOCOL)"],
  ],
  [false, null, ["handshake_failed", undefined]],
  [true, error("x", "CERT_HAS_EXPIRED"), ["certificate_expired", "CERT_HAS_EXPIRED"]],
  [true, error("x", "CERT_NOT_YET_VALID"), ["certificate_expired", "CERT_NOT_YET_VALID"]],
  [true, error("x", "CERT_REVOKED"), ["certificate_revoked", "CERT_REVOKED"]],
  [true, error("x", "INVALID_PURPOSE"), ["certificate_untrusted", "INVALID_PURPOSE"]],
  [true, error("x", "SOMETHING_NEW"), ["certificate_untrusted", "SOMETHING_NEW"]],
  // The handshake succeeded without an error, but the socket is not authorized.
  [true, null, ["certificate_untrusted", undefined]],
] as const)("the refusal reason of a handshake with success %p, error %#", (success, verdict, expected) => {
  expect(handshakeRefusal(success, verdict)).toEqual([...expected]);
});

const MOST_LIKELY =
  "the client most likely does not trust the proxy's certificate (TLS alert, BAD_PACKET_LENGTH)";

test.each([
  [
    "TLSV1_ALERT_UNKNOWN_CA",
    true,
    "the client does not trust the proxy's certificate (TLSV1_ALERT_UNKNOWN_CA)",
  ],
  [
    "SSLV3_ALERT_BAD_CERTIFICATE",
    false,
    "the client does not trust the proxy's certificate (SSLV3_ALERT_BAD_CERTIFICATE)",
  ],
  ["SSLV3_ALERT_HANDSHAKE_FAILURE", true, "SSLV3_ALERT_HANDSHAKE_FAILURE"],
  ["BAD_PACKET_LENGTH", true, MOST_LIKELY],
  // Before the proxy's certificate was sent, such a packet is garbage.
  ["BAD_PACKET_LENGTH", false, "BAD_PACKET_LENGTH"],
])(
  "the refusal detail explains %s, where the client had the proxy's answer: %p",
  (word, answered, detail) => {
    expect(handshakeRefusal(false, boring(word), answered)).toEqual(["handshake_failed", detail]);
  },
);

test("the refusal detail of a client that leaves names the proxy's certificate only once the client has seen it", () => {
  const left = error("the socket was closed", "ECONNRESET");
  expect(handshakeRefusal(false, left, true)[1]).toMatch(/saw the proxy's certificate.*ECONNRESET/);
  expect(handshakeRefusal(false, left, false)[1]).toBe("ECONNRESET");
});
