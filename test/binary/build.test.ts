import { expect, test } from "bun:test";

const ROOT = new URL("../..", import.meta.url).pathname;

test.each([
  ["--help", 0, "Usage:\n  bun build.ts [FLAGS]"],
  ["--taget x", 2, 'build.ts: unknown flag "--taget"; did you mean --target?\n'],
  ["--frobnicate", 2, 'build.ts: unknown flag "--frobnicate"; --help helps\n'],
  ["--outfile", 2, "build.ts: --outfile needs a value\n"],
  ["x", 2, 'build.ts: unknown word "x"; --help helps\n'],
])('build.ts answers the arguments "%s"', (line, code, text) => {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, "build.ts", ...line.split(" ")], {
    cwd: ROOT,
  });
  expect(exitCode).toBe(code);
  expect(String(code === 0 ? stdout : stderr)).toContain(text);
});
