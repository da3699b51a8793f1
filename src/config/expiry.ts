// Says when the proxy's certificate, the CAs and the revocation lists expire, and when to warn. Pure.

import { X509Certificate } from "node:crypto";
import { readCertificate } from "../auth/certificate.ts";
import type { Credentials } from "./credentials.ts";
import { quote } from "../lib/errors.ts";
import { nameOfCertificate } from "./named-certificates.ts";

/** Something with a period of validity. Times are milliseconds since 1970. */
export interface Expiry {
  readonly kind: "server" | "ca" | "crl";
  /** Its name within a sentence. */
  readonly what: string;
  readonly from: number;
  /** Infinity if it does not say. */
  readonly until: number;
}

/** A warning, given once; `id` identifies it. */
export interface ExpiryWarning {
  readonly id: string;
  readonly text: string;
}

const DAY_MS = 86_400_000;
const WARNING_STAGES_MS = [30 * DAY_MS, 7 * DAY_MS, DAY_MS];

/** Warnings about a list begin in this last fraction of its life; lists are replaced often. */
const LIST_WARNING_FRACTION = 0.1;

/**
 * What expires in a listener's files: the proxy's certificate, the CAs, the lists.
 * @param certificate what the first one is called
 */
export function expiriesOf(
  { cert, ca, crl = [], certificates = [] }: Pick<Credentials, "cert" | "ca" | "crl" | "certificates">,
  certificate = "the proxy's certificate",
): Expiry[] {
  const own = (pem: string, what: string): Expiry => {
    const { validFromDate, validToDate } = new X509Certificate(pem);
    return { kind: "server", what, from: validFromDate.getTime(), until: validToDate.getTime() };
  };
  const authorities = ca.map((pem) => readCertificate(new X509Certificate(pem)));
  const nameOf = (issuer: string) => {
    const known = authorities.find(({ subject }) => subject === issuer);
    return quote(known?.x509.subject ?? issuer);
  };
  return [
    own(cert, certificate),
    ...certificates.map((each) => own(each.cert, nameOfCertificate(each))),
    ...authorities.map(({ x509, notBefore, notAfter }): Expiry => ({
      kind: "ca",
      what: `the CA ${quote(x509.subject)}`,
      from: notBefore,
      until: notAfter,
    })),
    ...crl.map(({ issuer, thisUpdate, nextUpdate = Infinity }): Expiry => ({
      kind: "crl",
      what: `the revocation list of ${nameOf(issuer)}`,
      from: thisUpdate,
      until: nextUpdate,
    })),
  ];
}

/** Warnings about what has expired, expires soon, or is not valid yet. */
export function expiryWarnings(expiries: readonly Expiry[], now: number): ExpiryWarning[] {
  return expiries.flatMap((expiry) => {
    const { kind, what, from, until } = expiry;
    const warning = (stage: string | number, text: string) => [
      { id: `${what} ${from} ${until} ${stage}`, text: `${what} ${text}` },
    ];
    if (now < from) return warning("early", `is not valid before ${date(from)}`);
    if (now >= until) return warning("over", `expired on ${date(until)}${kind === "crl" ? OUTDATED : ""}`);
    if (until === Infinity) return [];
    const left = until - now;
    const stage = stagesOf(expiry).findLast((each) => left <= each);
    return stage === undefined ? [] : warning(stage, `expires on ${date(until)}, in ${rough(left)}`);
  });
}
const OUTDATED = ": clients of that CA are refused until a newer list is loaded";

/** From the longest to the shortest. */
function stagesOf({ kind, from, until }: Expiry): number[] {
  if (kind !== "crl") return WARNING_STAGES_MS;
  const life = until - from;
  return [...WARNING_STAGES_MS.filter((stage) => stage <= life / 2), life * LIST_WARNING_FRACTION].sort(
    (a, b) => b - a,
  );
}

function date(time: number): string {
  return new Date(time).toISOString();
}

function rough(ms: number): string {
  const [count, unit] =
    ms >= 2 * DAY_MS
      ? [ms / DAY_MS, "days"]
      : ms >= 7_200_000
        ? [ms / 3_600_000, "hours"]
        : [ms / 60_000, "minutes"];
  return `${Math.floor(count)} ${unit}`;
}

/** Remembers which warnings were given. */
export class ExpiryWatch {
  #expiries: readonly Expiry[] = [];
  readonly #said = new Set<string>();

  /** Watches other expiries from now on. Warnings that are due now count as given. */
  follow(expiries: readonly Expiry[], now: number): void {
    this.#expiries = expiries;
    this.#said.clear();
    this.due(now);
  }

  /** The warnings that are due now and were not given before. */
  due(now: number): string[] {
    const fresh = expiryWarnings(this.#expiries, now).filter(({ id }) => !this.#said.has(id));
    for (const { id } of fresh) this.#said.add(id);
    return fresh.map(({ text }) => text);
  }
}
