// A certificate as RFC 5280 defines it: the fields that decide whether it may be part of a client's chain. Pure.

import { X509Certificate, createHash } from "node:crypto";
import {
  BIT_STRING,
  BOOLEAN,
  INTEGER,
  OCTET_STRING,
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
import { readConstraints, readNames, type Constraints, type Names } from "./name-constraints.ts";
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

/** RFC 5280, section 4.2; OIDs of extensions. */
const ID = {
  subjectKeyId: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  nameConstraints: "2.5.29.30",
  certificatePolicies: "2.5.29.32",
  policyMappings: "2.5.29.33",
  policyConstraints: "2.5.29.36",
  extendedKeyUsage: "2.5.29.37",
  inhibitAnyPolicy: "2.5.29.54",
} as const;

/** Extensions that may be critical: this module or TLS checks them. */
const UNDERSTOOD: ReadonlySet<string> = new Set([
  ID.keyUsage,
  ID.subjectAltName,
  ID.basicConstraints,
  ID.nameConstraints,
  ID.certificatePolicies,
  ID.policyMappings,
  ID.policyConstraints,
  ID.extendedKeyUsage,
  ID.inhibitAnyPolicy,
]);

const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";
const ANY_POLICY = "2.5.29.32.0";
const RSA: ReadonlySet<string> = new Set(["1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10"]);
const WEAK_RSA_BITS = 2048;

// keyUsage, RFC 5280, section 4.2.1.3: the first bit is the highest one of the first byte.
const DIGITAL_SIGNATURE = 0x80;
const KEY_CERT_SIGN = 0x04;
const CRL_SIGN = 0x02;

/** An extension's value. A `critical` extension that is not understood forbids the use of the certificate. */
interface Extension {
  readonly critical: boolean;
  readonly value: Pick<Element, "start" | "end">;
}

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

function extensionsIn(
  der: Uint8Array,
  list: Element | undefined,
  version: number,
): ReadonlyMap<string, Extension> {
  const extensions = new Map<string, Extension>();
  if (list === undefined) return extensions;
  if (version !== 2) throw new Error("extensions in a certificate of an old version");
  const [all] = elements(der, list, SEQUENCE);
  for (const [id, extension] of extensionList(der, all!)) {
    if (extensions.has(id)) throw new Error(`the extension ${id} occurs twice`);
    if (extension.critical && !UNDERSTOOD.has(id)) throw new Error(`the critical extension ${id} is unknown`);
    extensions.set(id, extension);
  }
  return extensions;
}

/** Reads a sequence of extensions, as certificates and revocation lists have it. */
export function extensionList(der: Uint8Array, list: Element): [string, Extension][] {
  return elements(der, list).map((extension) => {
    const [id, ...rest] = elements(der, expectTag(extension, SEQUENCE));
    const flag = rest[0]?.tag === BOOLEAN ? rest.shift() : undefined;
    const value = expectTag(rest[0], OCTET_STRING);
    return [oid(der, id), { critical: flag !== undefined && der[flag.start] !== 0, value }];
  });
}

function readExtensions(der: Uint8Array, extensions: ReadonlyMap<string, Extension>, version: number) {
  const value = (id: string): Element | undefined => {
    const inside = extensions.get(id)?.value;
    if (inside === undefined) return undefined;
    const found = elements(der, inside);
    if (found.length !== 1) throw new Error(`the extension ${id} is damaged`);
    return found[0];
  };
  const basic = value(ID.basicConstraints);
  let ca = false;
  let pathLength = Infinity;
  if (basic !== undefined) {
    const parts = elements(der, expectTag(basic, SEQUENCE));
    const flag = parts[0]?.tag === BOOLEAN ? parts.shift() : undefined;
    ca = flag !== undefined && der[flag.start] !== 0;
    const length = parts.shift();
    if (length !== undefined) {
      if (!ca) throw new Error("it has a path length but is not a CA");
      pathLength = smallInteger(der, expectTag(length, INTEGER));
    }
    if (parts.length > 0) throw new Error("its basic constraints are damaged");
  }

  const usageBits = value(ID.keyUsage);
  let usage = ~0;
  if (usageBits !== undefined) {
    const { start, end } = expectTag(usageBits, BIT_STRING);
    if (end - start < 2) throw new Error("its key usage is empty");
    usage = der[start + 1] as number;
  }

  // TLS accepts as a root without the word CA: a certificate of version 1, or one whose key usage says so.
  const onlyRoot = basic === undefined && (version === 0 || usageBits !== undefined);

  const purposes = value(ID.extendedKeyUsage);
  const ids = purposes && elements(der, expectTag(purposes, SEQUENCE)).map((each) => oid(der, each));
  const foreign = ids !== undefined && !ids.includes(CLIENT_AUTH);
  const problem = foreign ? "not usable for client authentication" : undefined;

  const keyId = value(ID.subjectKeyId);
  const constraints = value(ID.nameConstraints);
  return {
    subjectKeyId: keyId && bytes(der, expectTag(keyId, OCTET_STRING)).toString("hex"),
    problem,
    noAuthority:
      (usage & KEY_CERT_SIGN) === 0
        ? "its key usage lacks keyCertSign"
        : ca || onlyRoot
          ? undefined
          : "it is not a CA",
    onlyRoot,
    noClient: (usage & DIGITAL_SIGNATURE) === 0 ? "its key usage lacks digitalSignature" : undefined,
    signsLists: (usage & CRL_SIGN) !== 0,
    pathLength,
    constraints: constraints && readConstraints(der, constraints),
    demandsPolicy: readPolicies(der, value),
  };
}

/** Whether the certificate demands policies. @throws if they are malformed */
function readPolicies(der: Uint8Array, value: (id: string) => Element | undefined): boolean {
  const policies = value(ID.certificatePolicies);
  if (policies !== undefined) {
    const ids = elements(der, expectTag(policies, SEQUENCE), SEQUENCE).map((policy) =>
      oid(der, elements(der, expectTag(policy, SEQUENCE))[0]),
    );
    if (new Set(ids).size !== ids.length) throw new Error("a policy occurs twice");
  }
  const mappings = value(ID.policyMappings);
  if (mappings !== undefined) {
    for (const mapping of elements(der, expectTag(mappings, SEQUENCE), SEQUENCE)) {
      const pair = elements(der, expectTag(mapping, SEQUENCE)).map((each) => oid(der, each));
      if (pair.length !== 2 || pair.includes(ANY_POLICY)) throw new Error("a policy mapping is damaged");
    }
  }
  const inhibit = value(ID.inhibitAnyPolicy);
  if (inhibit !== undefined) smallInteger(der, expectTag(inhibit, INTEGER));
  const constraints = value(ID.policyConstraints);
  if (constraints === undefined) return false;
  const skips = elements(der, expectTag(constraints, SEQUENCE));
  if (skips.length === 0) throw new Error("its policy constraints are empty");
  for (const skip of skips) smallInteger(der, skip);
  return skips.some(({ tag }) => tag === 0x80);
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

/**
 * The names besides the subject that have this tag (RFC 5280, section 4.2.1.6), a character for each byte.
 * @throws if the certificate or any of those names is malformed
 */
export function alternativeNames(der: Uint8Array, kind: number): string[] {
  const [tbs] = elements(der, whole(der), SEQUENCE);
  const [wrapper] = elements(der, tbs!).filter(({ tag }) => tag === 0xa3);
  if (wrapper === undefined) return [];
  const [all] = elements(der, wrapper, SEQUENCE);
  const [found, twice] = extensionList(der, all!).filter(([id]) => id === ID.subjectAltName);
  if (twice !== undefined) throw new Error("its alternative names occur twice");
  if (found === undefined) return [];
  const [list, ...rest] = elements(der, found[1].value, SEQUENCE);
  if (rest.length > 0) throw new Error("its alternative names are damaged");
  return elements(der, list!)
    .filter(({ tag }) => {
      if ((tag & 0xc0) !== 0x80) throw new Error("a general name is damaged");
      return (tag & 0x1f) === kind;
    })
    .map((name) => {
      if ((name.tag & 0x20) !== 0) throw new Error("a general name is damaged");
      return bytes(der, name).toString("latin1");
    });
}
