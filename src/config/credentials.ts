// Reads the PEM files that the configuration names, checks them against each other, and keeps them for TLS. It reports
// all faults at once, before it opens or changes anything; no message ever contains a part of a private key.

import { X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import { readCertificate, type Certificate } from "../auth/certificate.ts";
import type { RevocationList } from "../auth/revocation.ts";
import type { AdminSettings, Config, FleetConfig, Listener } from "./config.ts";
import { quote, type Fault } from "../lib/errors.ts";
import {
  claimedTwice,
  nameOfCertificate,
  namesIn,
  namesMissingIn,
  type NamedCertificate,
} from "./named-certificates.ts";
import { certificates, isOpenToOthers, privateKey, textOf, type Findings } from "./pem-files.ts";
import { revocations } from "./revocation-lists.ts";

/**
 * What a listener needs: PEM for TLS, and revocation lists. TLS does not get the lists: it would parse them each time.
 */
export interface Credentials {
  readonly ca: readonly string[];
  readonly cert: string;
  readonly key: string;
  readonly crl: readonly RevocationList[] | undefined;
  /** Certificates for some server names; every other client sees `cert`. */
  readonly certificates?: readonly NamedCertificate[] | undefined;
}

/** The PEM that TLS towards targets needs. */
export interface UpstreamCredentials {
  readonly ca: readonly string[];
  readonly cert: string | undefined;
  readonly key: string | undefined;
}

/** What the store of a fleet is told and verified by. */
export interface FleetCredentials {
  readonly password: string | undefined;
  /** Undefined without TLS. */
  readonly tls: UpstreamCredentials | undefined;
}

/** The contents of all files that a configuration names. */
export interface AllCredentials {
  /** One for each listener. */
  readonly listeners: readonly Credentials[];
  /** One for each upstream; undefined for those without TLS. */
  readonly upstreams: readonly (UpstreamCredentials | undefined)[];
  /** Undefined where there is no fleet. */
  readonly fleet: FleetCredentials | undefined;
  /** The certificates of each test, the client's first; undefined for those that name a client. */
  readonly tests: readonly (readonly X509Certificate[] | undefined)[];
  /** Of the door for operators; undefined where it has no TLS. */
  readonly admin: Credentials | undefined;
  /** What is allowed but not advisable, one line each. */
  readonly warnings: readonly string[];
}

const SERVER_AUTH = "1.3.6.1.5.5.7.3.1"; // RFC 5280, section 4.2.1.12

/**
 * Reads and checks all files of a configuration, in steps. It skips paths that are "": the resolver has already
 * reported them.
 * @param faults collects what is wrong; use the result only if it stays empty
 */
export function* loadCredentials(
  { listeners, upstreams, tests, admin, fleet }: Config,
  faults: Fault[],
): Generator<void, AllCredentials> {
  const warnings = new Set<string>();
  const ofListeners: Credentials[] = [];
  for (const listener of listeners) ofListeners.push(yield* ofListener(listener, faults, warnings));
  return {
    listeners: ofListeners,
    upstreams: upstreams.map(({ tls }, i) => tls && ofUpstream(tls, `upstreams[${i}].tls`, faults, warnings)),
    tests: tests.map(({ certificate }, i) =>
      certificate === undefined
        ? undefined
        : certificates(certificate, "certificate", findings(`tests[${i}]`, faults, warnings)).all,
    ),
    admin: admin && ofAdmin(admin, faults, warnings),
    fleet: fleet && ofFleet(fleet, faults, warnings),
    warnings: [...warnings],
  };
}

/** Every file that a configuration names. */
export function filesOf({ listeners, upstreams, tests, admin, fleet }: Config): string[] {
  const files = [
    ...listeners.flatMap(({ ca, certificate, privateKey, crl }) => [ca, certificate, privateKey, crl]),
    ...listeners.flatMap(({ certificates = [] }) =>
      certificates.flatMap(({ certificate, privateKey }) => [certificate, privateKey]),
    ),
    ...upstreams.flatMap(({ tls }) => [tls?.ca, tls?.certificate, tls?.privateKey]),
    ...tests.map(({ certificate }) => certificate),
    ...[admin?.ca, admin?.certificate, admin?.privateKey],
    ...[fleet?.store.passwordFile, fleet?.tls?.ca, fleet?.tls?.certificate, fleet?.tls?.privateKey],
  ];
  return [...new Set(files.filter((file) => file !== undefined))];
}

function findings(key: string, faults: Fault[], warnings: Set<string>): Findings {
  return {
    fault: (name, problem) => void faults.push({ key: `${key}.${name}`, problem }),
    warn: (warning) => void warnings.add(warning),
  };
}

function* ofListener(
  listener: Listener,
  faults: Fault[],
  warnings: Set<string>,
): Generator<void, Credentials> {
  const before = faults.length;
  const found = findings(listener.key, faults, warnings);
  if (listener.acceptProxy?.from.some((range) => range.endsWith("/0"))) {
    found.warn(`${listener.key}.acceptProxy.from has every address: whoever connects can claim any other`);
  }
  const ca = authorities(listener.ca, found);
  yield;
  const pair = keyPair(listener, listener.key, found);
  yield;
  const crl = listener.crl === undefined ? undefined : yield* revocations(listener.crl, ca, found);
  const credentials = { ca: ca.map(({ x509 }) => String(x509)), ...pair, crl };
  if (faults.length === before) tryOut(credentials, listener.certificate, found);
  yield;
  if (listener.certificates === undefined) return credentials;
  return { ...credentials, certificates: yield* named(listener, credentials.ca, faults, warnings) };
}

/** The further certificates of a listener. */
function* named(
  { key, certificates = [] }: Listener,
  ca: readonly string[],
  faults: Fault[],
  warnings: Set<string>,
): Generator<void, NamedCertificate[]> {
  const all: NamedCertificate[] = [];
  for (const [i, files] of certificates.entries()) {
    const before = faults.length;
    const within = `${key}.certificates[${i}]`;
    const found = findings(within, faults, warnings);
    const pair = keyPair(files, within, found);
    const file = quote(files.certificate);
    const x509 = faults.length === before && pair.cert !== "" ? new X509Certificate(pair.cert) : undefined;
    const serverNames = files.serverNames ?? (x509 === undefined ? [] : namesIn(x509));
    if (x509 !== undefined) {
      tryOut({ ca, ...pair }, files.certificate, found);
      if (serverNames.length === 0)
        found.fault("serverNames", `is missing; ${file} holds no DNS name that a client could ask for`);
      for (const name of namesMissingIn(x509, serverNames))
        found.warn(`${file} does not hold ${quote(name)}, its server name: clients may refuse it`);
    }
    all.push({ ...pair, keyType: x509?.publicKey.asymmetricKeyType ?? "", serverNames });
    yield;
  }
  for (const { place, problem } of claimedTwice(all, `${key}.certificates`))
    faults.push({ key: `${key}.certificates[${place}].serverNames`, problem });
  return all;
}

function ofFleet({ store, tls }: FleetConfig, faults: Fault[], warnings: Set<string>): FleetCredentials {
  const { url, passwordFile } = store;
  const found = findings("fleet.store", faults, warnings);
  const text = passwordFile === undefined ? undefined : textOf(passwordFile, "passwordFile", found);
  const password = text === undefined ? url.password : text.replace(/\r?\n$/, "");
  if (passwordFile !== undefined && text !== undefined) {
    const file = quote(passwordFile);
    if (password === "" || /[\r\n\0]/.test(password ?? ""))
      found.fault("passwordFile", `${file} does not hold one line with a password`);
    if (isOpenToOthers(passwordFile)) {
      found.warn(`the password file ${file} can be read by other users; chmod 600 keeps it to its owner`);
    }
  }
  return { password, tls: tls && ofUpstream(tls, "fleet.tls", faults, warnings) };
}

/** Reads and checks the files of one end that connects: its CA and, where it has one, its own certificate and key. */
export function ofUpstream(
  tls: {
    readonly ca: string;
    readonly certificate: string | undefined;
    readonly privateKey: string | undefined;
  },
  key: string,
  faults: Fault[],
  warnings: Set<string>,
): UpstreamCredentials {
  const before = faults.length;
  const found = findings(key, faults, warnings);
  const ca = authorities(tls.ca, found).map(({ x509 }) => String(x509));
  const { certificate, privateKey } = tls;
  if (certificate === undefined || privateKey === undefined) return { ca, cert: undefined, key: undefined };
  const credentials = { ca, ...keyPair({ certificate, privateKey }, key, found) };
  if (faults.length === before) tryOut(credentials, certificate, found);
  return credentials;
}

function ofAdmin(
  { ca, certificate, privateKey }: AdminSettings,
  faults: Fault[],
  warnings: Set<string>,
): Credentials | undefined {
  if (ca === undefined || certificate === undefined || privateKey === undefined) return undefined;
  const before = faults.length;
  const found = findings("admin", faults, warnings);
  const trusted = authorities(ca, found).map(({ x509 }) => String(x509));
  const credentials = {
    ca: trusted,
    ...keyPair({ certificate, privateKey }, "admin", found),
    crl: undefined,
  };
  if (faults.length === before) tryOut(credentials, certificate, found);
  return credentials;
}

/** Asks the TLS library, without opening a port. */
function tryOut(
  { ca, cert, key }: Pick<Credentials, "ca" | "cert" | "key">,
  file: string,
  { fault }: Findings,
): void {
  try {
    createSecureContext({ ca: [...ca], cert, key });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    fault("certificate", `${quote(file)} cannot be used for TLS: ${message}`);
  }
}

function authorities(path: string, found: Findings): Certificate[] {
  const { all } = certificates(path, "ca", found);
  return all.flatMap((authority, i) => {
    const it = `${quote(path)}: certificate ${i + 1}`;
    // A root of version 1 has no extension that says so; a valid signature of its own makes it a root.
    if (!authority.ca && !authority.checkIssued(authority)) {
      found.fault("ca", `${it} (${quote(authority.subject)}) is not that of a CA`);
    }
    try {
      return [readCertificate(authority)];
    } catch {
      found.fault("ca", `${it} is damaged`);
      return [];
    }
  });
}

function keyPair(
  files: { readonly certificate: string; readonly privateKey: string },
  within: string,
  found: Findings,
): { cert: string; key: string } {
  const { text, all } = certificates(files.certificate, "certificate", found);
  const key = privateKey(files.privateKey, found);
  if (all[0] !== undefined && key !== undefined && !all[0].checkPrivateKey(key.object)) {
    const pair = `${within}.certificate ${quote(files.certificate)}`;
    found.fault("privateKey", `${quote(files.privateKey)} is not the key of ${pair}`);
  }
  return { cert: text, key: key?.pem ?? "" };
}

/** What is allowed but will not work as expected, except dates: one line each. */
export function credentialWarnings({ cert, ca, certificates = [] }: Credentials): string[] {
  const warnings: string[] = [];
  const own = [
    [cert, "the proxy's certificate"] as const,
    ...certificates.map((each) => [each.cert, nameOfCertificate(each)] as const),
  ];
  for (const [pem, what] of own) {
    // Node calls it keyUsage, but it holds the extended key usage.
    const { keyUsage } = new X509Certificate(pem);
    if (keyUsage?.length && !keyUsage.includes(SERVER_AUTH))
      warnings.push(`${what} is not meant for servers (extended key usage): clients may refuse it`);
  }
  for (const pem of ca) {
    const { x509, problem, noAuthority, weakKey } = readCertificate(new X509Certificate(pem));
    const wrong = problem ?? noAuthority ?? weakKey;
    if (wrong !== undefined) {
      warnings.push(`the CA ${quote(x509.subject)} cannot vouch for clients: ${wrong}`);
    }
  }
  return warnings;
}
