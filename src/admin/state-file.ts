// What operators have set and what outlives the process: blocks and changes of targets, in one file of the state directory. A
// JSON object a line, so that damage to one of them leaves the others readable. The file is replaced as a whole.

import { constants, mkdir, open, rename, stat } from "node:fs/promises";
import { parseSubject, type Block } from "../auth/blocks.ts";
import { StartError, cannotRead, quote } from "../lib/errors.ts";
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
      onlyOurs(this.#directory, await stat(this.#directory));
      text = await read(this.#path);
    } catch (error) {
      if (error instanceof StartError) throw error;
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

/** Others could lift a block, or make one, by what they write there. */
function onlyOurs(path: string, { uid, mode }: { readonly uid: number; readonly mode: number }): void {
  const own = process.geteuid?.();
  const why =
    own !== undefined && uid !== own && uid !== 0
      ? `belongs to another user (uid ${uid})`
      : (mode & 0o022) !== 0
        ? `may be written by others (mode ${(mode & 0o7777).toString(8)}); chmod go-w it`
        : undefined;
  if (why !== undefined) throw new StartError(`admin.stateDirectory: ${quote(path)} ${why}`);
}

async function read(path: string): Promise<string> {
  // Not through a link, and a pipe is not waited for.
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const found = await file.stat();
    if (!found.isFile()) throw new StartError(`admin.stateDirectory: ${quote(path)} is not a plain file`);
    onlyOurs(path, found);
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}

async function write(path: string, text: string): Promise<void> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;
  const file = await open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600);
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
    const { block, target } = entryIn(line);
    if (block !== undefined) blocks.push(block);
    else if (target !== undefined) overrides.push(target);
    else unreadable++;
  }
  return { kept: { blocks, overrides }, unreadable };
}

function entryIn(line: string): { block?: Block; target?: Override } {
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
