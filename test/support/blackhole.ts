// A target that never answers: a port whose queue of connections is full, so that the kernel drops new SYNs.

import { dlopen, ptr } from "bun:ffi";

const { symbols: libc } = dlopen(process.platform === "darwin" ? "libSystem.dylib" : "libc.so.6", {
  socket: { args: ["int", "int", "int"], returns: "int" },
  bind: { args: ["int", "ptr", "u32"], returns: "int" },
  listen: { args: ["int", "int"], returns: "int" },
  getsockname: { args: ["int", "ptr", "ptr"], returns: "int" },
  accept: { args: ["int", "ptr", "ptr"], returns: "int" },
  close: { args: ["int"], returns: "int" },
});

const AF_INET = 2;
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;

export class Blackhole implements AsyncDisposable {
  readonly port: number;
  readonly target: string;
  readonly #fd: number;
  readonly #fill: Bun.Socket[] = [];

  private constructor() {
    const address = new Uint8Array(16);
    new DataView(address.buffer).setUint16(0, AF_INET, true);
    address.set([127, 0, 0, 1], 4);
    this.#fd = libc.socket(AF_INET, SOCK_STREAM, 0);
    if (this.#fd < 0 || libc.bind(this.#fd, ptr(address), 16) !== 0 || libc.listen(this.#fd, 0) !== 0) {
      throw new Error("no port for a black hole");
    }
    libc.getsockname(this.#fd, ptr(address), ptr(new Uint32Array([16])));
    this.port = new DataView(address.buffer).getUint16(2);
    this.target = `127.0.0.1:${this.port}`;
  }

  static async open(): Promise<Blackhole> {
    const hole = new Blackhole();
    // A queue of length 0 holds one connection, which is this one.
    hole.#fill.push(await Bun.connect({ hostname: "127.0.0.1", port: hole.port, socket: { data() {} } }));
    return hole;
  }

  async [Symbol.asyncDispose]() {
    for (const socket of this.#fill) socket.terminate();
    libc.close(this.#fd);
  }
}

/** A Unix socket with room for one connection in its queue: the next one has to wait until {@link take}. Linux only. */
export class NarrowSocket implements Disposable {
  readonly target: string;
  readonly #fd = libc.socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

  constructor(path: string) {
    const address = Buffer.from(`\x01\0${path}\0`);
    if (libc.bind(this.#fd, ptr(address), address.length) !== 0 || libc.listen(this.#fd, 0) !== 0) {
      throw new Error("no narrow socket");
    }
    this.target = `unix:${path}`;
  }

  /** Accepts the waiting connection and closes it. Returns false if none waits. */
  take(): boolean {
    const fd = libc.accept(this.#fd, null, null);
    if (fd >= 0) libc.close(fd);
    return fd >= 0;
  }

  [Symbol.dispose]() {
    libc.close(this.#fd);
  }
}
