// Signature algorithms of X.509: which are weak, and verification of signatures that the runtime does not verify. Pure.

import { constants, createVerify, verify, type KeyObject } from "node:crypto";
import { OBJECT_IDENTIFIER, SEQUENCE, elements, expectTag, oid, smallInteger, type Element } from "./der.ts";

/** How to verify a signature. */
export interface SignatureAlgorithm {
  /** The type that the key must have. */
  readonly key: "rsa" | "rsa-pss" | "ec" | "ed25519" | undefined;
  readonly hash: string;
  /** RSA-PSS only. */
  readonly saltLength: number | undefined;
  /** Why it is weak, as in "signed with SHA-1". */
  readonly weakness: string | undefined;
  /** The algorithm, if this module does not know it. */
  readonly strange: string | undefined;
}

type Known = Partial<SignatureAlgorithm> & Pick<SignatureAlgorithm, "hash">;

const PSS = "1.2.840.113549.1.1.10";
const MGF1 = "1.2.840.113549.1.1.8";

/** RFC 8017, appendix A.2; RFC 5758; RFC 8410. */
const ALGORITHMS: Readonly<Record<string, Known>> = {
  "1.2.840.113549.1.1.11": { key: "rsa", hash: "sha256" },
  "1.2.840.113549.1.1.12": { key: "rsa", hash: "sha384" },
  "1.2.840.113549.1.1.13": { key: "rsa", hash: "sha512" },
  "1.2.840.113549.1.1.14": { key: "rsa", hash: "sha224" },
  "1.2.840.10045.4.3.1": { key: "ec", hash: "sha224" },
  "1.2.840.10045.4.3.2": { key: "ec", hash: "sha256" },
  "1.2.840.10045.4.3.3": { key: "ec", hash: "sha384" },
  "1.2.840.10045.4.3.4": { key: "ec", hash: "sha512" },
  "1.3.101.112": { key: "ed25519", hash: "" },
  "1.2.840.113549.1.1.2": { hash: "", weakness: "MD2" },
  "1.2.840.113549.1.1.3": { hash: "", weakness: "MD4" },
  "1.2.840.113549.1.1.4": { hash: "", weakness: "MD5" },
  "1.2.840.113549.1.1.5": { hash: "", weakness: "SHA-1" },
  "1.3.14.3.2.29": { hash: "", weakness: "SHA-1" },
  "1.2.840.10040.4.3": { hash: "", weakness: "SHA-1" },
  "1.2.840.10045.4.1": { hash: "", weakness: "SHA-1" },
};

const HASHES: Readonly<Record<string, string>> = {
  "2.16.840.1.101.3.4.2.1": "sha256",
  "2.16.840.1.101.3.4.2.2": "sha384",
  "2.16.840.1.101.3.4.2.3": "sha512",
};

/** Reads an AlgorithmIdentifier of a signature. */
export function readSignatureAlgorithm(der: Uint8Array, element: Element | undefined): SignatureAlgorithm {
  const [id, parameters] = elements(der, expectTag(element, SEQUENCE), OBJECT_IDENTIFIER);
  const name = oid(der, id);
  if (name === PSS) return readPss(der, parameters);
  const { hash, key, weakness } = ALGORITHMS[name] ?? { hash: "" };
  const strange = (key ?? weakness) ? undefined : `the unknown signature algorithm ${name}`;
  return { key, hash, saltLength: undefined, weakness: weakness && `signed with ${weakness}`, strange };
}

/** RFC 4055, section 3.1. The defaults are SHA-1 and 20 bytes. */
function readPss(der: Uint8Array, parameters: Element | undefined): SignatureAlgorithm {
  const parts = parameters === undefined ? [] : elements(der, expectTag(parameters, SEQUENCE));
  const part = (tag: number) => {
    const found = parts.find((each) => each.tag === tag);
    return found && elements(der, found)[0];
  };
  const [digest, mask, salt] = [part(0xa0), part(0xa1), part(0xa2)];
  const first = (sequence: Element) => elements(der, expectTag(sequence, SEQUENCE), OBJECT_IDENTIFIER);
  const hash = digest && HASHES[oid(der, first(digest)[0])];
  const pss = { key: "rsa-pss", hash: hash ?? "", saltLength: salt ? smallInteger(der, salt) : 20 } as const;
  if (digest === undefined || oid(der, first(digest)[0]) === "1.3.14.3.2.26") {
    return { ...pss, weakness: "signed with SHA-1", strange: undefined };
  }
  const [function_, itsHash] = mask === undefined ? [] : first(mask);
  const sameHash =
    function_ !== undefined &&
    itsHash !== undefined &&
    oid(der, function_) === MGF1 &&
    HASHES[oid(der, first(itsHash)[0])] === hash;
  const strange = hash === undefined || !sameHash ? "an unusual kind of RSA-PSS" : undefined;
  return { ...pss, weakness: undefined, strange };
}

/** The number of bytes hashed in one step. */
const PORTION_BYTES = 256 * 1024;

/**
 * Verifies a signature, in one step for each portion of the data, because long data takes time.
 * @returns whether it is good; weak and unknown algorithms never are
 */
export function* verifySignature(
  data: Uint8Array,
  signature: Uint8Array,
  { key: type, hash, saltLength, weakness, strange }: SignatureAlgorithm,
  key: KeyObject,
): Generator<void, boolean> {
  const own = key.asymmetricKeyType;
  if (weakness !== undefined || strange !== undefined) return false;
  if (own !== type && !(own === "rsa" && type === "rsa-pss")) return false;
  try {
    if (type === "ed25519") return verify(null, Buffer.from(data), key, Buffer.from(signature));
    const verifier = createVerify(hash);
    for (let at = 0; at < data.length; at += PORTION_BYTES) {
      verifier.update(Buffer.from(data.subarray(at, at + PORTION_BYTES)));
      yield;
    }
    const pss = type === "rsa-pss" && {
      padding: constants.RSA_PKCS1_PSS_PADDING,
      saltLength: saltLength ?? 20,
    };
    return verifier.verify({ key, ...(pss || {}) }, Buffer.from(signature));
  } catch {
    return false;
  }
}
