// Notices when files change. They are looked at, not waited for: notifications of the file system miss what happens
// behind symbolic links (as in a Kubernetes volume) and on network file systems.

import { statSync } from "node:fs";

/** How often files are looked at, in milliseconds. */
const POLL_INTERVAL_MS = 500;

/** What files are now: another one in a file's place, or another text in the same, is told apart. */
function look(files: readonly string[]): string {
  return files.map((file) => `${lookAt(file)}\n`).join("");
}

/** Files, and what each was before it was read. */
export class FileStamps {
  readonly files: string[] = [];
  known = "";

  /** To be called before the files are read. */
  add(files: readonly string[]): this {
    this.files.push(...files);
    this.known += look(files);
    return this;
  }

  /** The files that were there in an earlier sighting too, as something else: replaced, or written anew. */
  changedSince(before: FileStamps): string[] {
    const then = before.#byFile();
    return [...this.#byFile()].filter(([file, is]) => (then.get(file) ?? is) !== is).map(([file]) => file);
  }

  #byFile(): Map<string, string> {
    const lines = this.known.split("\n");
    return new Map(this.files.map((file, i) => [file, lines[i] ?? ""]));
  }

  /** These files and those of another sighting, each as it was then. */
  and({ files, known }: FileStamps): FileStamps {
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

/** Looks at files until it is stopped. */
export class Watch {
  #files: readonly string[];
  readonly #changed: () => void;
  readonly #timer: Timer;
  /** What was there when last told, and when last looked. */
  #told: string;
  #seen: string;

  /**
   * @param seen the files, as they were before they were read
   * @param changed called when files have changed and have then stayed the same from one look to the next
   */
  constructor({ files, known }: FileStamps, changed: () => void) {
    this.#files = files;
    this.#changed = changed;
    this.#told = this.#seen = known;
    this.#timer = setInterval(() => this.#tick(), POLL_INTERVAL_MS);
  }

  /** From now on other files. */
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
    // A certificate and its key are two files, and writing one takes time: while they change, nothing is told.
    if (!stable || now === this.#told) return;
    this.#told = now;
    this.#changed();
  }
}
