// A certificate as RFC 5280 defines it: the fields that decide whether it may be part of a client's chain. Pure.

import { X509Certificate, createHash } from "node:crypto";
import { ID, extensionsIn, readExtensions } from "./certificate-extensions.ts";
import {
  INTEGER,
  SEQUENCE,
  bitString,
  bytes,
  elements,
  expectTag,
  integer,
  nameOf,
  oid,
  relativeNames,
  smallInteger,
  time,
  whole,
  type Element,
} from "./der.ts";
import { readNames, type Constraints, type Names } from "./name-constraints.ts";
import { readSignatureAlgorithm } from "./signature.ts";

/** The fields that decide about a certificate. */
export interface Certificate {
  /** The runtime's view of it, which verifies signatures. */
  readonly x509: X509Certificate;
  readonly fingerprint: string;
  /** Hexadecimal, without leading zeros. */
  readonly serial: string;
  /** Two names are equal if these texts are. */
  readonly issuer: string;
  readonly subject: string;
  readonly notBefore: number;
  readonly notAfter: number;
  /** Identifies its public key: the same for all certificates of one key. */
  readonly keyId: string;
  /** The extension of the same name, hexadecimal. */
  readonly subjectKeyId: string | undefined;
  /** Why it cannot be part of any client's chain. */
  readonly problem: string | undefined;
  /** Why its key is weak, and why the signature on it is. */
  readonly weakKey: string | undefined;
  readonly weakSignature: string | undefined;
  /** Why it cannot issue certificates, and why it cannot be a client's. */
  readonly noAuthority: string | undefined;
  readonly noClient: string | undefined;
  /** Whether it may sign revocation lists. */
  readonly signsLists: boolean;
  /** It does not say that it is a CA, like some old roots. */
  readonly onlyRoot: boolean;
  /** How many authorities may stand between it and the client, not counting self-issued ones. */
  readonly pathLength: number;
  /** The names that it may vouch for. */
  readonly constraints: Constraints | undefined;
  /** It demands policies of the chain below it, which this module does not check. */
  readonly demandsPolicy: boolean;
  /** Its own names, for the constraints of the authorities above it. */
  names(): Names;
}

const RSA: ReadonlySet<string> = new Set(["1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10"]);
const WEAK_RSA_BITS = 2048;

/** Reads a certificate. @throws if it is none; an error in its extensions becomes its `problem` */
export function readCertificate(x509: X509Certificate): Certificate {
  const der = x509.raw;
  const [tbs, algorithm] = elements(der, whole(der), SEQUENCE);
  const all = elements(der, tbs!);
  const versioned = all[0]?.tag === 0xa0;
  const version = versioned ? smallInteger(der, elements(der, all[0]!, INTEGER)[0]!) : 0;
  const [serial, innerAlgorithm, issuer, validity, subject, spki, ...rest] = versioned ? all.slice(1) : all;
  const [notBefore, notAfter] = elements(der, expectTag(validity, SEQUENCE));
  const { weakness, strange } = readSignatureAlgorithm(der, algorithm);
  const subjectName = nameOf(der, subject);
  const issuerName = nameOf(der, issuer);
  const plain = {
    x509,
    fingerprint: x509.fingerprint256,
    serial: integer(der, serial),
    issuer: issuerName,
    subject: subjectName,
    notBefore: time(der, notBefore),
    notAfter: time(der, notAfter),
    keyId: createHash("sha256")
      .update(bytes(der, { start: expectTag(spki, SEQUENCE).from, end: spki!.end }))
      .digest("base64"),
    weakKey: weaknessOfKey(der, spki!),
    weakSignature: weakness,
  };
  try {
    if (strange !== undefined) throw new Error(strange);
    if (!same(der, algorithm, innerAlgorithm)) throw new Error("two different signature algorithms");
    const extensions = extensionsIn(
      der,
      rest.find(({ tag }) => tag === 0xa3),
      version,
    );
    const read = readExtensions(der, extensions, version);
    const altNames = extensions.get(ID.subjectAltName)?.value;
    let names: Names | undefined;
    return {
      ...plain,
      ...read,
      names: () => (names ??= readNames(der, relativeNames(der, subject), subject!, altNames)),
    };
  } catch (error) {
    return {
      ...plain,
      subjectKeyId: undefined,
      problem: error instanceof Error ? error.message : "its extensions cannot be read",
      noAuthority: undefined,
      noClient: undefined,
      onlyRoot: false,
      signsLists: false,
      pathLength: 0,
      constraints: undefined,
      demandsPolicy: false,
      names: () => ({ relative: [], emails: [], general: [] }),
    };
  }
}

function weaknessOfKey(der: Uint8Array, spki: Element): string | undefined {
  const [algorithm, key] = elements(der, spki, SEQUENCE);
  if (!RSA.has(oid(der, elements(der, algorithm!)[0]))) return undefined;
  const [numbers] = elements(der, bitString(der, key), SEQUENCE);
  const modulus = integer(der, elements(der, numbers!)[0]);
  const bits = 4 * (modulus.length - 1) + parseInt(modulus[0]!, 16).toString(2).length;
  return bits < WEAK_RSA_BITS ? `an RSA key of ${bits} bits` : undefined;
}

function same(der: Uint8Array, a: Element | undefined, b: Element | undefined): boolean {
  if (a === undefined || b === undefined) return false;
  return bytes(der, a).equals(bytes(der, b));
}
