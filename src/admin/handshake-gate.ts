// The way in of the HTTPS door: from accept to a verified certificate. Strangers are held to what `[handshakes]` lets them cost,
// by the same queue and the same account of sources as on the ports for clients.

import type { X509Certificate } from "node:crypto";
import type { Config } from "../config/config.ts";
import type { Refusal } from "../connection/admission.ts";
import { Activity } from "../connection/activity.ts";
import { HandshakeQueue } from "../connection/handshake-queue.ts";
import { socketMeter } from "../connection/socket-meter.ts";
import { Ticket, type HandshakeOwner, type HandshakeSocket } from "../connection/ticket.ts";
import { monotonic } from "../lib/clock.ts";
import { ADMIN_CONNECTIONS } from "../lib/descriptors.ts";
import { rangeList, sourceOf } from "../lib/source.ts";
import type { Ledger } from "../state/ledger.ts";
import { Sources } from "../state/sources.ts";
import { Bridge } from "./bridge.ts";

/** Handshakes under way at a time. */
const MAX_HANDSHAKES = 8;

export type GuestSocket = Bun.Socket<Guest | undefined>;

/** What becomes of a handshake. */
export interface Verdict {
  readonly refusal: Refusal | undefined;
  /** The certificate is good: a refusal is no stranger's failure. */
  readonly verified: boolean;
}

export interface GateOptions {
  readonly ledger: Ledger;
  readonly config: () => Config;
  /** Counts the changes of trust. */
  generation(): number;
  /** Asked when a handshake has ended, well or not. */
  judge(guest: Guest, success: boolean, error: Error | null): Verdict;
  /** Somebody is in. */
  entered(guest: Guest, stream: Bridge): void;
  refused(socket: GuestSocket, refusal: Refusal): void;
}

export class HandshakeGate {
  readonly options: GateOptions;
  readonly sources: Sources;
  readonly queue: HandshakeQueue;
  /** In their handshake. */
  readonly waiting = new Set<Guest>();
  #isExempt: (address: string | undefined) => boolean = () => false;

  constructor(options: GateOptions) {
    this.options = options;
    this.sources = new Sources(options.ledger, options.config().handshakes);
    this.queue = new HandshakeQueue({
      activity: new Activity(),
      sources: this.sources,
      meter: socketMeter(),
      max: MAX_HANDSHAKES,
      now: monotonic,
    });
    this.follow();
  }

  /** For the listener. */
  get handlers(): Bun.SocketHandler<Guest | undefined> {
    return {
      open: (socket) => this.#accept(socket),
      handshake: (socket, success, error) => socket.data?.handshakeDone(success, error),
      data: (socket, bytes) => socket.data?.received(bytes),
      drain: (socket) => socket.data?.stream?.drain(),
      end: (socket) => socket.data?.ended(),
      close: (socket) => socket.data?.closed(),
      error: (socket) => void socket.terminate(),
    };
  }

  /** The configuration has changed. */
  follow(): void {
    const { handshakes } = this.options.config();
    this.sources.setRule(handshakes);
    this.#isExempt = rangeList(handshakes.exempt);
  }

  close(): void {
    for (const guest of this.waiting) guest.socket.terminate();
  }

  #accept(socket: GuestSocket): void {
    const { remoteAddress } = socket as Partial<GuestSocket>;
    // It has left already.
    if (remoteAddress === undefined) return void socket.terminate();
    const source = this.#isExempt(remoteAddress) ? undefined : sourceOf(remoteAddress);
    const row = source && this.sources.enter(source, monotonic());
    if (source !== undefined && row === undefined) return this.#turnAway(socket, "source_limited");
    if (this.waiting.size >= ADMIN_CONNECTIONS && !this.queue.evict(row)) {
      if (row !== undefined) this.sources.leave(row);
      return this.#turnAway(socket, "overloaded");
    }
    socket.data = new Guest(this, socket, row);
  }

  #turnAway(socket: GuestSocket, reason: Refusal["reason"]): void {
    this.options.refused(socket, { reason });
    socket.terminate();
  }
}

/** One connection through the door. */
export class Guest implements HandshakeOwner {
  readonly socket: GuestSocket;
  /** Of trust, when the handshake began. */
  readonly generation: number;
  /** Once it is in. */
  stream: Bridge | undefined;
  readonly #gate: HandshakeGate;
  readonly #row: number | undefined;
  readonly #ticket: Ticket;
  readonly #deadline: Timer;
  #over = false;

  constructor(gate: HandshakeGate, socket: GuestSocket, row: number | undefined) {
    this.#gate = gate;
    this.socket = socket;
    this.generation = gate.options.generation();
    this.#row = row;
    this.#ticket = new Ticket(socket as GuestSocket & HandshakeSocket, this, row);
    const { handshakeTimeout } = gate.options.config();
    this.#deadline = setTimeout(() => this.#refuse({ reason: "handshake_timeout" }, false), handshakeTimeout);
    gate.waiting.add(this);
    gate.queue.enter(this.#ticket);
  }

  handshakeDone(success: boolean, error: Error | null): void {
    if (this.#over || this.stream !== undefined) return;
    const { queue, sources, options } = this.#gate;
    queue.ended(this.#ticket);
    const { refusal, verified } = options.judge(this, success, error);
    if (refusal !== undefined) return this.#refuse(refusal, verified);
    clearTimeout(this.#deadline);
    this.#gate.waiting.delete(this);
    queue.done(this.#ticket);
    if (this.#row !== undefined) sources.admitted(this.#row, monotonic());
    this.stream = new Bridge(this.socket);
    options.entered(this, this.stream);
  }

  /** Its turn does not come. */
  handshakeRefused(reason: "source_limited" | "overloaded", detail?: string): void {
    this.#refuse({ reason, detail }, false);
  }

  received(bytes: Uint8Array): void {
    if (this.stream !== undefined) this.stream.received(bytes);
    else this.#refuse({ reason: "handshake_failed", detail: "data before the handshake's end" }, false);
  }

  ended(): void {
    if (this.stream !== undefined) this.stream.ended();
    else this.#refuse({ reason: "handshake_failed", detail: "the client left" }, false);
  }

  closed(): void {
    if (this.stream === undefined) {
      this.#refuse({ reason: "handshake_failed", detail: "the client left" }, false);
    } else if (this.#row !== undefined) this.#gate.sources.closed(this.#row, monotonic());
    if (this.#row !== undefined) this.#gate.sources.leave(this.#row);
    this.stream?.gone();
  }

  /** The client learns nothing. */
  #refuse(refusal: Refusal, verified: boolean): void {
    if (this.#over || this.stream !== undefined) return;
    this.#over = true;
    clearTimeout(this.#deadline);
    this.#gate.waiting.delete(this);
    this.#gate.queue.failed(this.#ticket, verified);
    this.#gate.options.refused(this.socket, refusal);
    this.socket.terminate();
  }
}

/** The certificate that was shown, verified or not; a socket that is gone may have none any more. */
export function shownBy(socket: GuestSocket): X509Certificate | undefined {
  try {
    return socket.getPeerX509Certificate();
  } catch {
    return undefined;
  }
}
