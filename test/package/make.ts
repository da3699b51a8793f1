// Builds what the npm package has beside the sources: the library as JavaScript with its types, and a module that tells
// other runtimes that they need Bun. `dist/` is built from scratch each time.

import { rmSync } from "node:fs";
import { declarations } from "./declarations.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const NEEDS_BUN = `"tcpproxy needs Bun (https://bun.com), 1.4.5 or later; this is another runtime"`;

rmSync(`${ROOT}dist`, { recursive: true, force: true });
await Bun.build({
  // At run time, the module of the threads is looked up beside the main one.
  entrypoints: [`${ROOT}src/index.ts`, `${ROOT}src/worker.ts`],
  outdir: `${ROOT}dist`,
  target: "bun",
  format: "esm",
  splitting: true,
  packages: "external",
});
await Bun.write(`${ROOT}dist/index.d.ts`, await declarations(`${ROOT}src/index.ts`));
// The error has no stack: its place in this file is of no use. CommonJS, so that require and import behave the same.
await Bun.write(
  `${ROOT}dist/needs-bun.cjs`,
  `const error = new Error(${NEEDS_BUN});\nerror.stack = String(error);\nthrow error;\n`,
);
