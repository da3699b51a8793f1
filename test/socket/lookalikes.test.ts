// Names that look like another client's name, on certificates of the trusted CA, through a real TLS client.

import { expect, test } from "bun:test";
import { issue } from "../support/issue.ts";
import { connect, echoOrigin } from "../support/peer.ts";
import { startProxy, until } from "../support/proxy.ts";

test.each(["\u3164", "\u2800", "\ufe0f", "\u034f", "\uffa0", "\u{e0100}"])(
  "a trusted certificate whose name has %j in it is refused, and reaches no target",
  async (char) => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    for (const name of [`alice${char}@admin`, `alice@admin${char}`]) {
      const client = await connect(proxy.port, { identity: issue(name) });
      await client.send("let me in");
      expect(await client.rest()).toHaveLength(0);
      client.close();
    }
    expect((await proxy.log.line("refused")).reason).toBe("identity_invalid");
    await until(() => proxy.proxy.stats().connections === 0, "nothing is held");
    expect(origin.accepted).toHaveLength(0);
    expect(proxy.proxy.stats().clients).toBe(0);
  },
);
