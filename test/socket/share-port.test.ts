// Two proxies on one port: refused if it is a mistake, whatever the number of worker threads, and allowed with reusePort.

import { describe, expect, test } from "bun:test";
import { StartError } from "../../src/lib/errors.ts";
import { connect, connectPlain, echoOrigin } from "../support/peer.ts";
import { Log, startProxy, testConfig, until } from "../support/proxy.ts";
import { freePort } from "../support/free-port.ts";
import { createProxy } from "tcpproxy";

/** Starts a proxy on a port that may be taken. Returns its error, if it is. */
async function second(port: number, workers: number, reusePort: boolean, hostname = "127.0.0.1") {
  const config = testConfig(["127.0.0.1:1"], {
    workers,
    listener: { address: `${hostname}:${port}`, reusePort },
  });
  const proxy = createProxy(config, { logger: new Log() });
  const error: unknown = await proxy.listen().then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return { error, [Symbol.asyncDispose]: async () => void (await proxy.close({ timeout: 0 })) };
}

/** Another local user, who holds names of abstract Unix sockets. */
async function squat(...words: string[]) {
  const child = Bun.spawn([process.execPath, `${import.meta.dir}/../support/squatter.ts`, ...words], {
    stdout: "pipe",
    stderr: "inherit",
  });
  const { value } = await child.stdout.getReader().read();
  expect(String(value && Buffer.from(value))).toContain("ready");
  return {
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

describe.if(process.platform === "linux" && process.geteuid?.() === 0)(
  "another user's names (as root)",
  () => {
    const signs = (port: number) =>
      ["tcpproxy", "tcpproxy 0"].flatMap((start) => [
        `${start} 127.0.0.1:${port}`,
        `${start} 127.0.0.1:${port} 1`,
      ]);

    test.each([[[]], [["--full"]], [["--mute"]]])(
      "names that another user holds keep no proxy from starting, and no two from noticing each other: %j",
      async (flags) => {
        const port = freePort();
        await using _ = await squat(...flags, ...signs(port));
        await using first = await second(port, 2, false);
        expect(first.error).toBeUndefined();
        for (const [workers, shares] of [
          [1, false],
          [2, false],
          [1, true],
          [2, true],
        ] as const) {
          await using other = await second(port, workers, shares);
          expect(String(other.error)).toContain("in use");
        }
      },
    );

    test.each([[[]], [["--full"]], [["--mute"]]])(
      "names that another user holds keep no two proxies from sharing a port: %j",
      async (flags) => {
        const port = freePort();
        await using _ = await squat(...flags, ...signs(port));
        await using first = await second(port, 1, true);
        expect(first.error).toBeUndefined();
        await using other = await second(port, 2, true);
        expect(other.error).toBeUndefined();
      },
    );

    test("names that another user holds may go while a proxy runs, and the next proxy still notices it", async () => {
      const port = freePort();
      await using first = await (async () => {
        await using _ = await squat(...signs(port));
        return await second(port, 2, false);
      })();
      expect(first.error).toBeUndefined();
      for (const shares of [false, true]) {
        await using other = await second(port, 2, shares);
        expect(String(other.error)).toContain("in use");
      }
    });
  },
);

describe("a port that is shared by mistake", () => {
  test.each([
    [1, 1],
    [1, 2],
    [2, 1],
    [2, 2],
  ])("a proxy of %i workers makes a second one of %i workers on its port fail", async (first, workers) => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { workers: first });
    await using other = await second(proxy.port, workers, false);
    expect(other.error).toBeInstanceOf(StartError);
    expect((other.error as StartError).message).toContain("in use");
    // The first proxy notices nothing.
    const client = await connect(proxy.port);
    await client.send("x");
    expect((await client.read(1)).toString()).toBe("x");
    client.close();
    await proxy.log.line("closed");
    expect(proxy.log.lines.filter(({ msg }) => msg === "refused")).toEqual([]);
  });

  test.each([
    [1, true, 1, false],
    [1, true, 2, false],
    [2, true, 1, false],
    [2, true, 2, false],
    [1, false, 1, true],
    [1, false, 2, true],
    [2, false, 1, true],
    [2, false, 2, true],
  ])(
    "a proxy of %i workers with reusePort %p and one of %i workers with reusePort %p do not share a port",
    async (first, shares, workers, sharesToo) => {
      using origin = echoOrigin();
      await using proxy = await startProxy([origin.target], {
        workers: first,
        listener: { address: "127.0.0.1:0", reusePort: shares },
      });
      await using other = await second(proxy.port, workers, sharesToo);
      expect(String(other.error)).toContain("in use");
    },
  );

  test("one of several proxies that start at the same moment gets the port", async () => {
    const port = (() => {
      using free = echoOrigin();
      return free.port;
    })();
    const all = await Promise.all(Array.from({ length: 4 }, () => second(port, 2, false)));
    expect(all.filter(({ error }) => error === undefined)).toHaveLength(1);
    for (const { error } of all) if (error !== undefined) expect(String(error)).toContain("in use");
    for (const each of all) await each[Symbol.asyncDispose]();
  });

  test("a port is free again as soon as its proxy closes, though connections go on", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { workers: 2 });
    const client = await connect(proxy.port);
    await client.send("x");
    await client.read(1);
    const closing = proxy.proxy.close();
    await proxy.log.line("draining");
    await using other = await second(proxy.port, 2, false);
    expect(other.error).toBeUndefined();
    client.close();
    await closing;
  });

  test("a port that is taken on one interface is taken on all", async () => {
    await using proxy = await startProxy(["127.0.0.1:1"], { workers: 2 });
    await using other = await second(proxy.port, 2, false, "");
    expect(String(other.error)).toContain("in use");
  });

  test("a port that several workers open is never open and then shut again while they start", async () => {
    const { port } = await (async () => {
      using origin = echoOrigin();
      return origin;
    })();
    let found = false;
    let shut = 0;
    let looking = true;
    const look = (async () => {
      while (looking) {
        const there = await connectPlain(port).then(
          (probe) => (probe.reset(), true),
          () => false,
        );
        if (found && !there) shut++;
        found ||= there;
      }
    })();
    await using proxy = await second(port, 2, false);
    expect(proxy.error).toBeUndefined();
    await until(() => found, "it is open");
    looking = false;
    await look;
    expect(shut).toBe(0);
  });
});

test.each([
  [1, 1],
  [1, 2],
  [2, 2],
])("proxies of %i and of %i workers share a port on purpose", async (first, workers) => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], {
    workers: first,
    listener: { address: "127.0.0.1:0", reusePort: true },
  });
  await using other = await second(proxy.port, workers, true);
  expect(other.error).toBeUndefined();
  for (let i = 0; i < 20; i++) (await connect(proxy.port)).close();
});
