// `proxy connect`: the client's end. Programs that speak no TLS reach the proxy through it.

import { FileStamps, Watch } from "../config/watch.ts";
import { formatAddress, type TargetAddress } from "../lib/address.ts";
import { StartError, quote, type Fault } from "../lib/errors.ts";
import { LOG_LEVELS, guarded, type LogLevel, type Logger } from "../lib/log.ts";
import type { ConnectConfig } from "../tunnel/config.ts";
import { isFinal, type Failure } from "../tunnel/failure.ts";
import { readFiles } from "../tunnel/files.ts";
import { noticeOf } from "../tunnel/own-certificate.ts";
import { attachStdio } from "../tunnel/stdio.ts";
import { Tunnel } from "../tunnel/tunnel.ts";
import { runChild, type Child } from "./child.ts";
import { DONE, FAILED, type Command } from "./command.ts";
import { CONNECT_FLAGS, configOf, modeOf, refuse } from "./connect-options.ts";
import { choose, type FlagValues } from "./flags.ts";
import { loggerFor } from "./open.ts";
import { ignoreSignals, onHangup, onStop, passOn } from "./signals.ts";

/** How long open connections may take to end at a stop, in milliseconds. */
const DRAIN_MS = 30_000;

/** How long connections may go on after the program that they were for, in milliseconds. */
const AFTER_PROGRAM_MS = 2_000;

/** How often certificates are checked for a near end, in milliseconds. */
const EXPIRY_INTERVAL_MS = 60_000;

export const connect: Command = {
  usage: "connect HOST:PORT [FLAGS] [-- COMMAND ...]",
  summary: "Open a tunnel to a proxy, for programs that speak no TLS",
  words: { name: "HOST:PORT", description: "the proxy", most: 1 },
  flags: CONNECT_FLAGS,
  takesCommand: true,
  examples: [
    "connect proxy.example.com:7443 --server-name db.example.com \\\n    --ca ca.crt --cert alice.crt --key alice.key --listen 127.0.0.1:15432",
    "connect proxy.example.com:7443 --ca ca.crt --cert alice.crt \\\n    --key alice.key -- psql -h {host} -p {port}",
    "connect --config connect.toml",
  ],
  signals: [
    ["SIGTERM, SIGINT, SIGQUIT, SIGHUP", "stop: open connections may finish; a second signal closes them"],
  ],
  notes:
    'COMMAND runs with {host} and {port} replaced by where the tunnel listens, on a free port if --listen does not say; the tunnel ends with it, with its exit code. "proxy help connect" has more.',
  async run(given) {
    const { flags } = given;
    const mode = modeOf(given);
    const config = await configOf(given, mode);
    const quiet = mode === "listen" ? "info" : "warn";
    const level: LogLevel = choose("log-level", flags["log-level"], LOG_LEVELS) ?? config.logLevel ?? quiet;
    const log = guarded(loggerFor(flags), () => level);
    ignoreSignals(log);
    for (const warning of config.warnings) log.warn(warning, {});
    const { tunnels, watch } = openTunnels(config, flags, log);
    try {
      const [first] = tunnels as [Tunnel];
      if (mode === "stdio") return await throughStdio(first);
      if (mode === "command") return await throughCommand(first, given.command!);
      return await untilStopped(tunnels, log);
    } finally {
      watch();
    }
  },
};

/** Reads all files, and follows them from then on until `watch` is called. */
function openTunnels({ tunnels }: ConnectConfig, flags: FlagValues, log: Logger) {
  const faults: Fault[] = [];
  const warnings = new Set<string>();
  const names = tunnels.map(({ ca, certificate, privateKey }) => [ca, certificate, privateKey]);
  const stamps = names.map((files) => new FileStamps().add(files));
  const files = tunnels.map((tunnel) => readFiles(tunnel, faults, warnings));
  refuse(faults, flags);
  for (const warning of warnings) log.warn(warning, {});
  for (const [i, { key, certificate }] of tunnels.entries()) {
    const notice = noticeOf(files[i]!.cert, Date.now());
    if (notice?.unusable)
      faults.push({ key: `${key}.certificate`, problem: `${quote(certificate)} ${notice.text}` });
  }
  refuse(faults, flags);
  const made = tunnels.map((config, i) => new Tunnel(config, files[i]!, log));
  for (const tunnel of made) tunnel.checkCertificate();
  const watches = made.map((tunnel, i) => new Watch(stamps[i]!, () => tunnel.reload()));
  const timer = setInterval(() => made.forEach((tunnel) => tunnel.checkCertificate()), EXPIRY_INTERVAL_MS);
  const watch = () => {
    clearInterval(timer);
    for (const each of watches) each.stop();
  };
  return { tunnels: made, watch };
}

/** Carries one connection and ends with it. */
async function throughStdio(tunnel: Tunnel): Promise<number> {
  const server = formatAddress(tunnel.config.server);
  const over = Promise.withResolvers<number>();
  const connection = tunnel.connect(({ failure, broken }) => {
    if (failure !== undefined) over.reject(new StartError(failure.text));
    else if (broken === "proxy") over.reject(new StartError(`${server} broke the connection off`));
    else over.resolve(broken === undefined ? DONE : FAILED);
  });
  if (connection === undefined) throw new StartError("no descriptors are left");
  attachStdio(connection);
  // A signal breaks the connection off, so that the server does not take its stream for complete.
  const stopped = onStop(async () => ({ cut: tunnel.cut() }));
  // ssh sends SIGHUP when it ends. It closes standard input too, so that the connection can end in order.
  onHangup(() => void tunnel.drained(AFTER_PROGRAM_MS).then(() => tunnel.cut()));
  return Promise.race([over.promise, stopped.then(() => FAILED)]);
}

/** Runs a program that finds the tunnel at {host} and {port}, and ends with its exit code. */
async function throughCommand(tunnel: Tunnel, command: readonly string[]): Promise<number> {
  await tunnel.listen(tunnel.config.listen!);
  const failure = await tunnel.tryOut();
  if (failure !== undefined) throw new StartError(failure.text);
  let child: Child | undefined;
  // Registered before the program starts: a signal may come at once.
  passOn((signal) => child?.kill(signal));
  child = runChild(fillIn(command, tunnel.address!));
  const code = await child.exited;
  tunnel.stop();
  tunnel.orphan();
  await tunnel.drained(AFTER_PROGRAM_MS);
  tunnel.cut();
  return code;
}

function fillIn(command: readonly string[], address: TargetAddress): string[] {
  const [host, port] = "unix" in address ? [address.unix, ""] : [address.hostname, String(address.port)];
  return command.map((word) => word.replaceAll("{host}", host).replaceAll("{port}", port));
}

async function untilStopped(tunnels: readonly Tunnel[], log: Logger): Promise<number> {
  const stopped = onStop(
    async (again) => {
      for (const tunnel of tunnels) tunnel.stop();
      if (!again) await Promise.all(tunnels.map((tunnel) => tunnel.drained(DRAIN_MS)));
      return { cut: tunnels.reduce((sum, tunnel) => sum + tunnel.cut(), 0) };
    },
    ["SIGHUP"],
  );
  for (const tunnel of tunnels) await tunnel.listen(tunnel.config.listen!);
  const tried = Promise.all(tunnels.map((tunnel) => tunnel.tryOut()));
  const outcomes = await Promise.race([tried, stopped.then(() => [])]);
  const failures = outcomes.flatMap((failure) => failure ?? []);
  const final = failures.filter(isFinal);
  if (final.length > 0) throw new StartError(textsOf(final));
  for (const { text } of failures) log.warn("no connection yet", { why: text });
  const { cut } = await stopped;
  return cut > 0 ? FAILED : DONE;
}

function textsOf(failures: readonly Failure[]): string {
  return [...new Set(failures.map(({ text }) => text))].join("\n");
}
