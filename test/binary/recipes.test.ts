// The recipes of the README and of certs/README.md, word for word, in a fresh folder.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Run } from "../support/binary.ts";
import { Folder } from "../support/folder.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const openssl = Bun.which("openssl");

/** The first fenced block of a page that holds a text. */
function block(page: string, language: string, text: string): string {
  const blocks = readFileSync(ROOT + page, "utf8").matchAll(
    RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"),
  );
  return [...blocks].map(([, each]) => each!).find((each) => each.includes(text))!;
}

const MAKE = block("README.md", "sh", "mkdir pki");
const REVOKE = block("certs/README.md", "sh", "-revoke");
const FILE = block("README.md", "toml", "[listener]");

function shell(script: string, cwd: string): void {
  const { exitCode, stderr } = Bun.spawnSync(["sh", "-euc", script], {
    cwd,
    stdin: "ignore",
    stderr: "pipe",
  });
  expect({ exitCode, stderr: exitCode === 0 ? "" : String(stderr) }).toEqual({ exitCode: 0, stderr: "" });
}

async function check(cwd: string): Promise<void> {
  await using run = await Run.start(["check", "--config", "proxy.toml"], { cwd });
  expect({ code: await run.exit(), stderr: run.stderr }).toEqual({ code: 0, stderr: "" });
}

test("the certificates are made in the same way on both pages", () => {
  expect(block("certs/README.md", "sh", "mkdir pki")).toBe(MAKE);
});

test.skipIf(openssl === null)(
  "the README's certificates and configuration pass the check, and so does a list of revoked certificates",
  async () => {
    using folder = new Folder();
    const cwd = folder.path("");
    shell(MAKE, cwd);
    await Bun.write(folder.path("proxy.toml"), FILE);
    await check(cwd);

    shell(REVOKE, cwd);
    await Bun.write(
      folder.path("proxy.toml"),
      FILE.replace("[listener]\n", '[listener]\ncrl = "pki/crl.pem"\n'),
    );
    await check(cwd);
    const list = Bun.spawnSync([openssl!, "crl", "-in", "pki/crl.pem", "-noout", "-text"], {
      cwd,
    }).stdout.toString();
    expect(list.match(/Serial Number: /g)).toHaveLength(1);
  },
);
