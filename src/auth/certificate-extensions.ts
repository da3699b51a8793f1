// The extensions of certificates (RFC 5280, section 4.2), and what they say about a client's chain. Pure.

import {
  BIT_STRING,
  BOOLEAN,
  INTEGER,
  OCTET_STRING,
  SEQUENCE,
  bytes,
  elements,
  expectTag,
  oid,
  smallInteger,
  whole,
  type Element,
} from "./der.ts";
import { readConstraints } from "./name-constraints.ts";

/** RFC 5280, section 4.2; OIDs of extensions. */
export const ID = {
  subjectKeyId: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  nameConstraints: "2.5.29.30",
  certificatePolicies: "2.5.29.32",
  policyMappings: "2.5.29.33",
  policyConstraints: "2.5.29.36",
  extendedKeyUsage: "2.5.29.37",
  inhibitAnyPolicy: "2.5.29.54",
} as const;

/** Extensions that may be critical: this module or TLS checks them. */
const UNDERSTOOD: ReadonlySet<string> = new Set([
  ID.keyUsage,
  ID.subjectAltName,
  ID.basicConstraints,
  ID.nameConstraints,
  ID.certificatePolicies,
  ID.policyMappings,
  ID.policyConstraints,
  ID.extendedKeyUsage,
  ID.inhibitAnyPolicy,
]);

const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";
const ANY_POLICY = "2.5.29.32.0";

// keyUsage, RFC 5280, section 4.2.1.3: the first bit is the highest one of the first byte.
const DIGITAL_SIGNATURE = 0x80;
const KEY_CERT_SIGN = 0x04;
const CRL_SIGN = 0x02;

/** An extension's value. A `critical` extension that is not understood forbids the use of the certificate. */
interface Extension {
  readonly critical: boolean;
  readonly value: Pick<Element, "start" | "end">;
}

export function extensionsIn(
  der: Uint8Array,
  list: Element | undefined,
  version: number,
): ReadonlyMap<string, Extension> {
  const extensions = new Map<string, Extension>();
  if (list === undefined) return extensions;
  if (version !== 2) throw new Error("extensions in a certificate of an old version");
  const [all] = elements(der, list, SEQUENCE);
  for (const [id, extension] of extensionList(der, all!)) {
    if (extensions.has(id)) throw new Error(`the extension ${id} occurs twice`);
    if (extension.critical && !UNDERSTOOD.has(id)) throw new Error(`the critical extension ${id} is unknown`);
    extensions.set(id, extension);
  }
  return extensions;
}

/** Reads a sequence of extensions, as certificates and revocation lists have it. */
export function extensionList(der: Uint8Array, list: Element): [string, Extension][] {
  return elements(der, list).map((extension) => {
    const [id, ...rest] = elements(der, expectTag(extension, SEQUENCE));
    const flag = rest[0]?.tag === BOOLEAN ? rest.shift() : undefined;
    const value = expectTag(rest[0], OCTET_STRING);
    return [oid(der, id), { critical: flag !== undefined && der[flag.start] !== 0, value }];
  });
}

export function readExtensions(der: Uint8Array, extensions: ReadonlyMap<string, Extension>, version: number) {
  const value = (id: string): Element | undefined => {
    const inside = extensions.get(id)?.value;
    if (inside === undefined) return undefined;
    const found = elements(der, inside);
    if (found.length !== 1) throw new Error(`the extension ${id} is damaged`);
    return found[0];
  };
  const basic = value(ID.basicConstraints);
  let ca = false;
  let pathLength = Infinity;
  if (basic !== undefined) {
    const parts = elements(der, expectTag(basic, SEQUENCE));
    const flag = parts[0]?.tag === BOOLEAN ? parts.shift() : undefined;
    ca = flag !== undefined && der[flag.start] !== 0;
    const length = parts.shift();
    if (length !== undefined) {
      if (!ca) throw new Error("it has a path length but is not a CA");
      pathLength = smallInteger(der, expectTag(length, INTEGER));
    }
    if (parts.length > 0) throw new Error("its basic constraints are damaged");
  }

  const usageBits = value(ID.keyUsage);
  let usage = ~0;
  if (usageBits !== undefined) {
    const { start, end } = expectTag(usageBits, BIT_STRING);
    if (end - start < 2) throw new Error("its key usage is empty");
    usage = der[start + 1] as number;
  }

  // TLS accepts as a root without the word CA: a certificate of version 1, or one whose key usage says so.
  const onlyRoot = basic === undefined && (version === 0 || usageBits !== undefined);

  const purposes = value(ID.extendedKeyUsage);
  const ids = purposes && elements(der, expectTag(purposes, SEQUENCE)).map((each) => oid(der, each));
  const foreign = ids !== undefined && !ids.includes(CLIENT_AUTH);
  const problem = foreign ? "not usable for client authentication" : undefined;

  const keyId = value(ID.subjectKeyId);
  const constraints = value(ID.nameConstraints);
  return {
    subjectKeyId: keyId && bytes(der, expectTag(keyId, OCTET_STRING)).toString("hex"),
    problem,
    noAuthority:
      (usage & KEY_CERT_SIGN) === 0
        ? "its key usage lacks keyCertSign"
        : ca || onlyRoot
          ? undefined
          : "it is not a CA",
    onlyRoot,
    noClient: (usage & DIGITAL_SIGNATURE) === 0 ? "its key usage lacks digitalSignature" : undefined,
    signsLists: (usage & CRL_SIGN) !== 0,
    pathLength,
    constraints: constraints && readConstraints(der, constraints),
    demandsPolicy: readPolicies(der, value),
  };
}

/** Whether the certificate demands policies. @throws if they are malformed */
function readPolicies(der: Uint8Array, value: (id: string) => Element | undefined): boolean {
  const policies = value(ID.certificatePolicies);
  if (policies !== undefined) {
    const ids = elements(der, expectTag(policies, SEQUENCE), SEQUENCE).map((policy) =>
      oid(der, elements(der, expectTag(policy, SEQUENCE))[0]),
    );
    if (new Set(ids).size !== ids.length) throw new Error("a policy occurs twice");
  }
  const mappings = value(ID.policyMappings);
  if (mappings !== undefined) {
    for (const mapping of elements(der, expectTag(mappings, SEQUENCE), SEQUENCE)) {
      const pair = elements(der, expectTag(mapping, SEQUENCE)).map((each) => oid(der, each));
      if (pair.length !== 2 || pair.includes(ANY_POLICY)) throw new Error("a policy mapping is damaged");
    }
  }
  const inhibit = value(ID.inhibitAnyPolicy);
  if (inhibit !== undefined) smallInteger(der, expectTag(inhibit, INTEGER));
  const constraints = value(ID.policyConstraints);
  if (constraints === undefined) return false;
  const skips = elements(der, expectTag(constraints, SEQUENCE));
  if (skips.length === 0) throw new Error("its policy constraints are empty");
  for (const skip of skips) smallInteger(der, skip);
  return skips.some(({ tag }) => tag === 0x80);
}

/**
 * The names besides the subject that have this tag (RFC 5280, section 4.2.1.6), a character for each byte.
 * @throws if the certificate or any of those names is malformed
 */
export function alternativeNames(der: Uint8Array, kind: number): string[] {
  const [tbs] = elements(der, whole(der), SEQUENCE);
  const [wrapper] = elements(der, tbs!).filter(({ tag }) => tag === 0xa3);
  if (wrapper === undefined) return [];
  const [all] = elements(der, wrapper, SEQUENCE);
  const [found, twice] = extensionList(der, all!).filter(([id]) => id === ID.subjectAltName);
  if (twice !== undefined) throw new Error("its alternative names occur twice");
  if (found === undefined) return [];
  const [list, ...rest] = elements(der, found[1].value, SEQUENCE);
  if (rest.length > 0) throw new Error("its alternative names are damaged");
  return elements(der, list!)
    .filter(({ tag }) => {
      if ((tag & 0xc0) !== 0x80) throw new Error("a general name is damaged");
      return (tag & 0x1f) === kind;
    })
    .map((name) => {
      if ((name.tag & 0x20) !== 0) throw new Error("a general name is damaged");
      return bytes(der, name).toString("latin1");
    });
}
