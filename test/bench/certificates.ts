// Certificates made for one run of the benchmark: a CA, a server and one client, with keys of one kind.

import { mkdirSync } from "node:fs";
import type { Keys } from "./peers.ts";

/** Certificates in the chain of a hostile client: OpenSSL takes 100 at most. */
export const HOSTILE_CHAIN = 99;

/**
 * Makes ca.crt, server.crt, server.key, server.pem (both, for haproxy), client.crt and client.key in a new folder, and
 * with ECDSA the same of two strangers: one with a certificate that it signed itself, one with a long chain.
 */
export async function makeCertificates(folder: string, keys: Keys): Promise<void> {
  mkdirSync(folder);
  const kind =
    keys === "rsa" ? ["-newkey", "rsa:2048"] : ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
  const openssl = (...args: string[]) => {
    const { exitCode, stderr } = Bun.spawnSync(
      ["openssl", "req", "-x509", "-nodes", "-days", "2", ...kind, ...args],
      {
        cwd: folder,
        stderr: "pipe",
      },
    );
    if (exitCode !== 0) throw new Error(`openssl: ${stderr}`);
  };
  const extensions = (...lines: string[]) => lines.flatMap((line) => ["-addext", line]);
  openssl(
    "-subj",
    "/CN=bench CA",
    "-keyout",
    "ca.key",
    "-out",
    "ca.crt",
    ...extensions("basicConstraints=critical,CA:TRUE"),
  );
  for (const [name, subject, usage] of [
    ["server", "/CN=localhost", "serverAuth"],
    ["client", "/CN=client@bench", "clientAuth"],
  ] as const) {
    const lines = [
      "basicConstraints=critical,CA:FALSE",
      `extendedKeyUsage=${usage}`,
      "subjectAltName=DNS:localhost",
    ];
    openssl(
      "-CA",
      "ca.crt",
      "-CAkey",
      "ca.key",
      "-subj",
      subject,
      "-keyout",
      `${name}.key`,
      "-out",
      `${name}.crt`,
      ...extensions(...lines),
    );
  }
  const pair = await Promise.all(
    ["server.crt", "server.key"].map((name) => Bun.file(`${folder}/${name}`).text()),
  );
  await Bun.write(`${folder}/server.pem`, pair.join(""));
  // Measures of strangers take ECDSA; 99 RSA keys would take a while.
  if (keys === "rsa") return;
  const self = (name: string, ...args: string[]) =>
    openssl(
      ...["-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.crt`, ...args],
      ...extensions("basicConstraints=critical,CA:TRUE"),
    );
  self("stranger");
  // Each signed by the one before; the last one is the client's.
  const chain: string[] = [];
  for (let i = 1; i <= HOSTILE_CHAIN; i++) {
    self(`chain${i}`, ...(i === 1 ? [] : ["-CA", `chain${i - 1}.crt`, "-CAkey", `chain${i - 1}.key`]));
    chain.unshift(await Bun.file(`${folder}/chain${i}.crt`).text());
  }
  await Bun.write(`${folder}/hostile.crt`, chain.join(""));
  await Bun.write(`${folder}/hostile.key`, Bun.file(`${folder}/chain${HOSTILE_CHAIN}.key`));
}
