// The demonstration: `bun test/demo.ts [address] [echo address …]`. Starts the echo upstreams and ./out/proxy, shows
// one exchange as an authorized client and one refusal as another, and goes on running until Ctrl-C. Without an address
// it takes port 5000 or, where that is taken, a free one.

import { readFileSync } from "node:fs";
import { connect } from "node:tls";
import { wrap } from "../src/cli/columns.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const PROGRAM = `${ROOT}out/proxy${process.platform === "win32" ? ".exe" : ""}`;
const PORT = 5000;
const width = process.stdout.columns || 80;

const [given, ...echoes] = process.argv.slice(2);
const targets = echoes.length > 0 ? ["--targets", echoes.join(",")] : [];

function say(text: string): void {
  console.log(`\n${wrap(text, width).join("\n")}`);
}

/** A command as a shell takes it, continued on the next line where it is wider than the terminal. */
function command(text: string): string {
  // An option and its value stay together.
  const tied = text.replace(/ (-\w+) (?!-)/g, " $1\u00a0");
  return wrap(tied, width - 6)
    .map((line, i) => (i === 0 ? "  " : "    ") + line)
    .join(" \\\n");
}

/** What a client of this name gets for a line: the answer, or nothing where it is refused. */
function exchange(name: string, line: string, port: number): Promise<string | undefined> {
  const pem = (file: string) => readFileSync(`${ROOT}certs/${file}`);
  return new Promise((resolve) => {
    const client = connect({
      host: "127.0.0.1",
      port,
      servername: "localhost",
      ca: pem("ca.crt"),
      cert: pem(`${name}.crt`),
      key: pem(`${name}.key`),
    });
    client.on("secureConnect", () => client.write(line));
    client.on("data", (answer) => {
      resolve(answer.toString());
      client.end();
    });
    client.on("error", () => resolve(undefined));
    client.on("close", () => resolve(undefined));
  });
}

const children: Bun.Subprocess[] = [];
let stopping = false;
function stop(): void {
  stopping = true;
  for (const child of children) child.kill("SIGTERM");
}
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);

/**
 * Starts the program, passes its log on, and waits until it has said `count` times that it listens.
 * @returns the last address that it listens on, or undefined where it ended before
 */
async function start(count: number, ...args: string[]): Promise<string | undefined> {
  const child = Bun.spawn([PROGRAM, ...args, "--log-format", "pretty"], {
    cwd: ROOT,
    stdio: ["ignore", "inherit", "pipe"],
    // In a group of its own: Ctrl-C reaches it once, through stop(). A second signal would cut connections.
    detached: true,
  });
  children.push(child);
  const listening = Promise.withResolvers<string | undefined>();
  void (async () => {
    const decoder = new TextDecoder();
    let log = "";
    for await (const chunk of child.stderr) {
      process.stderr.write(chunk);
      log += decoder.decode(chunk, { stream: true });
      const addresses = [...log.matchAll(/listening .*?address="?([^\s"]+)"?.*\n/g)];
      if (addresses.length >= count) {
        listening.resolve(addresses.at(-1)![1]);
        log = "";
      }
    }
    listening.resolve(undefined);
  })();
  return listening.promise;
}

/** Where the proxy is to listen. */
function chooseAddress(): string {
  if (given) return given;
  try {
    Bun.listen({ hostname: "::", port: PORT, exclusive: true, socket: { data() {} } }).stop(true);
    return `:${PORT}`;
  } catch {
    say(`Port ${PORT} is taken by another program. The demonstration takes a free one.`);
    return "127.0.0.1:0";
  }
}

/** Shows both exchanges; answers what went wrong, if something did. */
async function show(): Promise<string | undefined> {
  if (!(await Bun.file(PROGRAM).exists())) return "out/proxy is missing; make it with: bun build.ts";
  if ((await start(echoes.length || 3, "echo", ...echoes)) === undefined) {
    return "the echo servers did not start; the line above says why";
  }
  const address = await start(1, chooseAddress(), ...targets);
  if (address === undefined) return "the proxy did not start; the line above says why";
  const port = Number(address.slice(address.lastIndexOf(":") + 1));
  const answer = await exchange("alice", "hello through the proxy", port);
  if (answer === undefined) return "alice@admin got no answer through the proxy";
  say(`alice@admin sent "hello through the proxy" and got "${answer}"`);
  const refused = await exchange("mallory", "let me in", port);
  if (refused !== undefined) return `mallory@guest was let in and got "${refused}"`;
  say('mallory@guest sent "let me in" and got nothing: her connection was closed');
  say(`The proxy goes on, on ${address}. Try it, and stop it with Ctrl-C:`);
  const line = `openssl s_client -connect 127.0.0.1:${port} -quiet -CAfile certs/ca.crt -cert certs/bob.crt -key certs/bob.key`;
  console.log(`\n${command(line)}\n`);
  return undefined;
}

const problem = await show();
// The first process that ends, of its own accord or not, ends the demonstration.
if (problem === undefined) await Promise.race(children.map((child) => child.exited));
const wanted = stopping;
stop();
const codes = await Promise.all(children.map((child) => child.exited));
if (problem !== undefined && !wanted) console.error(`demonstration: ${problem}`);
process.exit((problem === undefined || wanted) && codes.every((code) => code === 0) ? 0 : 1);
