// The command line as a user meets it: what it prints, where, and with which exit code.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { version } from "../../package.json";
import { Run, type RunOptions } from "../support/binary.ts";
import { certPath, Origin } from "../support/peer.ts";
import { until } from "../support/proxy.ts";

const PROJECT = new URL("../..", import.meta.url).pathname;
let folder: string;
beforeAll(() => void (folder = mkdtempSync(`${tmpdir()}/tcpproxy-cli-`)));
afterAll(() => rmSync(folder, { recursive: true }));

async function run(line: string | string[], options: RunOptions = {}) {
  const args = typeof line === "string" ? line.split(" ").filter(Boolean) : line;
  await using process = await Run.start(args, options);
  const code = await process.exit();
  return { code, out: await process.stdout, err: process.stderr };
}

async function file(name: string, text: string): Promise<string> {
  await Bun.write(`${folder}/${name}`, text);
  return `${folder}/${name}`;
}

const COMMANDS = [
  ...["check", "echo", "schema", "help", "dashboard", "connect", "completion"],
  ...["status", "ps", "top", "tail", "blocks", "explain"],
  ...["kick", "block", "unblock", "drain", "ready", "weight", "reload"],
];

const CERTS = {
  ca: certPath("ca.crt"),
  certificate: certPath("server.crt"),
  privateKey: certPath("key.pem"),
};

describe("help and version", () => {
  test("--version prints the version", async () => {
    expect(await run("--version")).toEqual({ code: 0, out: `${version}\n`, err: "" });
  });

  test("--version --json says the commit and the runtime too", async () => {
    const { code, out, err } = await run("--version --json");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(JSON.parse(out)).toEqual({ version, commit: expect.anything(), runtime: `bun ${Bun.version}` });
    expect(JSON.parse(out).commit).toMatch(/^[0-9a-f]{40,64}(-dirty)?$/);
  });

  test.each(["--help", "-h", ":5000 --help", ...COMMANDS.map((name) => `${name} --help`)])(
    '"proxy %s" prints help that fits 80 columns',
    async (line) => {
      const { code, out, err } = await run(line);
      expect(code).toBe(0);
      expect(err).toBe("");
      expect(out).toMatch(/^\S.*\n[^]*Usage:\n  proxy/);
      for (const line of out.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
      // Not a terminal: no colours.
      expect(out).not.toContain("\x1b");
    },
  );

  test("the help names every flag and command", async () => {
    const { out } = await run("--help");
    for (const word of [
      "config",
      "ca",
      "cert",
      "key",
      "targets",
      "groups",
      "capacity",
      "fill-rate",
      "max-connections",
      "timeout",
      "log-level",
      "log-format",
    ]) {
      expect(out).toContain(`--${word} `);
    }
    for (const name of COMMANDS) expect(out).toMatch(new RegExp(`^  ${name} +\\S`, "m"));
    for (const part of [
      "-h, --help",
      "-v, --version",
      "[default: 5m]",
      "Examples:",
      "Signals:",
      "Exit codes:",
    ])
      expect(out).toContain(part);
  });

  test("help lists the topics, and prints each of them, from any folder", async () => {
    const { code, out, err } = await run("help", { cwd: folder });
    expect({ code, err }).toEqual({ code: 0, err: "" });
    const names = [...out.split("Commands")[0]!.matchAll(/^  (\S+) /gm)].map(([, name]) => name!);
    expect(names).toContain("config");
    expect(names).toContain("reasons");
    for (const name of names) {
      const topic = await run(["help", name], { cwd: folder });
      expect({ code: topic.code, err: topic.err }).toEqual({ code: 0, err: "" });
      expect(topic.out.length).toBeGreaterThan(200);
    }
    expect((await run("help check")).out).toBe((await run("check --help")).out);
    expect((await run("help connect")).out).toStartWith("# The client's end of a tunnel\n");
  });

  test("schema prints a JSON Schema", async () => {
    const { code, out, err } = await run("schema");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(JSON.parse(out)).toMatchObject({ type: "object" });
  });
});

describe("mistakes on the command line", () => {
  test.each([
    ["--frobnicate", 'unknown flag "--frobnicate"'],
    ["check --frobnicate x", 'unknown flag "--frobnicate"'],
    ["echo --ca x", 'unknown flag "--ca"'],
    [
      "frobnicate",
      'unknown command "frobnicate"; "proxy --help" lists them; or give an address such as ":5000"',
    ],
    ["chekc", 'unknown command "chekc"; did you mean check?'],
    ["--confg c.toml", 'unknown flag "--confg"; did you mean --config?'],
    ["check -config c.toml", 'unknown flag "-config"; did you mean --config?'],
    ["help resons", 'unknown topic "resons"; did you mean reasons?'],
    ["c.toml", '"c.toml" is not an address; a configuration file is given as --config c.toml'],
    ["check c.toml", '"c.toml" is not an address; a configuration file is given as --config c.toml'],
    ["completion", "the shell is missing; there are bash, zsh, fish"],
    ["completion tcsh", '"tcsh" is no shell that is known; there are bash, zsh, fish'],
    ["schema x", 'unknown word "x"; this command takes none'],
    [":5000 :5001", 'at most one address is allowed; ":5001" is one too many'],
    ["check --timeout", "--timeout needs a value"],
    ["check --timeout 5 --timeout 6", "--timeout is given twice"],
    ["check --log-level loud", '--log-level: "loud" is none of debug, info, warn, error, silent'],
    ["check --log-format xml", '--log-format: "xml" is none of pretty, json'],
    [
      "check nowhere:x",
      'address: "nowhere:x" is not an address; write it like ":5000", "127.0.0.1:5000", "[::1]:5000" or "systemd:NAME"',
    ],
    ["check --capacity 0", '--capacity: 0 is not a whole number from 1 to 1000000, or "unlimited"'],
    ["check --capacity ten", '--capacity: "ten" is not a whole number from 1 to 1000000, or "unlimited"'],
    ["check --timeout 60", '--timeout: "60" is not a duration; it has no unit: write "60s" or "60ms"'],
    ["check --fill-rate 1", '--fill-rate: "1" is not a duration; it has no unit: write "1s" or "1ms"'],
    [
      "check --groups *",
      '--groups: "*" is not a group; a group cannot have this name, and there are no patterns: list each group by its name',
    ],
    [
      "check --targets a:1,b",
      '--targets: "b" is not host:port; write it like "10.0.0.5:5432", "[::1]:5432" or "unix:/run/db.sock"',
    ],
    ["check --ca /no/such.crt", '--ca: "/no/such.crt" cannot be read: there is no such file'],
    ["check --config /no/such.toml", "/no/such.toml: cannot be read: there is no such file"],
    ["echo nowhere", '"nowhere" is not an address; write it like "127.0.0.1:9001"'],
  ])('the command line "%s" is refused in one line', async (line, message) => {
    expect(await run(line)).toEqual({ code: 2, out: "", err: `proxy: ${message}\n` });
  });

  test("several mistakes on a command line are all reported, one a line", async () => {
    const { code, err } = await run("check --timeout soon --fill-rate 0s --groups x@y --key /none");
    expect(code).toBe(2);
    expect(err.split("\n").map((line) => line.split(" ")[1])).toEqual([
      "--timeout:",
      "--groups:",
      "--fill-rate:",
      "--key:",
      undefined!,
    ]);
  });

  test("a start away from the project without a configuration says what is missing and which flags give it", async () => {
    const { code, err } = await run("", { cwd: folder });
    expect(code).toBe(2);
    expect(err).toContain(
      `proxy: listener.ca (--ca): "${folder}/certs/ca.crt" cannot be read: there is no such file\n`,
    );
    expect(err.trimEnd().split("\n")).toHaveLength(3);
  });
});

const UPSTREAMS = [{ name: "a", targets: ["127.0.0.1:1"], authorizedGroups: ["dba"] }];

describe("check", () => {
  test("check of the built-in configuration prints a summary on standard output", async () => {
    const { code, out, err } = await run("check", { cwd: PROJECT });
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toStartWith("configuration is valid\n");
    for (const part of [
      ":5000",
      "certs/ca.crt",
      "127.0.0.1:9001, 127.0.0.1:9002, 127.0.0.1:9003",
      "admin",
      "idle 5m, handshake 10s, connect 5s, shutdown 30s",
    ]) {
      expect(out).toContain(part);
    }
  });

  const DEMONSTRATION = "running with the demonstration's certificates, whose private keys are public";

  test("check warns of the demonstration's certificates while one of the three files is left to it", async () => {
    const all = ["--ca", CERTS.ca, "--cert", CERTS.certificate, "--key", CERTS.privateKey];
    for (const [flags, warned] of [
      [[], true],
      [["--ca", CERTS.ca], true],
      [all.slice(2), true],
      [all, false],
    ] as const) {
      const { code, out } = await run(["check", ...flags], { cwd: PROJECT });
      expect(code).toBe(0);
      expect(out.includes(`warning: ${DEMONSTRATION}`)).toBe(warned);
    }
  });

  test("check with a configuration file uses no certificate and no upstream of the demonstration, wherever the file is", async () => {
    const beside = `${folder}/beside`;
    for (const name of ["ca.crt", "server.crt", "server.key"])
      await Bun.write(`${beside}/certs/${name}`, Bun.file(`${PROJECT}certs/${name}`));
    const path = `${beside}/proxy.toml`;
    const missing = "is missing; it is the path of a PEM file";
    const lines = (err: string) => err.trimEnd().split("\n");
    await Bun.write(path, 'timeout = "1m"\n');
    for (const command of [["check"], []]) {
      const { code, out, err } = await run([...command, "--config", path], { cwd: beside });
      expect({ code, out }).toEqual({ code: 2, out: "" });
      expect(lines(err)).toEqual([
        ...["ca", "certificate", "privateKey"].map((key) => `proxy: ${path}: listener.${key}: ${missing}`),
        `proxy: ${path}: upstreams: is missing; it is a list; at least one upstream is needed`,
      ]);
    }
    const flags = [
      "--cert",
      CERTS.certificate,
      "--key",
      CERTS.privateKey,
      "--targets",
      "a:1",
      "--groups",
      "x",
    ];
    const { code, err } = await run(["check", "--config", path, ...flags], { cwd: beside });
    expect(code).toBe(2);
    expect(lines(err)).toEqual([
      `proxy: ${path}: listener.ca: ${missing}`,
      `proxy: ${path}: upstreams[0].name: is missing; it is a name`,
    ]);
  });

  test("check keeps its columns beside a very long name, and lists what differs from the built-in settings", async () => {
    const name = "n".repeat(70);
    const config = await file(
      "long.json",
      JSON.stringify({
        timeout: "300s",
        workers: 2,
        listener: { ...CERTS, sessionTickets: false },
        upstreams: [{ ...UPSTREAMS[0], name, slowStart: "10s", healthCheck: { interval: "2s", fall: 5 } }],
      }),
    );
    const { code, out } = await run(["check", "--config", config]);
    expect(code).toBe(0);
    const [summary, rest = ""] = out.split("settings that differ from the built-in ones\n");
    for (const line of summary!.trimEnd().split("\n").slice(1)) expect(line).toMatch(/^.{15}[ ] \S/);
    expect(rest.split("\n").filter((line) => line.startsWith("  "))).toEqual([
      "  workers                        2 (built-in: 1)",
      "  listener.sessionTickets        false (built-in: true)",
      '  upstreams[0].slowStart         "10s" (built-in: 0)',
      "  upstreams[0].healthCheck.fall  5 (built-in: 3)",
    ]);
  });

  test("check accepts an unlimited rate", async () => {
    const { code, out } = await run("check --capacity unlimited", { cwd: PROJECT });
    expect(code).toBe(0);
    expect(out).toMatch(/^rate limit +none$/m);
  });

  test("check opens no port: it succeeds on one that is in use", async () => {
    using blocker = new Origin();
    expect((await run(["check", blocker.target], { cwd: PROJECT })).code).toBe(0);
  });

  const toml = `
timeout = "1m"
[listener]
address = "127.0.0.1:0"
ca = ${JSON.stringify(CERTS.ca)}
certificate = ${JSON.stringify(CERTS.certificate)}
privateKey = ${JSON.stringify(CERTS.privateKey)}
[[upstreams]]
name = "db"
targets = ["10.0.0.5:5432", "[::1]:5432"]
authorizedGroups = ["dba"]
[rateLimit]
maxConnections = 4
`;
  test.each([
    ["toml", toml],
    ["yaml", Bun.YAML.stringify(Bun.TOML.parse(toml), null, 2)],
    ["yml", Bun.YAML.stringify(Bun.TOML.parse(toml), null, 2)],
    ["json", JSON.stringify(Bun.TOML.parse(toml))],
  ])("check reads .%s files", async (extension, text) => {
    const { code, out, err } = await run(["check", "--config", await file(`good.${extension}`, text)]);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toContain("10.0.0.5:5432, [::1]:5432");
    expect(out).toContain("4 per client");
    expect(out).toContain("idle 1m,");
  });

  test("check takes a file's paths from its folder, and a flag over the file", async () => {
    for (const name of ["ca.crt", "server.crt", "key.pem"])
      await Bun.write(`${folder}/pem/${name}`, Bun.file(certPath(name)));
    const path = await file("relative.toml", toml.replace(/"[^"]*\/([^/"]*)"/g, '"pem/$1"'));
    const { code, out, err } = await run(["check", "--config", path, "--timeout", "7s"], { cwd: "/" });
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toContain(`${folder}/pem/ca.crt`);
    expect(out).toContain("idle 7s,");
  });

  test.each([
    ["syntax.toml", 'timeout = "1m"\nlistener = = 1\n', "line 2, column 12: "],
    ["syntax.yaml", "timeout: 1m\nlistener: [1,\nx: }", "line 3, column 1: "],
    ["syntax.json", '{"timeout": "1m",\n"listener": }', "line 2, column 13: "],
    ["empty.yaml", "", "configuration: null is not a table"],
    ["two.yaml", "timeout: 1m\n---\ntimeout: 2m", "configuration: a list is not a table"],
    ["wrong.conf", "", 'the extension ".conf" is none of .toml, .yaml, .yml, .json'],
    ["bare.toml", "timeout = 60", 'timeout: 60 is not a duration; it has no unit: write "60s" or "60ms"'],
    ["twice.yaml", "timeout: 1m\nwatch: true\ntimeout: 2m", 'line 3: "timeout" is given twice'],
    ["twice.json", '{"timeout": "1m",\n"timeout": "2m"}', 'line 2: "timeout" is given twice'],
    ["typo.toml", "Timeout = 1", "Timeout: unknown key; did you mean timeout?"],
  ])("a configuration file %s is refused with the place of its mistake", async (name, text, message) => {
    const path = await file(name, text);
    const { code, out, err } = await run(["check", "--config", path]);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toContain(`proxy: ${path}: ${message}`);
    expect(err).not.toMatch(/\n\s+at /);
  });

  test.each<[string, object, string]>([
    [
      "a key of another certificate",
      { "--key": certPath("ecdsa.pem") },
      "is not the key of listener.certificate",
    ],
    [
      "a CA file that holds a leaf certificate",
      { "--ca": certPath("alice.crt") },
      'certificate 1 ("CN=alice@admin") is not that of a CA',
    ],
    ["a CA file without a certificate", { "--ca": certPath("key.pem") }, "holds no certificate"],
    ["a key file without a key", { "--key": certPath("ca.crt") }, "holds no private key"],
    ["a folder instead of a file", { "--ca": "/" }, "cannot be read: it is a folder"],
  ])("check refuses %s", async (_, over, message) => {
    const flags = { "--ca": CERTS.ca, "--cert": CERTS.certificate, "--key": CERTS.privateKey, ...over };
    const { code, err } = await run(["check", ...Object.entries(flags).flat()]);
    expect(code).toBe(2);
    expect(err).toContain(message);
    expect(err.trimEnd().split("\n")).toHaveLength(1);
  });

  test("check names a damaged certificate among good ones, a damaged list and an encrypted key", async () => {
    const good = await Bun.file(CERTS.ca).text();
    const ca = await file(
      "half.crt",
      `${good}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`,
    );
    const crl = await file("half.pem", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    const key = await file(
      "enc.key",
      "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    const config = await file(
      "damaged.json",
      JSON.stringify({ listener: { ...CERTS, ca, crl, privateKey: key } }),
    );
    const { code, err } = await run(["check", "--config", config]);
    expect(code).toBe(2);
    expect(err).toContain("listener.ca: ");
    expect(err).toContain("certificate 2 is damaged");
    expect(err).toContain("revocation list 1 is damaged");
    expect(err).toContain("is encrypted");
    expect(err).not.toContain("AAAA");
  });

  test("check prints when certificates and revocation lists run out", async () => {
    const listener = { ...CERTS, crl: certPath("crl.pem") };
    const config = await file("dates.json", JSON.stringify({ listener, upstreams: UPSTREAMS }));
    const { code, out } = await run(["check", "--config", config]);
    expect(code).toBe(0);
    const dates = out.split("\n").filter((line) => line.startsWith("  expires"));
    expect(dates.map((line) => line.split(", ")[1]?.split(" ").slice(0, 2).join(" "))).toEqual([
      "the proxy's",
      "the CA",
      "the revocation",
    ]);
    for (const line of dates) expect(line).toMatch(/ 21\d\d-\d\d-\d\dT\d\d:\d\dZ, /);
  });

  test("an outdated revocation list is a warning", async () => {
    const listener = { ...CERTS, crl: certPath("crl-outdated.pem") };
    const config = await file("outdated.json", JSON.stringify({ listener, upstreams: UPSTREAMS }));
    const { code, out } = await run(["check", "--config", config]);
    expect(code).toBe(0);
    expect(out).toMatch(/warning: the revocation list of .* expired on 2025-01-01T00:00:00.000Z/);
  });

  test("an expired certificate of the proxy's own is a warning", async () => {
    const { code, out } = await run([
      "check",
      "--ca",
      CERTS.ca,
      "--cert",
      certPath("expired.crt"),
      "--key",
      CERTS.privateKey,
    ]);
    expect(code).toBe(0);
    expect(out).toContain("warning: the proxy's certificate expired on 2025-01-01T00:00:00.000Z");
  });
});

describe("run", () => {
  test("a proxy with the demonstration's certificates says so, and names its version and process once it listens", async () => {
    await using process = await Run.start(["127.0.0.1:0", "--log-format", "json"], { cwd: PROJECT });
    const line = await process.line("listening");
    expect(line).toMatchObject({ version, pid: process.child.pid });
    expect(line).not.toHaveProperty("config");
    const warning = "running with the demonstration's certificates, whose private keys are public";
    expect(await process.line(warning)).toMatchObject({ level: "warn" });
  });

  test("a proxy on a port in use fails with one line", async () => {
    using blocker = new Origin();
    const { code, out, err } = await run([blocker.target], { cwd: PROJECT });
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toBe(`proxy: cannot listen on ${blocker.target}: the address is in use (EADDRINUSE)\n`);
  });
});

describe("echo", () => {
  test("an echo command serves each address until it is told to stop", async () => {
    await using echoes = await Run.start(["echo", "127.0.0.1:0", "127.0.0.1:0", "--log-format", "json"]);
    await echoes.line("echo listening");
    await until(() => echoes.lines().length >= 2, "both addresses are in the log");
    const ports = echoes.lines().map(({ address }) => Number(String(address).split(":")[1]));
    for (const port of ports) {
      const answer = Promise.withResolvers<string>();
      const socket = await Bun.connect({
        hostname: "127.0.0.1",
        port,
        socket: { data: (_, chunk) => answer.resolve(String(chunk)) },
      });
      socket.write("hello");
      expect(await answer.promise).toBe("hello");
      socket.end();
    }
    echoes.child.kill("SIGTERM");
    expect(await echoes.exit()).toBe(0);
  });

  test("an echo command on a port in use fails with one line", async () => {
    using blocker = new Origin();
    const { code, err } = await run(["echo", blocker.target]);
    expect({ code, err }).toEqual({
      code: 1,
      err: `proxy: cannot listen on ${blocker.target}: the address is in use (EADDRINUSE)\n`,
    });
  });
});
