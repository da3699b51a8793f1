// Between a worker thread and the fleet, which is in the thread that supervises: a question is a message there and one back.

import type { FleetGate, FleetRefusal, Lease } from "../connection/fleet-gate.ts";

/** From a worker. A lease has the number of its question. */
export type FleetRequest =
  | { readonly does: "ask" | "adopt"; readonly id: number; readonly client: string }
  | { readonly does: "release" | "cancel"; readonly id: number };

/** To a worker. */
export interface FleetReply {
  readonly id: number;
  /** Why the client is refused; undefined where it is not. */
  readonly refusal: FleetRefusal | undefined;
}

/** The worker's end. */
export class WorkerGate implements FleetGate {
  readonly #send: (request: FleetRequest) => void;
  readonly #asked = new Map<number, (answer: Lease | FleetRefusal) => void>();
  #last = 0;

  constructor(send: (request: FleetRequest) => void) {
    this.#send = send;
  }

  ask(client: string, answered: (answer: Lease | FleetRefusal) => void): void {
    const id = ++this.#last;
    this.#asked.set(id, answered);
    this.#send({ does: "ask", id, client });
  }

  adopt(client: string): Lease {
    const id = ++this.#last;
    this.#send({ does: "adopt", id, client });
    return this.#lease(id);
  }

  heard({ id, refusal }: FleetReply): void {
    const answered = this.#asked.get(id);
    this.#asked.delete(id);
    answered?.(refusal ?? this.#lease(id));
  }

  #lease(id: number): Lease {
    let held = true;
    const end = (does: "release" | "cancel") => {
      if (held) this.#send({ does, id });
      held = false;
    };
    return { release: () => end("release"), cancel: () => end("cancel") };
  }
}

/** The supervisor's end, for one worker. */
export class FleetLink {
  readonly #gate: FleetGate;
  readonly #send: (reply: FleetReply) => void;
  readonly #leases = new Map<number, Lease>();
  #closed = false;

  constructor(gate: FleetGate, send: (reply: FleetReply) => void) {
    this.#gate = gate;
    this.#send = send;
  }

  heard(request: FleetRequest): void {
    const { does, id } = request;
    if (does === "ask") {
      this.#gate.ask(request.client, (answer) => {
        if (typeof answer === "string") return this.#closed ? undefined : this.#send({ id, refusal: answer });
        if (this.#closed) return answer.release();
        this.#leases.set(id, answer);
        this.#send({ id, refusal: undefined });
      });
    } else if (does === "adopt") this.#leases.set(id, this.#gate.adopt(request.client));
    else {
      this.#leases.get(id)?.[does]();
      this.#leases.delete(id);
    }
  }

  /** The worker is gone, and its connections with it. */
  close(): void {
    this.#closed = true;
    for (const lease of this.#leases.values()) lease.release();
    this.#leases.clear();
  }
}
