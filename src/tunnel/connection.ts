// One connection through a tunnel: a program on this machine on one side, the proxy on the other. The proxy's own relay
// carries the bytes. The phases, in order:
//
//   dialing ──→ asking ──→ relaying ──→ over
//
// In `asking` the TLS handshake is done and the server is verified, but its status record has not come yet. The tunnel
// sends no byte of the program before the proxy has admitted the client: closing with unread bytes would make the proxy's
// kernel reset the connection, and the reason could be lost. The program may come later than the proxy's answer.

import { Relay, type Stream } from "../connection/relay.ts";
import { codeOf } from "../lib/errors.ts";
import { StatusReader, TUNNEL_PROTOCOL } from "../lib/tunnel-protocol.ts";
import {
  createDial,
  type Attempt,
  type Descriptors,
  type Dialer,
  type TargetTls,
} from "../upstreams/dial.ts";
import { dialFailure, noProxy, refusal, silence, tooSlow, type Failure, type Whom } from "./failure.ts";
import type { TunnelConfig } from "./config.ts";

/** The program's end: a socket, or standard input and output. */
export interface Local extends Stream {
  /** Closes in peace: all that was written has been taken. */
  end(): void;
  /** Breaks the connection off, so that the program does not take its stream for complete. */
  terminate(): void;
}

/** How a connection ended. */
export interface Outcome {
  /** Why it never got through; undefined for one that did. */
  readonly failure: Failure | undefined;
  /** Which side broke it off; undefined where both ended in peace. */
  readonly broken: "local" | "proxy" | "shutdown" | undefined;
  /** A program had it. */
  readonly attached: boolean;
  /** Bytes to the proxy, and from it. */
  readonly sent: number;
  readonly received: number;
}

export interface ConnectionOptions {
  readonly config: TunnelConfig;
  readonly whom: Whom;
  readonly tls: TargetTls;
  readonly descriptors: Descriptors;
  /** Called once, when both sockets are gone. */
  over(outcome: Outcome): void;
  /** A handler threw. */
  bug(error: Error): void;
}

/** How long the proxy may take, in milliseconds: to the end of the TLS handshake, and from there to its verdict. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
const VERDICT_TIMEOUT_MS = 30_000;

/** How long a connection is silent before the kernel asks whether the proxy is still there. */
const KEEPALIVE_MS = 60_000;

const dial = createDial<TunnelConnection>({
  data: (socket, chunk) => socket.data.proxySent(chunk),
  drain: (socket) => socket.data.proxyDrained(),
  end: (socket) => socket.data.proxyEnded(),
  close: (socket, error) => socket.data.proxyClosed(error),
  error: (socket, error) => socket.data.proxyFailed(error),
});

export class TunnelConnection implements Dialer {
  /** The proxy has admitted the client, or there is a reason why not. */
  readonly ready: Promise<Failure | undefined>;
  readonly #ready = Promise.withResolvers<Failure | undefined>();
  readonly #options: ConnectionOptions;
  readonly #toProxy = new Relay();
  readonly #toLocal = new Relay();
  readonly #status = new StatusReader();
  #phase: "dialing" | "asking" | "relaying" | "over" = "dialing";
  #attempt: Attempt<TunnelConnection> | undefined;
  #proxy: Bun.Socket<TunnelConnection> | undefined;
  #local: Local | undefined;
  #failure: Failure | undefined;
  #broken: Outcome["broken"];
  #timer: Timer | undefined;
  #attached = false;
  #released = false;

  constructor(options: ConnectionOptions) {
    this.ready = this.#ready.promise;
    this.#options = options;
    const { config, tls, descriptors } = options;
    this.#limit(HANDSHAKE_TIMEOUT_MS);
    const { server } = config;
    this.#attempt = dial({ target: server, tls, header: undefined, dialer: this, descriptors });
  }

  /** No program has it, and nothing has ended yet: a program may be attached. */
  get isFree(): boolean {
    return !this.#attached && this.#phase !== "over" && !this.#toLocal.ended;
  }

  /** The program is here. Called once, while the connection is free. */
  attach(local: Local): void {
    this.#attached = true;
    this.#local = local;
    this.#toProxy.source = local;
    this.#toLocal.sink = local;
    // What the proxy has sent so far has been waiting.
    if (this.#phase === "relaying") this.localDrained();
  }

  // ---- the way to the proxy

  dialed(socket: Bun.Socket<this>): void {
    this.#attempt = undefined;
    this.#proxy = socket;
    if (socket.alpnProtocol !== TUNNEL_PROTOCOL) return this.#fail(noProxy(this.#options.whom.server));
    this.#phase = "asking";
    this.#limit(VERDICT_TIMEOUT_MS);
    socket.setKeepAlive(true, KEEPALIVE_MS);
  }

  dialFailed(error: Error): void {
    this.#attempt = undefined;
    this.#fail(dialFailure(error, this.#options.whom));
  }

  #limit(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fail(tooSlow(this.#options.whom.server, ms / 1_000)), ms);
  }

  #verdict(chunk: Uint8Array): void {
    const { server } = this.#options.whom;
    const status = this.#status.push(chunk);
    if (status === undefined) return;
    if (status === "invalid") return this.#fail(noProxy(server));
    if (status.refused !== undefined) return this.#fail(refusal(server, status.refused));
    clearTimeout(this.#timer);
    this.#phase = "relaying";
    this.#toProxy.sink = this.#toLocal.source = this.#proxy;
    this.#ready.resolve(undefined);
    if (status.rest.length > 0 && !this.#toLocal.push(status.rest)) return this.#localLost();
    // What the program has sent so far, or its end, has been waiting.
    this.proxyDrained();
  }

  // ---- what the proxy does

  proxySent(chunk: Buffer): void {
    if (this.#phase === "asking") this.#verdict(chunk);
    else if (this.#phase === "relaying" && !this.#toLocal.push(chunk)) this.#localLost();
  }

  proxyDrained(): void {
    if (this.#phase !== "relaying") return;
    if (!this.#toProxy.flush()) return this.#proxyLost();
    this.#closeIfDone();
  }

  proxyEnded(): void {
    if (this.#phase === "asking") return this.#fail(silence(this.#options.whom));
    if (this.#phase !== "relaying") return;
    // No program came in time: a connection that has ended is of no use to the next one.
    if (!this.#attached) return this.discard();
    this.#toLocal.end();
    this.#closeIfDone();
  }

  proxyClosed(error: Error | undefined): void {
    this.#proxy = undefined;
    if (this.#phase === "asking") return this.#fail(silence(this.#options.whom));
    if (this.#phase !== "relaying") return this.#release();
    // Once we have ended our half, the proxy's end comes as a close: all it sent has arrived.
    if (error === undefined && this.#toProxy.finished) this.proxyEnded();
    else this.#proxyLost();
  }

  /** Broken TLS, which is also how a TLS server says that it does not want our certificate. */
  proxyFailed(error: Error): void {
    if (codeOf(error) === undefined) this.#options.bug(error);
    if (this.#phase === "asking") this.#fail(silence(this.#options.whom));
    else if (this.#phase === "relaying") this.#proxyLost();
  }

  /** Nothing can be sent to the proxy any more. What it sent, if it had ended, is whole and still delivered. */
  #proxyLost(): void {
    if (!this.#toLocal.ended) return this.#break("proxy");
    this.#broken ??= "proxy";
    this.#toProxy.abandon();
    this.#closeIfDone();
  }

  // ---- what the program does

  localSent(chunk: Uint8Array): void {
    if (this.#phase !== "over" && !this.#toProxy.push(chunk)) this.#proxyLost();
  }

  localDrained(): void {
    if (this.#phase !== "relaying") return;
    if (!this.#toLocal.flush()) return this.#localLost();
    this.#closeIfDone();
  }

  localEnded(): void {
    if (this.#phase === "over") return;
    this.#toProxy.end();
    this.#closeIfDone();
  }

  localClosed(error?: Error): void {
    this.#local = undefined;
    if (this.#phase === "over") return this.#release();
    if (error === undefined && this.#toLocal.finished) return this.localEnded();
    // A Unix socket that its program closes after the last byte is gone at once. That is an orderly end, but nothing can
    // be written to it any more.
    if (error !== undefined || !this.#toProxy.ended) return this.#localLost();
    this.#toLocal.abandon();
    this.#closeIfDone();
  }

  /** Nothing can be sent to the program any more. What it sent, if it had ended, is whole and still delivered. */
  #localLost(): void {
    if (this.#phase === "over") return;
    if (!this.#toProxy.ended) return this.#break("local");
    this.#broken ??= "local";
    this.#toLocal.abandon();
    this.#closeIfDone();
  }

  // ---- endings

  /** No program comes. */
  discard(): void {
    this.orphan();
    this.localEnded();
  }

  /** The program has gone: what it sent is still delivered, what the proxy sends is dropped. */
  orphan(): void {
    if (this.#phase !== "relaying") return this.cut();
    this.#toLocal.abandon();
    this.#closeIfDone();
  }

  /** Breaks the connection off because the tunnel ends. */
  cut(): void {
    this.#break("shutdown");
  }

  #fail(failure: Failure): void {
    if (this.#phase === "over") return;
    this.#failure = failure;
    this.#break("proxy");
  }

  #closeIfDone(): void {
    if (this.#phase !== "relaying" || !this.#toProxy.finished || !this.#toLocal.finished) return;
    this.#finish();
    this.#proxy?.end();
    if (this.#broken === "local") this.#local?.terminate();
    else this.#local?.end();
    this.#release();
  }

  /** Neither side is told that its stream is complete. */
  #break(by: Outcome["broken"]): void {
    if (this.#phase === "over") return;
    this.#broken ??= by;
    this.#finish();
    this.#attempt?.abandon();
    this.#proxy?.terminate();
    this.#local?.terminate();
    this.#release();
  }

  /** Called before the sockets are closed: closing calls the handlers at once. */
  #finish(): void {
    this.#phase = "over";
    clearTimeout(this.#timer);
    this.#ready.resolve(this.#failure);
  }

  #release(): void {
    if (this.#released || this.#proxy !== undefined || this.#local !== undefined) return;
    this.#released = true;
    this.#options.over({
      failure: this.#failure,
      broken: this.#broken,
      attached: this.#attached,
      sent: this.#toProxy.bytes,
      received: this.#toLocal.bytes,
    });
  }
}
