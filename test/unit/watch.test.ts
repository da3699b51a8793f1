// Files that change in all the ways in which they do, on a real file system. Tests wait most of their time, and do so
// side by side.

import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { FileStamps, Watch } from "../../src/config/watch.ts";

let root: string;
beforeAll(() => void (root = mkdtempSync(`${tmpdir()}/tcpproxy-watch-`)));
afterAll(() => rmSync(root, { recursive: true }));

/** An empty folder. */
const fresh = () => mkdtempSync(`${root}/`);

/** A watch that counts what it tells. Leaving the scope stops it. */
class Counted implements Disposable {
  told = 0;
  readonly watch: Watch;
  #waiting: (() => void)[] = [];

  constructor(...files: string[]) {
    this.watch = new Watch(new FileStamps().add(files), () => {
      this.told++;
      for (const resolve of this.#waiting.splice(0)) resolve();
    });
  }

  /** Waits until it tells the next time. */
  async next(): Promise<number> {
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.told;
  }

  [Symbol.dispose](): void {
    this.watch.stop();
  }
}

/** Several looks of a watch: time in which it would have told if there were anything to tell. */
const looks = () => Bun.sleep(1_700);

test.concurrent.each<[string, (file: string) => void]>([
  ["written anew", (file) => writeFileSync(file, "another text")],
  ["written anew with the same length", (file) => writeFileSync(file, "mno")],
  ["replaced by rename", (file) => (writeFileSync(`${file}.new`, "abc"), renameSync(`${file}.new`, file))],
  ["grown", (file) => appendFileSync(file, "d")],
  ["removed", (file) => rmSync(file)],
  ["given a newer date", (file) => utimesSync(file, new Date(), new Date())],
])("a file %s is told once", async (_, change) => {
  const folder = fresh();
  const file = `${folder}/file`;
  writeFileSync(file, "abc");
  using counted = new Counted(file);
  change(file);
  expect(await counted.next()).toBe(1);
  await looks();
  expect(counted.told).toBe(1);
});

test.concurrent("a file that is removed, and is back, is told each time", async () => {
  const folder = fresh();
  const file = `${folder}/file`;
  writeFileSync(file, "abc");
  using counted = new Counted(file);
  rmSync(file);
  expect(await counted.next()).toBe(1);
  writeFileSync(file, "abc");
  expect(await counted.next()).toBe(2);
});

test.concurrent("a file that was not there at first is told when it comes", async () => {
  const folder = fresh();
  using counted = new Counted(`${folder}/later/file`);
  mkdirSync(`${folder}/later`);
  writeFileSync(`${folder}/later/file`, "abc");
  expect(await counted.next()).toBe(1);
});

test.concurrent("a file that stays as it is, is not told", async () => {
  const folder = fresh();
  writeFileSync(`${folder}/file`, "abc");
  using counted = new Counted(`${folder}/file`, `${folder}/not there`);
  await looks();
  expect(counted.told).toBe(0);
});

test.concurrent("a file beside those that are watched is not told", async () => {
  const folder = fresh();
  writeFileSync(`${folder}/file`, "abc");
  using counted = new Counted(`${folder}/file`);
  writeFileSync(`${folder}/other`, "abc");
  await looks();
  expect(counted.told).toBe(0);
});

test.concurrent(
  "links as in a Kubernetes volume, where only the link in the middle is replaced, are followed",
  async () => {
    const folder = fresh();
    for (const version of ["v1", "v2"]) {
      mkdirSync(`${folder}/${version}`);
      writeFileSync(`${folder}/${version}/tls.crt`, "abc");
    }
    symlinkSync("v1", `${folder}/..data`);
    symlinkSync("..data/tls.crt", `${folder}/tls.crt`);
    using counted = new Counted(`${folder}/tls.crt`);
    symlinkSync("v2", `${folder}/..data_tmp`);
    renameSync(`${folder}/..data_tmp`, `${folder}/..data`);
    rmSync(`${folder}/v1`, { recursive: true });
    expect(await counted.next()).toBe(1);
  },
);

test.concurrent("while files go on changing nothing is told, and then once", async () => {
  const folder = fresh();
  const files = [`${folder}/certificate`, `${folder}/key`];
  for (const file of files) writeFileSync(file, "");
  using counted = new Counted(...files);
  const start = performance.now();
  let longest = 0;
  let last = start;
  while (performance.now() - start < 2_000) {
    for (const file of files) appendFileSync(file, "x");
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
    await Bun.sleep(20);
  }
  // On a machine that stood still for a while there was a pause, and the watch was right to tell.
  if (longest < 400) expect(counted.told).toBe(0);
  await counted.next();
  await looks();
  if (longest < 400) expect(counted.told).toBe(1);
});

test.concurrent("what has changed between the reading and the watch's beginning is told", async () => {
  const folder = fresh();
  const file = `${folder}/file`;
  writeFileSync(file, "abc");
  const seen = new FileStamps().add([file]);
  writeFileSync(file, "abcd");
  const { promise, resolve } = Promise.withResolvers<void>();
  const watch = new Watch(seen, resolve);
  await promise;
  watch.stop();
});

test.concurrent("other files are watched instead from when it is told to", async () => {
  const folder = fresh();
  writeFileSync(`${folder}/old`, "abc");
  writeFileSync(`${folder}/new`, "abc");
  using counted = new Counted(`${folder}/old`);
  counted.watch.follow(new FileStamps().add([`${folder}/new`]));
  writeFileSync(`${folder}/old`, "abcd");
  await looks();
  expect(counted.told).toBe(0);
  writeFileSync(`${folder}/new`, "abcd");
  expect(await counted.next()).toBe(1);
});

test.concurrent("two that watch the same file are both told, and one that has stopped is not", async () => {
  const folder = fresh();
  const file = `${folder}/file`;
  writeFileSync(file, "abc");
  using one = new Counted(file);
  using two = new Counted(file);
  using stopped = new Counted(file);
  stopped.watch.stop();
  writeFileSync(file, "abcd");
  expect(await Promise.all([one.next(), two.next()])).toEqual([1, 1]);
  expect(stopped.told).toBe(0);
});

test.concurrent("two sightings together are what one of all files would have been", () => {
  const folder = fresh();
  for (const name of ["a", "b"]) writeFileSync(`${folder}/${name}`, name);
  const [a, b] = [`${folder}/a`, `${folder}/b`];
  const both = new FileStamps().add([a]).and(new FileStamps().add([b]));
  const one = new FileStamps().add([a, b]);
  expect(both.files).toEqual(one.files);
  expect(both.known).toBe(one.known);
});

test("a later sighting names the files that are others now, and not those that it alone has, or has no more", () => {
  const folder = fresh();
  const [a, b, c, d, e] = ["a", "b", "c", "d", "e"].map((name) => `${folder}/${name}`);
  for (const file of [a!, b!, c!]) writeFileSync(file, "abc");
  const before = new FileStamps().add([a!, b!]).add([c!, d!]);
  expect(new FileStamps().add([d!, c!, b!, a!]).changedSince(before)).toEqual([]);
  writeFileSync(b!, "another text");
  writeFileSync(d!, "has come");
  writeFileSync(e!, "new to both");
  rmSync(c!);
  expect(new FileStamps().add([a!, b!, c!, e!]).add([d!, b!]).changedSince(before)).toEqual([b!, c!, d!]);
});
