// Makes what the npm package has beside the sources, before it is packed: the library as JavaScript with its types, and
// what other runtimes get instead. `dist/` is made anew each time.

import { rmSync } from "node:fs";
import { declarations } from "./declarations.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const NEEDS_BUN = `"tcpproxy needs Bun (https://bun.com), 1.4.5 or later; this is another runtime"`;

rmSync(`${ROOT}dist`, { recursive: true, force: true });
await Bun.build({
  // The threads' module is found beside the main one.
  entrypoints: [`${ROOT}src/index.ts`, `${ROOT}src/worker.ts`],
  outdir: `${ROOT}dist`,
  target: "bun",
  format: "esm",
  splitting: true,
  packages: "external",
});
await Bun.write(`${ROOT}dist/index.d.ts`, await declarations(`${ROOT}src/index.ts`));
// Without the place in this file, which helps nobody. CommonJS, so that require says the same as import.
await Bun.write(
  `${ROOT}dist/needs-bun.cjs`,
  `const error = new Error(${NEEDS_BUN});\nerror.stack = String(error);\nthrow error;\n`,
);
