// What operators have set and what outlives the process: blocks and changes of targets, in one file of the state directory. A
// JSON object a line, so that damage to one of them leaves the others readable. The file is replaced as a whole.

import { mkdir, open, readFile, rename } from "node:fs/promises";
import { parseSubject, type Block } from "../auth/blocks.ts";
import { StartError, cannotRead } from "../lib/errors.ts";
import type { Logger } from "../lib/log.ts";

const NAME = "tcpproxy.state";

/** The first line. It counts the others: a file that was cut between two lines shows it. */
const header = (entries: number) => `{"tcpproxy":"state","version":1,"entries":${entries}}`;

/** A change of a target at run time, over the configuration. */
export interface Override {
  readonly upstream: string;
  /** As the configuration writes it. */
  readonly target: string;
  readonly draining: boolean;
  /** Undefined for the configuration's. */
  readonly weight: number | undefined;
  /** The configuration's weight when this was set: where that changes, the configuration wins. */
  readonly configured: number;
}

/** All that is kept. */
export interface Kept {
  readonly blocks: readonly Block[];
  readonly overrides: readonly Override[];
}

/** The file, where a state directory is configured; without one, nothing is kept. */
export class StateFile {
  readonly #directory: string | undefined;
  #saving: Promise<void> = Promise.resolve();

  constructor(directory: string | undefined) {
    this.#directory = directory;
  }

  /** Whether what is set outlives the process. */
  get keeps(): boolean {
    return this.#directory !== undefined;
  }

  /**
   * Reads what was kept. A damaged file is moved aside and named in the log; what is readable of it counts.
   * @throws StartError if the directory or the file cannot be read
   */
  async load(log: Logger): Promise<Kept> {
    if (this.#directory === undefined) return { blocks: [], overrides: [] };
    let text: string;
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      text = await readFile(this.#path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return { blocks: [], overrides: [] };
      throw new StartError(`admin.stateDirectory: ${this.#path} ${cannotRead(error)}`);
    }
    const { kept, unreadable } = parse(text);
    if (unreadable > 0) {
      const aside = `${this.#path}.damaged-${new Date().toISOString().replace(/\W/g, "")}`;
      await rename(this.#path, aside);
      log.error("state file damaged", {
        file: aside,
        unreadable,
        blocks: kept.blocks.length,
        targets: kept.overrides.length,
      });
      await this.save(kept);
    }
    return kept;
  }

  /**
   * Replaces what is kept: from the return on it survives a crash of the process and of the machine.
   * @throws if the disk does not take it; then the file is as before
   */
  save(kept: Kept): Promise<void> {
    const saved = this.#saving.then(() => this.#save(kept));
    this.#saving = saved.catch(() => {});
    return saved;
  }

  async #save({ blocks, overrides }: Kept): Promise<void> {
    if (this.#directory === undefined) return;
    const lines = [
      header(blocks.length + overrides.length),
      ...blocks.map((block) => JSON.stringify({ block })),
      ...overrides.map((target) => JSON.stringify({ target })),
    ];
    const fresh = `${this.#path}.new`;
    await write(fresh, `${lines.join("\n")}\n`);
    await rename(fresh, this.#path);
    const directory = await open(this.#directory, "r");
    await directory.sync().finally(() => directory.close());
  }

  get #path(): string {
    return `${this.#directory}/${NAME}`;
  }
}

async function write(path: string, text: string): Promise<void> {
  const file = await open(path, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Reads the lines that are what they should be, and counts the others. Exported for tests. */
export function parse(text: string): { kept: Kept; unreadable: number } {
  const [first, ...lines] = text.split("\n");
  const blocks: Block[] = [];
  const overrides: Override[] = [];
  // A file that ends without a line feed was cut, even where its last line can be read.
  const isCut = lines.pop() !== "";
  let unreadable = first === header(lines.length) && !isCut ? 0 : 1;
  for (const line of lines) {
    const { block, target } = read(line);
    if (block !== undefined) blocks.push(block);
    else if (target !== undefined) overrides.push(target);
    else unreadable++;
  }
  return { kept: { blocks, overrides }, unreadable };
}

function read(line: string): { block?: Block; target?: Override } {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return {};
  }
  if (typeof value !== "object" || value === null) return {};
  const { block, target } = value as { block?: Partial<Block>; target?: Partial<Override> };
  if (typeof block === "object" && block !== null) {
    const { subject, reason, actor, since, until, fleet } = block;
    const known = typeof subject === "string" ? parseSubject(subject) : undefined;
    const isWhole = typeof reason === "string" && typeof actor === "string" && isTime(since);
    const isTimed = [until, fleet].every((each) => each === undefined || isTime(each));
    if (known === undefined || !isWhole || !isTimed) return {};
    const made = { ...known, reason, actor, since: since as number, until };
    return { block: fleet === undefined ? made : { ...made, fleet } };
  }
  if (typeof target !== "object" || target === null) return {};
  const { upstream, target: address, draining, weight, configured } = target;
  const named = typeof upstream === "string" && typeof address === "string" && typeof draining === "boolean";
  if (!named || !(weight === undefined || isTime(weight)) || !isTime(configured)) return {};
  return { target: { upstream, target: address, draining, weight, configured } };
}

function isTime(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value) && value >= 0;
}
