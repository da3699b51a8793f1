// Files that change in every usual way, on a real file system. The tests wait for most of their time, so they run
// concurrently.

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

/** A watch that counts its reports. Leaving the scope stops it. */
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

  /** Waits for the next report. */
  async next(): Promise<number> {
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.told;
  }

  [Symbol.dispose](): void {
    this.watch.stop();
  }
}

/** Waits for several polls of a watch: it would have reported a change by then. */
const looks = () => Bun.sleep(1_700);

test.concurrent.each<[string, (file: string) => void]>([
  ["written anew", (file) => writeFileSync(file, "another text")],
  ["written anew with the same length", (file) => writeFileSync(file, "mno")],
  ["replaced by rename", (file) => (writeFileSync(`${file}.new`, "abc"), renameSync(`${file}.new`, file))],
  ["grown", (file) => appendFileSync(file, "d")],
  ["removed", (file) => rmSync(file)],
  ["given a newer date", (file) => utimesSync(file, new Date(), new Date())],
])("the watch reports once that a file is %s", async (_, change) => {
  const folder = fresh();
  const file = `${folder}/file`;
  writeFileSync(file, "abc");
  using counted = new Counted(file);
  change(file);
  expect(await counted.next()).toBe(1);
  await looks();
  expect(counted.told).toBe(1);
});

test.concurrent("the watch reports a file when it is removed and again when it is back", async () => {
  const folder = fresh();
  const file = `${folder}/file`;
  writeFileSync(file, "abc");
  using counted = new Counted(file);
  rmSync(file);
  expect(await counted.next()).toBe(1);
  writeFileSync(file, "abc");
  expect(await counted.next()).toBe(2);
});

test.concurrent("the watch reports a file that did not exist at first", async () => {
  const folder = fresh();
  using counted = new Counted(`${folder}/later/file`);
  mkdirSync(`${folder}/later`);
  writeFileSync(`${folder}/later/file`, "abc");
  expect(await counted.next()).toBe(1);
});

test.concurrent("the watch does not report an unchanged or missing file", async () => {
  const folder = fresh();
  writeFileSync(`${folder}/file`, "abc");
  using counted = new Counted(`${folder}/file`, `${folder}/not there`);
  await looks();
  expect(counted.told).toBe(0);
});

test.concurrent("the watch does not report other files in the same folder", async () => {
  const folder = fresh();
  writeFileSync(`${folder}/file`, "abc");
  using counted = new Counted(`${folder}/file`);
  writeFileSync(`${folder}/other`, "abc");
  await looks();
  expect(counted.told).toBe(0);
});

test.concurrent(
  "the watch follows links as in a Kubernetes volume, where only the link in the middle is replaced",
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

test.concurrent("the watch reports files that keep changing only once they are stable", async () => {
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
  // If the machine stalled for that long, the files were stable and the watch was right to report them.
  if (longest < 400) expect(counted.told).toBe(0);
  await counted.next();
  await looks();
  if (longest < 400) expect(counted.told).toBe(1);
});

test.concurrent("the watch reports a change between the reading of the file and its own start", async () => {
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

test.concurrent("the watch can be given other files instead", async () => {
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

test.concurrent("two watches of one file both report it, and one that was stopped does not", async () => {
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

test.concurrent("file stamps of two sets together equal those of one set of all files", () => {
  const folder = fresh();
  for (const name of ["a", "b"]) writeFileSync(`${folder}/${name}`, name);
  const [a, b] = [`${folder}/a`, `${folder}/b`];
  const both = new FileStamps().add([a]).and(new FileStamps().add([b]));
  const one = new FileStamps().add([a, b]);
  expect(both.files).toEqual(one.files);
  expect(both.known).toBe(one.known);
});

test("later file stamps name the files that have changed, and not those that only one of the two sets has", () => {
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
