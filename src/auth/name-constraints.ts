// Name constraints (RFC 5280, section 4.2.1.10): which names an authority may vouch for. Pure.

import {
  OBJECT_IDENTIFIER,
  SEQUENCE,
  SET,
  bytes,
  elements,
  expectTag,
  oid,
  relativeNames,
  type Element,
} from "./der.ts";

/** A general name: its kind, and its value in the form that constraints of that kind use. */
interface GeneralName {
  readonly kind: number;
  readonly text: string;
  readonly relative: readonly string[];
}

/** All names of a certificate. */
export interface Names {
  /** The names of its subject, from the top down. */
  readonly relative: readonly string[];
  /** E-mail addresses in its subject; undefined for an unreadable one. */
  readonly emails: readonly (string | undefined)[];
  /** The names besides its subject. */
  readonly general: readonly GeneralName[];
  /** A Common Name that can be a host's, if there are no names besides the subject. */
  readonly host?: boolean;
}

export interface Constraints {
  readonly permitted: readonly GeneralName[];
  readonly excluded: readonly GeneralName[];
}

const EMAIL = 1;
const DNS = 2;
const DIRECTORY = 4;
const URI = 6;

const EMAIL_ADDRESS = "1.2.840.113549.1.9.1";
const COMMON_NAME = "2.5.4.3";
const IA5_STRING = 0x16;
const HOST = /^[A-Za-z0-9_:.*-]+$/;

/** The largest number of comparisons; a chain that needs more is not trusted. */
const MAX_COMPARISONS = 10_000;

export function readConstraints(der: Uint8Array, sequence: Element): Constraints {
  const parts = elements(der, expectTag(sequence, SEQUENCE));
  const subtrees = (tag: number) => {
    const list = parts.find((part) => part.tag === tag);
    if (list === undefined) return [];
    return elements(der, list).map((subtree) => {
      const [base, ...distances] = elements(der, expectTag(subtree, SEQUENCE));
      if (base === undefined || distances.length > 0) throw new Error("name constraints have distances");
      return generalName(der, base);
    });
  };
  if (parts.length === 0 || parts.some(({ tag }) => tag !== 0xa0 && tag !== 0xa1)) {
    throw new Error("name constraints are damaged");
  }
  return { permitted: subtrees(0xa0), excluded: subtrees(0xa1) };
}

/** @param altNames the value of the extension that has the names besides the subject */
export function readNames(
  der: Uint8Array,
  relative: readonly string[],
  subject: Element,
  altNames: Pick<Element, "start" | "end"> | undefined,
): Names {
  const attributes = elements(der, subject)
    .flatMap((set) => elements(der, expectTag(set, SET)))
    .map((attribute) => elements(der, attribute, OBJECT_IDENTIFIER))
    .map(([type, value]) => ({ type: oid(der, type), value: value as Element }));
  const emails = attributes
    .filter(({ type }) => type === EMAIL_ADDRESS)
    .map(({ value }) => (value.tag === IA5_STRING ? bytes(der, value).toString("latin1") : undefined));
  const [list] = altNames === undefined ? [] : elements(der, altNames, SEQUENCE);
  return {
    relative,
    emails,
    general: list === undefined ? [] : elements(der, list).map((name) => generalName(der, name)),
    host:
      list === undefined &&
      attributes.some(
        ({ type, value }) => type === COMMON_NAME && HOST.test(bytes(der, value).toString("latin1")),
      ),
  };
}

function generalName(der: Uint8Array, element: Element): GeneralName {
  const kind = element.tag & 0x1f;
  if ((element.tag & 0xc0) !== 0x80) throw new Error("a general name is damaged");
  const relative = kind === DIRECTORY ? relativeNames(der, elements(der, element)[0]) : [];
  return { kind, text: bytes(der, element).toString("latin1"), relative };
}

/**
 * Checks that names are within the constraints.
 * @param isLeaf a client's own certificate; host names are also searched in its Common Name
 * @returns the problem, if any; what cannot be decided is a problem
 */
export function violation(
  { permitted, excluded }: Constraints,
  names: Names,
  isLeaf: boolean,
): string | undefined {
  const { relative, emails, general } = names;
  const all = [...general];
  if (relative.length > 0) all.push({ kind: DIRECTORY, text: "", relative });
  for (const email of emails) {
    if (email === undefined) return "an e-mail address cannot be read";
    all.push({ kind: EMAIL, text: email, relative: [] });
  }
  if (isLeaf && names.host)
    return "a host name is only in the Common Name, not in the subject's alternative names";
  if (all.length * (permitted.length + excluded.length) > MAX_COMPARISONS) return "too many names";
  for (const name of all) {
    const own = ({ kind }: GeneralName) => kind === name.kind;
    const bases = permitted.filter(own);
    const matches = (base: GeneralName) => isWithin(name, base);
    try {
      if (bases.length > 0 && !bases.map(matches).includes(true))
        return "a name is outside the permitted subtrees of its CA";
      if (excluded.filter(own).map(matches).includes(true))
        return "a name is inside an excluded subtree of its CA";
    } catch {
      return "its CA's constraints cannot be applied to a name";
    }
  }
  return undefined;
}

/** Whether a name is within a subtree of its kind. @throws if it cannot be decided */
function isWithin(name: GeneralName, base: GeneralName): boolean {
  switch (name.kind) {
    case DIRECTORY:
      return base.relative.every((each, i) => name.relative[i] === each);
    case DNS:
      return isHostWithin(name.text, base.text);
    case EMAIL:
      return isEmailWithin(name.text, base.text);
    case URI:
      return isUriWithin(name.text, base.text);
    // TLS does not apply constraints to these addresses either.
    default:
      throw new Error("this kind of name has no subtrees");
  }
}

function isHostWithin(host: string, base: string): boolean {
  if (base === "") return true;
  const [name, end] = [host.toLowerCase(), base.toLowerCase()];
  return name === end || name.endsWith(end.startsWith(".") ? end : `.${end}`);
}

function isEmailWithin(email: string, base: string): boolean {
  const at = email.lastIndexOf("@");
  if (at < 0) throw new Error("no e-mail address");
  const host = email.slice(at + 1).toLowerCase();
  const mark = base.lastIndexOf("@");
  if (mark < 0 && base.startsWith(".")) return host.length > base.length && host.endsWith(base.toLowerCase());
  if (mark > 0 && base.slice(0, mark) !== email.slice(0, at)) return false;
  return host === base.slice(mark + 1).toLowerCase();
}

function isUriWithin(uri: string, base: string): boolean {
  const [, host] = /^[^:]+:\/\/([^:/]+)/.exec(uri) ?? [];
  if (host === undefined) throw new Error("no host");
  const [name, end] = [host.toLowerCase(), base.toLowerCase()];
  return end.startsWith(".") ? name.length > end.length && name.endsWith(end) : name === end;
}
