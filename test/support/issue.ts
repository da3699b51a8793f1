// Makes certificates and revocation lists with the dates, serial numbers and names that a test chooses. It implements
// only the part of X.509 (RFC 5280) that this needs, without openssl.

import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign as signBytes,
  type KeyObject,
} from "node:crypto";
import { cert } from "./peer.ts";

/** A CA: its name, its key, and its certificate. */
export interface Authority {
  /** PEM. */
  readonly cert: string;
  /** PEM. */
  readonly key: string;
  readonly name: Name;
  readonly signer: KeyObject;
}

/** What a client presents, as PEM. `cert` may be a chain. */
export interface Identity {
  readonly cert: string;
  readonly key: string;
}

/** Attributes, in order: `[["O", "tcpproxy test"], ["CN", "alice@admin"]]`. */
export type Name = readonly (readonly ["O" | "CN", string])[];

/** What a test can choose in a certificate. */
export interface Choices {
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  readonly serial?: number;
  /** The key that it certifies. Default: the one that test/certs share for a client, a new one for a CA. */
  readonly key?: string;
  /** The names besides the subject. Default: no such extension. */
  readonly names?: readonly AltName[] | undefined;
}

/** A general name: its tag, and its contents. */
export type AltName = readonly [tag: number, contents: string | Buffer];

const LONG_AGO = new Date("2020-01-01T00:00:00Z");
const FAR_OFF = new Date("2120-01-01T00:00:00Z");

/** The CA of test/certs. */
export const testAuthority: Authority = {
  cert: cert("ca.crt"),
  key: cert("ca.key"),
  name: [
    ["O", "tcpproxy test"],
    ["CN", "tcpproxy test CA"],
  ],
  signer: createPrivateKey(cert("ca.key")),
};

/** A new CA: a root, or an intermediate under `by`. */
export function makeAuthority(name: Name, by?: Authority, choices: Choices = {}): Authority {
  const signer =
    choices.key === undefined
      ? generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey
      : createPrivateKey(choices.key);
  const key = String(signer.export({ type: "pkcs8", format: "pem" }));
  const der = certificate(name, by ?? { name, signer }, signer, true, choices);
  return { cert: pem("CERTIFICATE", der), key, name, signer };
}

/** A certificate for a client. */
export function issue(commonName: string, by: Authority = testAuthority, choices: Choices = {}): Identity {
  const { key = cert("key.pem") } = choices;
  const der = certificate([["CN", commonName]], by, createPrivateKey(key), false, choices);
  return { cert: pem("CERTIFICATE", der), key };
}

/** A revocation list, PEM. */
export function revoke(
  serials: readonly number[],
  by: Authority = testAuthority,
  nextUpdate = FAR_OFF,
): string {
  const algorithm = algorithmOf(by.signer);
  const entries = serials.map((serial) => sequence(integer(serial), time(LONG_AGO)));
  const list = sequence(
    integer(1),
    algorithm,
    encodeName(by.name),
    time(LONG_AGO),
    time(nextUpdate),
    ...(entries.length > 0 ? [sequence(...entries)] : []),
    tagged(0xa0, sequence(extension("2.5.29.20", false, integer(1)))),
  );
  return pem("X509 CRL", sequence(list, algorithm, bits(signBytes("sha256", list, by.signer))));
}

let serials = 1_000_000;

function certificate(
  subject: Name,
  by: Pick<Authority, "name" | "signer">,
  key: KeyObject,
  ca: boolean,
  { notBefore = LONG_AGO, notAfter = FAR_OFF, serial = serials++, names }: Choices,
): Buffer {
  const algorithm = algorithmOf(by.signer);
  // keyUsage: digitalSignature, or keyCertSign and cRLSign.
  const usage = Buffer.from(ca ? [0x03, 0x02, 0x01, 0x06] : [0x03, 0x02, 0x07, 0x80]);
  const list = sequence(
    tagged(0xa0, integer(2)),
    integer(serial),
    algorithm,
    encodeName(by.name),
    sequence(time(notBefore), time(notAfter)),
    encodeName(subject),
    createPublicKey(key).export({ type: "spki", format: "der" }),
    tagged(
      0xa3,
      sequence(
        extension("2.5.29.19", true, sequence(...(ca ? [tagged(0x01, Buffer.of(0xff))] : []))),
        extension("2.5.29.15", true, usage),
        ...(names === undefined
          ? []
          : [
              extension(
                "2.5.29.17",
                false,
                sequence(...names.map(([tag, contents]) => tagged(tag, Buffer.from(contents as string)))),
              ),
            ]),
        ...(ca ? [] : [extension("2.5.29.37", false, sequence(oid("1.3.6.1.5.5.7.3.2")))]),
      ),
    ),
  );
  return sequence(list, algorithm, bits(signBytes("sha256", list, by.signer)));
}

export function algorithmOf({ asymmetricKeyType }: KeyObject): Buffer {
  return asymmetricKeyType === "rsa"
    ? sequence(oid("1.2.840.113549.1.1.11"), Buffer.of(0x05, 0))
    : sequence(oid("1.2.840.10045.4.3.2"));
}

export function encodeName(name: Name): Buffer {
  const types = { O: "2.5.4.10", CN: "2.5.4.3" };
  return sequence(
    ...name.map(([type, text]) => tagged(0x31, sequence(oid(types[type]), tagged(0x0c, Buffer.from(text))))),
  );
}

export function extension(id: string, critical: boolean, value: Buffer): Buffer {
  const flag = critical ? [tagged(0x01, Buffer.of(0xff))] : [];
  return sequence(oid(id), ...flag, tagged(0x04, value));
}

/** A date in whole seconds: UTCTime up to 2049, GeneralizedTime afterwards. */
export function time(date: Date): Buffer {
  const text = date.toISOString().replace(/[-:T]|\.\d+/g, "");
  return date.getUTCFullYear() < 2050
    ? tagged(0x17, Buffer.from(text.slice(2)))
    : tagged(0x18, Buffer.from(text));
}

export function integer(value: number): Buffer {
  const hex = value.toString(16);
  const bytes = Buffer.from(hex.padStart(hex.length + (hex.length % 2), "0"), "hex");
  return tagged(0x02, bytes[0]! >= 0x80 ? Buffer.concat([Buffer.of(0), bytes]) : bytes);
}

export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const bytes = [first * 40 + second];
  for (const number of rest) {
    const groups = [number & 0x7f];
    for (let left = number >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return tagged(0x06, Buffer.from(bytes));
}

export function bits(bytes: Buffer): Buffer {
  return tagged(0x03, Buffer.concat([Buffer.of(0), bytes]));
}

export function sequence(...parts: Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(parts));
}

export function tagged(tag: number, contents: Buffer): Buffer {
  const { length } = contents;
  const size =
    length < 0x80
      ? [length]
      : length < 0x100
        ? [0x81, length]
        : length < 0x10000
          ? [0x82, length >> 8, length & 0xff]
          : [0x83, length >> 16, (length >> 8) & 0xff, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), contents]);
}

export function pem(label: string, der: Buffer): string {
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}
