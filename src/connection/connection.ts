// One connection, from accept to release, in the order in which it happens:
//
//   accept → handshake → identify → route → authorize → admit → (ask the fleet) → pick → dial → relay → half-close → release
//
// (admission.ts has "identify" to "admit"). A refusal before "pick" opens no connection to a target, and no refusal takes a
// token. The phases, and the legal transitions between them:
//
//   handshake ──→ dialing ⟷ relaying ──→ closing ──→ over
//       │            │           │                    ↑
//       └────────────┴───────────┴────────────────────┘
//
// Where there is a fleet, `asking` comes between `handshake` and `dialing`; from there to `over` too.
// From `relaying` back to `dialing` only while neither side has had a byte of the other's; from `dialing` to itself with the
// next target. A connection that closes in peace is released in `closing`. Each event handler says which phases it can meet;
// the first reason for an ending is the one that counts; what a connection holds is given back in one place, `#release`, once
// its sockets are gone.

import type { X509Certificate } from "node:crypto";
import { formatAddress } from "../lib/address.ts";
import {
  admit,
  reauthorize,
  serverNameOf,
  type Admission,
  type ListenerState,
  type Refusal,
  type ActiveConfig,
} from "./admission.ts";
import { claimsOf } from "../auth/claims.ts";
import type { Target } from "../config/config.ts";
import { Deadlines, type Moment, type Phase } from "./deadlines.ts";
import { PER_CONNECTION, type DescriptorBudget } from "../lib/descriptors.ts";
import { createDial, type Attempt, type Dialer } from "../upstreams/dial.ts";
import { codeOf, type CloseReason, type RefusalReason } from "../lib/errors.ts";
import { both, type FleetGate, type FleetRefusal, type Lease } from "./fleet-gate.ts";
import type { HandshakeQueue } from "./handshake-queue.ts";
import { Ticket, type HandshakeOwner, type HandshakeSocket } from "./ticket.ts";
import { logHealth } from "../upstreams/health-log.ts";
import { identityFault } from "../auth/identity.ts";
import type { Fields, Logger } from "../lib/log.ts";
import type { RefusalLog } from "./refusal-log.ts";
import { Relay, type Stream } from "./relay.ts";
import { sourceOf } from "../lib/source.ts";
import type { TargetLease } from "../state/balancer.ts";
import type { Ledger } from "../state/ledger.ts";
import type { Limits } from "../state/limits.ts";
import type { Sources } from "../state/sources.ts";
import type { Tarpit } from "./tarpit.ts";

/** What all connections of a thread share. */
export interface Shared {
  /** A reload puts others in their place. */
  rules: ActiveConfig;
  /** What all threads share. */
  readonly ledger: Ledger;
  readonly budget: DescriptorBudget;
  readonly limits: Limits;
  readonly sources: Sources;
  readonly handshakes: HandshakeQueue;
  readonly tarpit: Tarpit;
  /** Undefined where the proxy counts alone. */
  fleet: FleetGate | undefined;
  readonly log: Logger;
  /** Every refusal goes through here. */
  readonly refusals: RefusalLog;
  /** All connections that hold anything. */
  readonly connections: Set<Connection>;
  /** Begins the names of this thread's connections. */
  readonly prefix: string;
  /** Whole milliseconds of a clock that only goes forward. */
  now(): number;
  /** `connections` grew or shrank. */
  changed(): void;
}

type Socket = Bun.Socket<Connection>;

/** In the place of a target that has left. */
const NO_SINK: Stream = { write: () => -1, shutdown() {}, pause() {}, resume() {} };

/** Handlers for the sockets of clients; a socket's `data` is its connection, or nothing where it was not let in. */
export function clientHandlers(
  shared: Shared,
  entrance: ListenerState,
): Bun.SocketHandler<Connection | undefined> {
  return {
    open: (socket) => accept(shared, entrance, socket as Socket),
    handshake: (socket, success, error) => socket.data?.handshakeDone(success, error),
    data: (socket, chunk) => socket.data?.clientSent(chunk),
    drain: (socket) => socket.data?.clientDrained(),
    end: (socket) => socket.data?.clientEnded(),
    close: (socket, error) => (socket.data ? socket.data.clientClosed(error) : shared.tarpit.closed(socket)),
    error: (socket, error) =>
      socket.data ? socket.data.clientFailed(error) : acceptFailed(shared, socket, error),
  };
}

const dial = createDial<Connection>({
  data: (socket, chunk) => socket.data.upstreamSent(chunk),
  drain: (socket) => socket.data.upstreamDrained(),
  end: (socket) => socket.data.upstreamEnded(),
  close: (socket, error) => socket.data.upstreamClosed(socket, error),
  error: (socket, error) => socket.data.upstreamFailed(socket, error),
});

function accept(shared: Shared, entrance: ListenerState, socket: Socket): void {
  const { sources, handshakes, rules, tarpit, now } = shared;
  const remote = remoteOf(socket);
  const { remoteAddress } = socket as Partial<Socket>;
  if (remoteAddress === undefined) {
    // A client that has reset its connection already. Whose it was cannot be told, so that TLS is not to read of it.
    socket.terminate();
    return turnedAway(shared, entrance, remote, "handshake_failed", "the client left");
  }
  const source = rules.isExempt(remoteAddress) ? undefined : sourceOf(remoteAddress);
  const row = source && sources.enter(source, now());
  if (source !== undefined && row === undefined) {
    tarpit.hold(socket);
    return turnedAway(shared, entrance, remote, "source_limited");
  }
  const makeRoom = () => (tarpit.clear() && takeSlot(shared)) || (handshakes.evict(row) && takeSlot(shared));
  if (!takeSlot(shared) && !makeRoom()) {
    if (row !== undefined) sources.leave(row);
    // A reset rather than an end: it leaves nothing behind in the kernel either.
    socket.terminate();
    return turnedAway(shared, entrance, remote, "overloaded");
  }
  socket.data = new Connection(shared, entrance, socket, remote, row);
}

function takeSlot({ ledger, budget, rules }: Shared): boolean {
  if (!ledger.takeConnection(rules.config.maxConnections)) return false;
  if (budget.take(PER_CONNECTION)) return true;
  ledger.giveBackConnection();
  return false;
}

/** A connection was refused before there was one. */
function turnedAway(
  shared: Shared,
  { address }: ListenerState,
  remote: string,
  reason: RefusalReason,
  detail?: string,
): void {
  const id = idOf(shared, ++made);
  shared.refusals.add(reason, undefined, remote, () => ({ id, remote, listener: address, reason, detail }));
}

/** Connections of this thread so far, those that were turned away included. */
let made = 0;

/** Names a connection, in the log and to the upstream; no other has the same. */
function idOf({ prefix }: Shared, number: number): string {
  return `${prefix}-${number.toString(36)}`;
}

function acceptFailed(shared: Shared, socket: Bun.Socket<unknown>, error: Error): void {
  shared.log.error("internal error", { error: error.stack ?? String(error) });
  socket.terminate();
}

/** One client's connection and, once admitted, the one to its target. */
export class Connection implements Dialer, HandshakeOwner {
  readonly #shared: Shared;
  readonly #entrance: ListenerState;
  /** The entrance's when the handshake began. */
  readonly #generation: number;
  readonly #number = ++made;
  readonly #remote: string;
  readonly #client: Socket;
  /** Of the source that it counts for; undefined where that is exempt, or unknown. */
  readonly #row: number | undefined;
  /** Its place in the queue of handshakes, for as long as it has one. */
  #ticket: Ticket | undefined;
  readonly #toUpstream = new Relay();
  readonly #toClient = new Relay();

  #phase: Phase = "handshake";
  #clientGone = false;
  #upstream: Socket | undefined;
  /** From being let in on. */
  #admission: Admission | undefined;
  /** The fleet counts it, or is being asked. */
  #inFleet = false;
  #pick: TargetLease | undefined;
  #target: Target | undefined;
  #attempt: Attempt<Connection> | undefined;
  /** What happens to the connection from now on is not held against its target. */
  #works = false;
  /** Slots of the targets that failed this connection; made when the first one does. */
  #tried: Set<number> | undefined;
  /** How it ended, if not in peace: refused, or the first reason for breaking off. */
  #ending: "refused" | CloseReason | undefined;
  /** Which side ended first, with an end or a reset. */
  #endedBy: "client" | "upstream" | "proxy" | undefined;
  readonly #deadlines: Deadlines;

  constructor(
    shared: Shared,
    entrance: ListenerState,
    client: Socket,
    remote: string,
    row: number | undefined,
  ) {
    this.#shared = shared;
    this.#entrance = entrance;
    this.#generation = entrance.generation;
    this.#client = client;
    this.#row = row;
    this.#remote = remote;
    this.#deadlines = new Deadlines(shared.now());
    this.#toUpstream.source = client;
    this.#toClient.sink = client;
    shared.connections.add(this);
    // Bun's types leave the descriptor out.
    this.#ticket = new Ticket(client as Socket & HandshakeSocket, this, row);
    shared.handshakes.enter(this.#ticket);
    shared.changed();
  }

  // ---- handshake, identify, route, authorize, admit

  /** Meets `handshake`, and `over` where the connection was refused meanwhile. */
  handshakeDone(success: boolean, error: Error | null): void {
    if (this.#phase !== "handshake") return;
    const { rules, limits, sources, handshakes, now } = this.#shared;
    if (this.#ticket !== undefined) handshakes.ended(this.#ticket);
    const admission = admit(this.#client, success, error, {
      rules,
      limits,
      entrance: this.#entrance,
      generation: this.#generation,
      id: this.#id,
      now: now(),
    });
    if ("reason" in admission) return this.#refuse(admission.reason, admission);
    this.#admission = admission;
    if (this.#ticket !== undefined) handshakes.done(this.#ticket);
    this.#ticket = undefined;
    if (this.#row !== undefined) sources.admitted(this.#row, now());
    this.#deadlines.admitted(admission.expiresAt);
    this.#deadlines.limit(rules.config, Math.random());
    if (this.#shared.fleet === undefined) this.#admitted(admission);
    else this.#askFleet(this.#shared.fleet, admission);
  }

  /** Every limit admits it. Meets `handshake` and `asking`. */
  #admitted(admission: Admission): void {
    // Asked here: below that level, it costs nothing.
    if (this.#shared.rules.config.logLevel === "debug") this.#logAdmitted(admission);
    this.#dialNext(admission);
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

  /** Its turn does not come: its source has used up its failures, or its place is another's. Meets `handshake` only. */
  handshakeRefused(reason: "source_limited" | "overloaded", detail?: string): void {
    this.#refuse(reason, { detail });
    this.#client.terminate();
  }

  #logAdmitted({ client, pool, serverName }: Admission): void {
    this.#shared.log.debug("admitted", {
      id: this.#id,
      client,
      remote: this.#remote,
      listener: this.#entrance.address,
      serverName: serverName?.slice(0, 255),
      upstream: pool.upstream.name,
    });
  }

  // ---- pick, dial

  #dialNext({ pool, lease, client, header }: Admission): void {
    const { budget, now } = this.#shared;
    this.#pick = pool.balancer.pick(now(), this.#tried);
    this.#target = this.#pick && pool.targets.get(this.#pick.slot);
    if (this.#target === undefined) {
      // The client was not served: its token goes back.
      lease.cancel();
      return this.#refuse("no_target", { client, upstream: pool.upstream.name });
    }
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

  /** Meets `dialing` only: in any other phase the attempt has been abandoned. */
  dialed(socket: Socket): void {
    this.#attempt = undefined;
    this.#upstream = socket;
    this.#phase = "relaying";
    this.#works = false;
    this.#deadlines.enterPhase(this.#shared.now());
    this.#toUpstream.sink = this.#toClient.source = socket;
    // What the client sent with the end of its handshake, or its end, has been waiting.
    this.upstreamDrained();
  }

  /** The target is at work, or has kept the connection for a while. */
  #targetWorks(): void {
    const { log, now } = this.#shared;
    this.#works = true;
    if (this.#pick?.succeeded(now())) {
      log.info("target is back", this.#whereTo);
      logHealth(log, this.#admission?.pool);
    }
  }

  /** Meets `dialing` only. */
  dialFailed(error: Error): void {
    this.#targetFailed(codeOf(error) ?? error.message);
  }

  /** The picked target is no good: it is passed over, and the next best one tried. */
  #targetFailed(error: string): void {
    const { log, now } = this.#shared;
    log.warn("target failed", { id: this.#id, ...this.#whereTo, error });
    this.#attempt?.abandon();
    this.#attempt = undefined;
    if (this.#pick !== undefined) {
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

  /** Meets `asking` and `dialing` (with the handshake's last flight), `relaying`, `closing`, `over`. */
  clientSent(chunk: Buffer): void {
    if (this.#connected || this.#isOpening) {
      if (!this.#toUpstream.push(chunk)) this.#writeFailed();
    } else if (this.#phase === "handshake") {
      this.#refuse("handshake_failed", { detail: "data before the handshake's end" });
    }
  }

  /** Meets every phase: it also comes when there was nothing to drain. */
  clientDrained(): void {
    if (!this.#connected) return;
    if (!this.#toClient.flush()) return this.#clientLost();
    this.#closeIfDone();
  }

  /** A FIN or a close_notify. Meets every phase. */
  clientEnded(): void {
    if (this.#phase === "handshake") return this.#refuse("handshake_failed", { detail: "the client left" });
    if (!this.#connected && !this.#isOpening) return;
    this.#endedBy ??= "client";
    this.#toUpstream.end();
    this.#closeIfDone();
  }

  /** The client's socket is gone. Meets every phase. */
  clientClosed(error: Error | undefined): void {
    this.#clientGone = true;
    if (this.#phase === "handshake") {
      this.#refuse("handshake_failed", { detail: codeOf(error) ?? "the client left" });
    } else if (this.#isOpening) this.#break("client_reset", "client");
    else if (this.#connected) {
      // Once we have ended our half, the client's end comes as a close: all it sent has arrived.
      if (error === undefined && this.#toClient.finished) this.clientEnded();
      else this.#clientLost();
    }
    this.#release();
  }

  /** Nothing can be sent to the client any more. What it sent, if it had ended, is whole and still delivered. */
  #clientLost(): void {
    this.#endedBy ??= "client";
    if (!this.#toUpstream.ended) return this.#break("client_reset");
    this.#ending ??= "client_reset";
    this.#toClient.abandon();
    this.#closeIfDone();
  }

  /** Broken TLS after the handshake, or a handler of this class threw. Meets every phase. */
  clientFailed(error: Error): void {
    if (this.#phase === "handshake") return this.#refuse("handshake_failed", { detail: codeOf(error) });
    this.#fail(error, "client_error", "client");
  }

  // ---- relay, half-close: what the upstream does

  /** Meets `relaying`, `closing`, `over`. */
  upstreamSent(chunk: Buffer): void {
    if (!this.#works) this.#targetWorks();
    if (this.#phase === "relaying" && !this.#toClient.push(chunk)) this.#clientLost();
  }

  /** Meets `relaying`, `closing`, `over`. */
  upstreamDrained(): void {
    if (!this.#connected) return;
    if (!this.#toUpstream.flush()) return this.#writeFailed();
    this.#closeIfDone();
  }

  /** A FIN. Meets `relaying`, `closing`, `over`. */
  upstreamEnded(): void {
    if (!this.#connected) return;
    if (!this.#works) this.#targetWorks();
    this.#endedBy ??= "upstream";
    this.#toClient.end();
    this.#closeIfDone();
  }

  /** The upstream's socket is gone. Meets every phase but `handshake`; in `dialing` it is one given up before. */
  upstreamClosed(socket: Socket, error: Error | undefined): void {
    if (socket !== this.#upstream) return;
    if (this.#isLocal && error === undefined && this.#toClient.ended && !this.#toUpstream.waiting) {
      // Left after its last byte, which a local socket tells at once: what the client still sends has no taker.
      this.#toUpstream.sink = NO_SINK;
      this.#upstream = undefined;
      return this.#release();
    }
    if (this.#connected && (error !== undefined || !this.#toUpstream.finished)) {
      return this.#upstreamLost(codeOf(error));
    }
    this.#upstream = undefined;
    // Once we have ended our half, the upstream's end comes as a close: all it sent has arrived.
    this.upstreamEnded();
    this.#release();
  }

  /** A local socket has no taker any more before what came from it is read: its end, which tells more, follows. */
  #writeFailed(): void {
    if (!this.#isLocal || this.#upstream === undefined) this.#upstreamLost();
  }

  /** Nothing can be sent to the upstream any more. What it sent, if it had ended, is whole and still delivered. */
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
   * Broken TLS after the handshake, which is also how a target says that it wants another certificate, or none of ours;
   * or a handler of this class threw. Meets every phase but `handshake`.
   */
  upstreamFailed(socket: Socket, error: Error): void {
    const code = codeOf(error);
    if (code === undefined) this.#fail(error, "upstream_reset", "upstream");
    else if (this.#connected && socket === this.#upstream) this.#upstreamLost(code);
  }

  // ---- time

  /** Called at short, regular intervals: this is where every timeout is noticed. Meets every phase. */
  tick(moment: Moment): void {
    const phase = this.#phase;
    if (phase === "over") {
      // Its sockets should have closed at once. Where one has not, it is closed now.
      this.#client.terminate();
      this.#upstream?.terminate();
      return;
    }
    const bytes = this.#toUpstream.bytes + this.#toClient.bytes;
    const due = this.#deadlines.due(phase, moment, bytes, this.#shared.rules.config);
    const isQuiet = due === undefined || due === "idle_timeout";
    if (isQuiet && !this.#works && (phase === "relaying" || phase === "closing")) this.#targetWorks();
    switch (due) {
      case undefined:
        return;
      case "handshake_timeout":
        return this.#refuse(due);
      case "connect_timeout":
        return this.#targetFailed("ETIMEDOUT");
      default:
        return this.#break(due);
    }
  }

  /**
   * The configuration has changed: a connection that would be refused now is closed. Meets every phase.
   * @param trustChanged the listener's trust has changed too
   * @returns whether it has lost its authorization by this: it closes at once or within `revocationGrace`
   */
  reauthorize(trustChanged: boolean): boolean {
    // What is in its handshake is judged at its end; what is closing has nothing left to send or to take.
    if (this.#admission === undefined || this.#phase === "over" || this.#phase === "closing") return false;
    const { rules, now } = this.#shared;
    const { revocationGrace } = rules.config;
    const before = this.#deadlines.isRevoked;
    if (before && this.#clientGone) return false;
    const why = reauthorize(this.#client, this.#admission, {
      rules,
      entrance: this.#entrance,
      generation: this.#generation,
      // A client that has gone has no certificate to look at; what it sent is on its way.
      judged: (trustChanged || before) && !this.#clientGone,
    });
    if (why === undefined) {
      this.#deadlines.limit(rules.config, Math.random());
      return false;
    }
    // While no target has answered there is nothing to bring to an end in peace.
    const grace = this.#isOpening ? 0 : revocationGrace;
    this.#deadlines.revoke({ now: now(), grace, why, random: Math.random() });
    if (grace === 0) this.#break("authorization_revoked");
    return !before;
  }

  /** The listener it came through. */
  get entrance(): ListenerState {
    return this.#entrance;
  }

  // ---- endings, release

  /** Cuts the connection because the proxy shuts down. Meets every phase. */
  cut(): void {
    if (this.#phase === "handshake") this.#refuse("handshake_failed", { detail: "shutdown" });
    else this.#break("shutdown");
  }

  /** Not let in. The client learns nothing: its connection just closes, as it does for an untrusted certificate. */
  #refuse(reason: RefusalReason, about: Omit<Refusal, "reason"> = {}): void {
    if (this.#phase === "over") return;
    if (this.#ticket !== undefined) this.#shared.handshakes.failed(this.#ticket, about.client !== undefined);
    this.#ticket = undefined;
    this.#phase = "over";
    this.#ending = "refused";
    this.#shared.refusals.add(reason, about.client, this.#remote, () => this.#describe(reason, about));
    this.#client.close();
  }

  /** What the log says of a refusal. The certificate is read for those only that get a line. */
  #describe(reason: RefusalReason, { client, upstream, detail }: Omit<Refusal, "reason">): Fields {
    const certificate = certificateOf(this.#client);
    const why = reason === "identity_invalid" ? identityFault(certificate?.subject) : detail;
    return {
      id: this.#id,
      client,
      remote: this.#remote,
      listener: this.#entrance.address,
      serverName: serverNameOf(this.#client)?.slice(0, 255),
      upstream,
      reason,
      detail: why,
      ...claimsOf(certificate),
    };
  }

  /** Both directions done: the sockets may go as soon as they have sent what they hold. */
  #closeIfDone(): void {
    if (!this.#connected || !this.#toUpstream.finished || !this.#toClient.finished) return;
    this.#phase = "closing";
    this.#deadlines.enterPhase(this.#shared.now());
    this.#upstream?.end();
    // After a client's close_notify without a FIN nothing more would be heard of its socket: it has to be ended.
    if (this.#ending === "client_reset") this.#client.terminate();
    else this.#client.end();
    this.#release();
  }

  /**
   * Breaks off. Neither side is told that its stream is complete: the client gets what was sent, but no close_notify,
   * and the upstream a reset.
   */
  #break(reason: CloseReason, by: "client" | "upstream" | "proxy" = "proxy"): void {
    if (this.#phase === "over") return;
    this.#endedBy ??= by;
    this.#phase = "over";
    this.#ending ??= reason;
    this.#attempt?.abandon();
    // A socket that still holds something would not close before it is sent or some 12 s are over, even if it is closed
    // after that: who does not read is not waited for.
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
      remote: this.#remote,
      error: error.stack ?? String(error),
    });
    this.#break("internal_error");
  }

  /** Gives back all that is held, once both sockets are gone. */
  #release(): void {
    const { budget, ledger, connections, sources, log, changed, now } = this.#shared;
    if (!this.#clientGone || this.#upstream !== undefined || !connections.delete(this)) return;
    if (this.#row !== undefined) {
      if (this.#admission !== undefined) sources.closed(this.#row, now());
      sources.leave(this.#row);
    }
    this.#admission?.lease.release();
    if (this.#toUpstream.bytes > 0 && !this.#works) this.#targetWorks();
    this.#pick?.release();
    budget.giveBack(PER_CONNECTION);
    ledger.giveBackConnection();
    if (this.#ending !== "refused") {
      log.info("closed", {
        id: this.#id,
        client: this.#admission?.client,
        remote: this.#remote,
        listener: this.#entrance.address,
        serverName: this.#admission?.serverName?.slice(0, 255),
        ...this.#whereTo,
        bytesIn: this.#toUpstream.bytes,
        bytesOut: this.#toClient.bytes,
        durationMs: now() - this.#deadlines.acceptedAt,
        reason: this.#ending ?? ("closed" satisfies CloseReason),
        endedBy: this.#endedBy,
        detail: this.#deadlines.revokedFor,
      });
    }
    changed();
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
   * Neither side has had anything of the other's, so that another target may take this one's place: nothing is sent twice.
   * Over TLS a write that failed, or took nothing, may have sent a part.
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

/** The certificate that the client has shown, verified or not. A socket that is gone may have none any more. */
function certificateOf(socket: Socket): X509Certificate | undefined {
  try {
    return socket.getPeerX509Certificate();
  } catch {
    return undefined;
  }
}

/** The client's address. A client that left before it was accepted has none any more, although the types say so. */
function remoteOf(socket: Socket): string {
  const { remoteAddress: hostname, remotePort: port } = socket as Partial<Socket>;
  return hostname === undefined || port === undefined ? "unknown" : formatAddress({ hostname, port });
}
