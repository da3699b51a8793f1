// The handshakes that wait for a turn, by source. Sources take turns. Proven sources come first every other time,
// however many strangers wait. Pure.

import { EXEMPT, WaitingList, type Ticket } from "./ticket.ts";

export class Waiting {
  /** By source; the next one to get a turn comes first. */
  readonly lists = new Map<number, WaitingList>();
  readonly #proven = new Set<number>();
  #provenFirst = false;

  /** Sources with waiting handshakes. */
  get size(): number {
    return this.lists.size;
  }

  /** @param proven whether its source is proven or not counted */
  add(ticket: Ticket, proven: boolean): void {
    const row = ticket.row ?? EXEMPT;
    let list = this.lists.get(row);
    if (list === undefined) this.lists.set(row, (list = new WaitingList()));
    list.add(ticket);
    if (proven) this.#proven.add(row);
  }

  delete(ticket: Ticket): void {
    const row = ticket.row ?? EXEMPT;
    const list = this.lists.get(row);
    if (list?.delete(ticket) !== true || list.size > 0) return;
    this.lists.delete(row);
    this.#proven.delete(row);
  }

  /** The sources to ask for a turn now, at most this many. */
  candidates(most: number): readonly (readonly [number, WaitingList])[] {
    if (this.lists.size === 1) return [...this.lists];
    return [...this.#next(most)];
  }

  /**
   * Asks a source for a turn and moves it to the end.
   * @returns whether the source still has waiting handshakes; an earlier refusal may have emptied the list
   */
  ask(row: number, list: WaitingList): boolean {
    if (this.lists.get(row) !== list) return false;
    if (this.lists.size === 1) return true;
    this.lists.delete(row);
    this.lists.set(row, list);
    if (this.#proven.delete(row)) this.#proven.add(row);
    return true;
  }

  *#next(most: number): Iterable<[number, WaitingList]> {
    let left = most;
    this.#provenFirst = !this.#provenFirst;
    if (this.#provenFirst) {
      for (const row of this.#proven) {
        const list = this.lists.get(row);
        if (list !== undefined && left-- > most / 2) yield [row, list];
      }
    }
    for (const entry of this.lists) if (left-- > 0) yield entry;
  }
}
