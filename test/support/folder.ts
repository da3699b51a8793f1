// A temporary folder for a test.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";

export class Folder implements Disposable {
  readonly #path = mkdtempSync(`${tmpdir()}/tcpproxy-`);

  path(name: string): string {
    return `${this.#path}/${name}`;
  }

  [Symbol.dispose](): void {
    rmSync(this.#path, { recursive: true });
  }
}
