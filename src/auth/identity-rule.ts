// How a listener takes the client's identity from a certificate: from its Common Name, or from its one alternative name
// of a kind, by a pattern. No kind stands in for another. Pure.

import { alternativeNames } from "./certificate-extensions.ts";
import { commonNames, forbiddenIn, identify, identityFault, type Identity } from "./identity.ts";

/** RFC 5280, section 4.2.1.6: the tags of general names. */
const TAGS = { email: 1, dns: 2, uri: 6 } as const;

export const IDENTITY_KINDS = ["cn", "uri", "dns", "email"] as const;
export type IdentityKind = (typeof IDENTITY_KINDS)[number];

/** As configured. */
export interface IdentitySettings {
  readonly from: IdentityKind;
  /** Undefined for `cn` alone. */
  readonly pattern: string | undefined;
}

/** The fields of a certificate that an identity can be in. */
export interface Named {
  readonly subject?: string;
  readonly raw?: Uint8Array;
}

export interface IdentityRule {
  /** Undefined: the Common Name. */
  readonly settings: IdentitySettings | undefined;
  /** Undefined if the certificate has none. Never throws. */
  identify(certificate: Named | undefined): Identity | undefined;
  /** Why there is none, for the log. */
  fault(certificate: Named | undefined): string;
  /** All names of its kind. May throw: the certificate may be a stranger's. */
  claimed(certificate: Named): string[];
}

/** The length of a SPIFFE ID is at most this. */
const MAX_NAME_LENGTH = 2_048;

const KIND_NAMES = { cn: "Common Name", uri: "URI", dns: "DNS name", email: "e-mail address" } as const;

/** The name of a kind, for people. */
export function kindName({ settings }: Pick<IdentityRule, "settings">): string {
  return KIND_NAMES[settings?.from ?? "cn"];
}

/** @param settings without faults */
export function identityRule(settings: IdentitySettings | undefined): IdentityRule {
  if (settings === undefined || settings.from === "cn") return { ...COMMON_NAME, settings };
  const { from, pattern = "" } = settings;
  const form = formOf(pattern, from);
  const claimed = ({ raw }: Named) => (raw === undefined ? [] : alternativeNames(raw, TAGS[from]));
  const read = (certificate: Named | undefined): Identity | string => {
    let names: string[];
    try {
      names = certificate === undefined ? [] : claimed(certificate);
    } catch {
      return "its alternative names cannot be read";
    }
    const [name] = names;
    if (name === undefined) return `no ${KIND_NAMES[from]} among its alternative names`;
    if (names.length > 1) return `${names.length} times ${KIND_NAMES[from]} among its alternative names`;
    const what = `its ${KIND_NAMES[from]}`;
    if (name.length > MAX_NAME_LENGTH) return `${what} is longer than ${MAX_NAME_LENGTH} bytes`;
    const unfit = forbiddenIn(name);
    if (unfit !== undefined) return `${what} has the forbidden character ${unfit}`;
    // These names are ASCII by definition; other bytes could be read in several ways.
    if (/[^!-~]/.test(name)) return `${what} is not ASCII`;
    const { user, group } = form.exec(name)?.groups ?? {};
    if (user === undefined || group === undefined) return `${what} is not of the form ${pattern}`;
    return { client: `${user}@${group}`, user, group };
  };
  return {
    settings,
    identify(certificate) {
      const found = read(certificate);
      return typeof found === "string" ? undefined : found;
    },
    fault(certificate) {
      const found = read(certificate);
      return typeof found === "string" ? found : "none";
    },
    claimed,
  };
}

/** The rule of a listener that has no other, and of the admin door. */
export const COMMON_NAME: IdentityRule = {
  settings: undefined,
  identify: (certificate) => identify(certificate?.subject),
  fault: (certificate) => identityFault(certificate?.subject),
  claimed: ({ subject }) => commonNames(subject),
};

/** What no placeholder matches. A DNS name's parts are its labels. */
function separators(from: IdentityKind): string {
  return from === "dns" ? "/@." : "/@";
}

/** What is wrong with a pattern, if anything: each name has to be readable in one way only. */
export function patternFault(pattern: string, from: IdentityKind): string | undefined {
  if (/[^!-~]/.test(pattern)) return "has a character that is not visible ASCII";
  const parts = pattern.split(/\{user\}|\{group\}/);
  const isOnce = (name: string) => pattern.split(name).length === 2;
  if (!isOnce("{user}") || !isOnce("{group}")) return "needs {user} and {group}, each exactly once";
  if (parts.some((part) => /[{}]/.test(part))) return "has a brace that is not of {user} or {group}";
  const between = parts[1]!;
  const all = [...separators(from)];
  if (all.some((each) => between.includes(each))) return undefined;
  return `needs one of ${all.join(" ")} between {user} and {group}, which they cannot match themselves`;
}

function formOf(pattern: string, from: IdentityKind): RegExp {
  const source = pattern
    .split(/(\{user\}|\{group\})/)
    .map((part) =>
      part === "{user}" || part === "{group}"
        ? `(?<${part.slice(1, -1)}>[^${separators(from)}]+)`
        : part.replace(/[^A-Za-z0-9]/g, "\\$&"),
    )
    .join("");
  return new RegExp(`^${source}$`);
}
