// The admin socket in the file system: who may open it, and what it takes the place of.

import { afterAll, expect, test } from "bun:test";
import { chmodSync, lstatSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { listenOnPath } from "../../src/admin/socket-path.ts";
import { StartError } from "../../src/lib/errors.ts";
import { Folder } from "../support/folder.ts";

const folder = new Folder();
afterAll(() => folder[Symbol.dispose]());

let made = 0;
/** A folder of mode 0700, and a path in it. */
function place(): { folder: string; path: string } {
  const path = folder.path(`f${made++}`);
  mkdirSync(path, { mode: 0o700 });
  return { folder: path, path: `${path}/a.sock` };
}

async function open(path: string): Promise<AsyncDisposable> {
  const server = await listenOnPath(path, (socket) => socket.destroy());
  return { [Symbol.asyncDispose]: async () => void server.close() };
}

/** A socket that nobody listens on. */
function leaveStale(path: string): void {
  const child = Bun.spawnSync([
    process.execPath,
    "-e",
    `Bun.listen({ unix: ${JSON.stringify(path)}, socket: { data() {} } }); process.kill(process.pid, "SIGKILL")`,
  ]);
  expect(child.signalCode).toBe("SIGKILL");
  expect(lstatSync(path).isSocket()).toBe(true);
}

async function refusal(path: string): Promise<string> {
  const error = await listenOnPath(path, () => {}).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(StartError);
  return (error as StartError).message;
}

test("the socket's mode is 0600, and the process's umask stays as it was", async () => {
  const { path } = place();
  const before = process.umask(0o002);
  try {
    const opening = open(path);
    // Nothing has been awaited since the folder was looked at: the mode is the one that it was made with.
    await using _ = await opening;
    expect(lstatSync(path).mode & 0o777).toBe(0o600);
    expect(process.umask()).toBe(0o002);
  } finally {
    process.umask(before);
  }
});

test("the socket is gone when the door is closed, and can be opened again", async () => {
  const { path } = place();
  for (let i = 0; i < 2; i++) {
    await using _ = await open(path);
    expect(lstatSync(path).isSocket()).toBe(true);
  }
  expect(() => lstatSync(path)).toThrow("ENOENT");
});

test("a socket that a killed process has left is replaced", async () => {
  const { path } = place();
  leaveStale(path);
  await using _ = await open(path);
  expect(lstatSync(path).mode & 0o777).toBe(0o600);
});

test("a socket that somebody listens on stays", async () => {
  const { path } = place();
  await using _ = await open(path);
  expect(await refusal(path)).toBe(`cannot open the admin socket "${path}": another process listens there`);
  expect(lstatSync(path).isSocket()).toBe(true);
});

test("a file in its place stays", async () => {
  const { path } = place();
  writeFileSync(path, "precious");
  expect(await refusal(path)).toContain("something that is not a socket is there");
  expect(readFileSync(path, "utf8")).toBe("precious");
});

test("a symbolic link in its place stays, even to a socket that was left", async () => {
  const { folder, path } = place();
  leaveStale(`${folder}/b.sock`);
  symlinkSync(`${folder}/b.sock`, path);
  expect(await refusal(path)).toContain("something that is not a socket is there");
});

test.each([0o777, 0o1777, 0o770, 0o702])("a folder of mode %o is refused", async (mode) => {
  const { folder, path } = place();
  chmodSync(folder, mode);
  expect(await refusal(path)).toContain(`others may write to its folder (mode ${mode.toString(8)})`);
});

test("a folder that is missing, or no folder, is refused", async () => {
  const { folder } = place();
  writeFileSync(`${folder}/file`, "");
  expect(await refusal(`${folder}/no/a.sock`)).toContain(`there is no folder "${folder}/no"`);
  expect(await refusal(`${folder}/file/a.sock`)).toContain(`"${folder}/file" is not a folder`);
});

test("the longest path that the system takes is opened, and one byte more is refused", async () => {
  const { folder } = place();
  const longest = `${folder}/${"a".repeat(107 - folder.length - 1)}`;
  await using _ = await open(longest);
  expect(lstatSync(longest).isSocket()).toBe(true);
  expect(await refusal(`${longest}a`)).toContain("the path has 108 bytes");
  // Bytes are what counts, not characters.
  expect(await refusal(`${longest.slice(0, -1)}é`)).toContain("the path has 108 bytes");
});
