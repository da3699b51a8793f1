// The PEM files of a configuration: which are refused, before they lock out every client, and which cause a warning.

import { describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, writeFileSync } from "node:fs";
import { loadCredentials } from "../../src/config/credentials.ts";
import type { Fault } from "../../src/lib/errors.ts";
import { atOnce } from "../../src/lib/portions.ts";
import { readRevocationList } from "../../src/auth/revocation.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { Folder } from "../support/folder.ts";
import { issue, makeAuthority, revoke, testAuthority } from "../support/issue.ts";
import { blocksOf } from "../support/lists.ts";
import { certify, ext, list, listExt, type OddListChoices } from "../support/odd.ts";
import { cert, certPath } from "../support/peer.ts";
import { testConfig } from "../support/proxy.ts";

/** Loads these files in the places of good ones. */
function load(files: Partial<Record<"ca" | "certificate" | "privateKey" | "crl", string>>) {
  using folder = new Folder();
  const listener: Record<string, string> = {};
  for (const [key, text] of Object.entries(files)) {
    listener[key] = folder.path(`${key}.pem`);
    writeFileSync(listener[key], text);
    chmodSync(listener[key], 0o600);
  }
  const faults: Fault[] = [];
  const config = resolveConfig(
    testConfig(["127.0.0.1:1"], { listener }),
    { directory: "/", cores: 1 },
    faults,
  );
  const { listeners, warnings } = atOnce(loadCredentials(config, faults));
  const own = warnings.filter((warning) => !warning.includes("private key"));
  return {
    faults: faults.map(({ key, problem }) => `${key}: ${problem}`),
    warnings: own,
    credentials: listeners[0]!,
  };
}

describe("truncated files", () => {
  const files = {
    ca: `${cert("ca.crt")}${cert("ca2.crt")}`,
    certificate: cert("server.crt"),
    privateKey: cert("key.pem"),
    crl: cert("crl.pem"),
  };

  test.each(Object.entries(files))(
    "a truncated file is a fault that names the file and the line: %s",
    (key, text) => {
      for (const missing of [2, 30, 200]) {
        const { faults } = load({ [key]: text.slice(0, -missing) });
        expect(faults).toHaveLength(1);
        expect(faults[0]).toMatch(new RegExp(`^listener\\.${key}: ".*/${key}\\.pem", line \\d+: `));
      }
    },
  );

  test.each(Object.keys(files))("an empty file is a fault: %s", (key) => {
    expect(load({ [key]: "" }).faults).toHaveLength(1);
  });
});

test("a CA under a PEM label that TLS would skip is a fault", () => {
  const trusted = cert("ca2.crt").replaceAll("CERTIFICATE", "TRUSTED CERTIFICATE");
  expect(load({ ca: `${cert("ca.crt")}${trusted}` }).faults).toEqual([expect.stringContaining("should be")]);
});

describe("revocation lists", () => {
  const root = certify(undefined, {
    subject: [["CN", "root"]],
    extensions: { basic: ext.basic(true), usage: ext.usage(6) },
  });
  const mute = certify(undefined, {
    subject: [["CN", "mute"]],
    extensions: { basic: ext.basic(true), usage: ext.usage(4) },
  });
  const other = certify(undefined, { subject: [["CN", "another"]] });
  const { scope, flag, point } = listExt;

  test.each<[string, OddListChoices, RegExp | undefined]>([
    ["is loaded", {}, undefined],
    ["is loaded although it is outdated", { nextUpdate: new Date("2025-01-01") }, undefined],
    ["is refused when another key signed it", { signer: other.key }, /not signed by the CA/],
    ["is refused when it is forged", { forged: true }, /not signed by the CA/],
    ["is refused when it is a delta list", { extensions: [listExt.delta()] }, /delta/],
    ["is refused when it is indirect", { extensions: [scope(flag(4))] }, /scope/],
    ["is refused when it is for CAs only", { extensions: [scope(flag(2))] }, /scope/],
    ["is refused when it is for clients only", { extensions: [scope(flag(1))] }, /scope/],
    ["is refused when it is for one distribution point", { extensions: [scope(point("http://x"))] }, /scope/],
    ["is refused with an unknown critical extension", { extensions: [ext.unknown(true)] }, /1\.2\.3\.4\.5/],
    [
      "is refused when an entry has a critical extension",
      { serials: [{ serial: 1, extensions: [ext.unknown(true)] }] },
      /entry/,
    ],
    ["is refused when its issuer is not in ca", { issuer: other.subject }, /no list of a CA in ca/],
  ])("a revocation list %s", (_, choices, problem) => {
    const { faults } = load({ ca: root.pem, crl: list(root, choices) });
    if (problem === undefined) expect(faults).toEqual([]);
    else {
      expect(faults).toHaveLength(1);
      expect(faults[0]).toMatch(/^listener\.crl: "/);
      expect(faults[0]).toMatch(problem);
    }
  });

  test("a revocation list of a CA that may not sign lists is a fault", () => {
    expect(load({ ca: mute.pem, crl: list(mute) }).faults).toEqual([expect.stringContaining("cRLSign")]);
  });

  test("a revocation list that is missing for one of two CAs is a warning", () => {
    const { faults, warnings } = load({ ca: cert("ca.crt") + cert("ca2.crt"), crl: revoke([]) });
    expect([faults.length, warnings.length]).toEqual([0, 1]);
    expect(warnings[0]).toContain("tcpproxy second CA");
  });

  test("a revocation list of an intermediate CA that only clients send is kept beside the root's list", () => {
    const middle = makeAuthority([["CN", "middle"]], testAuthority);
    const { faults, credentials } = load({ crl: revoke([]) + revoke([], middle) });
    expect(faults).toEqual([]);
    expect(credentials.crl?.map(({ signers }) => signers.length)).toEqual([1, 0]);
  });

  test("a revocation list of 100,000 entries is indexed in many small steps", () => {
    const [der] = blocksOf(revoke(Array.from({ length: 100_000 }, (_, i) => 1_000_000 + i)));
    const steps = readRevocationList(der!);
    let count = 0;
    while (steps.next().done !== true) count++;
    expect(count).toBeGreaterThan(90);
  });
});

test.skipIf(process.platform === "win32")("a private key that other users can read is a warning", () => {
  using folder = new Folder();
  const privateKey = folder.path("key.pem");
  copyFileSync(certPath("key.pem"), privateKey);
  const listener = { privateKey };
  const config = resolveConfig(testConfig(["127.0.0.1:1"], { listener }), { directory: "/", cores: 1 }, []);
  for (const [mode, count] of [
    [0o600, 0],
    [0o400, 0],
    [0o640, 1],
    [0o604, 1],
  ] as const) {
    chmodSync(privateKey, mode);
    const { warnings } = atOnce(loadCredentials(config, []));
    expect([mode, warnings.length]).toEqual([mode, count]);
    for (const warning of warnings) expect(warning).toContain(privateKey);
  }
});

test("a leaf certificate in the place of the CA is a fault", () => {
  expect(load({ ca: issue("alice@admin").cert }).faults).toEqual([
    expect.stringContaining("not that of a CA"),
  ]);
});
