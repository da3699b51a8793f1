// What operators change while the proxy runs: who is blocked, what is open, which targets take connections. Each change is
// recorded first, then in force; its answer comes when it holds in every thread.

import { parseSubject, type Block } from "../auth/blocks.ts";
import type { ConnectionFilter } from "../connection/view.ts";
import { formatAddress } from "../lib/address.ts";
import { quote } from "../lib/errors.ts";
import { StateFile, type Override } from "./state-file.ts";
import type { Subject } from "./subject.ts";

/** A change that cannot be made as it was asked for; the text says why. */
export class OperationError extends Error {
  /** `unknown`: it names what is not there. */
  readonly kind: "invalid" | "unknown";

  constructor(kind: "invalid" | "unknown", message: string) {
    super(message);
    this.kind = kind;
  }
}

/** Which connections to end, and how. */
export interface Kick {
  readonly filter: ConnectionFilter;
  /** Only these; undefined for all that match. */
  readonly ids: readonly string[] | undefined;
  /** Milliseconds over which they end; 0 for at once. */
  readonly grace: number;
  readonly reason: string;
  readonly dryRun: boolean;
}

/** Blocks and changes of targets, as operators make them. */
export class Operations {
  readonly #subject: Subject;
  readonly #file: StateFile;
  #overrides: readonly Override[] = [];
  /** Changes are made one after the other. */
  #changing: Promise<unknown> = Promise.resolve();

  private constructor(subject: Subject, file: StateFile) {
    this.#subject = subject;
    this.#file = file;
  }

  /**
   * Puts in force what was kept, before any port is open.
   * @throws StartError if the state directory cannot be used
   */
  static async open(subject: Subject): Promise<Operations> {
    const file = new StateFile(subject.config.admin?.stateDirectory);
    const operations = new Operations(subject, file);
    const { blocks, overrides } = await file.load(subject.log);
    await subject.setBlocks(blocks.filter(isOver(Date.now(), false)));
    operations.#overrides = overrides;
    operations.#follow();
    return operations;
  }

  /** Whether what is set outlives the process. */
  get keeps(): boolean {
    return this.#file.keeps;
  }

  /** The blocks that hold now. */
  get blocks(): readonly Block[] {
    return this.#subject.blocks.filter(isOver(Date.now(), false));
  }

  /**
   * Blocks. When it returns, nobody blocked is open or can get in.
   * @param lasting milliseconds; undefined for a block without an end
   * @throws OperationError
   */
  block(text: string, lasting: number | undefined, reason: string, actor: string) {
    return this.#change(async () => {
      const known = parseSubject(text);
      if (known === undefined) {
        throw new OperationError(
          "invalid",
          `${quote(text)} is nobody who can be blocked; write alice@dba, *@dba, sha256:FINGERPRINT or a range such as 10.0.0.0/8`,
        );
      }
      const since = Date.now();
      const block: Block = {
        ...known,
        reason,
        actor,
        since,
        until: lasting === undefined ? undefined : since + lasting,
      };
      const blocks = [...this.blocks.filter(({ subject }) => subject !== known.subject), block];
      await this.#save(blocks);
      return { block, closed: await this.#subject.setBlocks(blocks) };
    });
  }

  /** Ends a block. @throws OperationError if there is none */
  unblock(text: string): Promise<Block> {
    return this.#change(async () => {
      const subject = parseSubject(text)?.subject ?? text;
      const block = this.blocks.find((each) => each.subject === subject);
      if (block === undefined) throw new OperationError("unknown", `${quote(text)} is not blocked`);
      const blocks = this.blocks.filter((each) => each !== block);
      await this.#save(blocks);
      await this.#subject.setBlocks(blocks);
      return block;
    });
  }

  /** Ends connections. When it returns they are gone or, with a grace, have their deadline. @returns their ids */
  async kick({ filter, ids, grace, reason, dryRun }: Kick): Promise<string[]> {
    const why = reason === "" ? undefined : reason;
    const answers = await this.#subject.runner.ask({ about: "kick", filter, ids, grace, why, dryRun });
    return answers.flatMap((answer) => answer.ids);
  }

  /**
   * Changes a target over the configuration. What is not given stays.
   * @param weight null for the configuration's
   * @throws OperationError if there is no such target
   */
  setTarget(
    upstream: string,
    target: string,
    { draining, weight }: { draining?: boolean; weight?: number | null },
  ): Promise<Override> {
    return this.#change(async () => {
      const found = this.#find(upstream, target);
      if (found === undefined) {
        const names = [...this.#subject.pools.keys()];
        const why = names.includes(upstream)
          ? `${upstream} has no target ${quote(target)}`
          : `there is no upstream ${quote(upstream)}; there are ${names.map((name) => quote(name)).join(", ")}`;
        throw new OperationError("unknown", why);
      }
      const before = found.balancer.override(found.slot);
      const override: Override = {
        upstream,
        target,
        draining: draining ?? before.draining,
        weight: weight === undefined ? before.weight : (weight ?? undefined),
        configured: found.weight,
      };
      const others = this.#overrides.filter((each) => each.upstream !== upstream || each.target !== target);
      const isPlain = !override.draining && override.weight === undefined;
      const overrides = isPlain ? others : [...others, override];
      await this.#file.save({ blocks: this.blocks, overrides });
      this.#overrides = overrides;
      found.balancer.setOverride(found.slot, override.draining, override.weight);
      return override;
    });
  }

  /** The configuration has changed: where it has another weight for a target than before, it wins. */
  follow(): void {
    void this.#change(async () => {
      const before = this.#overrides;
      this.#follow();
      if (this.#overrides !== before)
        await this.#file.save({ blocks: this.blocks, overrides: this.#overrides });
    }).catch((error: unknown) => this.#subject.log.error("state not saved", { error: String(error) }));
  }

  #follow(): void {
    const left: Override[] = [];
    let changed = false;
    for (const override of this.#overrides) {
      const { upstream, target, draining, weight, configured } = override;
      const found = this.#find(upstream, target);
      const isGone = found === undefined;
      if (isGone || (weight !== undefined && found.weight !== configured)) {
        changed = true;
        const why = isGone ? "the target is gone" : "the configuration has another weight";
        this.#subject.log.warn("override dropped", { upstream, target, weight, draining, why });
        if (isGone || !draining) {
          found?.balancer.setOverride(found.slot, false, undefined);
          continue;
        }
        left.push({ ...override, weight: undefined, configured: found.weight });
        found.balancer.setOverride(found.slot, true, undefined);
        continue;
      }
      left.push(override);
      found.balancer.setOverride(found.slot, draining, weight);
    }
    if (changed) this.#overrides = left;
  }

  #find(upstream: string, target: string) {
    const pool = this.#subject.pools.get(upstream);
    for (const [slot, { address, weight }] of pool?.targets ?? []) {
      if (formatAddress(address) === target) return { balancer: pool!.balancer, slot, weight };
    }
    return undefined;
  }

  async #save(blocks: readonly Block[]): Promise<void> {
    await this.#file.save({ blocks, overrides: this.#overrides });
  }

  #change<T>(change: () => Promise<T>): Promise<T> {
    const done = this.#changing.then(change);
    this.#changing = done.catch(() => {});
    return done;
  }
}

/** Tells blocks that are over from those that hold. */
function isOver(date: number, over: boolean): (block: Block) => boolean {
  return ({ until = Infinity }) => date >= until === over;
}
