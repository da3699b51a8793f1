// Chooses the protocol that the proxy agrees on with a client (ALPN, RFC 7301). Pure.

import { TUNNEL_PROTOCOL } from "./tunnel-protocol.ts";

/**
 * Reads a protocol's name.
 * @returns undefined if it is none, or the proxy's own, which is always answered
 */
export function parseProtocol(text: unknown): string | undefined {
  return typeof text === "string" && /^[!-~]{1,255}$/.test(text) && text !== TUNNEL_PROTOCOL
    ? text
    : undefined;
}

/**
 * Chooses for a client that offers protocols: the tunnel's first, then the first one listed.
 * @param offered as the client sent it: each name behind its length
 * @param listed undefined if the listener has no list
 * @returns false for none, as if there were no ALPN; undefined to refuse the client
 */
export function chooseProtocol(
  offered: Uint8Array,
  listed: readonly string[] | undefined,
): string | false | undefined {
  const names = namesIn(Buffer.from(offered));
  if (names.has(TUNNEL_PROTOCOL)) return TUNNEL_PROTOCOL;
  return listed === undefined ? false : listed.find((each) => names.has(each));
}

function namesIn(offer: Buffer): Set<string> {
  const names = new Set<string>();
  for (let at = 0, end: number; at < offer.length; at = end) {
    end = at + 1 + offer[at]!;
    if (end <= offer.length) names.add(offer.toString("latin1", at + 1, end));
  }
  return names;
}
