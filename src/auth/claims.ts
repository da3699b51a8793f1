// What a client's certificate claims, for the log. It may be a stranger's: huge, malformed, and made to deceive.

import type { X509Certificate } from "node:crypto";
import { escapeInvisible } from "../lib/errors.ts";
import { COMMON_NAME, type IdentityRule } from "./identity-rule.ts";

/** The largest number of characters in one value. */
const MAX_VALUE_LENGTH = 256;

/** Escaped and bounded. Unreadable fields are left out. */
export interface Claims {
  /** The name that the listener takes for an identity, or several of them. */
  readonly claimed?: string | undefined;
  /** Hexadecimal. */
  readonly serial?: string | undefined;
  readonly issuer?: string | undefined;
  /** ISO 8601. */
  readonly notAfter?: string | undefined;
}

type Certificate = Partial<
  Pick<X509Certificate, "subject" | "raw" | "serialNumber" | "issuer" | "validTo" | "validToDate">
>;

/** Reads a certificate, verified or not. Never throws. */
export function claimsOf(certificate: Certificate | undefined, rule: IdentityRule = COMMON_NAME): Claims {
  if (certificate === undefined) return {};
  return {
    claimed: read(() => rule.claimed(certificate).join(", ")),
    serial: read(() => certificate.serialNumber),
    issuer: read(() => certificate.issuer?.replaceAll("\n", ", ")),
    notAfter: read(() => {
      const date = certificate.validToDate;
      return date === undefined || Number.isNaN(date.getTime()) ? certificate.validTo : date.toISOString();
    }),
  };
}

function read(value: () => string | undefined): string | undefined {
  try {
    const text = value();
    return text === undefined || text === ""
      ? undefined
      : short(escapeInvisible(text.slice(0, MAX_VALUE_LENGTH + 1)));
  } catch {
    return undefined;
  }
}

function short(text: string): string {
  return text.length > MAX_VALUE_LENGTH ? `${text.slice(0, MAX_VALUE_LENGTH)}…` : text;
}
