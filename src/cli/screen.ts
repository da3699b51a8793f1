// The whole terminal for a command that redraws in place. It is left as it was found.

/** Everything that is changed, undone: line wrap and cursor on, the other screen back. */
const LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";

/** A key that writes nothing, such as an arrow, sends such a sequence. */
const SEQUENCE = /\x1b(\[[\d;?]*[ -/]*[@-~]|O.|.)?/gs;

export interface ScreenHandlers {
  /** A character was typed; Ctrl-C comes as `\x03`, because the terminal sends no signal for it any more. */
  key(key: string): void;
  resized(): void;
  /** The terminal has gone. */
  gone(): void;
}

/** Both ends of it are a terminal. */
export function hasTerminal(): boolean {
  return process.stdin.isTTY && process.stdout.isTTY;
}

/** Takes the terminal. Leaving the scope gives it back. */
export class Screen implements Disposable {
  readonly #undo: () => void;

  constructor({ key, resized, gone }: ScreenHandlers) {
    const { stdin, stdout } = process;
    const typed = (data: Buffer) => {
      for (const each of String(data).replace(SEQUENCE, "")) key(each);
    };
    stdin.on("data", typed);
    stdin.on("end", gone);
    stdin.on("error", gone);
    stdout.on("resize", resized);
    stdout.on("error", gone);
    this.#undo = () => {
      stdout.write(LEAVE);
      stdin.setRawMode(false);
      stdin.off("data", typed);
      stdin.pause();
    };
    stdin.setRawMode(true);
    stdin.resume();
    stdout.write(ENTER);
  }

  get columns(): number {
    return process.stdout.columns || 80;
  }

  get rows(): number {
    return process.stdout.rows || 24;
  }

  /** @param lines at most {@link rows}, each at most {@link columns} wide */
  draw(lines: readonly string[]): void {
    // A line is cleared before it is written: after its last column, that column would go too.
    process.stdout.write(`\x1b[H${lines.map((line) => `\x1b[2K${line}`).join("\r\n")}\x1b[J`);
  }

  [Symbol.dispose](): void {
    this.#undo();
  }
}
