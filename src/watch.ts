// Notices when files change. They are looked at, not waited for: notifications of the file system miss what happens
// behind symbolic links (as in a Kubernetes volume) and on network file systems.

import { statSync } from "node:fs";

/** How often files are looked at, in milliseconds. */
const INTERVAL = 500;

/** What files are now: another one in a file's place, or another text in the same, is told apart. */
export function look(files: readonly string[]): string {
  return files.map(lookAt).join();
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
   * @param known what {@link look} said before the files were read
   * @param changed called when files have changed and have then stayed the same from one look to the next
   */
  constructor(files: readonly string[], known: string, changed: () => void) {
    this.#files = files;
    this.#changed = changed;
    this.#told = this.#seen = known;
    this.#timer = setInterval(() => this.#tick(), INTERVAL);
  }

  /** From now on other files. */
  follow(files: readonly string[], known: string): void {
    this.#files = files;
    this.#told = this.#seen = known;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const now = look(this.#files);
    const settled = now === this.#seen;
    this.#seen = now;
    // A certificate and its key are two files, and writing one takes time: while they change, nothing is told.
    if (!settled || now === this.#told) return;
    this.#told = now;
    this.#changed();
  }
}
