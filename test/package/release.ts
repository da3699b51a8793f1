// `bun build.ts --release`: every target's binary, Debian packages, an SBOM and SHA256SUMS, in out/release/. The same
// commit gives the same bytes: nothing that is written depends on the time, the user or the folder.

import { chmodSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { description, name, version } from "../../package.json";

const ROOT = new URL("../..", import.meta.url).pathname;
const OUT = "out/release";
/** Bun does not check what it finds in its cache: runtimes of other targets are fetched for each release. */
const CACHE = "out/release-cache";
const TARGETS = ["linux-x64", "linux-arm64", "linux-x64-musl", "linux-arm64-musl", "darwin-arm64"];
const DEBIAN: Readonly<Record<string, string>> = { "linux-x64": "amd64", "linux-arm64": "arm64" };
/** A copy without a repository has no date of its own. */
const NO_DATE = "315532800";

const fileOf = (target: string) => `${OUT}/tcpproxy-${version}-${target}`;

function run(command: string[], env: Record<string, string> = {}): string {
  const child = Bun.spawnSync(command, { cwd: ROOT, env: { ...process.env, ...env }, stderr: "pipe" });
  if (child.exitCode === 0) return String(child.stdout);
  // Progress overwrites itself on one line.
  const lines = String(child.stderr)
    .split(/[\r\n]/)
    .filter((line) => line.trim() !== "");
  const line = lines.find((each) => /error|failed/i.test(each)) ?? lines.at(-1) ?? "it failed";
  throw new Error(line.replace(/^BuildMessage: /, ""));
}

/** A build's bytes depend on the folder that it runs in, relative to the sources: each one runs in ROOT. */
function build(target: string): void {
  try {
    run([process.execPath, "build.ts", "--target", `bun-${target}`, "--outfile", fileOf(target)], {
      BUN_INSTALL_CACHE_DIR: ROOT + CACHE,
    });
  } catch (error) {
    throw new Error(`the target bun-${target} cannot be built: ${(error as Error).message}`);
  }
}

/** When the commit was made, in seconds. */
function commitDate(): string {
  if (process.env["SOURCE_DATE_EPOCH"]) return process.env["SOURCE_DATE_EPOCH"];
  try {
    const own = run(["git", "rev-parse", "--show-prefix"]).trim() === "";
    return own ? run(["git", "log", "-1", "--format=%ct"]).trim() : NO_DATE;
  } catch {
    return NO_DATE;
  }
}

const page = readFileSync(`${ROOT}src/cli/topics/services.md`, "utf8");
/** The page's unit, which is for binaries that were copied by hand, with the package's path. */
const UNIT = /^```ini\n(\[Unit\].*?)^```$/ms
  .exec(page)![1]!
  .replaceAll("/usr/local/bin/proxy", "/usr/bin/tcpproxy");

const control = (architecture: string, kibibytes: number) => `Package: tcpproxy
Version: ${version.replace("-", "~")}
Architecture: ${architecture}
Maintainer: the tcpproxy maintainers <tcpproxy@localhost>
Installed-Size: ${kibibytes}
Depends: libc6 (>= 2.17), adduser
Section: net
Priority: optional
Description: Layer-4 access proxy with client certificates
 ${description}
 .
 The command is tcpproxy; its help calls it proxy.
`;

const SCRIPTS: Readonly<Record<string, string>> = {
  // The service is not enabled here: there is no configuration yet. An upgrade restarts a service that runs.
  postinst: `#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
adduser --system --group --quiet --no-create-home --home /nonexistent tcpproxy
if [ ! -d /etc/tcpproxy ]; then
  mkdir -m 0750 /etc/tcpproxy
  chgrp tcpproxy /etc/tcpproxy
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  if [ -n "$2" ]; then systemctl try-restart tcpproxy.service; fi
fi
`,
  prerm: `#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
  systemctl disable --now --quiet tcpproxy.service
fi
`,
  // The user stays: files that it still has must not become those of a later user with its number.
  postrm: `#!/bin/sh
set -e
if [ "$1" = purge ] && [ -d /etc/tcpproxy ]; then
  rmdir --ignore-fail-on-non-empty /etc/tcpproxy
fi
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
`,
};

/** Builds the package with dpkg-deb; returns its path. */
function debianPackage(target: string, date: string): string {
  const architecture = DEBIAN[target]!;
  const tree = `${OUT}/${architecture}`;
  const contents: readonly [string, string | Uint8Array, number?][] = [
    ["usr/bin/tcpproxy", readFileSync(ROOT + fileOf(target)), 0o755],
    ["usr/lib/systemd/system/tcpproxy.service", UNIT],
    ["usr/share/doc/tcpproxy/copyright", readFileSync(`${ROOT}LICENSE`)],
    ...readdirSync(`${ROOT}test/examples`)
      .sort()
      .map((name): [string, Uint8Array] => [
        `usr/share/doc/tcpproxy/examples/${name}`,
        readFileSync(`${ROOT}test/examples/${name}`),
      ]),
  ];
  const put = (path: string, content: string | Uint8Array, mode = 0o644) => {
    const folders = path.split("/").slice(0, -1);
    folders.forEach((_, i) => {
      const folder = `${ROOT}${tree}/${folders.slice(0, i + 1).join("/")}`;
      mkdirSync(folder, { recursive: true });
      // Whatever the umask is.
      chmodSync(folder, 0o755);
    });
    writeFileSync(`${ROOT}${tree}/${path}`, content);
    chmodSync(`${ROOT}${tree}/${path}`, mode);
  };
  mkdirSync(ROOT + tree);
  chmodSync(ROOT + tree, 0o755);
  for (const each of contents) put(...each);
  const bytes = contents.reduce((sum, [, content]) => sum + Buffer.byteLength(content), 0);
  put("DEBIAN/control", control(architecture, Math.ceil(bytes / 1_024)));
  put(
    "DEBIAN/md5sums",
    contents.map(([path, content]) => `${Bun.MD5.hash(content, "hex")}  ${path}\n`).join(""),
  );
  for (const [name, script] of Object.entries(SCRIPTS)) put(`DEBIAN/${name}`, script, 0o755);
  const file = `${OUT}/tcpproxy_${version.replace("-", "~")}_${architecture}.deb`;
  try {
    // By gzip: xz takes ten times as long to save a fifth.
    run(["dpkg-deb", "-Zgzip", "-z3", "--root-owner-group", "--build", tree, file], {
      SOURCE_DATE_EPOCH: date,
    });
  } catch (error) {
    throw new Error(`the Debian package for ${architecture} cannot be built: ${(error as Error).message}`);
  }
  rmSync(ROOT + tree, { recursive: true });
  return file;
}

interface Sbom {
  serialNumber?: string;
  metadata: { timestamp?: string; component: { name: string } };
  components: {
    "bom-ref": string;
    name: string;
    scope: string;
    properties?: { name: string; value: string }[];
  }[];
  dependencies: { ref: string; dependsOn: string[] }[];
}

/** What the binaries contain, from the lock file: the dependencies, and Bun with the targets' runtimes. */
function sbom(targets: readonly string[]): string {
  const flags = ["--sbom-format=cyclonedx", "--sbom-type=application", "--package-lock-only"];
  const bom = JSON.parse(run(["npm", "sbom", ...flags])) as Sbom;
  // npm writes the time, a random number and the folder's name.
  delete bom.serialNumber;
  delete bom.metadata.timestamp;
  bom.metadata.component.name = name;
  const runtimes = targets.map((target) => `@oven/bun-${target.replace("arm64", "aarch64")}`);
  const contained = ["bun", ...runtimes];
  bom.components = bom.components.filter(
    (each) =>
      contained.includes(each.name) || each.properties?.every(({ value }) => value !== "true") !== false,
  );
  for (const each of bom.components) {
    if (contained.includes(each.name)) Object.assign(each, { scope: "required", properties: [] });
  }
  const refs = new Set(bom.components.map((each) => each["bom-ref"]));
  const root = `${name}@${version}`;
  bom.dependencies = bom.dependencies
    .filter(({ ref }) => ref === root || refs.has(ref))
    .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((each) => refs.has(each)) }));
  return `${JSON.stringify(bom, null, 2)}\n`;
}

/** Builds these targets, or all. Prints each file as it is done; throws what failed, in one line. */
export function release(targets: readonly string[] = TARGETS): void {
  const unknown = targets.find((target) => !TARGETS.includes(target));
  if (unknown !== undefined) {
    const known = TARGETS.map((target) => `bun-${target}`).join(", ");
    throw new Error(`bun-${unknown} is no target of a release; there are ${known}`);
  }
  for (const path of [OUT, CACHE]) rmSync(ROOT + path, { recursive: true, force: true });
  mkdirSync(ROOT + OUT, { recursive: true });
  const sums: string[] = [];
  const done = (file: string) => {
    const bytes = readFileSync(ROOT + file);
    const sum = `${Bun.SHA256.hash(bytes, "hex")}  ${basename(file)}`;
    sums.push(sum);
    console.log(`${sum} (${(bytes.length / 2 ** 20).toFixed(1)} MiB)`);
  };
  try {
    for (const target of targets) {
      build(target);
      done(fileOf(target));
    }
  } finally {
    rmSync(ROOT + CACHE, { recursive: true, force: true });
  }
  const debian = targets.filter((target) => target in DEBIAN);
  if (debian.length > 0 && Bun.which("dpkg-deb") === null) {
    console.log("left out: the Debian packages, because there is no dpkg-deb");
  } else {
    const date = commitDate();
    for (const target of debian) done(debianPackage(target, date));
  }
  if (Bun.which("npm") === null) {
    console.log("left out: the SBOM, because there is no npm");
  } else {
    const file = `${OUT}/tcpproxy-${version}.cdx.json`;
    writeFileSync(ROOT + file, sbom(targets));
    done(file);
  }
  writeFileSync(`${ROOT}${OUT}/SHA256SUMS`, sums.map((line) => `${line}\n`).join(""));
}
