// Just enough of DER (ITU-T X.690) to read what the runtime's X.509 interface leaves out: the serial number and issuer
// of a certificate (RFC 5280, section 4.1) and revocation lists (section 5.1); and PEM (RFC 7468), which it comes in.
// Pure. Malformed input is an exception.

/** One element: its tag, and where its contents are in the bytes. */
interface Element {
  readonly tag: number;
  readonly start: number;
  readonly end: number;
}

const INTEGER = 0x02;
const OBJECT_IDENTIFIER = 0x06;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
const SEQUENCE = 0x30;
const SET = 0x31;
const VERSION = 0xa0;

/** Who a certificate is to a revocation list. */
export interface CertificateId {
  /** Hexadecimal, without leading zeros. */
  readonly serial: string;
  /** The issuer's name, in a form that is equal where the names are. */
  readonly issuer: string;
}

/** A revocation list. */
export interface RevocationList {
  /** As in {@link CertificateId}. */
  readonly issuer: string;
  /** The serial numbers of what is revoked, as in {@link CertificateId}. */
  readonly serials: ReadonlySet<string>;
  /** When there should have been a newer one; undefined where the list does not say. */
  readonly nextUpdate: Date | undefined;
}

/** The blocks of a PEM text that have this label. */
export function pemBlocks(text: string, label: string): { pem: string; der: Uint8Array }[] {
  const blocks = text.matchAll(new RegExp(`-----BEGIN ${label}-----([^-]*)-----END ${label}-----`, "g"));
  return Array.from(blocks, ([pem, base64]) => ({ pem, der: Buffer.from(base64 ?? "", "base64") }));
}

/** Reads the identifiers of a certificate. */
export function readCertificateId(der: Uint8Array): CertificateId {
  const [certificate] = elements(der, { tag: SEQUENCE, start: 0, end: der.length }, SEQUENCE);
  const [tbs] = elements(der, certificate!, SEQUENCE);
  const fields = elements(der, tbs!);
  const [serial, , issuer] = fields[0]?.tag === VERSION ? fields.slice(1) : fields;
  return { serial: number(der, serial), issuer: name(der, issuer) };
}

/** Reads a revocation list. Whether its signature is good is for the TLS library to say. */
export function readRevocationList(der: Uint8Array): RevocationList {
  const [list] = elements(der, { tag: SEQUENCE, start: 0, end: der.length }, SEQUENCE);
  const [tbs] = elements(der, list!, SEQUENCE);
  const fields = elements(der, tbs!);
  // version?, signature, issuer, thisUpdate, nextUpdate?, revokedCertificates?, extensions?
  const [, issuer, , ...rest] = fields[0]?.tag === INTEGER ? fields.slice(1) : fields;
  const next = rest.find(({ tag }) => tag === UTC_TIME || tag === GENERALIZED_TIME);
  const revoked = rest.find(({ tag }) => tag === SEQUENCE);
  const serials =
    revoked === undefined ? [] : elements(der, revoked).map((entry) => number(der, elements(der, entry)[0]));
  return { issuer: name(der, issuer), serials: new Set(serials), nextUpdate: next && time(der, next) };
}

/** The elements within another one; with `first`, the first of them has to have that tag. */
function elements(der: Uint8Array, within: Element, first?: number): Element[] {
  const found: Element[] = [];
  for (let at = within.start; at < within.end;) {
    const tag = der[at++];
    let length = der[at++];
    if (tag === undefined || length === undefined) throw new Error("DER ends early");
    if (length >= 0x80) {
      const count = length - 0x80;
      if (count === 0 || count > 4) throw new Error("DER length of a kind that is not allowed");
      length = 0;
      for (let i = 0; i < count; i++) length = length * 256 + (der[at++] ?? 0);
    }
    if (at + length > within.end) throw new Error("DER ends early");
    found.push({ tag, start: at, end: at + length });
    at += length;
  }
  if (first !== undefined && found[0]?.tag !== first) throw new Error("DER of another structure");
  return found;
}

function hex(der: Uint8Array, { start, end }: Element): string {
  return Buffer.from(der.buffer, der.byteOffset + start, end - start).toString("hex");
}

function number(der: Uint8Array, element: Element | undefined): string {
  if (element?.tag !== INTEGER) throw new Error("DER without the number that belongs there");
  return hex(der, element).replace(/^(00)+(?=.)/, "");
}

/** Attribute types with their values, compared as RFC 5280, section 7.1 has it: without regard to case and to spaces. */
function name(der: Uint8Array, element: Element | undefined): string {
  if (element?.tag !== SEQUENCE) throw new Error("DER without the name that belongs there");
  return elements(der, element)
    .flatMap((set) => (set.tag === SET ? elements(der, set) : []))
    .map((attribute) => {
      const [type, value] = elements(der, attribute, OBJECT_IDENTIFIER);
      const text = new TextDecoder().decode(der.subarray(value?.start, value?.end));
      return `${hex(der, type!)}=${JSON.stringify(text.trim().replace(/\s+/g, " ").toLowerCase())}`;
    })
    .join(",");
}

/** RFC 5280, section 4.1.2.5: YYMMDDHHMMSSZ up to 2049, YYYYMMDDHHMMSSZ from then on. */
function time(der: Uint8Array, { tag, start, end }: Element): Date {
  const text = new TextDecoder().decode(der.subarray(start, end));
  const match = /^(\d{2}|\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  if (match === null) throw new Error("DER time of a kind that is not allowed");
  const [, year = "", month, day, hour, minute, second] = match;
  const full = tag === GENERALIZED_TIME ? Number(year) : Number(year) + (Number(year) < 50 ? 2000 : 1900);
  return new Date(
    Date.UTC(full, Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second)),
  );
}
