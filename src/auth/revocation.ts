// Revocation lists (RFC 5280, section 5): read, indexed and verified in steps, so that a long one delays no connection,
// and stored in memory that threads share. Pure.

import { atOnce } from "../lib/portions.ts";
import type { Certificate } from "./certificate.ts";
import { extensionList } from "./certificate-extensions.ts";
import {
  BIT_STRING,
  GENERALIZED_TIME,
  INTEGER,
  SEQUENCE,
  UTC_TIME,
  bitString,
  bytes,
  elementAt,
  elements,
  expectTag,
  integer,
  nameOf,
  smallInteger,
  time,
  whole,
  type Element,
} from "./der.ts";
import { readSignatureAlgorithm, verifySignature, type SignatureAlgorithm } from "./signature.ts";

/** A range of the list's bytes. */
type Range = Pick<Element, "start" | "end">;

/** A revocation list. It can be sent to another thread, which then shares its memory. */
export interface RevocationList {
  /** Comparable to {@link Certificate.issuer}. */
  readonly issuer: string;
  readonly thisUpdate: number;
  /** When a newer list is due; undefined if the list does not say. */
  readonly nextUpdate: number | undefined;
  /** Why no certificate can be checked against it. */
  readonly problem: string | undefined;
  /** The identifier of the key that signed it, if the list has one. */
  readonly authorityKeyId:
    { readonly keyId: string | undefined; readonly serial: string | undefined } | undefined;
  readonly count: number;
  readonly der: Uint8Array;
  /** Where serial numbers are in `der`: an open-addressed hash table; 0 is an empty place. */
  readonly table: Uint32Array;
  readonly signed: Range;
  readonly signature: Range;
  readonly algorithm: SignatureAlgorithm;
  /** {@link Certificate.keyId} of the signers whose signature was verified when the list was loaded. */
  readonly signers: readonly string[];
}

const CRL_EXTENSION = {
  authorityKeyId: "2.5.29.35",
  deltaIndicator: "2.5.29.27",
  issuingDistributionPoint: "2.5.29.28",
} as const;

/** The number of entries read in one step. */
const PORTION_ENTRIES = 1_024;

/** The smallest size of an entry in bytes: a serial number and a time. */
const MIN_ENTRY_BYTES = 20;

/**
 * Reads a list and indexes the revoked certificates.
 * @throws if it is not a list; a reason not to use it becomes its `problem`
 */
export function* readRevocationList(given: Uint8Array): Generator<void, RevocationList> {
  const der = new Uint8Array(new SharedArrayBuffer(given.length));
  der.set(given);
  yield;
  const [tbs, algorithm, signature] = elements(der, whole(der), SEQUENCE);
  const all = elements(der, tbs!);
  // version?, signature, issuer, thisUpdate, nextUpdate?, revokedCertificates?, extensions?
  const version = all[0]?.tag === INTEGER ? smallInteger(der, all.shift()!) : 0;
  const [inner, issuer, thisUpdate, ...rest] = all;
  const isTime = (element: Element | undefined) =>
    element?.tag === UTC_TIME || element?.tag === GENERALIZED_TIME;
  const nextUpdate = isTime(rest[0]) ? rest.shift() : undefined;
  const revoked = rest[0]?.tag === SEQUENCE ? rest.shift() : undefined;
  const extensions = rest[0]?.tag === 0xa0 ? rest.shift() : undefined;
  if (rest.length > 0) throw new Error("DER has an unexpected structure");

  const { table, count, criticalEntries } = yield* indexEntries(der, revoked);
  const known = readSignatureAlgorithm(der, algorithm);
  const list = extensions && elements(der, extensions, SEQUENCE)[0];
  const ofList = list === undefined ? [] : extensionList(der, list);
  const ids = ofList.map(([id]) => id);
  const unknown = ofList.find(([id, { critical }]) => critical && id !== CRL_EXTENSION.authorityKeyId);
  const problem =
    known.weakness ??
    known.strange ??
    (ids.includes(CRL_EXTENSION.deltaIndicator)
      ? "it is a delta list"
      : ids.includes(CRL_EXTENSION.issuingDistributionPoint)
        ? "its scope is limited (issuing distribution point)"
        : unknown !== undefined
          ? `it has the unknown critical extension ${unknown[0]}`
          : criticalEntries
            ? "an entry has a critical extension, as in an indirect list"
            : new Set(ids).size !== ids.length
              ? "it has an extension twice"
              : version > 1 || (version === 0 && list !== undefined)
                ? "its version does not match its contents"
                : !bytes(der, expectTag(inner, SEQUENCE)).equals(bytes(der, algorithm!))
                  ? "it has two different signature algorithms"
                  : undefined);
  const keyId = ofList.find(([id]) => id === CRL_EXTENSION.authorityKeyId)?.[1].value;
  return {
    issuer: nameOf(der, issuer),
    thisUpdate: time(der, thisUpdate),
    nextUpdate: nextUpdate && time(der, nextUpdate),
    problem,
    authorityKeyId: keyId && readAuthorityKeyId(der, keyId),
    count,
    der,
    table,
    signed: { start: tbs!.from, end: tbs!.end },
    signature: bitString(der, expectTag(signature, BIT_STRING)),
    algorithm: known,
    signers: [],
  };
}

function readAuthorityKeyId(der: Uint8Array, value: Range): RevocationList["authorityKeyId"] {
  const parts = elements(der, elements(der, value, SEQUENCE)[0]!);
  const part = (tag: number) => {
    const found = parts.find((each) => each.tag === tag);
    return found && bytes(der, found).toString("hex");
  };
  return { keyId: part(0x80), serial: part(0x82)?.replace(/^(00)+(?=.)/, "") };
}

function* indexEntries(der: Uint8Array, revoked: Element | undefined) {
  const { start, end } = revoked ?? { start: 0, end: 0 };
  const most = Math.ceil((end - start) / MIN_ENTRY_BYTES);
  const size = 2 ** Math.ceil(Math.log2(2 * most + 2));
  const table = new Uint32Array(new SharedArrayBuffer(4 * size));
  let [count, criticalEntries] = [0, false];
  for (let at = start; at < end;) {
    // Most entries have short lengths, which this reads without more code.
    const entry = elementAt(der, at, end);
    const serial = expectTag(elementAt(der, expectTag(entry, SEQUENCE).start, entry.end), INTEGER);
    const date = elementAt(der, serial.end, entry.end);
    if (date.tag !== UTC_TIME && date.tag !== GENERALIZED_TIME)
      throw new Error("DER has an unexpected structure");
    if (date.end < entry.end) {
      const list = expectTag(elementAt(der, date.end, entry.end), SEQUENCE);
      if (list.end !== entry.end) throw new Error("DER has an unexpected structure");
      criticalEntries ||= hasCritical(der, list);
    }
    insert(table, der, serial);
    at = entry.end;
    if (++count % PORTION_ENTRIES === 0) yield;
  }
  return { table, count, criticalEntries };
}

function hasCritical(der: Uint8Array, list: Element): boolean {
  for (let at = list.start; at < list.end;) {
    const extension = expectTag(elementAt(der, at, list.end), SEQUENCE);
    const id = elementAt(der, extension.start, extension.end);
    const next = elementAt(der, id.end, extension.end);
    if (next.tag === 0x01 && der[next.start] !== 0) return true;
    at = extension.end;
  }
  return false;
}

function insert(table: Uint32Array, der: Uint8Array, { from, start, end }: Element): void {
  const mask = table.length - 1;
  for (let slot = hash(der, start, end) & mask; ; slot = (slot + 1) & mask) {
    if (table[slot] !== 0) continue;
    table[slot] = from;
    return;
  }
}

/** FNV-1a over a number without its leading zeros. */
function hash(der: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end - 1 && der[at] === 0) at++;
  let value = 0x811c9dc5;
  for (; at < end; at++) value = Math.imul(value ^ (der[at] as number), 0x01000193);
  return (value ^ (value >>> 15)) >>> 0;
}

/** Whether a list has a serial number, written as {@link Certificate.serial}. */
export function isListed({ der, table, count }: RevocationList, serial: string): boolean {
  if (count === 0) return false;
  const wanted = Buffer.from(serial, "hex");
  const mask = table.length - 1;
  for (let slot = hash(wanted, 0, wanted.length) & mask; table[slot] !== 0; slot = (slot + 1) & mask) {
    const element = elementAt(der, table[slot] as number, der.length);
    if (integer(der, element) === serial) return true;
  }
  return false;
}

/** Whether a certificate may have signed a list, by the names and identifiers of both. */
export function mayHaveSigned(
  issuer: Certificate,
  { issuer: name, authorityKeyId }: RevocationList,
): boolean {
  if (issuer.subject !== name || !issuer.signsLists) return false;
  const { keyId, serial } = authorityKeyId ?? {};
  if (keyId !== undefined && issuer.subjectKeyId !== undefined && keyId !== issuer.subjectKeyId) return false;
  return serial === undefined || serial === issuer.serial;
}

/** Verifies a list's signature by a certificate's key. */
export function* verifyList(
  { der, signed, signature, algorithm }: RevocationList,
  { x509 }: Certificate,
): Generator<void, boolean> {
  return yield* verifySignature(
    der.subarray(signed.start, signed.end),
    der.subarray(signature.start, signature.end),
    algorithm,
    x509.publicKey,
  );
}

/** Whether a list is in force; a later revocation would be missing from it. */
export function isInForce({ thisUpdate, nextUpdate = Infinity }: RevocationList, now: number): boolean {
  return thisUpdate <= now && now < nextUpdate;
}

/** The largest number of keys that are tried on a list that was not verified at loading. */
const MAX_SIGNER_CHECKS = 8;

/** Signatures checked since the lists were loaded, by the signers' keys. */
const claims = new WeakMap<RevocationList, Map<string, boolean>>();

/** Whether the issuer signed the list; the result is remembered. */
export function isSignedBy(list: RevocationList, issuer: Certificate): boolean {
  if (list.signers.includes(issuer.keyId)) return true;
  let known = claims.get(list);
  if (known === undefined) claims.set(list, (known = new Map()));
  const before = known.get(issuer.keyId);
  if (before !== undefined) return before;
  // A client sent this authority. Verifying a long list takes time, so that the number of tries is bounded.
  if (known.size >= MAX_SIGNER_CHECKS) return false;
  const signed = atOnce(verifyList(list, issuer));
  known.set(issuer.keyId, signed);
  return signed;
}
