// Reads one PEM file: its text, its blocks, its certificates or its private key. Every fault names the file; nothing of a
// private key ever appears in a message.

import { X509Certificate, createPrivateKey, type KeyObject } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { readPem, type PemBlock } from "../auth/pem.ts";
import { cannotRead, quote, type Fault } from "../lib/errors.ts";

/** Collects what is wrong with the files of one table, and what is allowed but unsafe. */
export interface Findings {
  fault(key: string, problem: string): void;
  warn(warning: string): void;
}

export function findings(key: string, faults: Fault[], warnings: Set<string>): Findings {
  return {
    fault: (name, problem) => void faults.push({ key: `${key}.${name}`, problem }),
    warn: (warning) => void warnings.add(warning),
  };
}

/** The file's text; undefined where it cannot be read, which is a fault. */
export function textOf(path: string, key: string, { fault }: Findings): string | undefined {
  if (path === "") return undefined;
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    fault(key, `${quote(path)} ${cannotRead(error)}`);
    return undefined;
  }
}

/** The blocks of a file's text; undefined where it is damaged, which is a fault. */
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

/** Labels that other programs use for certificates. TLS would skip such blocks. */
const OTHER_LABELS: readonly string[] = ["TRUSTED CERTIFICATE", "X509 CERTIFICATE"];

/** The certificates of a file, at least one. */
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

/** The key of a file; undefined where there is none that can be used, which is a fault. */
export function privateKey(path: string, found: Findings): { pem: string; object: KeyObject } | undefined {
  const pem = textOf(path, "privateKey", found);
  if (pem === undefined || blocksOf(pem, path, "privateKey", found) === undefined) return undefined;
  if (isOpenToOthers(path)) {
    found.warn(`the private key ${quote(path)} can be read by other users; chmod 600 keeps it to its owner`);
  }
  try {
    return { pem, object: createPrivateKey(pem) };
  } catch {
    const problem = /ENCRYPTED/.test(pem)
      ? "is encrypted; the proxy has nobody to ask for the passphrase"
      : 'holds no private key (PEM, "BEGIN PRIVATE KEY")';
    found.fault("privateKey", `${quote(path)} ${problem}`);
    return undefined;
  }
}

function isOpenToOthers(path: string): boolean {
  if (process.platform === "win32") return false;
  try {
    return (statSync(path).mode & 0o077) !== 0;
  } catch {
    return false;
  }
}
