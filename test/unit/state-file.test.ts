// The file in which blocks and changes of targets outlive the process, whole or damaged.

import { describe, expect, test } from "bun:test";
import { chmodSync, readdirSync, symlinkSync, unlinkSync } from "node:fs";
import { parse, StateFile, type Kept } from "../../src/admin/state-file.ts";
import { StartError } from "../../src/lib/errors.ts";
import { Folder } from "../support/folder.ts";
import { Log } from "../support/proxy.ts";

const kept: Kept = {
  blocks: [
    { subject: "alice@dba", kind: "client", reason: "lost\nlaptop", actor: "uid 0", since: 1, until: 2_000 },
    { subject: "10.0.0.0/8", kind: "network", reason: "", actor: "bob@ops", since: 5, until: undefined },
  ],
  overrides: [{ upstream: "db", target: "a:1", draining: true, weight: undefined, configured: 1 }],
};

async function text(folder: Folder): Promise<string> {
  return Bun.file(folder.path("tcpproxy.state")).text();
}

describe("the state file", () => {
  test("the state file gives back what was saved, and nobody else may read it", async () => {
    using folder = new Folder();
    const file = new StateFile(folder.path(""));
    expect(await file.load(new Log())).toEqual({ blocks: [], overrides: [] });
    await Promise.all([file.save({ blocks: [], overrides: [] }), file.save(kept)]);
    expect(await new StateFile(folder.path("")).load(new Log())).toEqual(kept);
    expect(readdirSync(folder.path(""))).toEqual(["tcpproxy.state"]);
    expect((await Bun.file(folder.path("tcpproxy.state")).stat()).mode & 0o777).toBe(0o600);
  });

  test("the state file keeps nothing without a folder, and says so", async () => {
    const file = new StateFile(undefined);
    expect(file.keeps).toBe(false);
    await file.save(kept);
    expect(await file.load(new Log())).toEqual({ blocks: [], overrides: [] });
  });

  test.each([
    ["a folder that others may write to", 0o777, 0o600, "may be written by others (mode 777)"],
    ["a file that others may write to", 0o700, 0o622, "may be written by others (mode 622)"],
  ])("%s is refused: others could lift a block", async (_, folderMode, fileMode, why) => {
    using folder = new Folder();
    const directory = folder.path("state");
    const file = new StateFile(directory);
    await file.load(new Log());
    await file.save(kept);
    chmodSync(`${directory}/tcpproxy.state`, fileMode);
    chmodSync(directory, folderMode);
    const error = await file.load(new Log()).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(StartError);
    expect(String(error)).toContain(why);
  });

  test("a state file that is a link or a pipe is refused, and none is written through", async () => {
    using folder = new Folder();
    const [elsewhere, path] = [folder.path("elsewhere"), folder.path("tcpproxy.state")];
    await Bun.write(elsewhere, "mine");
    symlinkSync(elsewhere, path);
    const file = new StateFile(folder.path(""));
    expect(await file.load(new Log()).catch((thrown: unknown) => thrown)).toBeInstanceOf(StartError);
    symlinkSync(elsewhere, `${path}.new`);
    expect(await file.save(kept).catch((thrown: unknown) => thrown)).toBeInstanceOf(Error);
    expect(await Bun.file(elsewhere).text()).toBe("mine");
    unlinkSync(path);
    Bun.spawnSync(["mkfifo", path]);
    expect(String(await file.load(new Log()).catch((thrown: unknown) => thrown))).toContain(
      "is not a plain file",
    );
  });

  test("a damaged state file is kept aside and named, and what is readable counts", async () => {
    using folder = new Folder();
    const file = new StateFile(folder.path(""));
    await file.save(kept);
    const whole = await text(folder);
    await Bun.write(folder.path("tcpproxy.state"), whole.replace('"since":1,', '"since":"x",'));
    const log = new Log();
    expect(await file.load(log)).toEqual({ ...kept, blocks: kept.blocks.slice(1) });
    const line = await log.line("state file damaged");
    expect(line).toMatchObject({ level: "error", unreadable: 1, blocks: 1, targets: 1 });
    expect(await Bun.file(String(line["file"])).text()).toContain("alice@dba");
    expect(parse(await text(folder)).unreadable).toBe(0);
  });

  test("a state file that is cut or changed anywhere never makes more of what it says", async () => {
    using folder = new Folder();
    await new StateFile(folder.path("")).save(kept);
    const whole = await text(folder);
    for (let length = 0; length < whole.length; length++) {
      const { kept: left, unreadable } = parse(whole.slice(0, length));
      expect(unreadable).toBeGreaterThan(0);
      expect(kept.blocks.slice(0, left.blocks.length)).toEqual([...left.blocks]);
    }
    expect(parse(whole)).toEqual({ kept, unreadable: 0 });
  });

  test.each([
    "null",
    "1",
    "{}",
    '{"block":null}',
    '{"block":{"subject":"x"}}',
    '{"target":{"upstream":"a"}}',
    "\u0000",
  ])("a state file's line %j is unreadable", (line) =>
    expect(parse(`{"tcpproxy":"state","version":1,"entries":1}\n${line}\n`).unreadable).toBe(1),
  );
});
