// Who is blocked: clients, groups, certificates and networks that an operator shuts out at run time, each until a moment of
// the calendar. Blocks come on top of the configuration: they only ever take rights away. Pure: the date is an argument.

import { parseRange, rangeList } from "../lib/source.ts";
import { isClientPattern, matchesClient } from "./identity.ts";

/** What a block is for. */
export type BlockKind = "client" | "group" | "certificate" | "network";

/** A block. It can be sent to another thread. */
export interface Block {
  /** In its one form: `alice@dba`, `*@dba`, `sha256:…` in lower case without colons, or a range of addresses. */
  readonly subject: string;
  readonly kind: BlockKind;
  /** Why, in the operator's words. */
  readonly reason: string;
  /** Who blocked. */
  readonly actor: string;
  /** Milliseconds since 1970. */
  readonly since: number;
  /** Milliseconds since 1970 from which on it holds no more; undefined for one without an end. */
  readonly until: number | undefined;
  /**
   * Of a block of the whole fleet: the version of the change, 0 where the store does not know of it yet. Undefined for one of this
   * proxy alone.
   */
  readonly fleet?: number | undefined;
}

/** Who may be blocked: a client with its certificate and address, as far as they are known. */
export interface Suspect {
  readonly client: string | undefined;
  readonly address: string | undefined;
  /** The SHA-256 of the certificate as the runtime prints it; asked for only where a certificate is blocked. */
  fingerprint?(): string | undefined;
}

/**
 * Reads what an operator writes: `alice@dba`, `*@dba`, `sha256:` and 64 hexadecimal digits with or without colons, an
 * address or a CIDR range.
 * @returns the block's subject in its one form; undefined where the text is none of these
 */
export function parseSubject(text: string): Pick<Block, "subject" | "kind"> | undefined {
  const digits = /^sha256:([\da-f:]+)$/i.exec(text)?.[1]?.replaceAll(":", "").toLowerCase();
  if (digits !== undefined) {
    return digits.length === 64 ? { subject: `sha256:${digits}`, kind: "certificate" } : undefined;
  }
  if (isClientPattern(text)) return { subject: text, kind: text.startsWith("*@") ? "group" : "client" };
  const range = parseRange(text);
  return range && { subject: `${range.address}/${range.prefix}`, kind: "network" };
}

/** Blocks as the data path asks about them. */
export class Blocks {
  static readonly NONE = new Blocks([]);
  readonly all: readonly Block[];
  readonly #clients = new Map<string, Block>();
  readonly #groups: Block[] = [];
  readonly #certificates = new Map<string, Block>();
  readonly #networks: { readonly block: Block; readonly holds: (address: string | undefined) => boolean }[] =
    [];

  constructor(blocks: readonly Block[]) {
    this.all = blocks;
    for (const block of blocks) {
      if (block.kind === "client") this.#clients.set(block.subject, block);
      else if (block.kind === "group") this.#groups.push(block);
      else if (block.kind === "certificate") this.#certificates.set(block.subject.slice(7), block);
      else this.#networks.push({ block, holds: rangeList([block.subject]) });
    }
  }

  /** @param date milliseconds since 1970 @returns the block that holds, if any */
  find(suspect: Suspect, date: number): Block | undefined {
    if (this.all.length === 0) return undefined;
    const { client, address } = suspect;
    const holds = (block: Block | undefined) => block !== undefined && date < (block.until ?? Infinity);
    if (client !== undefined) {
      const own = this.#clients.get(client);
      if (holds(own)) return own;
      const group = this.#groups.find((block) => holds(block) && matchesClient(block.subject, client));
      if (group !== undefined) return group;
    }
    if (this.#certificates.size > 0) {
      const fingerprint = suspect.fingerprint?.()?.replaceAll(":", "").toLowerCase();
      const certificate = fingerprint === undefined ? undefined : this.#certificates.get(fingerprint);
      if (holds(certificate)) return certificate;
    }
    return this.findNetwork(address, date);
  }

  /** The block of the address's network, if any: all that is known before TLS. */
  findNetwork(address: string | undefined, date: number): Block | undefined {
    return this.#networks.find(({ block, holds }) => date < (block.until ?? Infinity) && holds(address))
      ?.block;
  }
}
