// The demonstration: `bun test/demo.ts [address] [echo address …]`. Starts the echo upstreams and ./out/proxy, shows
// one exchange as an authorized client and one refusal as another, and goes on running until Ctrl-C.

import { readFileSync } from "node:fs";
import { connect } from "node:tls";

const ROOT = new URL("..", import.meta.url).pathname;
const [address = ":5000", ...echoes] = process.argv.slice(2);
const port = Number(address.slice(address.lastIndexOf(":") + 1));
const targets = echoes.length > 0 ? ["--targets", echoes.join(",")] : [];

/** What a client of this name gets for a line: the answer, or nothing where it is refused. */
function exchange(name: string, line: string): Promise<string | undefined> {
  const pem = (file: string) => readFileSync(`${ROOT}certs/${file}`);
  return new Promise((resolve, reject) => {
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
    client.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "ECONNREFUSED" ? reject(error) : resolve(undefined),
    );
    client.on("close", () => resolve(undefined));
  });
}

function start(...args: string[]): Bun.Subprocess {
  return Bun.spawn([`${ROOT}out/proxy`, ...args, "--log-format", "pretty"], {
    cwd: ROOT,
    stdio: ["ignore", "inherit", "inherit"],
  });
}

const children = [start("echo", ...echoes), start(address, ...targets)];
let stopping = false;
const stop = () => {
  stopping = true;
  for (const child of children) child.kill("SIGTERM");
};
process.on("SIGINT", stop);
process.on("SIGTERM", stop);
// Whichever ends first, of its own accord or not, ends the demonstration; if it failed, so has the demonstration.
const ended = Promise.race(children.map((child) => child.exited)).finally(stop);

const say = (text: string) => console.log(`\n${text}`);

async function show(): Promise<void> {
  let answer: string | undefined;
  for (;;) {
    try {
      answer = await exchange("alice", "hello through the proxy");
      break;
    } catch {
      // Not up yet.
      if (stopping) return;
      await Bun.sleep(50);
    }
  }
  say(`alice@admin sent "hello through the proxy" and got "${answer}"`);
  const refused = await exchange("mallory", "let me in");
  say(
    `mallory@guest sent "let me in" and got ${refused === undefined ? "nothing: her connection was closed" : `"${refused}"`}`,
  );
  say(`The proxy goes on, on ${address}. Try it, and stop it with Ctrl-C:

  openssl s_client -connect 127.0.0.1:${port} -quiet -CAfile certs/ca.crt -cert certs/bob.crt -key certs/bob.key
`);
}

await Promise.race([show(), ended]);
const code = await ended;
await Promise.all(children.map((child) => child.exited));
process.exit(code === 0 ? 0 : 1);
