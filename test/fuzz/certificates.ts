// Mutated certificates and revocation lists. Half of them are signed again by the trusted CA, so that the signature does
// not hide them from the rules behind it. Each admission is compared with an independent, simple reading of the
// certificate.

import { createPrivateKey, sign, X509Certificate } from "node:crypto";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { ConfigError } from "tcpproxy";
import { identify } from "../../src/auth/identity.ts";
import { INVISIBLE } from "../support/invisible.ts";
import { issue, revoke, testAuthority } from "../support/issue.ts";
import { cert, connect } from "../support/peer.ts";
import { testConfig } from "../support/proxy.ts";
import type { Random } from "../support/random.ts";
import { allOf, encodeDer, mutateTree, parseDer, type Node } from "./der-tree.ts";
import { House, houseConfig, type Target } from "./house.ts";
import { mutateBytes, mutateText } from "./mutate.ts";

const REVOKED = 77;
const KEY = cert("key.pem");

/** Contents that a mutation may give to an element. */
const CONTENTS = [
  "alice@admin", "bob@admin", "alice@admin@admin", "alice@", "@admin", "alice", "alice@admin\n", "alice@admin\0", "*",
  "CN=alice@admin", "alice@admin,CN=x", "al\u0131ce@admin", "991231235959Z", "20991231235959Z", "000101000000Z", "x".repeat(300),
  ...INVISIBLE.map((char) => `alice${char}@admin`),
].map((text) => Buffer.from(text)); // prettier-ignore
const COMMON_NAME = Buffer.from([0x55, 0x04, 0x03]);
const EXTENSION_IDS = [14, 15, 17, 18, 19, 20, 27, 28, 29, 30, 31, 32, 35, 36, 37].map((id) =>
  Buffer.of(0x55, 0x1d, id),
);
const SPOIL = [...CONTENTS, ...EXTENSION_IDS, COMMON_NAME, Buffer.of(0xff), Buffer.of(0), Buffer.of(1, 6)];

export async function certificates(): Promise<Target> {
  const folder = mkdtempSync(`${tmpdir()}/tcpproxy-fuzz-`);
  const crl = `${folder}/crl.pem`;
  const good = revoke([REVOKED]);
  await Bun.write(crl, good);
  const house = await House.open({ listener: { crl } });
  const revoked = issue("mallory@admin", testAuthority, { serial: REVOKED });
  const leaves = [issue("alice@admin"), issue("bob@ops")].map(({ cert: pem }) => derOf(pem));
  const list = derOf(good);

  /** Presents a mutated certificate, signed again or not, in a real handshake, if the client's TLS accepts it. */
  async function present(random: Random): Promise<void> {
    const before = random.pick(leaves);
    const signed = random.int(0, 1) === 0;
    const der = signed ? spoilSigned(before, random) : mutateBytes(before, random);
    const name = nameOf(der);
    const served = await isServed({ cert: pemOf("CERTIFICATE", der), key: KEY });
    if (!served) return;
    if (!signed && !der.equals(before))
      throw new Error(`a forged certificate got in: ${der.toString("hex")}`);
    if (
      name === undefined ||
      !/^[^@\s]+@admin$/u.test(name) ||
      INVISIBLE.some((char) => name.includes(char))
    ) {
      throw new Error(`${JSON.stringify(name)} got in: ${der.toString("hex")}`);
    }
  }

  /** Loads a mutated revocation list. It is refused, or it is in force and still revokes each client that it lists. */
  async function putList(random: Random): Promise<void> {
    const der = random.int(0, 2) === 0 ? mutateBytes(list, random) : spoilSigned(list, random);
    await Bun.write(crl, pemOf("X509 CRL", der));
    const { proxy } = house.proxy;
    const config = testConfig([], { ...houseConfig, listener: { crl } });
    const taken = await proxy.reload({ ...config, upstreams: upstreams(house) }).then(
      () => true,
      (error: unknown) => {
        if (!(error instanceof ConfigError)) throw error;
        return false;
      },
    );
    const served = await isServed(revoked);
    if (served && (!taken || listsSerial(der, REVOKED))) {
      throw new Error(`the revoked client got in: ${der.toString("hex")}`);
    }
    await Bun.write(crl, good);
    await proxy.reload({ ...config, upstreams: upstreams(house) });
  }

  async function isServed(identity: { cert: string; key: string }): Promise<boolean> {
    const client = await connect(house.port, { identity }).catch(() => undefined);
    if (client === undefined) return false;
    try {
      await client.send("x");
      return (await client.read(1)).length === 1;
    } finally {
      client.reset();
      await house.empty();
    }
  }

  return {
    async one(random) {
      if (random.int(0, 4) === 0) await putList(random);
      else await present(random);
    },
    rest: () => house.rest(),
    async [Symbol.asyncDispose]() {
      await house[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function upstreams({ proxy }: House) {
  return proxy.proxy.stats().upstreams.map(({ name, targets }) => ({
    name,
    targets: targets.map(({ address }) => address),
    authorizedGroups: ["admin"],
  }));
}

/** Mutates the signed part, and signs it again. */
function spoilSigned(der: Uint8Array, random: Random): Buffer {
  const root = parseDer(der);
  const [tbs, , signature] = root.contents as [Node, Node, Node];
  // A certificate's subject and a list's revoked serial numbers are at the same position.
  const subject = (tbs.contents as Node[])[5]!;
  const name = allOf(subject).find(({ contents }) => Buffer.isBuffer(contents) && contents.includes("@"));
  if (name !== undefined && random.int(0, 2) === 0) {
    name.contents =
      random.int(0, 1) === 0 ? random.pick(CONTENTS) : Buffer.from(mutateText("alice@admin", random));
  } else mutateTree(random.pick([tbs, random.pick(allOf(tbs)), subject]), random, SPOIL);
  signature.contents = Buffer.concat([
    Buffer.of(0),
    sign("sha256", encodeDer(tbs), createPrivateKey(cert("ca.key"))),
  ]);
  return encodeDer(root);
}

/** The only Common Name, by a simple reading of the subject; undefined where there is none, or more than one. */
function nameOf(der: Buffer): string | undefined {
  let tbs: Node;
  try {
    // An exception here means that the bytes are not a certificate.
    identify(new X509Certificate(der).subject);
    [tbs] = parseDer(der).contents as [Node];
  } catch {
    return undefined;
  }
  const fields = tbs.contents as Node[];
  const subject = fields[fields[0]?.tag === 0xa0 ? 5 : 4];
  if (subject === undefined) return undefined;
  const names = allOf(subject).flatMap(({ contents }) => {
    const [type, value] = contents as Node[];
    if (!Array.isArray(contents) || Array.isArray(type?.contents) || Array.isArray(value?.contents))
      return [];
    return type?.contents.equals(COMMON_NAME) && value !== undefined
      ? [textOf(value as Node & { contents: Buffer })]
      : [];
  });
  return names.length === 1 ? names[0] : undefined;
}

function textOf({ tag, contents }: Node & { contents: Buffer }): string {
  const units = tag === 0x1e ? 2 : tag === 0x1c ? 4 : 0;
  if (units === 0) return contents.toString(tag === 0x0c ? "utf8" : "latin1");
  const codes = Array.from({ length: Math.floor(contents.length / units) }, (_, i) =>
    contents.readUIntBE(i * units, units),
  );
  return codes.map((code) => (code > 0x10ffff ? "" : String.fromCodePoint(code))).join("");
}

/** Whether a list revokes a serial number, by a simple reading. */
function listsSerial(der: Buffer, serial: number): boolean {
  const [tbs] = parseDer(der).contents as [Node];
  return (tbs.contents as Node[]).some(
    ({ tag, contents }) =>
      tag === 0x30 &&
      Array.isArray(contents) &&
      contents.some((entry) => {
        const first = Array.isArray(entry.contents) ? entry.contents[0] : undefined;
        return (
          first?.tag === 0x02 && Buffer.isBuffer(first.contents) && first.contents.equals(Buffer.of(serial))
        );
      }),
  );
}

function derOf(pem: string): Buffer {
  return Buffer.from(pem.replace(/-----[^-]+-----/g, ""), "base64");
}

function pemOf(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}
