// HAProxy and nginx before the proxy, as the balancers that name their callers in PROXY headers.

import { describe, expect, test } from "bun:test";
import { MiB, hash, payload } from "../support/payload.ts";
import { connect, echoOrigin } from "../support/peer.ts";
import { startProxy, until } from "../support/proxy.ts";
import { messages } from "../support/served.ts";
import { senders } from "../support/senders.ts";

const listener = { acceptProxy: { from: ["127.0.0.2"] } };

describe.each(senders.map((sender) => [sender.name, sender] as const))("%s", (_, sender) => {
  test.skipIf(!sender.available)("names its callers, and carries their bytes whole", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { listener, log: { admissions: true } });
    await using balancer = await sender.start(proxy.port);
    const bytes = payload(8 * MiB);
    const callers: string[] = [];
    for (let i = 0; i < 5; i++) {
      const peer = await connect(balancer.port);
      callers.push(`127.0.0.1:${peer.socket.localPort}`);
      void peer.send(bytes).then(() => peer.end());
      expect(hash(await peer.rest())).toBe(hash(bytes));
    }
    await until(() => messages(proxy.log, "closed").length === 5, "all are closed");
    const lines = messages(proxy.log, "closed");
    expect(lines.map(({ remote }) => remote)).toEqual(callers);
    for (const { peer } of lines) expect(peer).toMatch(/^127\.0\.0\.2:\d+$/);
    for (const { peer, remote } of messages(proxy.log, "admitted")) {
      expect([peer, callers.includes(String(remote))]).toEqual([
        expect.stringMatching(/^127\.0\.0\.2:/),
        true,
      ]);
    }
  });

  test.skipIf(!sender.available)("is refused where its address is not trusted", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], {
      listener: { acceptProxy: { from: ["127.0.0.3"] } },
    });
    await using balancer = await sender.start(proxy.port);
    const peer = await connect(balancer.port);
    expect(await peer.rest()).toHaveLength(0);
    await until(() => messages(proxy.log, "refused").length > 0, "it is refused");
    expect(messages(proxy.log, "refused").map(({ reason }) => reason)).toContain("handshake_failed");
    expect(origin.accepted).toHaveLength(0);
  });
});
