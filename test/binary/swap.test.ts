// A new proxy replaces an old one on the same port while clients keep connecting.

import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { Run } from "../support/binary.ts";
import { certPath, connect, echoOrigin } from "../support/peer.ts";
import { startProxy, testConfig, until } from "../support/proxy.ts";

describe.if(process.platform === "linux")("a swap of proxies on one port", () => {
  // In production, a proxy is not root and has no capabilities.
  const incapable = 'set -- setpriv --bounding-set=-all --inh-caps=-all "$@"';
  const canDrop = Bun.which("setpriv") !== null && process.getuid?.() === 0;
  test.each<[number, number, string, string]>([
    [3, 1, "", ""],
    [10, 2, "", ""],
    ...(canDrop
      ? [[4, 2, ", without capabilities", incapable] satisfies [number, number, string, string]]
      : []),
  ])(
    "a swap while clients connect without pause loses no connection: %i swaps, with %i workers%s",
    async (swaps, workers, _, before) => {
      const folder = mkdtempSync(`${tmpdir()}/tcpproxy-swap-`);
      using origin = echoOrigin();
      const port = (() => {
        using free = echoOrigin();
        return free.port;
      })();
      const config = `${folder}/proxy.json`;
      const listener = {
        address: `127.0.0.1:${port}`,
        ca: certPath("ca.crt"),
        certificate: certPath("server-ecdsa.crt"),
        privateKey: certPath("ecdsa.pem"),
        reusePort: true,
      };
      writeFileSync(config, JSON.stringify(testConfig([origin.target], { workers, listener })));
      const start = async () => {
        const run = await Run.start(["--config", config, "--log-format", "json"], {
          ...(before && { before }),
        });
        await run.port();
        return run;
      };

      const runs = [await start()];
      let coming = true;
      let served = 0;
      const failures: string[] = [];
      const clients = Array.from({ length: 8 }, async () => {
        while (coming) {
          try {
            const client = await connect(port, { name: "ecdsa", key: "ecdsa.pem" });
            await client.send("hello");
            const answer = (await client.read(5)).toString();
            if (answer === "hello") served++;
            else failures.push(`answered "${answer}"`);
            client.close();
          } catch (error) {
            failures.push(String(error));
          }
        }
      });
      for (let i = 0; i < swaps; i++) {
        const next = await start();
        const { length } = origin.accepted;
        await until(() => origin.accepted.length > length + 20, "clients have come");
        const asked = performance.now();
        runs.at(-1)!.child.kill("SIGTERM");
        expect(await runs.at(-1)!.exit()).toBe(0);
        // It must not simply have closed the port, which loses a connection only now and then.
        expect(performance.now() - asked).toBeGreaterThan(400);
        runs.push(next);
      }
      coming = false;
      await Promise.all(clients);
      expect(failures).toEqual([]);
      expect(served).toBeGreaterThan(20 * swaps);
      for (const run of runs) await run[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    },
  );

  test("a swap leaves the port to all workers of the new proxy", async () => {
    using origin = echoOrigin();
    await using old = await startProxy([origin.target], {
      listener: { address: "127.0.0.1:0", reusePort: true },
    });
    await using next = await startProxy([origin.target], {
      workers: 3,
      listener: { address: `127.0.0.1:${old.port}`, reusePort: true },
    });
    await old.proxy.close();
    const clients = await Promise.all(Array.from({ length: 40 }, () => connect(next.port)));
    for (const client of clients) client.close();
    const closed = await next.log.count("closed", 40);
    expect(new Set(closed.map(({ id }) => String(id).split("-")[1])).size).toBe(3);
  });
});
