// Makes certificates and revocation lists that no CA should issue: the test chooses all of their contents.

import {
  constants,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign as signBytes,
  type KeyObject,
} from "node:crypto";
import {
  bits,
  encodeName,
  extension,
  integer,
  oid,
  pem,
  sequence,
  tagged,
  time,
  type Name,
} from "./issue.ts";
import { cert } from "./peer.ts";

/** A way to sign. */
export interface Signing {
  readonly oid: string;
  readonly parameters?: Buffer;
  readonly hash: string | null;
  readonly pss?: number;
}

const NULL = Buffer.of(0x05, 0);
const sha = (bits: 1 | 256 | 384 | 512) =>
  bits === 1 ? "1.3.14.3.2.26" : `2.16.840.1.101.3.4.2.${{ 256: 1, 384: 2, 512: 3 }[bits]}`;

function pss(size: 1 | 256 | 384 | 512, mask = size): Signing {
  const digest = sequence(oid(sha(size)), NULL);
  const generator = sequence(oid("1.2.840.113549.1.1.8"), sequence(oid(sha(mask)), NULL));
  const salt = size === 1 ? 20 : size / 8;
  const parameters = sequence(tagged(0xa0, digest), tagged(0xa1, generator), tagged(0xa2, integer(salt)));
  return { oid: "1.2.840.113549.1.1.10", parameters, hash: `sha${size}`, pss: salt };
}

export const SIGNINGS = {
  rsaMd5: { oid: "1.2.840.113549.1.1.4", parameters: NULL, hash: "md5" },
  rsaSha1: { oid: "1.2.840.113549.1.1.5", parameters: NULL, hash: "sha1" },
  rsaSha256: { oid: "1.2.840.113549.1.1.11", parameters: NULL, hash: "sha256" },
  rsaSha384: { oid: "1.2.840.113549.1.1.12", parameters: NULL, hash: "sha384" },
  rsaSha512: { oid: "1.2.840.113549.1.1.13", parameters: NULL, hash: "sha512" },
  pss1: pss(1),
  pss256: pss(256),
  pss384: pss(384),
  pss512: pss(512),
  ecSha1: { oid: "1.2.840.10045.4.1", hash: "sha1" },
  ecSha256: { oid: "1.2.840.10045.4.3.2", hash: "sha256" },
  ecSha384: { oid: "1.2.840.10045.4.3.3", hash: "sha384" },
  ecSha512: { oid: "1.2.840.10045.4.3.4", hash: "sha512" },
  ed25519: { oid: "1.3.101.112", hash: null },
} satisfies Record<string, Signing>;

/** A certificate, with the key that it certifies. */
export interface Odd {
  readonly pem: string;
  readonly der: Buffer;
  readonly subject: Buffer;
  readonly key: KeyObject;
  readonly serial: number;
}

/** Extensions under names that the test chooses. An undefined one is left out. */
export type Extensions = Readonly<Record<string, Buffer | undefined>>;

export interface OddChoices {
  readonly subject?: Name | Buffer;
  /** Default: the signer's name. */
  readonly issuer?: Buffer;
  readonly key?: KeyObject;
  readonly serial?: number;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  /** 0 means version 1. Default: 2. */
  readonly version?: number;
  readonly extensions?: Extensions;
  readonly signing?: Signing;
  /** The algorithm that the signed part names. Default: the one that it is signed with. */
  readonly claims?: Signing;
  /** Whether to damage the signature. */
  readonly forged?: boolean;
}

const LONG_AGO = new Date("2020-01-01T00:00:00Z");
export const FAR_OFF = new Date("2120-01-01T00:00:00Z");
export const OVER = new Date("2025-01-01T00:00:00Z");
export const TO_COME = new Date("2100-01-01T00:00:00Z");

let serials = 5_000;

export function ecKey(namedCurve = "P-256"): KeyObject {
  return generateKeyPairSync("ec", { namedCurve }).privateKey;
}

export function rsaKey(modulusLength: number): KeyObject {
  return generateKeyPairSync("rsa", { modulusLength }).privateKey;
}

export const sharedKey = createPrivateKey(cert("key.pem"));

export const edKey = () => generateKeyPairSync("ed25519").privateKey;

function algorithm({ oid: id, parameters }: Signing): Buffer {
  return sequence(oid(id), ...(parameters === undefined ? [] : [parameters]));
}

function usualSigning(key: KeyObject): Signing {
  switch (key.asymmetricKeyType) {
    case "rsa":
      return SIGNINGS.rsaSha256;
    case "ed25519":
      return SIGNINGS.ed25519;
    default:
      return SIGNINGS.ecSha256;
  }
}

function signed(list: Buffer, signing: Signing, key: KeyObject, forged = false): Buffer {
  const options =
    signing.pss === undefined
      ? key
      : { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: signing.pss };
  const signature = signBytes(signing.hash, list, options);
  if (forged) signature[signature.length - 1]! ^= 1;
  return sequence(list, algorithm(signing), bits(signature));
}

/** A certificate that `by` signs; without `by`, it is self-signed. */
export function certify(by: Odd | undefined, choices: OddChoices): Odd {
  const { subject: name = [["CN", "somebody"]], key = ecKey(), serial = serials++, version = 2 } = choices;
  const { notBefore = LONG_AGO, notAfter = FAR_OFF, extensions = {}, forged = false } = choices;
  const subject = Buffer.isBuffer(name) ? name : encodeName(name);
  const signer = by?.key ?? key;
  const signing = choices.signing ?? usualSigning(signer);
  const list = Object.values(extensions).filter((each) => each !== undefined);
  const tbs = sequence(
    ...(version === 0 ? [] : [tagged(0xa0, integer(version))]),
    integer(serial),
    algorithm(choices.claims ?? signing),
    choices.issuer ?? by?.subject ?? subject,
    sequence(time(notBefore), time(notAfter)),
    subject,
    createPublicKey(key).export({ type: "spki", format: "der" }),
    ...(list.length === 0 ? [] : [tagged(0xa3, sequence(...list))]),
  );
  const der = signed(tbs, signing, signer, forged);
  return { pem: pem("CERTIFICATE", der), der, subject, key, serial };
}

export const PURPOSE = {
  server: "1.3.6.1.5.5.7.3.1",
  client: "1.3.6.1.5.5.7.3.2",
  signing: "1.3.6.1.5.5.7.3.3",
  any: "2.5.29.37.0",
};

export const USAGE = { signature: 0x80, encipherment: 0x20, agreement: 0x08, certSign: 0x04, crlSign: 0x02 };

/** General names, and constraints on them. */
export const name = {
  dns: (text: string) => tagged(0x82, Buffer.from(text)),
  email: (text: string) => tagged(0x81, Buffer.from(text)),
  uri: (text: string) => tagged(0x86, Buffer.from(text)),
  ip: (...numbers: number[]) => tagged(0x87, Buffer.from(numbers)),
  directory: (subject: Name | Buffer) =>
    tagged(0xa4, Buffer.isBuffer(subject) ? subject : encodeName(subject)),
  other: () =>
    tagged(0xa0, Buffer.concat([oid("1.3.6.1.4.1.311.20.2.3"), tagged(0xa0, utf8("alice@example.com"))])),
  rid: () => tagged(0x88, oid("1.2.3.4").subarray(2)),
};

export const utf8 = (text: string) => tagged(0x0c, Buffer.from(text));

/** Relative names whose types and encodings the test chooses. */
export function subject(...parts: [type: string, value: Buffer][][]): Buffer {
  return sequence(
    ...parts.map((part) =>
      tagged(0x31, Buffer.concat(part.map(([type, value]) => sequence(oid(type), value)))),
    ),
  );
}

export const ext = {
  basic: (ca: boolean, pathLength?: number, critical = true) =>
    extension(
      "2.5.29.19",
      critical,
      sequence(
        ...(ca ? [tagged(0x01, Buffer.of(0xff))] : []),
        ...(pathLength === undefined ? [] : [integer(pathLength)]),
      ),
    ),
  usage: (mask: number, critical = true) =>
    extension("2.5.29.15", critical, tagged(0x03, Buffer.of(mask === 0 ? 0 : Math.log2(mask & -mask), mask))),
  purposes: (ids: readonly string[], critical = false) =>
    extension("2.5.29.37", critical, sequence(...ids.map(oid))),
  altNames: (names: readonly Buffer[], critical = false) =>
    extension("2.5.29.17", critical, sequence(...names)),
  constraints: (permitted: readonly Buffer[], excluded: readonly Buffer[] = [], critical = true) => {
    const trees = (tag: number, list: readonly Buffer[]) =>
      list.length === 0 ? [] : [tagged(tag, Buffer.concat(list.map((base) => sequence(base))))];
    return extension("2.5.29.30", critical, sequence(...trees(0xa0, permitted), ...trees(0xa1, excluded)));
  },
  policies: (...ids: string[]) =>
    extension("2.5.29.32", false, sequence(...ids.map((id) => sequence(oid(id))))),
  policyConstraints: (explicit: number) =>
    extension("2.5.29.36", true, sequence(tagged(0x80, Buffer.of(explicit)))),
  inhibitAny: (skip: number) => extension("2.5.29.54", true, integer(skip)),
  mappings: (from: string, to: string) =>
    extension("2.5.29.33", true, sequence(sequence(oid(from), oid(to)))),
  keyId: (id: string) => extension("2.5.29.14", false, tagged(0x04, Buffer.from(id))),
  authorityKeyId: (id: string) => extension("2.5.29.35", false, sequence(tagged(0x80, Buffer.from(id)))),
  unknown: (critical: boolean) => extension("1.2.3.4.5", critical, Buffer.of(0x05, 0)),
  netscapeType: (mask: number, critical = false) =>
    extension("2.16.840.1.113730.1.1", critical, tagged(0x03, Buffer.of(0, mask))),
  raw: (id: string, critical: boolean, value: Buffer) => extension(id, critical, value),
};

export interface OddListChoices {
  readonly serials?: readonly (number | { serial: number; extensions: readonly Buffer[] })[];
  readonly issuer?: Buffer;
  readonly signer?: KeyObject;
  readonly signing?: Signing;
  readonly claims?: Signing;
  readonly forged?: boolean;
  readonly thisUpdate?: Date;
  /** Null for none. */
  readonly nextUpdate?: Date | null;
  /** Undefined for version 1. */
  readonly version?: number | undefined;
  readonly extensions?: readonly Buffer[];
}

export const listExt = {
  number: (critical = false) => extension("2.5.29.20", critical, integer(1)),
  delta: (critical = true) => extension("2.5.29.27", critical, integer(1)),
  /** RFC 5280, section 5.2.5; a flag's number, or a distribution point. */
  scope: (...parts: Buffer[]) => extension("2.5.29.28", true, sequence(...parts)),
  flag: (number: 1 | 2 | 4 | 5) => tagged(0x80 | number, Buffer.of(0xff)),
  reasons: () => tagged(0x83, Buffer.of(1, 0x40)),
  point: (uri: string) => tagged(0xa0, tagged(0xa0, name.uri(uri))),
  reason: (code: number) => extension("2.5.29.21", false, tagged(0x0a, Buffer.of(code))),
  issuer: (subject_: Buffer) => extension("2.5.29.29", true, sequence(tagged(0xa4, subject_))),
};

/** A revocation list, PEM. */
export function list(by: Odd, choices: OddListChoices = {}): string {
  const { serials: listed = [], signer = by.key, nextUpdate = FAR_OFF, thisUpdate = LONG_AGO } = choices;
  const { extensions = [listExt.number()], forged = false } = choices;
  const version = "version" in choices ? choices.version : 1;
  const signing = choices.signing ?? usualSigning(signer);
  const entries = listed.map((entry) => {
    const { serial, extensions: own } = typeof entry === "number" ? { serial: entry, extensions: [] } : entry;
    return sequence(integer(serial), time(LONG_AGO), ...(own.length > 0 ? [sequence(...own)] : []));
  });
  const tbs = sequence(
    ...(version === undefined ? [] : [integer(version)]),
    algorithm(choices.claims ?? signing),
    choices.issuer ?? by.subject,
    time(thisUpdate),
    ...(nextUpdate === null ? [] : [time(nextUpdate)]),
    ...(entries.length > 0 ? [sequence(...entries)] : []),
    ...(extensions.length > 0 ? [tagged(0xa0, sequence(...extensions))] : []),
  );
  return pem("X509 CRL", signed(tbs, signing, signer, forged));
}
