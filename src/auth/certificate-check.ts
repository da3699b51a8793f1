// Checks a client's certificate by the current rules: for every connection at its beginning, when TLS has verified a
// chain once, and again after later changes. It searches for a chain that is good by RFC 5280, section 6. Pure.

import { X509Certificate } from "node:crypto";
import { readCertificate, type Certificate } from "./certificate.ts";
import {
  judgeDates,
  judgeMoment,
  judgePurposes,
  judgeRevocation,
  judgeStrength,
  untrusted,
  type Verdict,
} from "./chain-rules.ts";
import type { Chain, Trust } from "./trust.ts";

/** What is checked of a certificate; only a chain that leads to a root has anything but `chain` checked. */
export type Check = "chain" | "purposes" | "strength" | "revocation" | "dates";

/** The order of the checks after `chain`. TLS comes first in a handshake, and of its errors it reports the last one: dates. */
const CHECKS = ["purposes", "strength", "revocation", "dates"] as const satisfies Check[];
const CHECKS_OF_A_HANDSHAKE = ["dates", "purposes", "strength", "revocation"] as const satisfies Check[];

/** How the judge came to its verdict. */
export interface Finding {
  /** The chain that the verdict is about; the client's certificate alone where no chain leads to a root. */
  readonly chain: Chain;
  /** The checks that passed, in order. */
  readonly passed: readonly Check[];
  readonly failed: Check | undefined;
}

/** How {@link judge} is asked. */
export interface Asked {
  /**
   * No TLS has seen the certificate: the verdict is the one that a client with it would get from a full handshake and the
   * judge together. It differs where several things are wrong at a time.
   */
  readonly fresh?: boolean | undefined;
  /** Hears how the verdict came about. */
  readonly trace?: ((finding: Finding) => void) | undefined;
}

/** The largest number of remembered chains; the oldest is forgotten first. */
const MAX_CHAINS = 4_096;

/** The largest number of certificates in a chain, and of issuers that are tried on the way. */
const MAX_CHAIN_LENGTH = 16;
const MAX_ISSUER_TRIES = 24;

/**
 * Checks a client's certificate. It searches for a chain anew and verifies every signature on it; the certificate may
 * be good now by another path than in the handshake. What cannot be read or decided is not trusted.
 * @param sent returns, in DER, the certificates above this one: as far as TLS followed them, or as the client sent
 *   them. It takes time, and is called only if the authorities alone do not decide
 * @param vouched TLS has verified a chain to the same authorities: what this module does not decide (policies, which of
 *   two CAs with one name) is good then
 * @returns undefined if the certificate is good
 */
export function judge(
  leaf: X509Certificate | undefined,
  sent: () => readonly Uint8Array[],
  trust: Trust,
  now: number,
  vouched = false,
  { fresh = false, trace }: Asked = {},
): Verdict | undefined {
  if (leaf === undefined) return untrusted("no certificate");
  const { chains, all } = trust.authorities;
  let client: Certificate | undefined;
  try {
    const known = chains.get(leaf.fingerprint256);
    if (known !== undefined && judgeMoment(known, trust, now) === undefined) {
      trace?.(passing(known, fresh));
      return undefined;
    }
    const search = new Search(trust, now, vouched, fresh);
    client = readCertificate(leaf);
    if (fresh) {
      const verdict = atTheDoor(client, now);
      if (verdict !== undefined) {
        trace?.({
          chain: [client],
          passed: [],
          failed: verdict.reason === "certificate_expired" ? "dates" : "purposes",
        });
        return verdict;
      }
    }
    const verdict = find(search, client, all, sent);
    trace?.(
      verdict === undefined
        ? passing(chains.get(client.fingerprint)!, fresh)
        : search.findingFor(client, verdict),
    );
    return verdict;
  } catch (error) {
    trace?.({ chain: client === undefined ? [] : [client], passed: [], failed: "chain" });
    return untrusted(error instanceof Error ? error.message : "it cannot be read");
  }
}

function passing(chain: Chain, fresh: boolean): Finding {
  return { chain, passed: ["chain", ...(fresh ? CHECKS_OF_A_HANDSHAKE : CHECKS)], failed: undefined };
}

function find(
  search: Search,
  client: Certificate,
  all: readonly Certificate[],
  sent: () => readonly Uint8Array[],
): Verdict | undefined {
  if (search.from(client, all)) return undefined;
  // TLS does not verify such a signature at all.
  if (client.weakSignature !== undefined && search.worst === undefined) return weakLeaf(client);
  // The result is final if no sent certificate can help.
  const between = sent().map((der) => readCertificate(new X509Certificate(der)));
  if (between.length > 0 && search.from(client, [...all, ...between])) return undefined;
  return search.worst ?? untrusted("no chain to a CA");
}

/** What TLS reports in a handshake whatever else is wrong. */
function atTheDoor(client: Certificate, now: number): Verdict | undefined {
  const { noClient } = client;
  if (noClient !== undefined) return { reason: "handshake_failed", detail: `the certificate: ${noClient}` };
  return judgeDates([client], now);
}

function weakLeaf({ weakSignature = "" }: Certificate): Verdict {
  return { reason: "certificate_weak", detail: `the certificate: ${weakSignature}` };
}

/** Why TLS may have rejected a signature that it does not verify: its algorithm is not safe. */
export function weaknessOf(leaf: X509Certificate | undefined): Verdict | undefined {
  try {
    const client = leaf && readCertificate(leaf);
    return client?.weakSignature === undefined ? undefined : weakLeaf(client);
  } catch {
    return undefined;
  }
}

/** Which verdict is reported if several chains fail: the one that needs the smallest repair. */
const REPORT_ORDER: readonly Verdict["reason"][] = [
  "certificate_expired",
  "certificate_revoked",
  "certificate_weak",
  "certificate_untrusted",
];

/** Searches all available certificates for a good chain. */
class Search {
  /** The problem of the best chain that led to a root. */
  worst: Verdict | undefined;
  #finding: Finding | undefined;
  readonly #trust: Trust;
  readonly #now: number;
  readonly #vouched: boolean;
  readonly #fresh: boolean;
  /** Verified signatures, by the fingerprints of the signed certificate and of the signer. */
  readonly #signed = new Map<string, boolean>();
  #tries = 0;

  constructor(trust: Trust, now: number, vouched: boolean, fresh: boolean) {
    this.#trust = trust;
    this.#now = now;
    this.#vouched = vouched;
    this.#fresh = fresh;
  }

  /** How a verdict about this client came about. */
  findingFor(client: Certificate, { reason }: Verdict): Finding {
    const failed = reason === "certificate_weak" ? "strength" : "chain";
    return this.#finding ?? { chain: [client], passed: [], failed };
  }

  /** @returns whether a good chain was found */
  from(client: Certificate, issuers: readonly Certificate[]): boolean {
    this.#tries = 0;
    return this.#follow([client], issuers);
  }

  #follow(chain: Chain, issuers: readonly Certificate[]): boolean {
    const last = chain.at(-1)!;
    if (this.#isRoot(last)) return this.#isGood(chain);
    if (chain.length >= MAX_CHAIN_LENGTH) return false;
    for (const issuer of this.#mayHaveIssued(last, issuers)) {
      if (chain.some(({ fingerprint }) => fingerprint === issuer.fingerprint)) continue;
      if (++this.#tries > MAX_ISSUER_TRIES) throw new Error("too many paths to a CA");
      if (this.#hasSigned(issuer, last) && this.#follow([...chain, issuer], issuers)) return true;
    }
    return false;
  }

  /**
   * Compares names and key identifiers. TLS compares only those, prefers an authority to a sent certificate, and does
   * not go back if the signature is another CA's. A chain that TLS has not verified must be good in that way too.
   */
  #mayHaveIssued(
    { issuer: name, x509 }: Certificate,
    issuers: readonly Certificate[],
  ): readonly Certificate[] {
    const fits = (each: Certificate) => each.subject === name && x509.checkIssued(each.x509);
    if (this.#vouched) return issuers.filter(fits);
    const trusted = this.#trust.authorities.all.filter(fits);
    if (new Set(trusted.map(({ keyId }) => keyId)).size > 1) {
      this.worst ??= untrusted("several CAs have the same name; only a full handshake can tell them apart");
      return [];
    }
    return trusted.length > 0 ? trusted : issuers.filter(fits);
  }

  #hasSigned(issuer: Certificate, { x509, fingerprint }: Certificate): boolean {
    const pair = `${fingerprint} ${issuer.fingerprint}`;
    let signed = this.#signed.get(pair);
    if (signed === undefined) this.#signed.set(pair, (signed = x509.verify(issuer.x509.publicKey)));
    return signed;
  }

  /** An authority below another one does not end a chain, as in a handshake. */
  #isRoot({ x509 }: Certificate): boolean {
    return (
      x509.checkIssued(x509) && this.#trust.authorities.all.some((each) => each.x509.raw.equals(x509.raw))
    );
  }

  #isGood(chain: Chain): boolean {
    const passed: Check[] = ["chain"];
    for (const check of this.#fresh ? CHECKS_OF_A_HANDSHAKE : CHECKS) {
      const verdict = this.#check(check, chain);
      if (verdict !== undefined) {
        const gravity = ({ reason }: Verdict) => REPORT_ORDER.indexOf(reason);
        if (this.worst === undefined || gravity(verdict) < gravity(this.worst)) {
          this.worst = verdict;
          this.#finding = { chain, passed, failed: check };
        }
        return false;
      }
      passed.push(check);
    }
    this.#remember(chain);
    return true;
  }

  #check(check: (typeof CHECKS)[number], chain: Chain): Verdict | undefined {
    switch (check) {
      case "purposes":
        return judgePurposes(chain, this.#vouched);
      case "strength":
        return judgeStrength(chain);
      case "revocation":
        return judgeRevocation(chain, this.#trust, this.#now);
      case "dates":
        return judgeDates(chain, this.#now);
    }
  }

  #remember(chain: Chain): void {
    const { chains } = this.#trust.authorities;
    const [oldest] = chains.keys();
    if (chains.size >= MAX_CHAINS && oldest !== undefined) chains.delete(oldest);
    chains.set(chain[0]!.fingerprint, chain);
  }
}
