// A release of this machine's target: built twice, in folders of different depth, and its Debian package in a throw-away system.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname } from "node:path";
import { version } from "../../package.json";
import { Folder } from "../support/folder.ts";
import { cert, connect, echoOrigin } from "../support/peer.ts";
import { until, type Line } from "../support/proxy.ts";

// Each test starts programs, and a build may wait for a busy machine.
setDefaultTimeout(60_000);

const ROOT = new URL("../..", import.meta.url).pathname;
const SOURCES = [
  ...["src", "certs", "test/package", "test/examples", "node_modules/citty", "node_modules/consola"],
  ...["build.ts", "package.json", "package-lock.json", "tsconfig.json", "LICENSE", ".gitignore"],
];
const TARGET = `${process.platform}-${process.arch}`;
/** With RELEASE_TARGETS=all, every target is built: some minutes, and the other runtimes are fetched. */
const ALL = Bun.env["RELEASE_TARGETS"] === "all";
const BINARY = `tcpproxy-${version}-${TARGET}`;
const has = (...programs: string[]) => programs.every((program) => Bun.which(program) !== null);

const folder = new Folder();
const copies = [folder.path("one"), folder.path("two/deeper/still")] as const;
const outputs = copies.map((copy) => `${copy}/out/release`);
afterAll(() => folder[Symbol.dispose]());

async function run(cwd: string, command: string[], env: Record<string, string> = {}) {
  const child = Bun.spawn(command, { cwd, env: { ...process.env, ...env }, stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { stdout, stderr, code };
}

/** A copy of what a release is made of. */
function copyTo(copy: string): void {
  for (const path of SOURCES) cpSync(ROOT + path, `${copy}/${path}`, { recursive: true });
}

/** The same commit in each copy. */
async function commit(copy: string): Promise<void> {
  const env = {
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_AUTHOR_DATE: "2026-01-02T03:04:05Z",
    GIT_COMMITTER_DATE: "2026-01-02T03:04:05Z",
  };
  const user = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"];
  for (const args of [
    ["init", "-q"],
    ["add", "-A"],
    [...user, "commit", "-q", "-m", "test"],
  ]) {
    expect(await run(copy, ["git", ...args], env)).toMatchObject({ code: 0 });
  }
}

test.each([
  [["--outfile", "x"], 2, "build.ts: --release has names of its own; leave --outfile out\n"],
  [
    ["--target", "bun-windows-x64"],
    1,
    "build.ts: bun-windows-x64 is no target of a release; there are bun-linux-x64,",
  ],
])("a release with the arguments %p is refused in one line", async (args, code, text) => {
  const refused = await run(ROOT, [process.execPath, "build.ts", "--release", ...args]);
  expect(refused).toMatchObject({ code, stdout: "" });
  expect(refused.stderr).toStartWith(text);
  expect(refused.stderr.trim()).not.toContain("\n");
});

test("a release says in one line which runtime it could not get, and takes none from a cache", async () => {
  const copy = folder.path("offline");
  copyTo(copy);
  // Nothing listens on this port of loopback.
  const env = { HTTPS_PROXY: "http://127.0.0.1:1", BUN_INSTALL_CACHE_DIR: folder.path("cache") };
  const [foreign, cached] =
    process.arch === "x64" ? ["bun-linux-arm64-musl", "aarch64"] : ["bun-linux-x64-musl", "x64"];
  mkdirSync(env.BUN_INSTALL_CACHE_DIR);
  copyFileSync(process.execPath, `${env.BUN_INSTALL_CACHE_DIR}/bun-linux-${cached}-musl-v${Bun.version}`);
  const { stdout, stderr, code } = await run(
    copy,
    [process.execPath, "build.ts", "--release", "--target", foreign],
    env,
  );
  expect({ stdout, code }).toEqual({ stdout: "", code: 1 });
  expect(stderr).toStartWith(`build.ts: the target ${foreign} cannot be built: Failed to download`);
  expect(stderr.trim()).not.toContain("\n");
  expect(readdirSync(`${copy}/out`, { recursive: true })).toEqual(["release"]);
});

describe.skipIf(process.platform !== "linux")("a release", () => {
  beforeAll(async () => {
    for (const copy of copies) {
      copyTo(copy);
      if (has("git")) await commit(copy);
    }
    const target = ALL ? [] : ["--target", `bun-${TARGET}`];
    // The second one is started from elsewhere, under another umask and in another time zone.
    const built = await Promise.all(
      [
        { copy: copies[0], cwd: copies[0], umask: "022", TZ: "UTC" },
        { copy: copies[1], cwd: "/", umask: "077", TZ: "Asia/Tokyo" },
      ].map(({ copy, cwd, umask, TZ }) => {
        const build = [process.execPath, `${copy}/build.ts`, "--release", ...target];
        return run(cwd, ["sh", "-c", `umask ${umask}; exec "$@"`, "sh", ...build], { TZ });
      }),
    );
    for (const each of built) expect(each).toMatchObject({ code: 0, stderr: "" });
  }, 600_000);

  test("a release is the same bytes from another folder", async () => {
    const [one, two] = outputs.map((output) =>
      readdirSync(output)
        .sort()
        .map((name) => [name, Bun.SHA256.hash(readFileSync(`${output}/${name}`), "hex")]),
    );
    expect(one!.map(([name]) => name)).toContain(BINARY);
    expect(one).toEqual(two!);
  });

  test("a release's binary tells its version and commit", async () => {
    const { stdout } = await run("/", [`${outputs[0]}/${BINARY}`, "--version", "--json"]);
    const head = has("git") ? (await run(copies[0], ["git", "rev-parse", "HEAD"])).stdout.trim() : null;
    expect(JSON.parse(stdout)).toEqual({ version, commit: head, runtime: `bun ${Bun.version}` });
  });

  test.skipIf(!has("sha256sum"))(
    "a release's sums name each file, and sha256sum finds them right",
    async () => {
      const { stdout, code } = await run(outputs[0]!, ["sha256sum", "--strict", "-c", "SHA256SUMS"]);
      const names = readdirSync(outputs[0]!).filter((name) => name !== "SHA256SUMS");
      expect(stdout.trim().split("\n").sort()).toEqual(names.map((name) => `${name}: OK`).sort());
      expect(code).toBe(0);
    },
  );

  test.skipIf(!has("npm"))("a release's SBOM lists what the binary contains, and nothing else", async () => {
    const bom = await Bun.file(`${outputs[0]}/tcpproxy-${version}.cdx.json`).json();
    expect(bom).toMatchObject({
      bomFormat: "CycloneDX",
      metadata: { component: { name: "tcpproxy", version } },
    });
    const manifest = await Bun.file(`${ROOT}package.json`).json();
    const versions = new Map(
      (bom.components as { name: string; version: string }[]).map((each) => [each.name, each.version]),
    );
    const runtimes = [...versions.keys()].filter((name) => name.startsWith("@oven/"));
    expect(runtimes).toContain(`@oven/bun-${TARGET.replace("arm64", "aarch64")}`);
    expect(runtimes.length).toBe(ALL ? 5 : 1);
    const bun = manifest.devDependencies.bun as string;
    expect(Object.fromEntries(versions)).toEqual({
      ...manifest.dependencies,
      bun,
      ...Object.fromEntries(runtimes.map((name) => [name, bun])),
    });
    for (const each of bom.components) expect(each.hashes).toMatchObject([{ alg: "SHA-512" }]);
  });

  /** Not every kernel, or container, lets root mount an overlay. */
  const OVERLAY = `
    set -e
    mount -t tmpfs tmpfs "$1"
    mkdir "$1/changed" "$1/work" "$1/root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$1/changed,workdir=$1/work" "$1/root"`;
  const upper = folder.path("upper");
  mkdirSync(upper);
  const isolated =
    process.getuid?.() === 0 &&
    has("unshare", "chroot", "mount") &&
    Bun.spawnSync(["unshare", "-m", "sh", "-c", OVERLAY, "sh", upper]).exitCode === 0;

  test.skipIf(!isolated || !has("dpkg", "dpkg-deb", "adduser"))(
    "a release's Debian package is installed, removed and purged",
    async () => {
      const architecture = { x64: "amd64", arm64: "arm64" }[process.arch as string];
      const script = `
        # What the package changes is in memory, and gone with this namespace.
        ${OVERLAY}
        upper=$1 deb=$2
        for each in proc dev; do mount --bind /$each "$upper/root/$each"; done
        cp "$deb" "$upper/root/tcpproxy.deb"
        exec chroot "$upper/root" sh -ec '
          export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
          state() { dpkg-query -W -f="\\\${db:Status-Status}\\n" tcpproxy; }
          dpkg -i /tcpproxy.deb >/dev/null
          state
          dpkg -V tcpproxy
          tcpproxy --version
          stat -c "%U:%G %a %n" /usr/bin/tcpproxy /etc/tcpproxy
          id -un tcpproxy
          cat /usr/lib/systemd/system/tcpproxy.service | grep ^Exec
          ls /usr/share/doc/tcpproxy
          echo key >/etc/tcpproxy/proxy.key
          dpkg -i /tcpproxy.deb >/dev/null
          dpkg -r tcpproxy >/dev/null
          state
          ls /usr/bin/tcpproxy /usr/lib/systemd/system/tcpproxy.service /usr/share/doc/tcpproxy 2>&1 | grep -c "No such file"
          dpkg -P tcpproxy >/dev/null 2>&1
          cat /etc/tcpproxy/proxy.key
          rm /etc/tcpproxy/proxy.key
          dpkg -i /tcpproxy.deb >/dev/null
          dpkg -P tcpproxy >/dev/null
          ls -d /etc/tcpproxy 2>/dev/null || echo purged
        '`;
      const deb = `${outputs[0]}/tcpproxy_${version}_${architecture}.deb`;
      const { stdout, stderr, code } = await run("/", [
        "unshare",
        "-m",
        "sh",
        "-c",
        script,
        "sh",
        upper,
        deb,
      ]);
      expect({ lines: stdout.trim().split("\n"), stderr, code }).toMatchObject({
        lines: [
          "installed",
          version,
          "root:root 755 /usr/bin/tcpproxy",
          "root:tcpproxy 750 /etc/tcpproxy",
          "tcpproxy",
          "ExecStartPre=/usr/bin/tcpproxy check --config /etc/tcpproxy/proxy.toml",
          "ExecStart=/usr/bin/tcpproxy --config /etc/tcpproxy/proxy.toml --log-format json",
          "ExecReload=/bin/kill -HUP $MAINPID",
          "copyright",
          "examples",
          "config-files",
          "3",
          "key",
          "purged",
        ],
        code: 0,
      });
      expect(readdirSync(upper)).toEqual([]);
    },
  );

  const dockerfile = /^```dockerfile\n(.*?)^```$/ms.exec(
    readFileSync(`${ROOT}src/cli/topics/install.md`, "utf8"),
  )![1]!;
  const libraries = [...dockerfile.matchAll(/^COPY --from=glibc (\S+) (\S+)/gm)].map(([, from, to]) => ({
    from: from!,
    to: to! + basename(from!),
  }));

  test.skipIf(!isolated || !libraries.every(({ from }) => existsSync(from)))(
    "a release's binary proxies with a read-only root that has the documented container's files alone",
    async () => {
      const root = folder.path("root");
      const put = (path: string, content: string) => {
        mkdirSync(dirname(root + path), { recursive: true });
        writeFileSync(root + path, content);
      };
      using origin = echoOrigin();
      // A container engine brings this file, and /proc.
      put("/etc/hosts", "127.0.0.1 localhost\n");
      mkdirSync(`${root}/proc`);
      for (const { from, to } of libraries) {
        mkdirSync(dirname(root + to), { recursive: true });
        copyFileSync(from, root + to);
      }
      copyFileSync(`${outputs[0]}/${BINARY}`, `${root}/proxy`);
      for (const name of ["ca.crt", "server.crt", "key.pem"]) put(`/etc/tcpproxy/${name}`, cert(name));
      put(
        "/etc/tcpproxy/proxy.toml",
        `listener = { address = "127.0.0.1:0", ca = "ca.crt", certificate = "server.crt", privateKey = "key.pem" }
         [[upstreams]]
         name = "echo"
         targets = ["localhost:${origin.port}"]
         authorizedGroups = ["admin"]`,
      );
      const script = `
        set -e
        mount --bind "$0" "$0"
        mount --bind /proc "$0/proc"
        mount -o remount,ro,bind "$0"
        exec chroot --userspec=65532:65532 "$0" "$@"`;
      const [entry, args] = ["ENTRYPOINT", "CMD"].map(
        (word) => JSON.parse(RegExp(`^${word} (.*)$`, "m").exec(dockerfile)![1]!) as string[],
      );
      // Each program is replaced by the next one: the process that is started becomes the proxy.
      const child = Bun.spawn(["unshare", "-m", "sh", "-c", script, root, ...entry!, ...args!], {
        env: { PATH: process.env["PATH"] },
        stdio: ["ignore", "pipe", "pipe"],
      });
      try {
        let log = "";
        const listening = () =>
          log
            .split("\n")
            .slice(0, -1)
            .map((line) => JSON.parse(line) as Line)
            .find(({ msg }) => msg === "listening");
        const reading = (async () => {
          const decoder = new TextDecoder();
          for await (const chunk of child.stderr) log += decoder.decode(chunk, { stream: true });
        })();
        await until(() => listening() !== undefined || child.exitCode !== null, "the proxy listens");
        const port = Number(String(listening()?.["address"]).split(":").at(-1));
        const peer = await connect(port);
        await peer.send("hello");
        expect(String(await peer.read(5))).toBe("hello");
        peer.close();
        child.kill("SIGTERM");
        expect(await child.exited).toBe(0);
        await reading;
      } finally {
        child.kill("SIGKILL");
      }
    },
  );
});
