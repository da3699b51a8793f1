import { expect, test } from "bun:test";
import { Origin } from "../support/peer.ts";
import { until } from "../support/proxy.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

function freeAddress(): string {
  using free = new Origin();
  return free.target;
}

async function start(...args: string[]) {
  // What `npm run demo` does first; into its own place, out/proxy.
  const build = Bun.spawnSync([process.execPath, "build.ts"], { cwd: ROOT });
  expect(build.exitCode).toBe(0);
  const demo = Bun.spawn([process.execPath, "test/demo.ts", ...args], {
    cwd: ROOT,
    stdout: "pipe",
    stderr: "pipe",
  });
  const output = { text: "" };
  const reading = [demo.stdout, demo.stderr].map(async (stream) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) output.text += decoder.decode(chunk, { stream: true });
  });
  return { demo, output, reading: Promise.all(reading) };
}

test("shows an exchange and a refusal, goes on running, and ends with Ctrl-C", async () => {
  const { demo, output, reading } = await start(freeAddress(), freeAddress(), freeAddress());
  await until(() => output.text.includes("Try it") || demo.exitCode !== null, "it has shown everything");
  expect(output.text).toContain(
    'alice@admin sent "hello through the proxy" and got "hello through the proxy"',
  );
  expect(output.text).toContain('mallory@guest sent "let me in" and got nothing');
  expect(output.text).toContain("reason=group_not_authorized");
  await Bun.sleep(200);
  expect(demo.exitCode).toBeNull();
  demo.kill("SIGINT");
  expect(await demo.exited).toBe(0);
  await reading;
});

test("says why when it cannot start", async () => {
  using blocker = new Origin();
  const { demo, output, reading } = await start(blocker.target, freeAddress());
  expect(await demo.exited).toBe(1);
  await reading;
  expect(output.text).toContain(`cannot listen on ${blocker.target}: the address is in use`);
});
