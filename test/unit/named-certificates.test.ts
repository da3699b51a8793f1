// Certificates for some server names: which names each is for, what is wrong with them, and how they are shown.

import { describe, expect, test } from "bun:test";
import { chmodSync, writeFileSync } from "node:fs";
import { summary } from "../../src/cli/summary.ts";
import type { ProxyConfig } from "../../src/config/config.ts";
import { credentialWarnings, filesOf, loadCredentials } from "../../src/config/credentials.ts";
import { expiriesOf, expiryWarnings } from "../../src/config/expiry.ts";
import { claimedTwice, namesIn } from "../../src/config/named-certificates.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { isSameContext } from "../../src/engine/same-trust.ts";
import type { Fault } from "../../src/lib/errors.ts";
import { atOnce } from "../../src/lib/portions.ts";
import { Folder } from "../support/folder.ts";
import { issue, type AltName } from "../support/issue.ts";
import { cert, certPath } from "../support/peer.ts";
import { testConfig } from "../support/proxy.ts";

const DNS = 0x82;
const dns = (...names: string[]) =>
  issue("proxy", undefined, { names: names.map((name): AltName => [DNS, name]) });

type Written = NonNullable<NonNullable<ProxyConfig["listener"]>["certificates"]>[number];

/** Loads a listener with these further certificates. */
function load(written: unknown[], alpn?: string[]) {
  const faults: Fault[] = [];
  const certificates = written as Written[];
  const listener = { certificates, ...(alpn && { alpn }) };
  const config = resolveConfig(
    testConfig(["127.0.0.1:1"], { listener }),
    { directory: "/", cores: 1 },
    faults,
  );
  const { listeners, warnings } = atOnce(loadCredentials(config, faults));
  return {
    config,
    faults: faults.map(({ key, problem }) => `${key}: ${problem}`),
    warnings: warnings.filter((warning) => !warning.includes("private key")),
    credentials: listeners[0]!,
  };
}

/** Writes a certificate into a folder, and returns its entry in the configuration. */
function entry(folder: Folder, name: string, made: { cert: string; key: string }): Written {
  const [certificate, privateKey] = [folder.path(`${name}.crt`), folder.path(`${name}.key`)];
  writeFileSync(certificate, made.cert);
  writeFileSync(privateKey, made.key);
  chmodSync(privateKey, 0o600);
  return { certificate, privateKey };
}

test.each<[string | undefined, string[]]>([
  [undefined, []],
  ["DNS:a.test", ["a.test"]],
  ["DNS:A.Test, IP Address:127.0.0.1, DNS:*.b.test, DNS:a.test", ["a.test", "*.b.test"]],
  ['DNS:"a.test, DNS:b.test", DNS:c.test', ["c.test"]],
  ['URI:"x, DNS:b.test", email:x@y.test', []],
  ["DNS:a b.test, DNS:, DNS:*, DNS:127.0.0.1, DNS:f*.test", []],
])("the names of a certificate with %p are %p", (subjectAltName, names) => {
  expect(namesIn({ subjectAltName: subjectAltName! })).toEqual(names);
});

test("a server name has one certificate for each kind of key", () => {
  const all = [
    { keyType: "rsa", serverNames: ["a.test", "b.test"] },
    { keyType: "ec", serverNames: ["a.test"] },
    { keyType: "rsa", serverNames: ["c.test", "b.test", "c.test"] },
  ];
  expect(claimedTwice(all, "l")).toEqual([
    {
      place: 2,
      problem: '"b.test" is taken by l[0]; a server name has one certificate for each kind of key',
    },
    { place: 2, problem: '"c.test" is given twice' },
  ]);
});

describe("further certificates of a listener", () => {
  test("are for the names in them, or for those that are written", () => {
    using folder = new Folder();
    const [first, second] = [
      entry(folder, "a", dns("a.test", "*.a.test")),
      entry(folder, "b", dns("b.test")),
    ];
    const { faults, warnings, credentials, config } = load([first, { ...second, serverNames: ["B.test."] }]);
    expect([faults, warnings]).toEqual([[], []]);
    expect(credentials.certificates?.map((each) => [each.keyType, each.serverNames])).toEqual([
      ["rsa", ["a.test", "*.a.test"]],
      ["rsa", ["b.test"]],
    ]);
    for (const file of [first, second].flatMap((each) => [each.certificate, each.privateKey]))
      expect(filesOf(config)).toContain(file);
  });

  test("that cannot be used are faults, all at once", () => {
    using folder = new Folder();
    const good = entry(folder, "good", dns("a.test"));
    const { faults } = load([
      good,
      { ...good, privateKey: certPath("ecdsa.pem") },
      entry(folder, "nameless", issue("proxy")),
      { ...good, serverNames: ["a.test"] },
      { ...good, certificate: certPath("key.pem") },
      { ...good, serverNames: ["no name"] },
      { certificate: certPath("server.crt") },
    ]);
    const matches = [
      ["listener.certificates[1].privateKey", "is not the key of"],
      ["listener.certificates[2].serverNames", "holds no DNS name that a client could ask for"],
      ["listener.certificates[3].serverNames", "is taken by listener.certificates[0]"],
      ["listener.certificates[4].certificate", "holds no certificate"],
      ["listener.certificates[5].serverNames[0]", "no name"],
      ["listener.certificates[6].privateKey", "is missing"],
    ];
    for (const [key, problem] of matches)
      expect(faults.filter((fault) => fault.startsWith(`${key}: `) && fault.includes(problem!))).toHaveLength(
        1,
      );
    expect(faults).toHaveLength(matches.length);
  });

  test("cause a warning where they do not hold the name that they are for", () => {
    using folder = new Folder();
    const file = entry(folder, "a", dns("a.test", "*.a.test"));
    const { faults, warnings } = load([
      { ...file, serverNames: ["x.a.test", "*.a.test", "b.test", "*.test"] },
    ]);
    expect(faults).toEqual([]);
    expect(warnings).toEqual([
      expect.stringContaining('does not hold "b.test", its server name'),
      expect.stringContaining('does not hold "*.test", its server name'),
    ]);
  });

  test("have warnings of their own about dates and purpose", () => {
    const day = 86_400_000;
    const now = Date.now();
    const made = issue("proxy", undefined, { notAfter: new Date(now + 3 * day) });
    const credentials = {
      ca: [cert("ca.crt")],
      cert: cert("server.crt"),
      key: cert("key.pem"),
      crl: undefined,
      certificates: [{ ...made, keyType: "rsa", serverNames: ["a.test", "b.test"] }],
    };
    const what = `the proxy's certificate for "a.test" and 1 more (RSA)`;
    const expiries = expiriesOf(credentials);
    expect(expiries.map((each) => [each.kind, each.what]).slice(0, 2)).toEqual([
      ["server", "the proxy's certificate"],
      ["server", what],
    ]);
    expect(expiryWarnings(expiries, now).map(({ text }) => text)).toEqual([
      expect.stringMatching(
        /^the proxy's certificate for "a\.test" and 1 more \(RSA\) expires on .*, in 2 days$/,
      ),
    ]);
    expect(credentialWarnings(credentials)).toEqual([
      `${what} is not meant for servers (extended key usage): clients may refuse it`,
    ]);
  });

  test("are in the summary, with the protocols", () => {
    const file = { certificate: certPath("server-ecdsa.crt"), privateKey: certPath("ecdsa.pem") };
    const { config } = load([file, { ...file, serverNames: ["a.test", "b.test"] }], ["postgresql", "mqtt"]);
    const text = summary(config).replace(/\s+/g, " ");
    expect(text).toContain("server-ecdsa.crt, for the names in it certificate");
    expect(text).toContain("server-ecdsa.crt, for a.test, b.test");
    expect(text).toContain("protocols postgresql, mqtt");
  });

  test("and protocols are a part of the TLS context: a reload that changes them replaces it", () => {
    const file = { certificate: certPath("server-ecdsa.crt"), privateKey: certPath("ecdsa.pem") };
    const snapshot = (...given: Parameters<typeof load>) => {
      const { config, credentials } = load(...given);
      return { listener: config.listeners[0]!, credentials };
    };
    const base = () => snapshot([file], ["postgresql"]);
    expect(isSameContext(base(), base())).toBe(true);
    expect(isSameContext(base(), snapshot([file], ["mqtt"]))).toBe(false);
    expect(isSameContext(base(), snapshot([file]))).toBe(false);
    expect(isSameContext(base(), snapshot([{ ...file, serverNames: ["a.test"] }], ["postgresql"]))).toBe(
      false,
    );
  });
});

test("a list of protocols has names, each once", () => {
  const file = { certificate: certPath("server-ecdsa.crt"), privateKey: certPath("ecdsa.pem") };
  const { faults } = load([file], ["postgresql", "tcpproxy/1", "a b", "postgresql"]);
  expect(faults.map((fault) => fault.split(":")[0])).toEqual([
    "listener.alpn[1]",
    "listener.alpn[2]",
    "listener.alpn[3]",
  ]);
});
