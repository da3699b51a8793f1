// Reads PEM files: certificates, private keys, and blocks of any kind. A fault names the file, the line and the
// problem; it never contains a part of a private key.

import { X509Certificate, createPrivateKey, type KeyObject } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { readPem, type PemBlock } from "../auth/pem.ts";
import { cannotRead, quote } from "../lib/errors.ts";

/** Collects the faults and warnings about one table of the configuration. */
export interface Findings {
  fault(key: string, problem: string): void;
  warn(warning: string): void;
}

/** @returns the file's text; undefined if it is unreadable, after reporting a fault */
export function textOf(path: string, key: string, { fault }: Findings): string | undefined {
  if (path === "") return undefined;
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    fault(key, `${quote(path)} ${cannotRead(error)}`);
    return undefined;
  }
}

/** @returns the blocks of a file's text; undefined if it is damaged, after reporting a fault */
export function blocksOf(
  text: string,
  path: string,
  key: string,
  { fault }: Findings,
): readonly PemBlock[] | undefined {
  const { blocks, damage } = readPem(text);
  if (damage === undefined) return blocks;
  fault(key, `${quote(path)}, line ${damage.line}: ${damage.problem}`);
  return undefined;
}

/** Labels that other programs use for certificates; without a fault they would be ignored. */
const OTHER_LABELS: readonly string[] = ["TRUSTED CERTIFICATE", "X509 CERTIFICATE"];

export function certificates(
  path: string,
  key: string,
  found: Findings,
): { text: string; all: X509Certificate[] } {
  const text = textOf(path, key, found);
  const blocks = text === undefined ? undefined : blocksOf(text, path, key, found);
  if (text === undefined || blocks === undefined) return { text: "", all: [] };
  const fault = (problem: string) => found.fault(key, `${quote(path)}${problem}`);
  for (const { label, line } of blocks) {
    if (OTHER_LABELS.includes(label)) fault(`, line ${line}: "BEGIN ${label}" should be "BEGIN CERTIFICATE"`);
  }
  const own = blocks.filter(({ label }) => label === "CERTIFICATE");
  if (own.length === 0) fault(' holds no certificate (PEM, "BEGIN CERTIFICATE")');
  const all = own.flatMap(({ pem, line }, i) => {
    try {
      return [new X509Certificate(pem)];
    } catch {
      fault(`, line ${line}: certificate ${i + 1} is damaged`);
      return [];
    }
  });
  return { text, all };
}

export function privateKey(path: string, found: Findings): { pem: string; object: KeyObject } | undefined {
  const pem = textOf(path, "privateKey", found);
  if (pem === undefined || blocksOf(pem, path, "privateKey", found) === undefined) return undefined;
  if (isOpenToOthers(path)) {
    found.warn(
      `the private key ${quote(path)} can be read by other users; chmod 600 restricts it to its owner`,
    );
  }
  try {
    return { pem, object: createPrivateKey(pem) };
  } catch {
    const problem = /ENCRYPTED/.test(pem)
      ? "is encrypted; the proxy cannot ask for a passphrase"
      : 'holds no private key (PEM, "BEGIN PRIVATE KEY")';
    found.fault("privateKey", `${quote(path)} ${problem}`);
    return undefined;
  }
}

export function isOpenToOthers(path: string): boolean {
  if (process.platform === "win32") return false;
  try {
    return (statSync(path).mode & 0o077) !== 0;
  } catch {
    return false;
  }
}
