// The npm package as its users get it: packed from a copy of the folder that contains secrets, unpacked beside the packages
// that it needs, imported under Bun and under Node, and type-checked as NodeNext and as bundlers resolve it.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, symlinkSync } from "node:fs";
import { dirname } from "node:path";
import { version } from "../../package.json";
import { Folder } from "../support/folder.ts";

// Each test starts a runtime or the type checker, possibly on a busy machine.
setDefaultTimeout(30_000);

const ROOT = new URL("../..", import.meta.url).pathname;
const PACKED = [
  "src",
  "certs",
  "test/package",
  "build.ts",
  "tsconfig.json",
  "package.json",
  "README.md",
  "LICENSE",
];
const SECRETS = [
  "pki/ca.key",
  "src/pki/ca.key",
  "src/proxy.key",
  "out/proxy",
  "dist/old.key",
  ".env",
  "certs/ca.key",
];

const folder = new Folder();
const USER = folder.path("user");
const INSTALLED = `${USER}/node_modules/tcpproxy`;
afterAll(() => folder[Symbol.dispose]());

async function run(cwd: string, command: string[], env: Record<string, string> = {}) {
  const child = Bun.spawn(command, { cwd, env: { ...process.env, ...env }, stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { stdout, stderr, code };
}

describe.skipIf(Bun.which("npm") === null || Bun.which("tar") === null)("the npm package", () => {
  let listed: string[] = [];

  beforeAll(async () => {
    const source = folder.path("source");
    for (const path of PACKED) {
      mkdirSync(dirname(`${source}/${path}`), { recursive: true });
      cpSync(ROOT + path, `${source}/${path}`, { recursive: true });
    }
    symlinkSync(`${ROOT}node_modules`, `${source}/node_modules`);
    for (const path of SECRETS) await Bun.write(`${source}/${path}`, "secret");
    mkdirSync(INSTALLED, { recursive: true });
    const packed = await run(source, ["npm", "pack", "--offline", "--pack-destination", folder.path("")], {
      npm_config_cache: folder.path("cache"),
      npm_config_update_notifier: "false",
    });
    expect(packed).toMatchObject({ code: 0 });
    const tarball = folder.path(`tcpproxy-${version}.tgz`);
    const unpacked = await run(USER, ["tar", "-xvzf", tarball, "-C", INSTALLED, "--strip-components=1"]);
    listed = unpacked.stdout
      .trim()
      .split("\n")
      .map((path) => path.replace("package/", ""))
      .sort();
    for (const name of ["citty", "consola"]) {
      symlinkSync(`${ROOT}node_modules/${name}`, `${USER}/node_modules/${name}`);
    }
    await Bun.write(`${USER}/package.json`, '{ "type": "module" }');
  }, 60_000);

  test("the npm package has JavaScript, its types and the sources, and nothing else", () => {
    const odd = listed.filter((path) => !/^(src\/.*\.(ts|md)|dist\/[\w-]+\.js)$/.test(path));
    expect(odd).toEqual([
      "LICENSE",
      "README.md",
      "build.ts",
      "certs/README.md",
      "dist/index.d.ts",
      "dist/needs-bun.cjs",
      "package.json",
      "tsconfig.json",
    ]);
    expect(listed).toContain("dist/index.js");
    expect(listed).toContain("dist/worker.js");
    expect(listed).toContain("src/main.ts");
  });

  test.each([1, 2])("the npm package runs a proxy under Bun, with %d threads", async (workers) => {
    const program = `
      import { createProxy } from "tcpproxy";
      const proxy = createProxy({ workers: ${workers}, listener: { address: "127.0.0.1:0" } }, { directory: ${JSON.stringify(ROOT)} });
      const { port } = await proxy.listen();
      const { cut } = await proxy.close();
      console.log(import.meta.resolve("tcpproxy"), port > 0, cut);
    `;
    await Bun.write(`${USER}/run-${workers}.js`, program);
    const { stdout, code } = await run(USER, [process.execPath, `run-${workers}.js`]);
    expect({ stdout, code }).toEqual({ stdout: `file://${INSTALLED}/dist/index.js true 0\n`, code: 0 });
  });

  test("the npm package has the sources of the command line", async () => {
    const { stdout } = await run(USER, [process.execPath, `${INSTALLED}/src/main.ts`, "--version"]);
    expect(stdout).toBe(`${version}\n`);
  });

  test.skipIf(Bun.which("node") === null)(
    "the npm package says under Node, in one line, that it needs Bun",
    async () => {
      const line = "tcpproxy needs Bun (https://bun.com), 1.4.5 or later; this is another runtime";
      for (const load of ['import("tcpproxy")', 'require("tcpproxy")']) {
        const { stdout, stderr, code } = await run(USER, ["node", "-e", load]);
        const lines = stderr.split("\n").filter((each) => each.includes("needs Bun"));
        expect({ stdout, lines, code }).toEqual({
          stdout: "",
          lines: [expect.stringContaining(line)],
          code: 1,
        });
      }
    },
  );

  test.each(["NodeNext", "Preserve"])(
    "the npm package's types check with module %s, without Bun's types",
    async (module) => {
      const compilerOptions = {
        module,
        target: "ESNext",
        lib: ["ESNext"],
        types: [],
        strict: true,
        noEmit: true,
      };
      await Bun.write(`${USER}/${module}.json`, JSON.stringify({ compilerOptions, files: ["user.ts"] }));
      await Bun.write(
        `${USER}/user.ts`,
        `
      import { BUILT_IN, ConfigError, createProxy, type Proxy, type ProxyConfig } from "tcpproxy";
      const config: ProxyConfig = { ...BUILT_IN, timeout: "10m" };
      const proxy: Proxy = createProxy(config);
      export const port: number = (await proxy.listen()).port;
      export const keys = (error: unknown) => (error instanceof ConfigError ? error.faults.map(({ key }) => key) : []);
      // @ts-expect-error
      createProxy({ timeOut: "10m" });
      // @ts-expect-error
      export const health: "out" = proxy.stats().upstreams[0]!.targets[0]!.health;
      `,
      );
      const { stdout, stderr, code } = await run(USER, [process.execPath, "check", "-p", `${module}.json`]);
      expect({ output: code === 0 ? "" : stdout + stderr, code }).toEqual({ output: "", code: 0 });
    },
  );

  test("the npm package's types equal those of the sources", async () => {
    const index = await Bun.file(`${ROOT}src/index.ts`).text();
    const names = [...index.matchAll(/^export( type)? \{([^}]*)\}/gm)].flatMap(([, all, list = ""]) =>
      list
        .split(",")
        .map((each) => each.trim())
        .filter(Boolean)
        .map((each) => ({
          name: each.replace(/^type /, ""),
          type: all !== undefined || each.startsWith("type "),
        })),
    );
    expect(names.length).toBeGreaterThan(20);
    // Two types are the same where no conditional type can tell them apart. BUILT_IN is narrower in the package, so that it is
    // only checked to be assignable.
    const same = names
      .filter(({ name }) => name !== "BUILT_IN")
      .map(({ name, type }) => {
        const [ours, theirs] = ["Source", "Published"].map(
          (from) => `${type ? "" : "typeof "}${from}.${name}`,
        );
        return `export const ${name}: Same<${ours}, ${theirs}> = true;`;
      });
    const check = `
      import type * as Source from ${JSON.stringify(`${ROOT}src/index.ts`)};
      import type * as Published from ${JSON.stringify(`${INSTALLED}/dist/index.d.ts`)};
      type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
      ${same.join("\n")}
      export const builtIn: (published: typeof Published.BUILT_IN) => typeof Source.BUILT_IN = (published) => published;
    `;
    await Bun.write(`${USER}/same.ts`, check);
    await Bun.write(
      `${USER}/same.json`,
      JSON.stringify({
        extends: `${ROOT}tsconfig.json`,
        compilerOptions: { typeRoots: [`${ROOT}node_modules`], types: ["bun-types"], skipLibCheck: true },
        files: ["same.ts"],
      }),
    );
    const { stdout, stderr, code } = await run(USER, [process.execPath, "check", "-p", "same.json"]);
    expect({ output: code === 0 ? "" : stdout + stderr, code }).toEqual({ output: "", code: 0 });
  });
});
