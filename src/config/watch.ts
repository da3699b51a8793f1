// Notices when files change. Files are polled: notifications of the file system miss changes behind symbolic links (as in
// a Kubernetes volume) and on network file systems.

import { statSync } from "node:fs";

/** How often files are polled, in milliseconds. */
const POLL_INTERVAL_MS = 500;

/** The state of files now. It differs when a file is replaced or written. */
function look(files: readonly string[]): string {
  return files.map((file) => `${lookAt(file)}\n`).join("");
}

/** Files, and the state of each before it was read. */
export class FileStamps {
  readonly files: string[] = [];
  known = "";

  /** Call this before the files are read. */
  add(files: readonly string[]): this {
    this.files.push(...files);
    this.known += look(files);
    return this;
  }

  /** The files that both have and that were replaced or written in between. */
  changedSince(before: FileStamps): string[] {
    const then = before.#byFile();
    return [...this.#byFile()].filter(([file, is]) => (then.get(file) ?? is) !== is).map(([file]) => file);
  }

  #byFile(): Map<string, string> {
    const lines = this.known.split("\n");
    return new Map(this.files.map((file, i) => [file, lines[i] ?? ""]));
  }

  /** These files and those of `other`, each with its state. */
  and(other: FileStamps): FileStamps {
    const { files, known } = other;
    const both = new FileStamps();
    both.files.push(...this.files, ...files);
    both.known = this.known + known;
    return both;
  }
}

function lookAt(file: string): string {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(file, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(":");
  } catch (error) {
    return (error as { code?: string }).code ?? "";
  }
}

/** Polls files until it is stopped. */
export class Watch {
  #files: readonly string[];
  readonly #changed: () => void;
  readonly #timer: Timer;
  /** The state at the last call of `changed`, and at the last poll. */
  #told: string;
  #seen: string;

  /**
   * @param seen the files, as they were before they were read
   * @param changed called once a change is stable for one interval
   */
  constructor({ files, known }: FileStamps, changed: () => void) {
    this.#files = files;
    this.#changed = changed;
    this.#told = this.#seen = known;
    this.#timer = setInterval(() => this.#tick(), POLL_INTERVAL_MS);
  }

  /** Polls other files from now on. */
  follow({ files, known }: FileStamps): void {
    this.#files = files;
    this.#told = this.#seen = known;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const now = look(this.#files);
    const stable = now === this.#seen;
    this.#seen = now;
    // A certificate and its key are two files, and writing one takes time: while they change, the watch reports nothing.
    if (!stable || now === this.#told) return;
    this.#told = now;
    this.#changed();
  }
}
