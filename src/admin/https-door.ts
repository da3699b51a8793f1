// The door for operators elsewhere: HTTPS with client certificates, on the same TLS and by the same rules for certificates
// and names as the ports for clients. Who may do what is asked anew for each request, and for open connections after a
// reload and every few seconds: a connection whose right is gone ends.

import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import type { Duplex } from "node:stream";
import { claimsOf } from "../auth/claims.ts";
import { COMMON_NAME } from "../auth/identity-rule.ts";
import { identityFault, matchesClient, type Identity } from "../auth/identity.ts";
import { trustIn } from "../auth/trust.ts";
import type { Credentials } from "../config/credentials.ts";
import {
  handshakeFailure,
  identityOf,
  presentedBy,
  type ListenerState,
  type Refusal,
} from "../connection/admission.ts";
import { RefusalLog } from "../connection/refusal-log.ts";
import { formatAddress, type Address } from "../lib/address.ts";
import { monotonic } from "../lib/clock.ts";
import { listen, type Port } from "../listeners/listener.ts";
import type { Bridge } from "./bridge.ts";
import { HandshakeGate, shownBy, type Guest, type GuestSocket, type Verdict } from "./handshake-gate.ts";
import type { Right } from "./route.ts";
import { isLoopbackName } from "./router.ts";
import { AdminServer, type ServerOptions, type Visitor } from "./server.ts";
import type { Window } from "./subject.ts";

/** How often open connections are asked for their right, in milliseconds. */
const SWEEP_MS = 10_000;

/** @throws StartError where the address cannot be had */
export function openHttpsDoor(address: Address, credentials: Credentials, options: ServerOptions): Window {
  return new HttpsDoor(address, credentials, options);
}

class HttpsDoor implements Window {
  readonly #options: ServerOptions;
  readonly #server: AdminServer;
  readonly #gate: HandshakeGate;
  readonly #port: Port;
  readonly #refusals: RefusalLog;
  readonly #sweeping: Timer;
  /** Who is in. */
  readonly #guests = new WeakMap<Duplex, Guest>();
  #credentials: Credentials;
  #certificate: X509Certificate;
  readonly #trusted: Pick<ListenerState, "trust" | "identity" | "generation" | "authoritiesSince">;

  constructor(address: Address, credentials: Credentials, options: ServerOptions) {
    const { subject } = options;
    this.#options = options;
    this.#credentials = credentials;
    this.#certificate = new X509Certificate(credentials.cert);
    this.#trusted = {
      trust: trustIn(credentials),
      identity: COMMON_NAME,
      generation: 0,
      authoritiesSince: 0,
    };
    this.#refusals = new RefusalLog({
      write: (fields) => subject.log.warn("admin refused", fields),
      now: monotonic,
    });
    this.#server = new AdminServer(options, {
      scheme: "https",
      isHost: (name) => this.#isHost(name, address),
      visitor: (socket) => this.#visitor(socket),
    });
    this.#gate = new HandshakeGate({
      ledger: subject.ledger,
      config: () => subject.config,
      generation: () => this.#trusted.generation,
      judge: (guest, success, error) => this.#judge(guest, success, error),
      entered: (guest, stream) => this.#entered(guest, stream),
      refused: (socket, refusal) => this.#refused(socket, refusal),
    });
    this.#port = listen({ address, sessionTickets: false, reusePort: false }, credentials, {
      tls: this.#gate.handlers,
    });
    this.#sweeping = setInterval(() => this.#sweep(), SWEEP_MS);
    this.#sweeping.unref();
    subject.log.info("admin listening", { address: formatAddress(this.#port.address) });
  }

  follow(): void {
    const { adminCredentials: next, log } = this.#options.subject;
    this.#gate.follow();
    if (next !== undefined && !Bun.deepEquals(next, this.#credentials)) {
      try {
        this.#port.replace(next, { sessionTickets: false });
        this.#replaceTrust(next);
      } catch (error) {
        log.error("internal error", { error: String(error) });
      }
    }
    this.#sweep();
  }

  close(): void {
    clearInterval(this.#sweeping);
    void this.#port.stop(true);
    this.#gate.close();
    this.#server.close();
    this.#refusals.flush();
  }

  #replaceTrust(next: Credentials): void {
    const trusted = this.#trusted;
    const { authorities } = trusted.trust;
    trusted.trust = trustIn(next, trusted.trust);
    trusted.generation++;
    if (trusted.trust.authorities !== authorities) trusted.authoritiesSince = trusted.generation;
    this.#credentials = next;
    this.#certificate = new X509Certificate(next.cert);
  }

  #judge(guest: Guest, success: boolean, error: Error | null): Verdict {
    const failure = handshakeFailure(guest.socket, success, error);
    if (failure !== undefined) return { refusal: failure, verified: false };
    const who = this.#whoIs(guest);
    if ("reason" in who) return { refusal: who, verified: false };
    if (this.#rightOf(who.client) !== undefined) return { refusal: undefined, verified: true };
    return { refusal: { reason: "group_not_authorized", client: who.client }, verified: true };
  }

  #entered(guest: Guest, stream: Bridge): void {
    this.#guests.set(stream, guest);
    this.#server.take(stream);
  }

  #visitor(stream: Duplex): Visitor | undefined {
    const guest = this.#guests.get(stream);
    if (guest === undefined) return undefined;
    const who = this.#whoIs(guest);
    if ("reason" in who) return undefined;
    return { actor: who.client, right: this.#rightOf(who.client) };
  }

  #whoIs({ socket, generation }: Guest): Identity | Refusal {
    return identityOf(presentedBy(socket, this.#trusted, generation), this.#trusted, Date.now());
  }

  #rightOf(client: string): Right | undefined {
    const { operators = [], readers = [] } = this.#options.subject.config.admin ?? {};
    const isAmong = (patterns: readonly string[]) => patterns.some((each) => matchesClient(each, client));
    return isAmong(operators) ? "operate" : isAmong(readers) ? "read" : undefined;
  }

  #sweep(): void {
    for (const stream of this.#server.sockets()) {
      if (this.#visitor(stream)?.right === undefined) stream.destroy();
    }
  }

  /** As configured, or as its certificate says: a browser goes nowhere else. */
  #isHost(name: string, { hostname }: Address): boolean {
    if (isLoopbackName(name) || name === hostname.toLowerCase()) return true;
    return isIP(name) !== 0
      ? this.#certificate.checkIP(name) !== undefined
      : this.#certificate.checkHost(name, { subject: "never" }) !== undefined;
  }

  #refused(socket: GuestSocket, { reason, detail, client }: Refusal): void {
    const { remoteAddress: hostname, remotePort: port } = socket as Partial<GuestSocket>;
    const known = hostname !== undefined && port !== undefined;
    const remote = known ? formatAddress({ hostname, port }) : "unknown";
    this.#refusals.add(reason, client, remote, () => {
      const certificate = shownBy(socket);
      const why = reason === "identity_invalid" ? identityFault(certificate?.subject) : detail;
      return { client, remote, reason, detail: why, ...claimsOf(certificate) };
    });
  }
}
