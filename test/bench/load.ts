// Load from generators, each a process of its own: they are made ready, then told to begin, then let go. What comes
// before the beginning, their own start and the connections a job needs, is not measured.

import type { Job, Outcome } from "./generator.ts";
import { remember } from "./processes.ts";

/** No job takes as long; one that does has lost its way. */
const DEADLINE_MS = 600_000;

/** Generators that do the same job side by side. */
export class Load {
  readonly #generators: GeneratorProcess[];

  private constructor(generators: GeneratorProcess[]) {
    this.#generators = generators;
  }

  /** Starts so many generators and waits until what has to be open is open. */
  static async ready(job: Job, generators = 1): Promise<Load> {
    const load = new Load(Array.from({ length: generators }, () => new GeneratorProcess(job)));
    await Promise.all(load.#generators.map((generator) => generator.line()));
    return load;
  }

  /** Begins, and answers once the work is done. Connections may still be open then. */
  async run(): Promise<Outcome> {
    for (const generator of this.#generators) generator.begin();
    const lines = await Promise.all(this.#generators.map((generator) => generator.line()));
    const outcomes = lines.map((line) => JSON.parse(line) as Outcome);
    return {
      operations: outcomes.reduce((total, { operations }) => total + operations, 0),
      ms: Math.max(...outcomes.map(({ ms }) => ms)),
      spans: outcomes.flatMap(({ spans = [] }) => spans),
      latencies: outcomes.flatMap(({ latencies = [] }) => latencies).sort((a, b) => a - b),
    };
  }

  /** Stops the generators' processes, or lets them go on: what they hold open stays open. */
  signal(name: "SIGSTOP" | "SIGCONT"): void {
    for (const generator of this.#generators) generator.signal(name);
  }

  /** The generators' processes. */
  get pids(): number[] {
    return this.#generators.map(({ pid }) => pid);
  }

  /** Lets go of what is open; ends jobs that go on until then. */
  release(): void {
    for (const generator of this.#generators) generator.release();
  }

  /** Lets go, and waits until the generators have ended. */
  async end(): Promise<void> {
    this.release();
    await Promise.all(this.#generators.map((generator) => generator.ended()));
  }
}

class GeneratorProcess {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: AsyncIterator<string>;

  constructor(job: Job) {
    this.#child = remember(
      Bun.spawn([process.execPath, `${import.meta.dir}/generator.ts`, JSON.stringify(job)], {
        stdin: "pipe",
        stdout: "pipe",
        stderr: "inherit",
        timeout: DEADLINE_MS,
      }),
    );
    this.#lines = linesOf(this.#child.stdout);
  }

  /** Its next line. */
  async line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    return done === true ? this.#failed() : value;
  }

  get pid(): number {
    return this.#child.pid;
  }

  begin(): void {
    this.#child.stdin.write("\n");
    void this.#child.stdin.flush();
  }

  signal(name: "SIGSTOP" | "SIGCONT"): void {
    this.#child.kill(name);
  }

  release(): void {
    void this.#child.stdin.end();
  }

  async ended(): Promise<void> {
    if ((await this.#child.exited) !== 0) await this.#failed();
  }

  async #failed(): Promise<never> {
    const code = await this.#child.exited;
    throw new Error(`a generator failed: ${this.#child.signalCode ?? `exit code ${code}`}`);
  }
}

/** What a process writes, line by line. */
export async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}
