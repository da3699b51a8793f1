// Mutated files. Each one either loads or is refused with named faults: no other exception is thrown, and no message
// contains part of a private key.

import { mkdtempSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { ConfigError } from "tcpproxy";
import { readConfigFile } from "../../src/config/file.ts";
import { loadCredentials } from "../../src/config/credentials.ts";
import type { Fault } from "../../src/lib/errors.ts";
import { atOnce } from "../../src/lib/portions.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { trustIn } from "../../src/auth/trust.ts";
import { cert, certPath } from "../support/peer.ts";
import { testConfig } from "../support/proxy.ts";
import type { Random } from "../support/random.ts";
import type { Target } from "./house.ts";
import { mutateBytes, mutateText } from "./mutate.ts";

/** Certificates, keys and revocation lists. */
export async function keyFiles(): Promise<Target> {
  const folder = mkdtempSync(`${tmpdir()}/tcpproxy-fuzz-`);
  const files = {
    ca: [cert("ca.crt"), cert("ca.crt") + cert("ca2.crt")],
    certificate: [cert("server.crt"), cert("chained.crt"), cert("server-ecdsa.crt")],
    privateKey: [cert("key.pem"), cert("ecdsa.pem")],
    crl: [cert("crl.pem"), cert("crl.pem") + cert("crl-outdated.pem")],
  };
  return {
    async one(random) {
      const key = random.pick(["ca", "certificate", "privateKey", "crl"] as const);
      const text = spoilPem(random.pick(files[key]), random);
      writeFileSync(`${folder}/file.pem`, text);
      const faults: Fault[] = [];
      const listener = { crl: certPath("crl.pem"), [key]: `${folder}/file.pem` };
      const config = resolveConfig(
        testConfig(["127.0.0.1:1"], { listener }),
        { directory: "/", cores: 1 },
        faults,
      );
      const { listeners } = atOnce(loadCredentials(config, faults));
      expectFaults(faults);
      if (key === "privateKey" && faults.some(({ problem }) => hasKeyIn(problem, text))) {
        throw new Error("part of a private key is in a message");
      }
      // Files without a fault must also be usable.
      if (faults.length === 0) for (const each of listeners) trustIn(each);
    },
    rest: async () => {},
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

/** Mutates the text, or the DER inside its PEM blocks. */
function spoilPem(text: string, random: Random): string {
  if (random.int(0, 2) === 0) return mutateText(text, random);
  return text.replace(
    /(-----BEGIN [^-]+-----)([^-]+)(-----END)/g,
    (whole, begin: string, base64: string, end: string) =>
      random.int(0, 1) === 0
        ? whole
        : `${begin}\n${mutateBytes(Buffer.from(base64, "base64"), random).toString("base64")}\n${end}`,
  );
}

function hasKeyIn(message: string, pem: string): boolean {
  const lines = pem.split("\n").filter((line) => line.length > 40 && !line.includes("-"));
  return lines.some((line) => message.includes(line.slice(0, 40)));
}

/** A configuration with almost every key. */
const FULL = {
  timeout: "10m", handshakeTimeout: "5s", connectTimeout: "1s", shutdownTimeout: "30s", maxConnectionDuration: "1h",
  disconnectExpired: true, expiryGrace: "1m", revocationGrace: "1s", maxConnections: 100, workers: 1, watch: false, logLevel: "info",
  listeners: [
    {
      address: "127.0.0.1:0", ca: certPath("ca.crt"), certificate: certPath("server.crt"), privateKey: certPath("key.pem"),
      certificates: [{ certificate: certPath("server-ecdsa.crt"), privateKey: certPath("ecdsa.pem"), serverNames: ["localhost", "*.example.com"] }],
      alpn: ["postgresql"],
    },
    {
      address: "[::1]:7443", ca: certPath("ca2.crt"), certificate: certPath("server.crt"), privateKey: certPath("key.pem"),
      crl: certPath("crl.pem"), sessionTickets: false, reusePort: true, upstream: "orders",
      identity: { from: "uri", pattern: "spiffe://example.org/{group}/{user}" },
    },
  ],
  upstreams: [
    {
      name: "orders", serverNames: ["orders.db.example.com", "*.example.com"], authorizedGroups: ["dba", "größe"], authorizedClients: ["alice@etl"],
      targets: ["10.0.0.5:5432", { address: "[::1]:5432", weight: 2 }, { address: "unix:/run/db.sock", backup: true }],
      healthCheck: { interval: "2s", timeout: "1s", rise: 2, fall: 3 }, slowStart: "30s", proxyProtocol: "v2",
      tls: { ca: certPath("ca.crt"), serverName: "orders.db.example.com" },
    },
    { name: "rest", targets: ["localhost:1"], authorizedGroups: ["admin"] },
  ],
  rateLimit: { capacity: 20, fillRate: "500ms", maxConnections: 50 },
}; // prettier-ignore

/** A value as TOML, with inline tables. */
function toToml(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(toToml).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const pairs = Object.entries(value).map(([key, each]) => `${key} = ${toToml(each)}`);
  return `{ ${pairs.join(", ")} }`;
}

const LANGUAGES = {
  json: JSON.stringify(FULL, undefined, 2),
  yaml: Bun.YAML.stringify(FULL, undefined, 2),
  toml: Object.entries(FULL)
    .map(([key, value]) =>
      Array.isArray(value)
        ? value.map((each) => `[[${key}]]\n${tomlLines(each)}`).join("\n\n")
        : typeof value === "object"
          ? `[${key}]\n${tomlLines(value)}\n`
          : `${key} = ${toToml(value)}`,
    )
    .join("\n"),
};

function tomlLines(table: object): string {
  return Object.entries(table)
    .map(([key, value]) => `${key} = ${toToml(value)}`)
    .join("\n");
}

export async function configurations(): Promise<Target> {
  const folder = mkdtempSync(`${tmpdir()}/tcpproxy-fuzz-`);
  for (const language of Object.keys(LANGUAGES)) {
    const file = `${folder}/good.${language}`;
    writeFileSync(file, LANGUAGES[language as keyof typeof LANGUAGES]);
    const faults: Fault[] = [];
    resolveConfig(await readConfigFile(file), { directory: folder, cores: 2 }, faults);
    if (faults.length > 0) throw new Error(`${language}: ${JSON.stringify(faults)}`);
  }
  return {
    async one(random) {
      const language = random.pick(["json", "yaml", "toml"] as const);
      const file = `${folder}/spoiled.${language}`;
      writeFileSync(file, mutateText(LANGUAGES[language], random));
      const faults: Fault[] = [];
      try {
        const config = resolveConfig(await readConfigFile(file), { directory: folder, cores: 2 }, faults);
        if (faults.length > 0) expectFaults(faults);
        for (const { authorizedGroups, authorizedClients, anyGroup } of faults.length > 0
          ? []
          : config.upstreams) {
          if (!anyGroup && authorizedGroups.length + authorizedClients.length === 0)
            throw new Error("an upstream says nothing of who may reach it");
        }
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        expectFaults(error.faults);
      }
      if ("polluted" in {} || Object.keys(Object.prototype).length > 0)
        throw new Error("Object.prototype has changed");
    },
    rest: async () => {},
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

/** Checks that each fault is one line without control characters. */
function expectFaults(faults: readonly Fault[]): void {
  for (const { key, problem } of faults) {
    if (problem === "" || /[\p{Cc}\u2028\u2029\u202e]/u.test(key + problem)) {
      throw new Error(`a fault that cannot be shown: ${JSON.stringify({ key, problem })}`);
    }
  }
}
