// Makes the one file that is copied to hosts: `bun build.ts [--target bun-linux-arm64] [--outfile out/proxy]`.
// With --release, everything that is published. The version is package.json's. Other targets' runtimes come through the npm registry.

import { parseArgs } from "node:util";
import { suggest } from "./src/lib/suggest.ts";

const HELP = `Build the proxy: one file, with the runtime in it.

Usage:
  bun build.ts [FLAGS]

Flags:
  --target TARGET  what to build for [default: this machine]
                   bun-linux-x64, bun-linux-arm64, bun-linux-x64-musl,
                   bun-linux-arm64-musl, bun-darwin-x64, bun-darwin-arm64,
                   bun-windows-x64
  --outfile FILE   where to write it [default: out/proxy, with a target
                   out/proxy-TARGET; on Windows with .exe at its end]
  --release        build every target of a release, or the one of --target,
                   with Debian packages, an SBOM and SHA256SUMS, into
                   out/release
  -h, --help       print this help

Example:
  bun build.ts --target bun-linux-arm64

Exit codes:
  0  done
  1  the build failed
  2  the command line is wrong`;

function misused(problem: string): never {
  console.error(`build.ts: ${problem}`);
  process.exit(2);
}

const options = {
  target: { type: "string" },
  outfile: { type: "string" },
  release: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;
const { tokens } = parseArgs({ options, strict: false, allowPositionals: true, tokens: true });
for (const token of tokens) {
  if (token.kind === "positional") misused(`unknown word ${JSON.stringify(token.value)}; --help helps`);
  if (token.kind !== "option") continue;
  if (!Object.hasOwn(options, token.name)) {
    const near = suggest(token.name, Object.keys(options));
    const hint = near === undefined ? "--help helps" : `did you mean --${near}?`;
    misused(`unknown flag ${JSON.stringify(token.rawName)}; ${hint}`);
  }
  if (
    options[token.name as keyof typeof options].type === "string" &&
    (!token.value || (!token.inlineValue && token.value.startsWith("-")))
  ) {
    misused(`${token.rawName} needs a value`);
  }
}
const { values } = parseArgs({ options });
if (values.help) {
  console.log(HELP);
  process.exit(0);
}

if (values.release) {
  if (values.outfile !== undefined) misused("--release has names of its own; leave --outfile out");
  try {
    const { release } = await import("./test/package/release.ts");
    release(values.target === undefined ? undefined : [values.target.replace(/^bun-/, "")]);
  } catch (error) {
    console.error(`build.ts: ${(error as Error).message}`);
    process.exit(1);
  }
  process.exit(0);
}

/** What these sources were checked out as; null where they are in no repository of their own. */
function commitOf(folder: string): string | null {
  const git = (...args: string[]) => {
    try {
      const { exitCode, stdout } = Bun.spawnSync(["git", "-C", folder, ...args], { stderr: "ignore" });
      return exitCode === 0 ? stdout.toString().trim() : undefined;
    } catch {
      return undefined;
    }
  };
  const head = git("rev-parse", "--show-prefix") === "" ? git("rev-parse", "HEAD") : undefined;
  if (head === undefined) return null;
  return git("status", "--porcelain") === "" ? head : `${head}-dirty`;
}

const { target } = values;
const windows = target === undefined ? process.platform === "win32" : /^bun-windows\b/.test(target);
const name =
  values.outfile ?? (target === undefined ? "out/proxy" : `out/proxy-${target.replace(/^bun-/, "")}`);
// Bun adds the extension by itself: the path to report has to have it.
const outfile = windows && !name.endsWith(".exe") ? `${name}.exe` : name;

try {
  await Bun.build({
    // The worker threads' module is found beside the main one, in the binary too.
    entrypoints: [`${import.meta.dir}/src/main.ts`, `${import.meta.dir}/src/worker.ts`],
    minify: true,
    bytecode: true,
    // What a command imports when it runs is then a module of its own, and not read before.
    splitting: true,
    format: "esm",
    define: { BUILD_COMMIT: JSON.stringify(commitOf(import.meta.dir)) },
    compile: {
      outfile,
      ...(target !== undefined && { target: target as Bun.Build.CompileTarget }),
      // By default a binary reads .env and bunfig.toml wherever it is started: nothing a proxy should do.
      autoloadDotenv: false,
      autoloadBunfig: false,
      // The data path is short, and the kernel and TLS do the work: what optimizing it early would save is less than
      // what the compilers keep in memory, some 4 MiB. A function is still optimized once it has run a million times.
      jitPolicy: 1_000,
    },
  });
} catch (error) {
  console.error(error instanceof AggregateError ? error.errors.join("\n") : String(error));
  process.exit(1);
}
const { size } = Bun.file(outfile);
console.log(`${outfile} (${Math.round(size / 2 ** 20)} MiB)`);
