// The service behind every proxy of the benchmark: echoes, sends and swallows, and checks what it gets. A process of
// its own, so that its work counts for nobody. The client's first byte says what it wants:
//
//   e            an echo of all that follows
//   d<bytes>\n   so many bytes of the pattern, then the end
//   u<bytes>\n   takes so many bytes of the pattern, then answers "k" if they were right and "x" if not

import { PATTERN, Checker } from "./pattern.ts";

interface State {
  mode: "" | "e" | "d" | "u";
  head: string;
  left: number;
  check: Checker;
  pending: Uint8Array[];
}

function pump(socket: Bun.Socket<State>): void {
  const { data } = socket;
  while (data.mode === "d" && data.left > 0) {
    const length = Math.min(PATTERN.length, data.left);
    const written = socket.write(PATTERN.subarray(0, length));
    if (written < length) {
      // The pattern goes on where it stopped: the rest of this one is sent first.
      if (written >= 0) {
        data.left -= written;
        data.pending.push(PATTERN.subarray(written, length));
      }
      return;
    }
    data.left -= written;
    if (data.left === 0) socket.end();
  }
}

function drain(socket: Bun.Socket<State>): void {
  const { data } = socket;
  while (data.pending.length > 0) {
    const chunk = data.pending[0]!;
    const written = socket.write(chunk);
    if (written < 0) return;
    if (data.mode === "d") {
      data.left -= written;
      if (data.left === 0) return void socket.end();
    }
    if (written < chunk.length) return void (data.pending[0] = chunk.subarray(written));
    data.pending.shift();
  }
  pump(socket);
}

const server = Bun.listen<State>({
  hostname: "127.0.0.1",
  port: 0,
  allowHalfOpen: true,
  socket: {
    open(socket) {
      socket.data = { mode: "", head: "", left: 0, check: new Checker(), pending: [] };
    },
    data(socket, chunk) {
      const { data } = socket;
      let body: Buffer = chunk;
      if (data.mode === "") {
        if (chunk[0] === 0x65) {
          data.mode = "e";
          body = chunk.subarray(1);
        } else {
          const end = chunk.indexOf(10);
          data.head += chunk.subarray(0, end < 0 ? chunk.length : end).toString();
          if (end < 0) return;
          data.mode = data.head[0] as "d" | "u";
          data.left = Number(data.head.slice(1));
          body = chunk.subarray(end + 1);
          if (data.mode === "d") return pump(socket);
        }
      }
      if (data.mode === "u") {
        data.check.take(body);
        data.left -= body.length;
        if (data.left === 0) {
          socket.write(data.check.right ? "k" : "x");
          socket.end();
        }
      } else if (data.mode === "e" && body.length > 0) {
        const written = data.pending.length > 0 ? 0 : socket.write(body);
        if (written < body.length) data.pending.push(body.subarray(Math.max(0, written)));
      }
    },
    drain,
    end: (socket) => void socket.end(),
  },
});
console.log(server.port);
