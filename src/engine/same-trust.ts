// Whether two listeners trust the same clients, and show them the same certificate: then nothing is replaced. Pure.

import type { Credentials } from "../config/credentials.ts";
import type { ListenerSnapshot } from "./snapshot.ts";

/** Revocation lists are part of it: with another context, tickets from before are worth nothing. */
export function isSameContext(a: ListenerSnapshot, b: ListenerSnapshot): boolean {
  const { cert, key, certificates } = a.credentials;
  return (
    a.listener.sessionTickets === b.listener.sessionTickets &&
    isSameTrust(a.credentials, b.credentials) &&
    cert === b.credentials.cert &&
    key === b.credentials.key &&
    Bun.deepEquals(certificates, b.credentials.certificates) &&
    Bun.deepEquals(a.listener.alpn, b.listener.alpn)
  );
}

/** What decides whom an entrance trusts. */
export function isSameTrust({ ca, crl }: Credentials, other: Credentials): boolean {
  if (!isSameList(ca, other.ca) || (crl === undefined) !== (other.crl === undefined)) return false;
  const bytes = (lists: Credentials["crl"]) => lists?.map(({ der }) => der) ?? [];
  const [ours, theirs] = [bytes(crl), bytes(other.crl)];
  return ours.length === theirs.length && ours.every((der, i) => Buffer.compare(der, theirs[i]!) === 0);
}

function isSameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, i) => text === b[i]);
}
