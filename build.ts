// Makes the one file that is copied to hosts: `bun build.ts [--target bun-linux-arm64] [--outfile out/proxy]`.
// The version is package.json's. Other targets' runtimes come through the npm registry.

import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    target: { type: "string" },
    outfile: { type: "string" },
  },
});
const { target, outfile = target === undefined ? "out/proxy" : `out/proxy-${target.replace(/^bun-/, "")}` } =
  values;

try {
  await Bun.build({
    // The worker threads' module is found beside the main one, in the binary too.
    entrypoints: [`${import.meta.dir}/src/main.ts`, `${import.meta.dir}/src/worker.ts`],
    minify: true,
    bytecode: true,
    format: "esm",
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
