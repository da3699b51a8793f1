// The PEM files that the configuration names: read, checked against each other, and kept for TLS. All faults at once,
// before anything is opened or changed; nothing of a private key ever appears in a message.

import { X509Certificate, createPrivateKey, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import type { Config, Listener, UpstreamTls } from "./config.ts";
import { pemBlocks, readRevocationList } from "./der.ts";
import { cannotRead, quote, type Fault } from "./errors.ts";

/** What TLS towards clients needs, as PEM. */
export interface Credentials {
  readonly ca: readonly string[];
  readonly cert: string;
  readonly key: string;
  readonly crl: readonly string[] | undefined;
}

/** What TLS towards targets needs, as PEM. */
export interface UpstreamCredentials {
  readonly ca: readonly string[];
  readonly cert: string | undefined;
  readonly key: string | undefined;
}

/** All that a configuration's files come to. */
export interface AllCredentials {
  /** One for each listener. */
  readonly listeners: readonly Credentials[];
  /** One for each upstream; undefined for those without TLS. */
  readonly upstreams: readonly (UpstreamCredentials | undefined)[];
}

const SERVER_AUTH = "1.3.6.1.5.5.7.3.1"; // RFC 5280, section 4.2.1.12

/**
 * Reads and checks all files of a configuration. Paths that are "" are passed over: they were found at fault before.
 * @param faults collects what is wrong; the result is fit for use only if it stays empty
 */
export function loadCredentials({ listeners, upstreams }: Config, faults: Fault[]): AllCredentials {
  return {
    listeners: listeners.map((listener) => ofListener(listener, faults)),
    upstreams: upstreams.map(({ tls }, i) => tls && ofUpstream(tls, `upstreams[${i}].tls`, faults)),
  };
}

/** Every file that a configuration names. */
export function filesOf({ listeners, upstreams }: Config): string[] {
  const files = [
    ...listeners.flatMap(({ ca, certificate, privateKey, crl }) => [ca, certificate, privateKey, crl]),
    ...upstreams.flatMap(({ tls }) => [tls?.ca, tls?.certificate, tls?.privateKey]),
  ];
  return [...new Set(files.filter((file) => file !== undefined))];
}

function ofListener(listener: Listener, faults: Fault[]): Credentials {
  const before = faults.length;
  const fault: Fail = (key, problem) => void faults.push({ key: `${listener.key}.${key}`, problem });
  const ca = authorities(listener.ca, fault);
  const pair = keyPair(listener, listener.key, fault);
  const crl = listener.crl === undefined ? undefined : revocations(listener.crl, fault);
  const credentials = { ca, ...pair, crl };
  if (faults.length === before) tryOut(credentials, listener.certificate, fault);
  return credentials;
}

function ofUpstream(tls: UpstreamTls, key: string, faults: Fault[]): UpstreamCredentials {
  const before = faults.length;
  const fault: Fail = (name, problem) => void faults.push({ key: `${key}.${name}`, problem });
  const ca = authorities(tls.ca, fault);
  const { certificate, privateKey } = tls;
  if (certificate === undefined || privateKey === undefined) return { ca, cert: undefined, key: undefined };
  const credentials = { ca, ...keyPair({ certificate, privateKey }, key, fault) };
  if (faults.length === before) tryOut(credentials, certificate, fault);
  return credentials;
}

/** The TLS library's own opinion, without opening a port. */
function tryOut(
  { ca, cert, key, crl }: Omit<Credentials, "crl"> & Partial<Credentials>,
  file: string,
  fault: Fail,
) {
  try {
    createSecureContext({ ca: [...ca], cert, key, ...(crl && { crl: [...crl] }) });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    fault("certificate", `${quote(file)} cannot be used for TLS: ${message}`);
  }
}

function authorities(path: string, fault: Fail): string[] {
  const { all } = certificates(path, "ca", fault);
  all.forEach((authority, i) => {
    // A root of version 1 has no extension to say that it is one; it is one by having signed itself.
    if (authority.ca || authority.checkIssued(authority)) return;
    fault("ca", `${quote(path)}: certificate ${i + 1} (${quote(authority.subject)}) is not that of a CA`);
  });
  return all.map(String);
}

function keyPair(
  files: { readonly certificate: string; readonly privateKey: string },
  within: string,
  fault: Fail,
): { cert: string; key: string } {
  const { text, all } = certificates(files.certificate, "certificate", fault);
  const key = privateKey(files.privateKey, fault);
  if (all[0] !== undefined && key !== undefined && !all[0].checkPrivateKey(key.object)) {
    const pair = `${within}.certificate ${quote(files.certificate)}`;
    fault("privateKey", `${quote(files.privateKey)} is not the key of ${pair}`);
  }
  return { cert: text, key: key?.pem ?? "" };
}

/** What is allowed but will not work as hoped: one line each. */
export function credentialWarnings({ cert, ca }: Credentials, now = new Date()): string[] {
  const warnings: string[] = [];
  const dates = (what: string, { validFromDate, validToDate }: X509Certificate) => {
    if (validToDate < now) warnings.push(`${what} expired on ${validToDate.toISOString()}`);
    if (validFromDate > now) warnings.push(`${what} is not valid before ${validFromDate.toISOString()}`);
  };
  const certificate = new X509Certificate(cert);
  dates("the proxy's certificate", certificate);
  // Node's name for it is keyUsage, but what it holds is the extended key usage.
  if (certificate.keyUsage?.length && !certificate.keyUsage.includes(SERVER_AUTH)) {
    warnings.push(
      "the proxy's certificate is not meant for servers (extended key usage): clients may refuse it",
    );
  }
  for (const pem of ca) {
    const authority = new X509Certificate(pem);
    dates(`the CA ${quote(authority.subject)}`, authority);
  }
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

function certificates(path: string, key: string, fault: Fail): { text: string; all: X509Certificate[] } {
  const text = read(path, key, fault);
  if (text === undefined) return { text: "", all: [] };
  const blocks = pemBlocks(text, "CERTIFICATE");
  if (blocks.length === 0) fault(key, `${quote(path)} holds no certificate (PEM, "BEGIN CERTIFICATE")`);
  const all = blocks.flatMap(({ pem }, i) => {
    try {
      return [new X509Certificate(pem)];
    } catch {
      fault(key, `${quote(path)}: certificate ${i + 1} is damaged`);
      return [];
    }
  });
  return { text, all };
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
  blocks.forEach(({ pem, der }, i) => {
    try {
      createSecureContext({ crl: pem });
      readRevocationList(der);
    } catch {
      fault("crl", `${quote(path)}: revocation list ${i + 1} is damaged`);
    }
  });
  return blocks.map(({ pem }) => pem);
}
