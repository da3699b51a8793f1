// Just enough of DER (ITU-T X.690) to read certificates and revocation lists (RFC 5280) where the runtime's interface
// lacks something. Pure. Malformed input throws.

/** One element: its tag, where it begins, and where its contents are in the bytes. */
export interface Element {
  readonly tag: number;
  readonly from: number;
  readonly start: number;
  readonly end: number;
}

export const BOOLEAN = 0x01;
export const INTEGER = 0x02;
export const BIT_STRING = 0x03;
export const OCTET_STRING = 0x04;
export const OBJECT_IDENTIFIER = 0x06;
export const UTC_TIME = 0x17;
export const GENERALIZED_TIME = 0x18;
export const SEQUENCE = 0x30;
export const SET = 0x31;

/** Reads all bytes as one element, which must be a sequence. */
export function whole(der: Uint8Array): Element {
  const all = elements(der, { start: 0, end: der.length });
  if (all.length !== 1) throw new Error("DER has bytes after its end");
  return expectTag(all[0], SEQUENCE);
}

/** The elements within another one. With `first`, the first of them must have that tag. */
export function elements(der: Uint8Array, within: Pick<Element, "start" | "end">, first?: number): Element[] {
  const found: Element[] = [];
  for (let at = within.start; at < within.end;) {
    const element = elementAt(der, at, within.end);
    found.push(element);
    at = element.end;
  }
  if (first !== undefined) expectTag(found[0], first);
  return found;
}

/** The element that begins at this position. */
export function elementAt(der: Uint8Array, from: number, limit: number): Element {
  let start = from;
  const tag = der[start++];
  let length = der[start++];
  if (tag === undefined || length === undefined || start > limit) throw new Error("DER ends early");
  if ((tag & 0x1f) === 0x1f) throw new Error("DER tag is unsupported");
  if (length >= 0x80) {
    const count = length - 0x80;
    if (count === 0 || count > 4) throw new Error("DER length has a forbidden form");
    length = 0;
    for (let i = 0; i < count; i++) length = length * 256 + (der[start++] ?? 0);
    if (length < 0x80 || length < 256 ** (count - 1)) throw new Error("DER length is not minimal");
  }
  if (start + length > limit) throw new Error("DER ends early");
  return { tag, from, start, end: start + length };
}

export function expectTag(element: Element | undefined, tag: number): Element {
  if (element?.tag !== tag) throw new Error("DER has an unexpected structure");
  return element;
}

/** The contents' bytes, as a copy. */
export function bytes(der: Uint8Array, { start, end }: Pick<Element, "start" | "end">): Buffer {
  return Buffer.from(der.subarray(start, end));
}

/** An object identifier, with dots. */
export function oid(der: Uint8Array, element: Element | undefined): string {
  const { start, end } = expectTag(element, OBJECT_IDENTIFIER);
  const numbers: number[] = [];
  let number = 0;
  for (let at = start; at < end; at++) {
    const byte = der[at] as number;
    number = number * 128 + (byte & 0x7f);
    if (byte >= 0x80) continue;
    if (numbers.length === 0) {
      const first = Math.min(2, Math.floor(number / 40));
      numbers.push(first, number - 40 * first);
    } else numbers.push(number);
    number = 0;
  }
  if (numbers.length === 0 || (der[end - 1] as number) >= 0x80) throw new Error("DER ends early");
  return numbers.join(".");
}

/** Hexadecimal, without leading zeros. */
export function integer(der: Uint8Array, element: Element | undefined): string {
  return bytes(der, expectTag(element, INTEGER))
    .toString("hex")
    .replace(/^(00)+(?=.)/, "");
}

/** An integer that is small and not negative. */
export function smallInteger(der: Uint8Array, { start, end }: Pick<Element, "start" | "end">): number {
  if (end - start < 1 || end - start > 4 || (der[start] as number) >= 0x80) {
    throw new Error("DER number is out of range");
  }
  return bytes(der, { start, end }).readUIntBE(0, end - start);
}

/** The contents of a bit string that consists of whole bytes. */
export function bitString(der: Uint8Array, element: Element | undefined): Pick<Element, "start" | "end"> {
  const { start, end } = expectTag(element, BIT_STRING);
  if (der[start] !== 0) throw new Error("DER bit string ends within a byte");
  return { start: start + 1, end };
}

/** RFC 5280, section 4.1.2.5: YYMMDDHHMMSSZ up to 2049, YYYYMMDDHHMMSSZ from then on. Milliseconds since 1970. */
export function time(der: Uint8Array, element: Element | undefined): number {
  if (element?.tag !== UTC_TIME && element?.tag !== GENERALIZED_TIME) throw new Error("DER time is missing");
  const text = bytes(der, element).toString("latin1");
  const match = /^(\d{2}|\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  const [, year = "", month, day, hour, minute, second] = match ?? [];
  if (year.length !== (element.tag === UTC_TIME ? 2 : 4)) {
    throw new Error("DER time has a forbidden form");
  }
  const full = year.length === 4 ? Number(year) : Number(year) + (Number(year) < 50 ? 2000 : 1900);
  return Date.UTC(full, Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second));
}

/** How a text is encoded, by its tag. */
const ENCODINGS: Readonly<Record<number, "utf8" | "latin1" | "utf16" | "utf32">> = {
  0x0c: "utf8",
  0x13: "latin1", // PrintableString
  0x14: "latin1", // T61String
  0x16: "latin1", // IA5String
  0x1a: "latin1", // VisibleString
  0x1c: "utf32", // UniversalString
  0x1e: "utf16", // BMPString
};

/**
 * The relative distinguished names of a name, in a normal form: equal names give equal texts. RFC 5280, section 7.1
 * compares texts without regard to the case of ASCII letters and to the number of spaces.
 */
export function relativeNames(der: Uint8Array, element: Element | undefined): string[] {
  return elements(der, expectTag(element, SEQUENCE)).map((set) =>
    elements(der, expectTag(set, SET))
      .map((attribute) => {
        const [type, value] = elements(der, expectTag(attribute, SEQUENCE));
        if (value === undefined) throw new Error("DER ends early");
        return `${oid(der, type)}=${JSON.stringify(canonicalText(der, value))}`;
      })
      .sort()
      .join("+"),
  );
}

/** A whole name, in the same normal form. */
export function nameOf(der: Uint8Array, element: Element | undefined): string {
  return relativeNames(der, element).join(",");
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function canonicalText(der: Uint8Array, value: Element): string {
  const raw = bytes(der, value);
  const encoding = ENCODINGS[value.tag];
  // Any other value is equal if its bytes are.
  if (encoding === undefined) return `#${value.tag.toString(16)}${raw.toString("hex")}`;
  const text =
    encoding === "utf16"
      ? raw.swap16().toString("utf16le")
      : encoding === "utf32"
        ? String.fromCodePoint(...Array.from({ length: raw.length / 4 }, (_, i) => raw.readUInt32BE(4 * i)))
        : encoding === "utf8"
          ? UTF8.decode(raw)
          : raw.toString("latin1");
  return text
    .replace(/^[ \t\n\v\f\r]+|[ \t\n\v\f\r]+$/g, "")
    .replace(/[ \t\n\v\f\r]+/g, " ")
    .replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}
