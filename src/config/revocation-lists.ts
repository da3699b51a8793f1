// Reads the file of revocation lists of a listener, and verifies each list against the CAs that the listener trusts.

import type { Certificate } from "../auth/certificate.ts";
import { mayHaveSigned, readRevocationList, verifyList, type RevocationList } from "../auth/revocation.ts";
import { quote } from "../lib/errors.ts";
import { blocksOf, textOf, type Findings } from "./pem-files.ts";

/** Verifies the lists now, so that no connection waits for it later. An unusable list is a fault. */
export function* revocations(
  path: string,
  ca: readonly Certificate[],
  found: Findings,
): Generator<void, RevocationList[]> {
  const text = textOf(path, "crl", found);
  yield;
  const all = text === undefined ? undefined : blocksOf(text, path, "crl", found);
  if (all === undefined) return [];
  yield;
  const blocks = all.filter(({ label }) => label === "X509 CRL");
  if (blocks.length === 0) {
    found.fault("crl", `${quote(path)} holds no revocation list (PEM, "BEGIN X509 CRL")`);
  }
  const lists: RevocationList[] = [];
  for (const [i, { der, line }] of blocks.entries()) {
    const fault = (problem: string) =>
      found.fault("crl", `${quote(path)}, line ${line}: revocation list ${i + 1} ${problem}`);
    try {
      const list = yield* readRevocationList(der);
      const { signers, problem } = yield* signersOf(list, ca);
      if (list.problem !== undefined || problem !== undefined) {
        fault(`cannot be used: ${list.problem ?? problem}`);
      } else lists.push({ ...list, signers });
    } catch {
      fault("is damaged");
    }
  }
  if (lists.length < blocks.length || lists.length === 0) return lists;
  // Each chain ends in a root, and needs the root's list.
  const unlisted = ca.filter(
    ({ subject, issuer, keyId }) =>
      subject === issuer && !lists.some(({ signers }) => signers.includes(keyId)),
  );
  const names = unlisted.map(({ x509 }) => quote(x509.subject)).join(" and ");
  if (!lists.some(({ signers }) => signers.length > 0)) {
    found.fault("crl", `${quote(path)} has no list of a CA in ca: every client would be refused`);
  } else if (unlisted.length > 0) {
    found.warn(`${quote(path)} has no list of ${names}: clients below that CA are refused`);
  }
  return lists;
}

/**
 * The CAs that may have signed these lists. The list of an authority that only clients send is verified when such a
 * client connects.
 */
function* signersOf(
  list: RevocationList,
  ca: readonly Certificate[],
): Generator<void, { signers: string[]; problem: string | undefined }> {
  const named = ca.filter(({ subject }) => subject === list.issuer);
  const signers = new Set<string>();
  for (const authority of named) {
    if (
      mayHaveSigned(authority, list) &&
      !signers.has(authority.keyId) &&
      (yield* verifyList(list, authority))
    ) {
      signers.add(authority.keyId);
    }
  }
  if (named.length === 0 || signers.size > 0) return { signers: [...signers], problem: undefined };
  const mute = named.every(({ signsLists }) => !signsLists);
  return {
    signers: [],
    problem: mute
      ? "the CA that it names as its issuer is not allowed to sign lists (its key usage lacks cRLSign)"
      : "it is not signed by the CA in ca that it names as its issuer",
  };
}
