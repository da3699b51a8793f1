// What clients that reset during their handshake may cost, seen from outside.

import { expect, test } from "bun:test";
import { createServer, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { once } from "node:events";
import { startProxy, until } from "../support/proxy.ts";

/** The first flight of a TLS client. */
async function clientHello(): Promise<Buffer> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const client = connectTls({ port, host: "127.0.0.1" }).on("error", () => {});
  const [socket] = (await once(server, "connection")) as [Socket];
  const [hello] = (await once(
    socket.on("error", () => {}),
    "data",
  )) as [Buffer];
  client.destroy();
  socket.destroy();
  server.close();
  return hello;
}

test("a source whose clients send a hello and reset is refused before long", async () => {
  await using proxy = await startProxy(["127.0.0.1:9"], {
    handshakes: { failures: 3, failuresRefill: "1h" },
  });
  const hello = await clientHello();
  const limited = () => proxy.log.lines.some(({ reason }) => reason === "source_limited");
  for (let i = 0; i < 6 && !limited(); i++) {
    const client = await Bun.connect({ port: proxy.port, hostname: "127.0.0.1", socket: { data() {} } });
    await until(() => proxy.proxy.stats().connections === 1 || limited(), "it is accepted");
    client.write(hello);
    client.terminate();
    await until(() => proxy.proxy.stats().connections === 0, "it is gone");
  }
  expect(limited()).toBe(true);
});
