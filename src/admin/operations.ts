// What operators change while the proxy runs: who is blocked, what is open, which targets take connections. Each change is
// recorded first, then in force; its answer comes when it holds in every thread.

import { parseSubject, type Block } from "../auth/blocks.ts";
import type { ConnectionFilter } from "../connection/view.ts";
import { quote } from "../lib/errors.ts";
import { FleetBlockList } from "./fleet-blocks.ts";
import { OperationError } from "./operation-error.ts";
import { StateFile, type Kept, type Override } from "./state-file.ts";
import type { Subject } from "./subject.ts";
import { TargetOverrides, type TargetChange } from "./target-overrides.ts";

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

/** What has become of a block. */
export interface Blocked {
  readonly block: Block;
  /** Connections that were closed. */
  readonly closed: number;
}

/** How long it holds, why, who says so, and where. */
export interface BlockRequest {
  /** Milliseconds; undefined for a block without an end. */
  readonly lasting: number | undefined;
  readonly reason: string;
  readonly actor: string;
  /** In the whole fleet. */
  readonly fleet: boolean;
}

/** Blocks and changes of targets, as operators make them. */
export class Operations {
  readonly #subject: Subject;
  readonly #file: StateFile;
  /** Blocks of this proxy alone. */
  #own: readonly Block[];
  readonly #fleet: FleetBlockList;
  #isSyncing = false;
  readonly #targets: TargetOverrides;
  /** Changes are made one after the other. */
  #changing: Promise<unknown> = Promise.resolve();

  private constructor(subject: Subject, file: StateFile, { blocks, overrides }: Kept) {
    this.#subject = subject;
    this.#file = file;
    this.#own = blocks.filter(({ fleet }) => fleet === undefined);
    this.#fleet = new FleetBlockList(
      subject.fleet,
      blocks.filter(({ fleet }) => fleet !== undefined),
    );
    this.#targets = new TargetOverrides(subject, overrides);
  }

  /**
   * Puts in force what was kept and what the fleet knows, before any port is open.
   * @throws StartError if the state directory cannot be used
   */
  static async open(subject: Subject): Promise<Operations> {
    const file = new StateFile(subject.config.admin?.stateDirectory);
    const operations = new Operations(subject, file, await file.load(subject.log));
    await operations.#enforce();
    operations.#targets.follow();
    subject.fleet.followBlocks((version) => operations.#heard(version));
    if (subject.fleet.status()?.up === true)
      await operations.#change(() => operations.#sync()).catch(() => {});
    return operations;
  }

  close(): void {
    this.#subject.fleet.followBlocks(undefined);
  }

  /** Whether what is set outlives the process. */
  get keeps(): boolean {
    return this.#file.keeps;
  }

  /** The blocks that hold now. One subject can be blocked here and in the fleet. */
  get blocks(): readonly Block[] {
    return [...this.#own.filter(isOver(Date.now(), false)), ...this.#fleet.blocks];
  }

  /**
   * Blocks. When it returns, nobody blocked is open or can get in here, and the store has been told where the block is the fleet's and
   * the store answers; otherwise it is told when it is back.
   * @throws OperationError
   */
  block(text: string, { lasting, reason, actor, fleet }: BlockRequest): Promise<Blocked> {
    return this.#change(async () => {
      const known = parseSubject(text);
      if (known === undefined) {
        throw new OperationError(
          "invalid",
          `${quote(text)} is nobody who can be blocked; write alice@dba, *@dba, sha256:FINGERPRINT or a range such as 10.0.0.0/8`,
        );
      }
      const status = fleet ? this.#fleetStatus() : undefined;
      const since = Date.now();
      const block: Block = {
        ...known,
        reason,
        actor: status === undefined ? actor : `${actor} at ${status.node}`,
        since,
        until: lasting === undefined ? undefined : since + lasting,
        ...(fleet && { fleet: 0 }),
      };
      const others = this.blocks.filter(
        (each) => each.subject !== known.subject || (each.fleet !== undefined) !== fleet,
      );
      await this.#save([...others, block]);
      if (fleet) this.#fleet.set(block);
      else this.#own = [...others.filter((each) => each.fleet === undefined), block];
      const closed = await this.#enforce();
      if (!fleet) return { block, closed };
      await this.#sync().catch(() => {});
      const made = this.#fleet.blocks.find(({ subject }) => subject === known.subject);
      return { block: made ?? block, closed };
    });
  }

  /**
   * Ends a block, here or in the whole fleet.
   * @returns it, and whether the subject is still blocked: here by the fleet, or by this proxy alone
   * @throws OperationError if there is none, or the store would have to be told and does not answer
   */
  unblock(text: string, fleet: boolean): Promise<{ block: Block; still: Block | undefined }> {
    return this.#change(async () => {
      const subject = parseSubject(text)?.subject ?? text;
      if (fleet) await this.#told(() => this.#sync());
      const all = this.blocks.filter((each) => each.subject === subject);
      const block = all.find((each) => (each.fleet !== undefined) === fleet) ?? this.#orphan(all);
      if (block === undefined) {
        const [other] = all;
        if (other === undefined) throw new OperationError("unknown", `${quote(text)} is not blocked`);
        const where = fleet
          ? "by this proxy alone, not by the fleet: unblock without --fleet"
          : "by the fleet: unblock --fleet ends the block in all proxies";
        throw new OperationError("unknown", `${quote(text)} is blocked ${where}`);
      }
      if (fleet) await this.#told(() => this.#fleet.end(subject));
      const left = this.blocks.filter((each) => each !== block);
      await this.#save(left);
      if (!fleet && block.fleet !== undefined) this.#fleet.drop(subject);
      this.#own = left.filter((each) => each.fleet === undefined);
      await this.#enforce();
      return { block, still: left.find((each) => each.subject === subject) };
    });
  }

  /** A block of a fleet that is no longer configured is this proxy's own. */
  #orphan(blocks: readonly Block[]): Block | undefined {
    return this.#subject.fleet.status() === undefined ? blocks[0] : undefined;
  }

  /** @throws OperationError where there is none */
  #fleetStatus() {
    const status = this.#subject.fleet.status();
    if (status === undefined)
      throw new OperationError("invalid", "there is no fleet: [fleet] is not configured");
    return status;
  }

  /** What cannot be done without the store. @throws OperationError where it does not answer */
  async #told(change: () => Promise<void>): Promise<void> {
    this.#fleetStatus();
    try {
      await change();
    } catch (error) {
      const why = `the fleet's store has not been told, and the block holds: ${(error as Error).message}`;
      throw new OperationError("unavailable", why);
    }
  }

  /** The store has told the version of its blocks. */
  #heard(version: number): void {
    if (this.#isSyncing || this.#fleet.isCurrent(version)) return;
    this.#isSyncing = true;
    void this.#change(() => this.#sync())
      // The next heartbeat tries again; the fleet says what is wrong with its store.
      .catch(() => {})
      .finally(() => (this.#isSyncing = false));
  }

  /** @throws where the store does not answer; what it has said until then is in force */
  async #sync(): Promise<void> {
    const before = this.#fleet.blocks;
    try {
      await this.#fleet.sync();
    } finally {
      const { blocks } = this.#fleet;
      if (!Bun.deepEquals(before, blocks)) {
        // It is in force whether or not it can be recorded: what the fleet knows is not lost with this node.
        const saved = this.#save(this.blocks).catch((error: unknown) => this.#notSaved(error));
        const closed = await this.#enforce();
        await saved;
        if (!Bun.deepEquals(before.map(unversioned), blocks.map(unversioned)))
          this.#subject.log.info("fleet blocks changed", { blocks: blocks.length, closed });
      }
    }
  }

  #notSaved(error: unknown): void {
    this.#subject.log.error("state not saved", { error: String(error) });
  }

  /** @returns how many connections were closed */
  #enforce(): Promise<number> {
    const last = new Map<string, Block>();
    for (const block of this.blocks) {
      const { until = Infinity } = last.get(block.subject) ?? { until: 0 };
      if ((block.until ?? Infinity) > until) last.set(block.subject, block);
    }
    return this.#subject.setBlocks([...last.values()]);
  }

  /** Ends connections. When it returns they are gone or, with a grace, have their deadline. @returns their ids */
  async kick({ filter, ids, grace, reason, dryRun }: Kick): Promise<string[]> {
    const why = reason === "" ? undefined : reason;
    const answers = await this.#subject.runner.ask({ about: "kick", filter, ids, grace, why, dryRun });
    return answers.flatMap((answer) => answer.ids);
  }

  /** As {@link TargetOverrides.set}. */
  setTarget(upstream: string, target: string, change: TargetChange): Promise<Override> {
    return this.#change(() =>
      this.#targets.set(upstream, target, change, (overrides) =>
        this.#file.save({ blocks: this.blocks, overrides }),
      ),
    );
  }

  /** The configuration has changed: where it has another weight for a target than before, it wins. */
  follow(): void {
    void this.#change(async () => {
      const before = this.#targets.overrides;
      this.#targets.follow();
      if (this.#targets.overrides !== before) await this.#save(this.blocks);
    }).catch((error: unknown) => this.#notSaved(error));
  }

  async #save(blocks: readonly Block[]): Promise<void> {
    await this.#file.save({ blocks, overrides: this.#targets.overrides });
  }

  #change<T>(change: () => Promise<T>): Promise<T> {
    const done = this.#changing.then(change);
    this.#changing = done.catch(() => {});
    return done;
  }
}

/** The store has given it a version, which changes nothing for anybody. */
function unversioned({ fleet: _, ...block }: Block): Omit<Block, "fleet"> {
  return block;
}

/** Tells blocks that are over from those that hold. */
function isOver(date: number, over: boolean): (block: Block) => boolean {
  return ({ until = Infinity }) => date >= until === over;
}
