// Why a tunnel does not get through to its proxy, in words for the person who uses it. Pure.

import { codeOf, escapeInvisible, quote } from "../lib/errors.ts";
import { TUNNEL_PROTOCOL } from "../lib/tunnel-protocol.ts";

/** Why there is no connection through the tunnel. */
export interface Failure {
  /**
   * `unreachable`: nobody answers; `untrusted`: the server is not the one that it should be; `foreign`: it is no proxy;
   * `refused`: the proxy said no; `closed`: it left without a word; `certificate`: our own certificate cannot be used.
   */
  readonly kind: "unreachable" | "untrusted" | "foreign" | "refused" | "closed" | "certificate";
  readonly text: string;
}

/** Whom a tunnel talks to, and what it trusts. */
export interface Whom {
  /** `host:port` */
  readonly server: string;
  readonly serverName: string;
  /** Paths of its files. */
  readonly ca: string;
  readonly certificate: string;
}

/** Trying again would not help: somebody has to change something first. */
export function isFinal({ kind }: Failure): boolean {
  return kind === "untrusted" || kind === "foreign" || kind === "certificate";
}

const REACH: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there",
  ETIMEDOUT: "it does not answer",
  EHOSTUNREACH: "there is no way to the host",
  ENETUNREACH: "there is no way to the network",
  ENOTFOUND: "the name does not resolve",
  DNS_ENOTFOUND: "the name does not resolve",
};

const VERIFY: Readonly<Record<string, (whom: Whom) => string>> = {
  ERR_TLS_CERT_ALTNAME_INVALID: ({ serverName }) => `is for another name than ${quote(serverName)}`,
  CERT_HAS_EXPIRED: () => "has expired",
  CERT_NOT_YET_VALID: () => "is not valid yet",
  INVALID_PURPOSE: () => "is not meant for servers",
};

/** The attempt to connect, or its TLS handshake, failed. */
export function dialFailure(error: Error, whom: Whom): Failure {
  const { server, ca } = whom;
  const code = codeOf(error);
  const word = error.message.split(":").at(-1)!.trim();
  if (code === undefined) {
    if (/for another name/.test(error.message)) {
      return untrusted(whom, VERIFY["ERR_TLS_CERT_ALTNAME_INVALID"]!(whom));
    }
    const text = `${server} closed the connection during the TLS handshake: it is no proxy, or it turns this address away`;
    return { kind: "closed", text };
  }
  const known = VERIFY[code];
  if (known !== undefined) return untrusted(whom, known(whom));
  if (/CERT|SIGNATURE|ISSUER|CHAIN|PURPOSE|_CA\b/.test(code)) {
    return untrusted(whom, `is not signed by a CA in ${quote(ca)} (${code})`);
  }
  if (code === "ECONNRESET") {
    return { kind: "closed", text: `${server} broke the connection off during the TLS handshake` };
  }
  if (code === "EPROTO" || /SSL|TLS/.test(code)) return notTls(server, word);
  const why = REACH[code];
  const said = why === undefined ? escapeInvisible(error.message.slice(0, 200)) : why;
  return { kind: "unreachable", text: `cannot reach ${server}: ${said} (${code})` };
}

function untrusted({ server }: Whom, problem: string): Failure {
  return { kind: "untrusted", text: `${server} cannot be trusted: its certificate ${problem}` };
}

function notTls(server: string, word: string): Failure {
  const text = /PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL/.test(word)
    ? `${server} does not speak TLS 1.3: it is no proxy`
    : /APPLICATION_PROTOCOL/.test(word)
      ? noProxy(server).text
      : /ALERT/.test(word)
        ? `${server} refuses the TLS handshake (${word})`
        : `${server} does not speak TLS: it is no proxy (${word})`;
  return { kind: /_ALERT_(?!PROTOCOL_VERSION|NO_APPL)/.test(word) ? "closed" : "foreign", text };
}

/** A server that speaks TLS and is who it should be, but does not know the protocol. */
export function noProxy(server: string): Failure {
  return { kind: "foreign", text: `${server} is no proxy: it speaks TLS, but not ${TUNNEL_PROTOCOL}` };
}

/** The proxy refused the client. Its text is escaped, as everything that comes from a peer. */
export function refusal(server: string, text: string): Failure {
  return { kind: "refused", text: `${server} refused: ${escapeInvisible(text)}` };
}

/** The proxy left before it gave its verdict. That is how it treats strangers. */
export function silence({ server, certificate }: Whom): Failure {
  const text =
    `${server} closed the connection without a reason, as it does where it does not accept the certificate ` +
    `${quote(certificate)} (another CA, revoked, expired, no user@group), or is overloaded: its log has the reason`;
  return { kind: "closed", text };
}

export function tooSlow(server: string, seconds: number): Failure {
  return { kind: "unreachable", text: `${server} did not answer within ${seconds} s: is it a proxy?` };
}
