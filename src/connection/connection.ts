// One connection, from its handshake to release, in the order in which it happens:
//
//   (accept →) handshake → identify → route → authorize → admit → (ask the fleet) → pick → dial → relay → half-close → release
//
// (accept.ts has "accept", admission.ts "identify" to "admit"). A refusal before "pick" opens no connection to a target, and no refusal takes a
// token. The phases, and the legal transitions between them:
//
//   handshake ────────────→ dialing ⟷ relaying ──→ closing ──→ over
//     │   │                 ↑  │          │                    ↑
//     │   └───→ asking ─────┘  │          │                    │
//     │            │           │          │                    │
//     └────────────┴───────────┴──────────┴────────────────────┘
//
// A connection waits in `asking` only where there is a fleet: its own proxy admits it, and the fleet has not answered yet.
// A connection goes back from `relaying` to `dialing` only while neither side has had a byte of the other's. It goes
// from `dialing` to `dialing` with the next target. A connection that ends orderly is released in `closing`. Each event
// handler lists the phases in which it can be called. The first reason for an ending counts. `#release` gives back
// everything that a connection holds, once its sockets are gone.

import type { X509Certificate } from "node:crypto";
import { formatAddress } from "../lib/address.ts";
import {
  admit,
  blockDetail,
  reauthorize,
  serverNameOf,
  type Admission,
  type DecisionRules,
  type ListenerState,
  type Reauthorizing,
  type Refusal,
  type RevokedFor,
  type ActiveConfig,
} from "./admission.ts";
import type { Blocks } from "../auth/blocks.ts";
import { claimsOf } from "../auth/claims.ts";
import type { Config, Target } from "../config/config.ts";
import { Deadlines, type Moment, type Phase, type Round } from "./deadlines.ts";
import { DESCRIPTORS_PER_CONNECTION, type DescriptorBudget } from "../lib/descriptors.ts";
import { createDial, type Attempt, type Dialer } from "../upstreams/dial.ts";
import { codeOf, type CloseReason, type RefusalReason } from "../lib/errors.ts";
import { CLOSE_CODE, REFUSAL_CODE } from "../lib/reasons.ts";
import { both, type FleetGate, type FleetRefusal, type Lease } from "./fleet-gate.ts";
import type { Activity } from "./activity.ts";
import type { HandshakeQueue } from "./handshake-queue.ts";
import type { HeaderWait } from "./header-wait.ts";
import type { ConnectionEnds } from "./proxy-header.ts";
import { Ticket, type HandshakeOwner, type HandshakeSocket } from "./ticket.ts";
import { logHealth } from "../upstreams/health-log.ts";
import { capDetail, groupRow } from "../upstreams/pool.ts";
import type { Fields, Logger } from "../lib/log.ts";
import type { RefusalLog } from "./refusal-log.ts";
import { Relay, type Stream } from "./relay.ts";
import { refusalText } from "./refusal-text.ts";
import { ADMITTED, TUNNEL_PROTOCOL, encodeRefusal } from "../lib/tunnel-protocol.ts";
import type { Judged, Shadow } from "./shadow.ts";
import type { Ledger } from "../state/ledger.ts";
import type { ClientLease, Limits } from "../state/limits.ts";
import type { Sources } from "../state/sources.ts";
import type { TargetLease } from "../state/target-lease.ts";
import type { Tarpit } from "./tarpit.ts";
import type { ConnectionView } from "./view.ts";

/** What all connections of a thread share. */
export interface Shared {
  /** A reload replaces it. */
  rules: ActiveConfig;
  /** What all threads share. */
  readonly ledger: Ledger;
  readonly budget: DescriptorBudget;
  readonly limits: Limits;
  readonly sources: Sources;
  readonly handshakes: HandshakeQueue;
  /** The queue holds handshakes back for it. */
  readonly activity: Activity;
  readonly tarpit: Tarpit;
  readonly headers: HeaderWait;
  /** Undefined where the proxy counts alone. */
  fleet: FleetGate | undefined;
  readonly log: Logger;
  /** Every refusal goes through this log. */
  readonly refusals: RefusalLog;
  /** All connections that hold anything. */
  readonly connections: Set<Connection>;
  /** The start of each connection's name in this thread. */
  readonly prefix: string;
  /** The configuration that is tried beside the one in force, if any. A reload replaces it. */
  shadow: Shadow | undefined;
  /** Whole milliseconds of a monotonic clock. */
  now(): number;
  /** Called when `connections` has grown or shrunk. */
  changed(): void;
}

type Socket = Bun.Socket<Connection>;

/** Stands in for a target that has left. */
const NO_SINK: Stream = { write: () => -1, shutdown() {}, pause() {}, resume() {} };

const dial = createDial<Connection>({
  data: (socket, chunk) => socket.data.upstreamSent(chunk),
  drain: (socket) => socket.data.upstreamDrained(),
  end: (socket) => socket.data.upstreamEnded(),
  close: (socket, error) => socket.data.upstreamClosed(socket, error),
  error: (socket, error) => socket.data.upstreamFailed(socket, error),
});

/** Counts a refusal: for the upstream that the client would have reached, where that is known. */
export function countRefusal(
  { ledger, rules }: Shared,
  listener: number,
  upstream: string | undefined,
  reason: RefusalReason,
): void {
  const routes = rules.routes[listener];
  const route = routes?.get(upstream ?? "") ?? routes?.get("");
  if (route !== undefined) ledger.counters.refused(route, REFUSAL_CODE[reason]);
}

/** Connections of this thread so far, including those that were turned away. */
let made = 0;

/** Names a connection in the log and to the upstream. The name is unique. */
function idOf({ prefix }: Shared, number: number): string {
  return `${prefix}-${number.toString(36)}`;
}

/** Names a connection that is turned away. */
export function nextId(shared: Shared): string {
  return idOf(shared, ++made);
}

/** Where a connection comes from. */
export interface Origin {
  /** `host:port`, for the log. */
  readonly remote: string;
  readonly address: string;
  /** The row of its source; undefined if the source is exempt. */
  readonly row: number | undefined;
  /** When it was accepted, by {@link Shared.now}. */
  readonly acceptedAt: number;
  /** The balancer that has named the caller in a PROXY header, `host:port`, and its address alone. */
  readonly peer?: string;
  readonly peerAddress?: string;
  /** The connection as the balancer describes it; undefined where it does not. */
  readonly ends?: ConnectionEnds | undefined;
  /** The length of its header, in bytes. */
  readonly received?: number;
}

/** One client's connection and, once admitted, the one to its target. */
export class Connection implements Dialer, HandshakeOwner {
  readonly #shared: Shared;
  readonly #listener: ListenerState;
  /** The listener's generation when the handshake began. */
  readonly #generation: number;
  readonly #number = ++made;
  readonly #origin: Origin;
  readonly #client: Socket;
  /** Its place in the handshake queue, while it has one. */
  #ticket: Ticket | undefined;
  readonly #toUpstream = new Relay();
  readonly #toClient = new Relay();

  #phase: Phase = "handshake";
  #clientGone = false;
  #upstream: Socket | undefined;
  /** Set once the connection is admitted. */
  #admission: Admission | undefined;
  /** What it holds with the shadow, while that allows it. */
  #shadowLease: ClientLease | undefined;
  /** The fleet counts it, or is being asked. */
  #inFleet = false;
  #pick: TargetLease | undefined;
  #target: Target | undefined;
  #attempt: Attempt<Connection> | undefined;
  /** The target has proved itself: what happens from now on is not held against it. */
  #works = false;
  /** The tunnel at the client's end knows that its client is admitted. */
  #told = false;
  /** Slots of the targets that failed this connection; created at the first failure. */
  #tried: Set<number> | undefined;
  /** How it ended, if not orderly: refused, or the first reason for breaking off. */
  #ending: "refused" | CloseReason | undefined;
  /** Which side ended first, with an end or a reset. */
  #endedBy: "client" | "upstream" | "proxy" | undefined;
  readonly #deadlines: Deadlines;

  constructor(shared: Shared, listener: ListenerState, client: Socket, origin: Origin) {
    this.#shared = shared;
    this.#listener = listener;
    this.#generation = listener.generation;
    this.#client = client;
    this.#origin = origin;
    this.#deadlines = new Deadlines(origin.acceptedAt);
    this.#toUpstream.source = client;
    this.#toClient.sink = client;
    shared.connections.add(this);
    // Bun's types leave the descriptor out.
    this.#ticket = new Ticket(client as Socket & HandshakeSocket, this, origin.row, origin.received);
    shared.handshakes.enter(this.#ticket);
    shared.ledger.counters.handshaking(listener.row, 1);
    shared.changed();
  }

  // ---- handshake, identify, route, authorize, admit

  /** Called in `handshake`, and in `over` if the connection was refused meanwhile. */
  handshakeDone(success: boolean, error: Error | null): void {
    if (this.#phase !== "handshake") return;
    const { rules, limits, sources, handshakes, ledger, now } = this.#shared;
    const { counters } = ledger;
    if (this.#ticket !== undefined) handshakes.ended(this.#ticket);
    if (success && this.#client.authorized) {
      const took = now() - this.#deadlines.acceptedAt;
      counters.handshakeDone(this.#listener.row, this.#client.isSessionReused(), took);
    }
    const admission = admit(this.#client, success, error, {
      rules,
      limits,
      listener: this.#listener,
      generation: this.#generation,
      address: this.#origin.address,
      peerAddress: this.#origin.peerAddress,
      ends: this.#origin.ends,
      id: this.#id,
      now: now(),
    });
    const { shadow } = this.#shared;
    // Before a refusal: what it costs to judge a stranger counts for the stranger's handshake.
    if (shadow !== undefined && success) {
      this.#shadowLease = shadow.judge(this.#judged(), admission);
    }
    if ("reason" in admission) return this.#refuse(admission.reason, admission);
    this.#admission = admission;
    counters.handshaking(this.#listener.row, -1);
    if (this.#ticket !== undefined) handshakes.done(this.#ticket);
    this.#ticket = undefined;
    if (this.#origin.row !== undefined) sources.admitted(this.#origin.row, now());
    this.#deadlines.admitted(admission.expiresAt);
    this.#deadlines.limit(rules.config, Math.random());
    if (this.#shared.fleet === undefined) this.#admitted(admission);
    else this.#askFleet(this.#shared.fleet, admission);
  }

  /** Every limit of the client admits the connection. Called in `handshake` and `asking`. */
  #admitted(admission: Admission): void {
    const { rules, ledger, now } = this.#shared;
    const { pool, group } = admission;
    const pick = pool.balancer.pick(now());
    if (pool.balancer.full === "upstream_full") {
      // In this phase it does not count as admitted.
      this.#phase = "asking";
      return this.#withoutTarget("connection_limit", admission);
    }
    this.#phase = "dialing";
    ledger.counters.admitted(pool.row, groupRow(pool, group));
    // The check is here so that it costs nothing where the line is not written.
    const { log, logLevel } = rules.config;
    if (log.admissions) this.#logAdmitted(admission, "info");
    else if (logLevel === "debug") this.#logAdmitted(admission, "debug");
    this.#dial(admission, pick);
  }

  #askFleet(fleet: FleetGate, admission: Admission): void {
    this.#phase = "asking";
    this.#inFleet = true;
    fleet.ask(admission.client, (answer) => {
      try {
        this.#fleetAnswered(admission, answer);
      } catch (error) {
        this.#fail(error as Error, "client_error", "client");
      }
    });
  }

  /** Meets `asking`, and `over` where the connection has ended meanwhile: then what the fleet granted is given back. */
  #fleetAnswered(admission: Admission, answer: Lease | FleetRefusal): void {
    const isOver = this.#phase === "over";
    if (typeof answer === "string") {
      // A refusal takes nothing from anyone.
      admission.lease.cancel();
      const { client, pool } = admission;
      if (!isOver) this.#refuse(answer, { client, upstream: pool.upstream.name });
    } else if (isOver) answer.release();
    else {
      this.#admission = { ...admission, lease: both(admission.lease, answer) };
      this.#admitted(this.#admission);
    }
  }

  /** The proxy has become a part of a fleet, which counts this connection from now on. Meets every phase. */
  joinFleet(fleet: FleetGate): void {
    const admission = this.#admission;
    if (admission === undefined || this.#inFleet) return;
    this.#inFleet = true;
    this.#admission = { ...admission, lease: both(admission.lease, fleet.adopt(admission.client)) };
  }

  /**
   * The queue refuses the handshake: its source has used up its failures, or a newer connection took its place. Called
   * in `handshake` only.
   */
  handshakeRefused(reason: "source_limited" | "overloaded", detail?: string): void {
    this.#refuse(reason, { detail });
    this.#client.terminate();
  }

  #logAdmitted({ client, pool, serverName }: Admission, level: "info" | "debug"): void {
    this.#shared.log[level]("admitted", {
      id: this.#id,
      client,
      remote: this.#origin.remote,
      peer: this.#origin.peer,
      listener: this.#listener.address,
      serverName: serverName?.slice(0, 255),
      upstream: pool.upstream.name,
    });
  }

  // ---- pick, dial

  /** The client was not served: gives its token back. */
  #withoutTarget(reason: "connection_limit" | "no_target", { pool, lease, client }: Admission): void {
    const detail = capDetail(pool);
    lease.cancel();
    this.#shadowLease?.cancel();
    this.#refuse(reason, { client, upstream: pool.upstream.name, detail });
  }

  #dialNext(admission: Admission): void {
    const { now } = this.#shared;
    this.#dial(admission, admission.pool.balancer.pick(now(), this.#tried));
  }

  #dial(admission: Admission, pick: TargetLease | undefined): void {
    const { budget, now } = this.#shared;
    const { pool, header } = admission;
    this.#pick = pick;
    this.#target = pick && pool.targets.get(pick.slot);
    if (this.#target === undefined) return this.#withoutTarget("no_target", admission);
    this.#phase = "dialing";
    this.#deadlines.enterPhase(now());
    this.#attempt = dial({
      target: this.#target.address,
      tls: pool.tls,
      header,
      dialer: this,
      descriptors: budget,
    });
  }

  /** Called in `dialing` only: in any other phase the attempt has been abandoned. */
  dialed(socket: Socket): void {
    this.#attempt = undefined;
    this.#upstream = socket;
    this.#phase = "relaying";
    this.#works = false;
    const { ledger, now } = this.#shared;
    if (this.#pick !== undefined) ledger.counters.connected(this.#pick.slot, this.#deadlines.inPhase(now()));
    this.#deadlines.enterPhase(now());
    this.#toUpstream.sink = this.#toClient.source = socket;
    this.#tellAdmitted();
    // Send what has been waiting: bytes that came with the end of the client's handshake, or the client's end.
    this.upstreamDrained();
  }

  /** Tells a tunnel once, before the first byte of the upstream. */
  #tellAdmitted(): void {
    if (this.#told || this.#client.alpnProtocol !== TUNNEL_PROTOCOL) return;
    this.#told = true;
    // Nothing was sent before: a socket that does not take these few bytes is broken.
    if (this.#client.write(ADMITTED) !== ADMITTED.length) this.#break("client_reset", "client");
  }

  /** The target has sent bytes, or has kept the connection for a while. */
  #targetWorks(): void {
    const { log, now } = this.#shared;
    this.#works = true;
    if (this.#pick?.succeeded(now())) {
      log.info("target is back", this.#whereTo);
      logHealth(log, this.#admission?.pool);
    }
  }

  /** Called in `dialing` only. */
  dialFailed(error: Error): void {
    this.#targetFailed(codeOf(error) ?? error.message);
  }

  /** The picked target failed: the connection skips it and tries the next best one. */
  #targetFailed(error: string): void {
    const { ledger, log, now } = this.#shared;
    log.warn("target failed", { id: this.#id, ...this.#whereTo, error });
    this.#attempt?.abandon();
    this.#attempt = undefined;
    if (this.#pick !== undefined) {
      ledger.counters.connectFailed(this.#pick.slot);
      (this.#tried ??= new Set()).add(this.#pick.slot);
      if (this.#pick.failed(now())) {
        const until = new Date(Date.now() + this.#pick.triedLast(now())).toISOString();
        log.warn("target ejected", { ...this.#whereTo, error, until });
        logHealth(log, this.#admission?.pool);
      }
    }
    if (this.#deadlines.isRevoked) return this.#break("authorization_revoked");
    if (this.#admission !== undefined) this.#dialNext(this.#admission);
  }

  // ---- relay, half-close: what the client does

  /** Called in `dialing` (with the last bytes of the handshake), `relaying`, `closing`, `over`. */
  clientSent(chunk: Buffer): void {
    if (this.#connected || this.#isOpening) {
      if (!this.#toUpstream.push(chunk)) this.#writeFailed();
    } else if (this.#phase === "handshake") {
      this.#refuse("handshake_failed", { detail: "data before the handshake's end" });
    }
  }

  /** Called in every phase, even when there was nothing to drain. */
  clientDrained(): void {
    if (!this.#connected) return;
    if (!this.#toClient.flush()) return this.#clientLost();
    this.#closeIfDone();
  }

  /** A FIN or a close_notify. Called in every phase. */
  clientEnded(): void {
    if (this.#phase === "handshake") return this.#refuse("handshake_failed", { detail: "the client left" });
    if (!this.#connected && !this.#isOpening) return;
    this.#endedBy ??= "client";
    this.#toUpstream.end();
    this.#closeIfDone();
  }

  /** The client's socket is gone. Called in every phase. */
  clientClosed(error: Error | undefined): void {
    this.#clientGone = true;
    if (this.#phase === "handshake") {
      this.#refuse("handshake_failed", { detail: codeOf(error) ?? "the client left" });
    } else if (this.#isOpening) this.#break("client_reset", "client");
    else if (this.#connected) {
      // After the proxy has ended its half, the client's end is reported as a close: all that it sent has arrived.
      if (error === undefined && this.#toClient.finished) this.clientEnded();
      else this.#clientLost();
    }
    this.#release();
  }

  /**
   * Nothing can be sent to the client any more. If the client had ended its stream, that stream is complete and still
   * delivered.
   */
  #clientLost(): void {
    this.#endedBy ??= "client";
    if (!this.#toUpstream.ended) return this.#break("client_reset");
    this.#ending ??= "client_reset";
    this.#toClient.abandon();
    this.#closeIfDone();
  }

  /** TLS broke after the handshake, or a handler of this class threw. Called in every phase. */
  clientFailed(error: Error): void {
    if (this.#phase === "handshake") return this.#refuse("handshake_failed", { detail: codeOf(error) });
    this.#fail(error, "client_error", "client");
  }

  // ---- relay, half-close: what the upstream does

  /** Called in `relaying`, `closing`, `over`. */
  upstreamSent(chunk: Buffer): void {
    if (this.#works) this.#shared.activity.answers++;
    else this.#targetWorks();
    if (this.#phase === "relaying" && !this.#toClient.push(chunk)) this.#clientLost();
  }

  /** Called in `relaying`, `closing`, `over`. */
  upstreamDrained(): void {
    if (!this.#connected) return;
    if (!this.#toUpstream.flush()) return this.#writeFailed();
    this.#closeIfDone();
  }

  /** A FIN. Called in `relaying`, `closing`, `over`. */
  upstreamEnded(): void {
    if (!this.#connected) return;
    if (!this.#works) this.#targetWorks();
    this.#endedBy ??= "upstream";
    this.#toClient.end();
    this.#closeIfDone();
  }

  /**
   * The upstream's socket is gone. Called in every phase but `handshake`; in `dialing` the socket is one that was given
   * up before.
   */
  upstreamClosed(socket: Socket, error: Error | undefined): void {
    if (socket !== this.#upstream) return;
    if (this.#isLocal && error === undefined && this.#toClient.ended && !this.#toUpstream.waiting) {
      // The target left after its last byte, which a Unix socket reports at once. Drop what the client still sends.
      this.#toUpstream.sink = NO_SINK;
      this.#upstream = undefined;
      return this.#release();
    }
    if (this.#connected && (error !== undefined || !this.#toUpstream.finished)) {
      return this.#upstreamLost(codeOf(error));
    }
    this.#upstream = undefined;
    // After the proxy has ended its half, the upstream's end is reported as a close: all that it sent has arrived.
    this.upstreamEnded();
    this.#release();
  }

  /** A Unix socket can refuse a write before its received bytes are read. Its end follows and says more. */
  #writeFailed(): void {
    if (!this.#isLocal || this.#upstream === undefined) this.#upstreamLost();
  }

  /**
   * Nothing can be sent to the upstream any more. If the upstream had ended its stream, that stream is complete and
   * still delivered.
   */
  #upstreamLost(code = "ECONNRESET"): void {
    const socket = this.#upstream;
    this.#upstream = undefined;
    socket?.terminate();
    if (this.#toClient.ended) {
      this.#endedBy ??= "upstream";
      this.#ending ??= "upstream_reset";
      this.#toUpstream.abandon();
      this.#closeIfDone();
    } else if (this.#phase === "relaying" && this.#isUntouched) {
      this.#toUpstream.sink = this.#toClient.source = undefined;
      this.#targetFailed(code);
    } else this.#break("upstream_reset", "upstream");
  }

  /**
   * TLS broke after the handshake, or a handler of this class threw. TLS also breaks when the target demands another
   * client certificate or refuses the proxy's. Called in every phase but `handshake`.
   */
  upstreamFailed(socket: Socket, error: Error): void {
    const code = codeOf(error);
    if (code === undefined) this.#fail(error, "upstream_reset", "upstream");
    else if (this.#connected && socket === this.#upstream) this.#upstreamLost(code);
  }

  // ---- time

  /**
   * Called at short, regular intervals: every timeout is noticed here. Called in every phase.
   */
  tick(moment: Moment, round: Round): void {
    const phase = this.#phase;
    if (phase === "over") {
      // Its sockets should have closed at once. Close any that has not.
      this.#client.terminate();
      this.#upstream?.terminate();
      return;
    }
    this.#countBytes();
    const due = this.#deadlines.due(phase, moment, this.#bytes, this.#shared.rules.config);
    const isQuiet = due === undefined || due === "idle_timeout";
    if (isQuiet && !this.#works && (phase === "relaying" || phase === "closing")) this.#targetWorks();
    switch (due) {
      case undefined:
        return this.#logProgress(round);
      case "handshake_timeout":
        return this.#refuse(due);
      case "connect_timeout":
        return this.#targetFailed("ETIMEDOUT");
      default:
        return this.#break(due);
    }
  }

  #logProgress({ before, began: now }: Round): void {
    const { progress } = this.#shared.rules.config.log;
    if (progress === undefined || !this.#connected) return;
    if (!this.#deadlines.completes(progress, before, now)) return;
    this.#shared.log.info("progress", {
      id: this.#id,
      client: this.#admission?.client,
      remote: this.#origin.remote,
      peer: this.#origin.peer,
      ...this.#whereTo,
      bytesIn: this.#toUpstream.bytes,
      bytesOut: this.#toClient.bytes,
      durationMs: now - this.#deadlines.acceptedAt,
    });
  }

  /** What has moved since the last time goes to the counters: not per chunk, but while the connection lives. */
  #countBytes(): void {
    if (this.#admission === undefined) return;
    const received = this.#toUpstream.takeCount();
    const sent = this.#toClient.takeCount();
    if (received + sent > 0) this.#shared.ledger.counters.moved(this.#admission.pool.row, received, sent);
  }

  /**
   * Applies a new configuration: closes a connection that would be refused now. Called in every phase.
   * @param trustChanged whether the listener's trust has changed too
   * @returns whether the connection has just lost its authorization: it closes at once or within `revocationGrace`
   */
  reauthorize(trustChanged: boolean): boolean {
    // A connection in its handshake is decided on when the handshake ends; one that is closing has nothing left to send
    // or receive.
    if (this.#admission === undefined || this.#phase === "over" || this.#phase === "closing") return false;
    const { rules, now } = this.#shared;
    const { revocationGrace } = rules.config;
    const before = this.#deadlines.isRevoked;
    if (before && this.#clientGone) return false;
    const why = this.#revokedBy(this.#admission, rules, this.#listener, trustChanged);
    if (why === undefined) {
      this.#deadlines.limit(rules.config, Math.random());
      return false;
    }
    // A block that comes with a reload: it is the operator who ends the connection, and at once.
    if (why === "blocked" && this.closeIfBlocked(rules.blocks, Date.now())) return false;
    // While no target has answered, no work would be interrupted: close at once.
    const grace = this.#isOpening ? 0 : revocationGrace;
    this.#deadlines.revoke({ now: now(), grace, why, random: Math.random() });
    if (grace === 0) this.#break("authorization_revoked");
    return !before;
  }

  /**
   * Why a reload to these rules would end the connection; undefined if it would not. Nothing changes. Called in every
   * phase.
   * @param listener what the reload would make of the connection's listener
   */
  forecast(
    rules: DecisionRules & { readonly config: Config },
    listener: ListenerState,
    trustChanged: boolean,
  ): RevokedFor | "max_duration" | "idle_timeout" | undefined {
    if (this.#admission === undefined || this.#phase === "over" || this.#phase === "closing")
      return undefined;
    if (this.#deadlines.isRevoked && this.#clientGone) return undefined;
    const moment = { now: this.#shared.now(), date: Date.now() };
    return (
      this.#revokedBy(this.#admission, rules, listener, trustChanged) ??
      this.#deadlines.shortened(this.#phase, moment, this.#bytes, rules.config)
    );
  }

  #revokedBy(
    admission: Admission,
    rules: Reauthorizing["rules"],
    listener: ListenerState,
    trustChanged: boolean,
  ): RevokedFor | undefined {
    return reauthorize(this.#client, admission, {
      rules,
      listener,
      generation: this.#generation,
      address: this.#origin.address,
      peerAddress: this.#origin.peerAddress,
      // A client that has left has no certificate to check; what it sent is already on its way.
      judged: (trustChanged || this.#deadlines.isRevoked) && !this.#clientGone,
    });
  }

  /** Has the shadow judge the connection, if it is open. Called in every phase. */
  judgeBy(shadow: Shadow): void {
    if (this.#admission === undefined || this.#phase === "over" || this.#phase === "closing") return;
    // A client that has left has no certificate to check.
    if (this.#clientGone) return;
    this.#shadowLease = shadow.judgeOpen(this.#judged(), this.#admission, this.#shadowLease);
  }

  #judged(): Judged {
    const { rules, now } = this.#shared;
    return {
      id: this.#id,
      socket: this.#client,
      remote: this.#origin.remote,
      peer: this.#origin.peer,
      address: this.#origin.address,
      peerAddress: this.#origin.peerAddress,
      listener: this.#listener,
      generation: this.#generation,
      rules,
      now: now(),
    };
  }

  /** An operator ends the connection: at once, or by its deadline. @returns whether it was open */
  kick(at: number, why: string | undefined): boolean {
    if (this.#admission === undefined || this.#phase === "over") return false;
    this.#deadlines.kick(at, why);
    if (at <= this.#shared.now()) this.#break("kicked");
    return true;
  }

  /** Blocks have changed: ends the connection if one of them holds for it. @returns whether one does */
  closeIfBlocked(blocks: Blocks, date: number): boolean {
    if (this.#admission === undefined || this.#phase === "over") return false;
    const client = this.#client;
    const block = blocks.find(
      {
        client: this.#admission.client,
        address: this.#origin.address,
        fingerprint: () => certificateOf(client)?.fingerprint256,
      },
      date,
    );
    if (block === undefined) return false;
    this.#deadlines.kick(-1, blockDetail(block));
    this.#break("blocked");
    return true;
  }

  /** The connection as operators see it; undefined before it is admitted, and once it is over. */
  view(now: number): ConnectionView | undefined {
    if (this.#admission === undefined || this.#phase === "over") return undefined;
    const { client, group, pool, serverName } = this.#admission;
    return {
      id: this.#id,
      client,
      group,
      upstream: pool.upstream.name,
      target: this.#target && formatAddress(this.#target.address),
      remote: this.#origin.remote,
      peer: this.#origin.peer,
      listener: this.#listener.address,
      serverName: serverName?.slice(0, 255),
      phase: this.#phase,
      ageMs: now - this.#deadlines.acceptedAt,
      idleMs: this.#deadlines.inPhase(now),
      bytesIn: this.#toUpstream.bytes,
      bytesOut: this.#toClient.bytes,
      notAfter: new Date(this.#deadlines.expiresAt).toISOString(),
    };
  }

  /** Who has it open, and what it has carried; undefined where there is no {@link view}. */
  use(): Pick<ConnectionView, "client" | "bytesIn" | "bytesOut"> | undefined {
    if (this.#admission === undefined || this.#phase === "over") return undefined;
    const { client } = this.#admission;
    return { client, bytesIn: this.#toUpstream.bytes, bytesOut: this.#toClient.bytes };
  }

  /** Its number in the thread: later ones have higher ones. */
  get number(): number {
    return this.#number;
  }

  /** When the client's certificate ends, in milliseconds since 1970; Infinity before it is admitted. */
  get expiresAt(): number {
    return this.#deadlines.expiresAt;
  }

  /** The listener that accepted the connection. */
  get listener(): ListenerState {
    return this.#listener;
  }

  // ---- endings, release

  /** Closes the connection at once because the proxy shuts down. Called in every phase. */
  cut(): void {
    if (this.#phase === "handshake") this.#refuse("handshake_failed", { detail: "shutdown" });
    else this.#break("shutdown");
  }

  /**
   * Refuses the connection. The client learns nothing: its connection just closes, as it does for an untrusted
   * certificate. Only an identified client that connects through a tunnel is told why.
   */
  #refuse(reason: RefusalReason, about: Omit<Refusal, "reason"> = {}): void {
    if (this.#phase === "over") return;
    if (this.#ticket !== undefined) this.#shared.handshakes.failed(this.#ticket, about.client !== undefined);
    this.#ticket = undefined;
    const { counters } = this.#shared.ledger;
    if (this.#admission === undefined) counters.handshaking(this.#listener.row, -1);
    else if (this.#phase !== "asking") counters.closed(this.#admission.pool.row, undefined, 0);
    countRefusal(this.#shared, this.#listener.row, about.upstream, reason);
    this.#phase = "over";
    this.#ending = "refused";
    const describe = () => this.#describe(reason, about);
    const line = this.#shared.refusals.add(reason, about.client, this.#origin.remote, describe);
    if (about.client !== undefined) this.#tellRefused(reason, about, String(line.id ?? this.#id));
    this.#client.close();
  }

  /** Strangers learn nothing: TLS has verified this client, and the decision has identified it. This waits for nobody. */
  #tellRefused(reason: RefusalReason, about: Omit<Refusal, "reason">, id: string): void {
    const client = this.#client;
    if (this.#clientGone || this.#told || !client.authorized || client.alpnProtocol !== TUNNEL_PROTOCOL)
      return;
    const record = encodeRefusal(refusalText(reason, about, id));
    // What a client does not take at once is not kept for it.
    if (client.write(record) === record.length) client.shutdown();
    else client.terminate();
  }

  /** The fields of a refusal's log line. The certificate is read only for refusals that get a line. */
  #describe(reason: RefusalReason, { client, upstream, detail }: Omit<Refusal, "reason">): Fields {
    const certificate = certificateOf(this.#client);
    const why = reason === "identity_invalid" ? this.#listener.identity.fault(certificate) : detail;
    return {
      id: this.#id,
      client,
      remote: this.#origin.remote,
      peer: this.#origin.peer,
      listener: this.#listener.address,
      serverName: serverNameOf(this.#client)?.slice(0, 255),
      upstream,
      reason,
      detail: why,
      ...claimsOf(certificate, this.#listener.identity),
    };
  }

  /** Both directions are done: close each socket as soon as it has sent what it holds. */
  #closeIfDone(): void {
    if (!this.#connected || !this.#toUpstream.finished || !this.#toClient.finished) return;
    this.#phase = "closing";
    this.#deadlines.enterPhase(this.#shared.now());
    this.#upstream?.end();
    // After a client's close_notify without a FIN, the runtime reports nothing more of its socket: close it explicitly.
    if (this.#ending === "client_reset") this.#client.terminate();
    else this.#client.end();
    this.#release();
  }

  /**
   * Breaks the connection off. Neither side is told that its stream is complete: the client gets what was sent but no
   * close_notify, and the upstream gets a reset.
   */
  #break(reason: CloseReason, by: "client" | "upstream" | "proxy" = "proxy"): void {
    if (this.#phase === "over") return;
    this.#endedBy ??= by;
    if (this.#phase === "asking" && this.#admission !== undefined) {
      // Its end is counted, and so is its beginning.
      const { pool, group } = this.#admission;
      this.#shared.ledger.counters.admitted(pool.row, groupRow(pool, group));
    }
    this.#phase = "over";
    this.#ending ??= reason;
    this.#attempt?.abandon();
    // A socket that still holds bytes would stay open until they are sent or some 12 s have passed, even if it is
    // closed later. The proxy does not wait for a client that does not read.
    if (!this.#toClient.waiting) this.#client.close();
    if (!this.#clientGone) this.#client.terminate();
    this.#upstream?.terminate();
    this.#release();
  }

  #fail(error: Error, reason: CloseReason, by: "client" | "upstream"): void {
    if (this.#phase === "over") return;
    if (codeOf(error) !== undefined) return this.#break(reason, by);
    this.#shared.log.error("internal error", {
      id: this.#id,
      remote: this.#origin.remote,
      peer: this.#origin.peer,
      error: error.stack ?? String(error),
    });
    this.#break("internal_error");
  }

  /** Gives back everything that the connection holds, once both sockets are gone. */
  #release(): void {
    const { budget, ledger, connections, sources, log, changed, now } = this.#shared;
    if (!this.#clientGone || this.#upstream !== undefined || !connections.delete(this)) return;
    if (this.#origin.row !== undefined) {
      if (this.#admission !== undefined) sources.closed(this.#origin.row, now());
      sources.leave(this.#origin.row);
    }
    this.#admission?.lease.release();
    this.#shadowLease?.release();
    if (this.#toUpstream.bytes > 0 && !this.#works) this.#targetWorks();
    this.#pick?.release();
    budget.giveBack(DESCRIPTORS_PER_CONNECTION);
    ledger.giveBackConnection();
    if (this.#ending !== "refused") {
      this.#countBytes();
      const reason = this.#ending ?? ("closed" satisfies CloseReason);
      const durationMs = now() - this.#deadlines.acceptedAt;
      const row = this.#admission?.pool.row;
      if (row !== undefined) ledger.counters.closed(row, CLOSE_CODE[reason], durationMs);
      log.info("closed", {
        id: this.#id,
        client: this.#admission?.client,
        remote: this.#origin.remote,
        peer: this.#origin.peer,
        listener: this.#listener.address,
        serverName: this.#admission?.serverName?.slice(0, 255),
        ...this.#whereTo,
        bytesIn: this.#toUpstream.bytes,
        bytesOut: this.#toClient.bytes,
        durationMs,
        reason,
        endedBy: this.#endedBy,
        detail: this.#deadlines.kickedFor ?? this.#deadlines.revokedFor,
      });
    }
    changed();
  }

  /** Bytes so far, both ways. */
  get #bytes(): number {
    return this.#toUpstream.bytes + this.#toClient.bytes;
  }

  get #connected(): boolean {
    return this.#phase === "relaying";
  }

  /** Let in, and no target has answered yet. */
  get #isOpening(): boolean {
    return this.#phase === "dialing" || this.#phase === "asking";
  }

  get #isLocal(): boolean {
    return this.#target !== undefined && "unix" in this.#target.address;
  }

  /**
   * Neither side has had a byte of the other's, so that another target can take over and nothing is sent twice. Over
   * TLS, a write that failed or took nothing may have sent a part.
   */
  get #isUntouched(): boolean {
    const { bytes, finished, waiting } = this.#toUpstream;
    const written = bytes > 0 || finished || (waiting && this.#admission?.pool.tls !== undefined);
    return !written && this.#toClient.bytes === 0 && !this.#toClient.waiting;
  }

  get #id(): string {
    return idOf(this.#shared, this.#number);
  }

  get #whereTo(): { upstream: string | undefined; target: string | undefined } {
    const upstream = this.#admission?.pool.upstream.name;
    return { upstream, target: this.#target && formatAddress(this.#target.address) };
  }
}

/** The certificate that the client has shown, verified or not. A closed socket may have none any more. */
function certificateOf(socket: Socket): X509Certificate | undefined {
  try {
    return socket.getPeerX509Certificate();
  } catch {
    return undefined;
  }
}
