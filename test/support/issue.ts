// Certificates that openssl will not write: one of test/certs under another name, signed anew by the CA.

import { sign, X509Certificate } from "node:crypto";
import { cert } from "./peer.ts";

/** A client certificate (PEM) like alice's, with this Common Name, however long; its key is key.pem. */
export function issue(commonName: string): string {
  const [tbs, algorithm] = parts(new X509Certificate(cert("alice.crt")).raw);
  const fields = parts(tbs!);
  // Version, serial number, algorithm, issuer, validity, subject, key, extensions (RFC 5280, section 4.1).
  const name = [der(0x06, Buffer.from([0x55, 0x04, 0x03])), der(0x0c, Buffer.from(commonName))];
  fields[5] = der(0x30, der(0x31, der(0x30, ...name)));
  const signed = der(0x30, ...fields);
  const signature = sign("sha256", signed, cert("ca.key"));
  const whole = der(0x30, signed, algorithm!, der(0x03, Buffer.from([0]), signature));
  return `-----BEGIN CERTIFICATE-----\n${whole.toString("base64")}\n-----END CERTIFICATE-----\n`;
}

function der(tag: number, ...contents: Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  const { length } = content;
  const head = length < 0x80 ? [tag, length] : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), content]);
}

/** The values inside a value, each with its head. */
function parts(value: Uint8Array): Buffer[] {
  const all: Buffer[] = [];
  const { start, end } = content(value);
  for (let at = start; at < end;) {
    const each = value.subarray(at, end);
    const over = content(each).end;
    all.push(Buffer.from(each.subarray(0, over)));
    at += over;
  }
  return all;
}

function content(value: Uint8Array): { start: number; end: number } {
  const first = value[1]!;
  if (first < 0x80) return { start: 2, end: 2 + first };
  const start = 2 + (first & 0x7f);
  const length = value.subarray(2, start).reduce((sum, byte) => sum * 256 + byte, 0);
  return { start, end: start + length };
}
