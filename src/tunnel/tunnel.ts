// A tunnel that listens: programs connect to it, and each gets a connection of its own to the proxy.
//
// The tunnel makes one connection in advance when it starts. A wrong server or a refusal is so reported at once, and not
// when the first program fails. That program gets the connection.

import { formatAddress, type TargetAddress } from "../lib/address.ts";
import { DESCRIPTORS_PER_CONNECTION, processBudget } from "../lib/descriptors.ts";
import { quote, type Fault } from "../lib/errors.ts";
import type { Fields, Logger } from "../lib/log.ts";
import type { TargetTls } from "../upstreams/dial.ts";
import type { TunnelConfig } from "./config.ts";
import { TunnelConnection, type Local, type Outcome } from "./connection.ts";
import type { Failure, Whom } from "./failure.ts";
import { readFiles } from "./files.ts";
import { openLocal, type LocalPort } from "./listen.ts";
import { noticeOf } from "./own-certificate.ts";

/** How long the connection that was made in advance waits for a program, in milliseconds. */
const SPARE_MS = 10_000;

/** The shortest time between two log lines about missing descriptors, in milliseconds. */
const SAY_EVERY_MS = 5_000;

export class Tunnel {
  readonly config: TunnelConfig;
  readonly #log: Logger;
  readonly #whom: Whom;
  readonly #connections = new Set<TunnelConnection>();
  #tls: TargetTls & { readonly cert: string };
  #port: LocalPort | undefined;
  #spare: TunnelConnection | undefined;
  /** What was said of the certificate, so that it is said once. */
  #noticed = "";
  #fullSince = -Infinity;
  #changed = Promise.withResolvers<void>();

  /** @param tls its files, as {@link readFiles} has found them good */
  constructor(config: TunnelConfig, tls: TargetTls & { readonly cert: string }, log: Logger) {
    this.config = config;
    this.#tls = tls;
    this.#log = log;
    const { serverName, ca, certificate } = config;
    this.#whom = { server: formatAddress(config.server), serverName, ca, certificate };
  }

  /** Where it listens, as bound; undefined where it does not. */
  get address(): TargetAddress | undefined {
    return this.#port?.address;
  }

  get connections(): number {
    return this.#connections.size;
  }

  /**
   * Makes a connection, for a program that comes at once or later.
   * @param over called when it is gone; by default the log has a line
   * @returns undefined where there are no descriptors left
   */
  connect(over?: (outcome: Outcome, ms: number) => void): TunnelConnection | undefined {
    const startedAt = performance.now();
    const budget = processBudget();
    if (!budget.take(DESCRIPTORS_PER_CONNECTION)) return undefined;
    const connection: TunnelConnection = new TunnelConnection({
      config: this.config,
      whom: this.#whom,
      tls: this.#tls,
      descriptors: budget,
      over: (outcome) => {
        this.#connections.delete(connection);
        budget.giveBack(DESCRIPTORS_PER_CONNECTION);
        (over ?? this.#report.bind(this))(outcome, performance.now() - startedAt);
        this.#changed.resolve();
      },
      bug: (error) => this.#bug(error),
    });
    this.#connections.add(connection);
    return connection;
  }

  /** Makes the connection in advance. @returns why there is none */
  async tryOut(): Promise<Failure | undefined> {
    const unusable = this.checkCertificate();
    const spare = unusable === undefined ? this.connect() : undefined;
    this.#spare = spare;
    if (spare === undefined) return unusable;
    const failure = await spare.ready;
    const waited = setTimeout(() => this.#dropSpare(spare), SPARE_MS);
    waited.unref();
    return failure;
  }

  #dropSpare(spare: TunnelConnection | undefined): void {
    if (spare === undefined || this.#spare !== spare) return;
    this.#spare = undefined;
    spare.discard();
  }

  /** @throws StartError where the address cannot be had */
  async listen(listen: TargetAddress): Promise<void> {
    this.#port = await openLocal(
      listen,
      (socket) => this.#accept(socket),
      (error) => this.#bug(error),
    );
    const address = formatAddress(this.#port.address);
    this.#log.info("listening", { address, server: this.#whom.server, serverName: this.#whom.serverName });
  }

  #accept(socket: Bun.Socket<TunnelConnection | undefined>): TunnelConnection | undefined {
    if (this.checkCertificate() !== undefined) return undefined;
    const connection = this.#spare?.isFree === true ? this.#spare : this.connect();
    this.#spare = undefined;
    if (connection === undefined) this.#sayFull();
    else connection.attach(socket as Local);
    return connection;
  }

  #sayFull(): void {
    if (performance.now() - this.#fullSince < SAY_EVERY_MS) return;
    this.#fullSince = performance.now();
    const problem = "no descriptors are left: raise the limit on open files (ulimit -n)";
    this.#log.error("connection turned away", { ...this.#where, problem });
  }

  /** Takes over files that have changed; where they are at fault, the ones before stay in force. */
  reload(): void {
    const faults: Fault[] = [];
    const warnings = new Set<string>();
    const tls = readFiles(this.config, faults, warnings);
    for (const { problem } of faults) this.#log.error("reload refused", { ...this.#where, problem });
    if (faults.length > 0) return;
    this.#tls = tls;
    for (const warning of warnings) this.#log.warn(warning, {});
    this.#log.info("reloaded", this.#where);
    this.checkCertificate();
  }

  /** Warns, once, of a certificate that runs out. @returns why it cannot be used */
  checkCertificate(): Failure | undefined {
    const notice = noticeOf(this.#tls.cert, Date.now());
    if (notice === undefined) return undefined;
    const text = `the certificate ${quote(this.config.certificate)} ${notice.text}`;
    if (text !== this.#noticed) this.#log[notice.unusable ? "error" : "warn"](text, this.#where);
    this.#noticed = text;
    return notice.unusable ? { kind: "certificate", text } : undefined;
  }

  /** Accepts no more. */
  stop(): void {
    this.#port?.stop();
    this.#dropSpare(this.#spare);
  }

  /** Resolves when the last connection is gone, or after so many milliseconds; after {@link stop}. */
  async drained(timeout: number): Promise<void> {
    const over = new AbortController();
    const late = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeout);
      over.signal.addEventListener("abort", () => clearTimeout(timer));
    });
    const gone = async () => {
      while (this.#connections.size > 0 && !over.signal.aborted) {
        this.#changed = Promise.withResolvers<void>();
        await this.#changed.promise;
      }
    };
    await Promise.race([gone(), late]);
    over.abort();
  }

  /** Nobody waits for what the proxy still sends. */
  orphan(): void {
    for (const connection of [...this.#connections]) connection.orphan();
  }

  /** Breaks off what is open. @returns how many connections that were */
  cut(): number {
    const count = this.#connections.size;
    for (const connection of [...this.#connections]) connection.cut();
    return count;
  }

  #report({ failure, broken, attached, sent, received }: Outcome, ms: number): void {
    // `tryOut` reports on the connection that was made in advance.
    if (!attached) return;
    if (failure !== undefined) return this.#log.warn("no connection", { ...this.#where, why: failure.text });
    const fields = { ...this.#where, sent, received, durationMs: Math.round(ms), brokenBy: broken };
    this.#log.info("closed", fields);
  }

  #bug(error: Error): void {
    this.#log.error("internal error", { ...this.#where, error: error.stack ?? String(error) });
  }

  get #where(): Fields {
    return { tunnel: this.#port === undefined ? this.#whom.server : formatAddress(this.#port.address) };
  }
}
