// Puts into words what a decision finds in a client's certificate: each check that it passed, and the one that it failed.
// Pure.

import type { Certificate } from "../auth/certificate.ts";
import type { Check } from "../auth/certificate-check.ts";
import type { Trust } from "../auth/trust.ts";
import { commonNames } from "../auth/identity.ts";
import type { Listener } from "../config/config.ts";
import { quote } from "../lib/errors.ts";
import type { Question, Step } from "./decision.ts";
import { short, type Line } from "./explanation-line.ts";

type CertificateStep = Step & { name: "certificate" };

export function certificateLines(
  { ok, finding: { chain, passed, failed }, detail = "" }: CertificateStep,
  { date, listener: { trust } }: Question,
  place: Listener,
): Line[] {
  const good = passed.map((step): Line => ({ step, ok: true, ...GOOD[step](chain, place) }));
  if (ok || failed === undefined) return good;
  if (failed === "chain")
    return [...good, { step: failed, ok: false, ...chainTexts(chain, place, detail, trust) }];
  return [...good, { step: failed, ok: false, ...BAD[failed](chain, place, detail, date) }];
}

type Chain = readonly Certificate[];
type Words = Pick<Line, "text" | "key" | "remedy">;

const GOOD: Readonly<Record<Check, (chain: Chain, place: Listener) => Words>> = {
  chain: (chain, { key }) => ({ text: chain.map(nameOf).join(", issued by "), key: `${key}.ca` }),
  purposes: () => ({ text: "for client authentication, by CAs that may vouch for it" }),
  strength: () => ({ text: "no weak key or signature" }),
  revocation: (_, { key, crl }) => ({
    text: crl === undefined ? "not checked: no revocation list is configured" : "not revoked",
    key: `${key}.crl`,
  }),
  dates: (chain) => ({ text: `valid until ${dateOf(Math.min(...chain.map(({ notAfter }) => notAfter)))}` }),
};

const BAD: Readonly<
  Record<Exclude<Check, "chain">, (chain: Chain, place: Listener, detail: string, date: number) => Words>
> = {
  purposes: (_, { key }, detail) => ({
    text: detail,
    key: `${key}.ca`,
    remedy: "Issue a certificate for client authentication, from a CA that may vouch for it.",
  }),
  strength: (_, __, detail) => ({
    text: detail,
    remedy: "Issue a new one: an RSA key of at least 2048 bits or an elliptic curve, signed with SHA-256.",
  }),
  revocation: (chain, { key, crl }, detail) => ({
    ...revocationTexts(chain, quote(crl), detail),
    key: `${key}.crl`,
  }),
  dates: (chain, _, __, date) => {
    const wrong = chain.find(({ notBefore, notAfter }) => date < notBefore || notAfter <= date);
    const early = wrong !== undefined && date < wrong.notBefore;
    return {
      text: wrong
        ? `${nameOf(wrong)} ${early ? `is not valid before ${dateOf(wrong.notBefore)}` : `expired on ${dateOf(wrong.notAfter)}`}`
        : "outside its validity",
      remedy: early ? "Wait, or set the clock." : "Issue a new certificate.",
    };
  },
};

function chainTexts([client]: Chain, { key, ca }: Listener, detail: string, trust: Trust): Words {
  const issuer = client && (commonNames(client.x509.issuer)[0] ?? client.x509.issuer);
  const namesake = trust.authorities.all.some(({ subject }) => subject === client?.issuer);
  const whose = namesake ? ", but not signed by the CA of that name that is trusted" : "";
  return {
    text: client === undefined ? detail : `${detail}: ${nameOf(client)}, issued by ${short(issuer)}${whose}`,
    key: `${key}.ca`,
    remedy: `Issue the certificate from a CA in ${quote(ca)}, add its CA there, or have the client send the intermediate CAs that are missing.`,
  };
}

function revocationTexts(chain: Chain, list: string, detail: string): Words {
  switch (detail) {
    case "CERT_REVOKED":
      return {
        text: `${list} lists ${chain.length > 2 ? "a certificate of the chain" : nameOf(chain[0]!)} as revoked`,
        remedy: "Issue a new certificate, if the client may have one.",
      };
    case "CRL_HAS_EXPIRED":
      return { text: `${list} has a list that is outdated`, remedy: "Get a new list from the CA." };
    default:
      return {
        text: `${list} lacks the list of a CA in the chain`,
        remedy: "Add the list of each CA between the client and the root.",
      };
  }
}

function nameOf({ x509 }: Certificate): string {
  return short(commonNames(x509.subject)[0] ?? x509.subject);
}

/** Precise to the minute. */
function dateOf(time: number): string {
  return new Date(time).toISOString().replace(/:\d\d\.\d+Z$/, "Z");
}
