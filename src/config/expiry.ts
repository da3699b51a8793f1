// When the proxy's certificate, the CAs and the revocation lists expire, and when to warn of it. Pure.

import { X509Certificate } from "node:crypto";
import { readCertificate } from "../auth/certificate.ts";
import type { Credentials } from "./credentials.ts";
import { quote } from "../lib/errors.ts";

/** Something that is valid for a time. Times are milliseconds since 1970. */
export interface Expiry {
  readonly kind: "server" | "ca" | "crl";
  /** As in a sentence. */
  readonly what: string;
  readonly from: number;
  /** Infinity where it does not say. */
  readonly until: number;
}

/** A warning, given once; `id` tells whether it was given before. */
export interface ExpiryWarning {
  readonly id: string;
  readonly text: string;
}

const DAY = 86_400_000;
const STAGES = [30 * DAY, 7 * DAY, DAY];

/** Warnings about a list begin in this last share of its life; lists are replaced often. */
const SHARE_OF_LIST = 0.1;

/**
 * What expires of a listener's files: the proxy's certificate, the CAs, the lists.
 * @param certificate what the first one is called
 */
export function expiriesOf(
  { cert, ca, crl = [] }: Pick<Credentials, "cert" | "ca" | "crl">,
  certificate = "the proxy's certificate",
): Expiry[] {
  const own = new X509Certificate(cert);
  const authorities = ca.map((pem) => readCertificate(new X509Certificate(pem)));
  const nameOf = (issuer: string) => {
    const known = authorities.find(({ subject }) => subject === issuer);
    return quote(known?.x509.subject ?? issuer);
  };
  return [
    {
      kind: "server",
      what: certificate,
      from: own.validFromDate.getTime(),
      until: own.validToDate.getTime(),
    },
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

/** What has expired or will soon, and what is not valid yet. */
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
const OUTDATED = ": clients of that CA are refused until there is a newer one";

/** From the longest to the shortest. */
function stagesOf({ kind, from, until }: Expiry): number[] {
  if (kind !== "crl") return STAGES;
  const life = until - from;
  return [...STAGES.filter((stage) => stage <= life / 2), life * SHARE_OF_LIST].sort((a, b) => b - a);
}

function date(time: number): string {
  return new Date(time).toISOString();
}

function rough(ms: number): string {
  const [count, unit] =
    ms >= 2 * DAY
      ? [ms / DAY, "days"]
      : ms >= 7_200_000
        ? [ms / 3_600_000, "hours"]
        : [ms / 60_000, "minutes"];
  return `${Math.floor(count)} ${unit}`;
}

/** Remembers which warnings were given. */
export class ExpiryWatch {
  #expiries: readonly Expiry[] = [];
  readonly #said = new Set<string>();

  /** Watches other expiries. Warnings that are due now count as given. */
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
