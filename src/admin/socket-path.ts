// A Unix socket that only its owner can open, from its first moment. What is in its place is looked at first: a socket that
// nobody listens on is left over from a process that was killed; anything else stays where it is.

import { lstatSync, statSync, unlinkSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { codeOf, quote, StartError } from "../lib/errors.ts";

/** Bytes of a path, without the NUL at its end (unix(7)). */
const MAX_PATH = 107;

const WRITABLE_BY_OTHERS = 0o022;
const ONLY_OWNER = 0o177;

/**
 * Opens the socket, for connections whose ends are their own.
 * @throws StartError that says why it cannot be had
 */
export async function listenOnPath(path: string, accept: (socket: Socket) => void): Promise<Server> {
  checkPath(path);
  await clear(path);
  const server = createServer({ allowHalfOpen: true }, accept);
  const listening = new Promise<void>((resolve, reject) => {
    server.once("listening", resolve);
    server.once("error", reject);
  });
  // The mode that it is made with, rather than one that comes a moment later. It is made within the call.
  const before = process.umask(ONLY_OWNER);
  try {
    server.listen(path);
  } finally {
    process.umask(before);
  }
  try {
    await listening;
  } catch (error) {
    throw cannot(path, wordFor(error));
  }
  return server;
}

/** Whether the path can be a socket of which its owner alone disposes. */
function checkPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_PATH) {
    throw cannot(path, `the path has ${bytes} bytes, and the system takes ${MAX_PATH} at most`);
  }
  const folder = dirname(path);
  let found;
  try {
    found = statSync(folder);
  } catch (error) {
    if (codeOf(error as Error) !== "ENOENT") throw cannot(path, `its folder: ${wordFor(error)}`);
    throw cannot(path, `there is no folder ${quote(folder)}`);
  }
  if (!found.isDirectory()) throw cannot(path, `${quote(folder)} is not a folder`);
  if ((found.mode & WRITABLE_BY_OTHERS) !== 0) {
    const mode = (found.mode & 0o7777).toString(8);
    throw cannot(
      path,
      `others may write to its folder (mode ${mode}); take a folder of its own, or chmod go-w it`,
    );
  }
  const own = process.geteuid?.();
  if (own !== undefined && found.uid !== own && found.uid !== 0) {
    throw cannot(path, `its folder belongs to another user (uid ${found.uid})`);
  }
}

/** Removes what a process that was killed has left. */
async function clear(path: string): Promise<void> {
  let found;
  try {
    found = lstatSync(path);
  } catch (error) {
    if (codeOf(error as Error) === "ENOENT") return;
    throw cannot(path, wordFor(error));
  }
  if (!found.isSocket()) throw cannot(path, "something that is not a socket is there");
  const answer = await knock(path);
  if (answer === undefined) throw cannot(path, "another process listens there");
  if (answer !== "ECONNREFUSED") throw cannot(path, `a socket is there: ${answer}`);
  try {
    unlinkSync(path);
  } catch (error) {
    throw cannot(path, `a socket without a process is there, and cannot be removed: ${wordFor(error)}`);
  }
}

/** @returns the code of what went wrong; undefined where somebody answers */
function knock(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.once("error", (error) => resolve(codeOf(error) ?? error.message));
  });
}

function cannot(path: string, why: string): StartError {
  return new StartError(`cannot open the admin socket ${quote(path)}: ${why}`);
}

function wordFor(error: unknown): string {
  return codeOf(error as Error) ?? (error instanceof Error ? error.message : String(error));
}
