// Certificates made for one run of the benchmark: a CA, a server and one client, with keys of one kind.

import { mkdirSync } from "node:fs";
import type { Keys } from "./peers.ts";

/** Makes ca.crt, server.crt, server.key, server.pem (both, for haproxy), client.crt and client.key in a new folder. */
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
}
