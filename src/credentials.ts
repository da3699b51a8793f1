// The PEM files of a listener: read, checked against each other, and kept for TLS. All faults at once, before any port
// is opened; nothing of a private key ever appears in a message.

import { X509Certificate, createPrivateKey, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import type { Config } from "./config.ts";
import { cannotRead, quote, type Fault } from "./errors.ts";

/** What TLS needs, as PEM. */
export interface Credentials {
  readonly ca: string[];
  readonly cert: string;
  readonly key: string;
  readonly crl: string[] | undefined;
  /** The proxy's own certificate, for people. */
  readonly certificate: X509Certificate;
  /** The CA certificates, for people. */
  readonly authorities: readonly X509Certificate[];
}

const CLIENT_OR_SERVER_AUTH = { server: "1.3.6.1.5.5.7.3.1" }; // RFC 5280, section 4.2.1.12

/**
 * Reads and checks the files of a listener.
 * @param listener paths that are "" are passed over: they were found at fault before
 * @param faults collects what is wrong
 * @returns undefined where anything is
 */
export function loadCredentials(listener: Config["listener"], faults: Fault[]): Credentials | undefined {
  const before = faults.length;
  const fault = (key: string, problem: string) => void faults.push({ key: `listener.${key}`, problem });

  const authorities = certificates(listener.ca, "ca", fault);
  authorities.forEach((authority, i) => {
    // A root of version 1 has no extension to say that it is one; it is one by having signed itself.
    if (authority.ca || authority.checkIssued(authority)) return;
    fault(
      "ca",
      `${quote(listener.ca)}: certificate ${i + 1} (${quote(authority.subject)}) is not that of a CA`,
    );
  });
  const [certificate] = certificates(listener.certificate, "certificate", fault);
  const key = privateKey(listener.privateKey, fault);
  if (certificate !== undefined && key !== undefined && !certificate.checkPrivateKey(key.object)) {
    fault(
      "privateKey",
      `${quote(listener.privateKey)} is not the key of listener.certificate ${quote(listener.certificate)}`,
    );
  }
  const crl = listener.crl === undefined ? undefined : revocations(listener.crl, fault);
  if (faults.length > before || certificate === undefined || key === undefined) return undefined;

  const credentials: Credentials = {
    ca: authorities.map(String),
    cert: read(listener.certificate, "certificate", fault) ?? "",
    key: key.pem,
    crl,
    certificate,
    authorities,
  };
  try {
    // The TLS library's own opinion, without opening a port.
    createSecureContext({
      ca: credentials.ca,
      cert: credentials.cert,
      key: credentials.key,
      ...(crl && { crl }),
    });
  } catch (error) {
    fault("certificate", `${quote(listener.certificate)} cannot be used for TLS: ${messageOf(error)}`);
    return undefined;
  }
  return credentials;
}

/** What is allowed but will not work as hoped: one line each. */
export function credentialWarnings({ certificate, authorities }: Credentials, now = new Date()): string[] {
  const warnings: string[] = [];
  const dates = (what: string, { validFromDate, validToDate }: X509Certificate) => {
    if (validToDate < now) warnings.push(`${what} expired on ${validToDate.toISOString()}`);
    if (validFromDate > now) warnings.push(`${what} is not valid before ${validFromDate.toISOString()}`);
  };
  dates("the proxy's certificate", certificate);
  // Node's name for it is keyUsage, but what it holds is the extended key usage.
  if (certificate.keyUsage?.length && !certificate.keyUsage.includes(CLIENT_OR_SERVER_AUTH.server)) {
    warnings.push(
      "the proxy's certificate is not meant for servers (extended key usage): clients may refuse it",
    );
  }
  authorities.forEach((authority) => dates(`the CA ${quote(authority.subject)}`, authority));
  return warnings;
}

type Fail = (key: string, problem: string) => void;

function read(path: string, key: string, fault: Fail): string | undefined {
  if (path === "") return undefined;
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    fault(key, `${quote(path)} ${cannotRead(error)}`);
    return undefined;
  }
}

function certificates(path: string, key: string, fault: Fail): X509Certificate[] {
  const text = read(path, key, fault);
  if (text === undefined) return [];
  const blocks = pemBlocks(text, "CERTIFICATE");
  if (blocks.length === 0) fault(key, `${quote(path)} holds no certificate (PEM, "BEGIN CERTIFICATE")`);
  return blocks.flatMap((block, i) => {
    try {
      return [new X509Certificate(block)];
    } catch {
      fault(key, `${quote(path)}: certificate ${i + 1} is damaged`);
      return [];
    }
  });
}

function privateKey(path: string, fault: Fail): { pem: string; object: KeyObject } | undefined {
  const pem = read(path, "privateKey", fault);
  if (pem === undefined) return undefined;
  try {
    return { pem, object: createPrivateKey(pem) };
  } catch {
    const problem = /ENCRYPTED/.test(pem)
      ? "is encrypted; the proxy has nobody to ask for the passphrase"
      : 'holds no private key (PEM, "BEGIN PRIVATE KEY")';
    fault("privateKey", `${quote(path)} ${problem}`);
    return undefined;
  }
}

function revocations(path: string, fault: Fail): string[] {
  const text = read(path, "crl", fault);
  if (text === undefined) return [];
  const blocks = pemBlocks(text, "X509 CRL");
  if (blocks.length === 0) fault("crl", `${quote(path)} holds no revocation list (PEM, "BEGIN X509 CRL")`);
  blocks.forEach((crl, i) => {
    try {
      createSecureContext({ crl });
    } catch {
      fault("crl", `${quote(path)}: revocation list ${i + 1} is damaged`);
    }
  });
  return blocks;
}

function pemBlocks(text: string, label: string): string[] {
  return text.match(new RegExp(`-----BEGIN ${label}-----[^-]*-----END ${label}-----`, "g")) ?? [];
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
