// A program for tests, run as root: it becomes another user, takes names of abstract Unix sockets, prints "ready", and
// holds the names until it is killed. With "--full" it fills the queue of each socket with connections that it never
// accepts, so that others have to wait; with "--mute" it does not listen.

import { dlopen } from "bun:ffi";

const { setgid, setuid, socket, bind, listen, connect } = dlopen("libc.so.6", {
  setgid: { args: ["u32"], returns: "i32" },
  setuid: { args: ["u32"], returns: "i32" },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
}).symbols;

const AF_UNIX = 1;
const SOCK_STREAM_NONBLOCK = 0o4001;

const NOBODY = 65_534;
if (setgid(NOBODY) !== 0 || setuid(NOBODY) !== 0) throw new Error("cannot become another user");

const words = process.argv.slice(2);
const flags = words.filter((word) => word.startsWith("--"));
for (const name of words.filter((word) => !word.startsWith("--"))) {
  const address = Buffer.from(`\0\0\0${name}`);
  address.writeUInt16LE(AF_UNIX);
  const fd = socket(AF_UNIX, SOCK_STREAM_NONBLOCK, 0);
  if (bind(fd, address, address.length) !== 0) throw new Error(`${name} is taken`);
  if (flags.includes("--mute")) continue;
  listen(fd, 1);
  while (flags.includes("--full")) {
    if (connect(socket(AF_UNIX, SOCK_STREAM_NONBLOCK, 0), address, address.length) !== 0) break;
  }
}
console.log("ready");
setInterval(() => {}, 60_000);
