import { expect, test } from "bun:test";
import { Origin } from "../support/peer.ts";
import { until } from "../support/proxy.ts";
import { freePort } from "../support/free-port.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

const freeAddress = () => `127.0.0.1:${freePort()}`;

async function start(...args: string[]) {
  // `npm run demo` builds first; the result is out/proxy.
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

test("the demonstration shows an exchange and a refusal, goes on running, and ends with Ctrl-C", async () => {
  const { demo, output, reading } = await start(freeAddress(), freeAddress(), freeAddress());
  await until(() => output.text.includes("Try it") || demo.exitCode !== null, "it has shown everything");
  expect(output.text).toContain(
    'alice@admin sent "hello through the proxy" and got "hello through the proxy"',
  );
  expect(output.text).toContain('mallory@guest sent "let me in" and got nothing');
  expect(output.text).toContain("reason=group_not_authorized");
  // It must go on running; no event tells that a process does not end.
  await Bun.sleep(200);
  expect(demo.exitCode).toBeNull();
  demo.kill("SIGINT");
  expect(await demo.exited).toBe(0);
  await reading;
});

test("the demonstration says why when its proxy cannot start", async () => {
  using blocker = new Origin();
  const { demo, output, reading } = await start(blocker.target, freeAddress());
  expect(await demo.exited).toBe(1);
  await reading;
  expect(output.text).toContain(`cannot listen on ${blocker.target}: the address is in use`);
  expect(output.text).toContain("demonstration: the proxy did not start");
  expect(output.text).not.toContain("goes on");
});

test("the demonstration stops with the error when an echo server does not start", async () => {
  using blocker = new Origin();
  const { demo, output, reading } = await start(freeAddress(), blocker.target);
  expect(await demo.exited).toBe(1);
  await reading;
  expect(output.text).toContain(`cannot listen on ${blocker.target}: the address is in use`);
  expect(output.text).toContain("demonstration: the echo servers did not start");
  expect(output.text).not.toContain("goes on");
});

test("the demonstration takes a free port where 5000 is taken, and says so", async () => {
  let blocker: { stop(now: boolean): void } | undefined;
  try {
    blocker = Bun.listen({ hostname: "127.0.0.1", port: 5000, exclusive: true, socket: { data() {} } });
  } catch {
    // Another program has the port, which serves as well.
  }
  const { demo, output, reading } = await start("", freeAddress());
  await until(() => output.text.includes("Try it") || demo.exitCode !== null, "it has shown everything");
  demo.kill("SIGINT");
  expect(await demo.exited).toBe(0);
  await reading;
  blocker?.stop(true);
  expect(output.text).toContain("Port 5000 is taken by another program.");
  expect(output.text).toMatch(/The proxy goes on, on 127\.0\.0\.1:(?!5000)\d+/);
  for (const line of output.text.split("\n").filter((each) => !/^\d{4}-/.test(each)))
    expect(line.length).toBeLessThanOrEqual(80);
});
