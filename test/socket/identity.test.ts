// The client's identity from an alternative name of its certificate, over real TLS: who gets in, what the log says of
// those who do not, and what a reload that changes the kind of identity does to open connections.

import { describe, expect, test } from "bun:test";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import type { ProxyConfig } from "tcpproxy";
import { issue, revoke, testAuthority, type AltName } from "../support/issue.ts";
import { connect, echoOrigin, type Peer } from "../support/peer.ts";
import { startProxy, testConfig, until } from "../support/proxy.ts";

type Settings = NonNullable<NonNullable<ProxyConfig["listener"]>["identity"]>;

const [EMAIL, DNS, URI] = [0x81, 0x82, 0x86] as const;
const SPIFFE: Settings = { from: "uri", pattern: "spiffe://example.org/{group}/{user}" };

/** Its kinds of names name different clients. */
const everything: readonly AltName[] = [
  [URI, "spiffe://example.org/dba/alice"],
  [DNS, "bob.etl.example.org"],
  [EMAIL, "carol@web"],
];
const shown = (names: readonly AltName[] | undefined, notAfter?: Date) => ({
  identity: issue("mallory@guest", testAuthority, { names, ...(notAfter && { notAfter }) }),
});

const open = (target: string) => [{ name: "test", targets: [target], anyGroup: true }];

function config(
  target: string,
  identity: Settings | undefined,
  over: Partial<ProxyConfig> = {},
): ProxyConfig {
  return testConfig([target], {
    upstreams: open(target),
    watch: false,
    ...over,
    listener: identity === undefined ? {} : { identity },
  });
}

const start = (target: string, identity: Settings | undefined, over: Partial<ProxyConfig> = {}) =>
  startProxy([target], config(target, identity, over));

async function expectServed(client: Peer): Promise<void> {
  await client.send("still there?");
  expect(String(await client.read(12))).toBe("still there?");
}

describe("a listener's identity", () => {
  test.each<[string, Settings | undefined, string]>([
    ["a Common Name", undefined, "mallory@guest"],
    ["a URI", SPIFFE, "alice@dba"],
    ["a DNS name", { from: "dns", pattern: "{user}.{group}.example.org" }, "bob@etl"],
    ["an e-mail address", { from: "email", pattern: "{user}@{group}" }, "carol@web"],
  ])("is the one of its kind: %s", async (_, identity, name) => {
    using origin = echoOrigin();
    await using proxy = await start(origin.target, identity);
    const client = await connect(proxy.port, shown(everything));
    await expectServed(client);
    client.close();
    expect(await proxy.log.line("closed")).toMatchObject({ client: name, reason: "closed" });
  });

  test.each<[string, readonly AltName[] | undefined, object]>([
    ["no alternative name", undefined, { detail: "no URI among its alternative names", claimed: undefined }],
    [
      "other kinds alone",
      [
        [DNS, "alice.dba"],
        [EMAIL, "alice@dba"],
      ],
      { detail: "no URI among its alternative names", claimed: undefined },
    ],
    [
      "two URIs",
      [
        [URI, "spiffe://example.org/dba/alice"],
        [URI, "https://example.org/"],
      ],
      {
        detail: "2 times URI among its alternative names",
        claimed: "spiffe://example.org/dba/alice, https://example.org/",
      },
    ],
    [
      "a NUL",
      [[URI, "spiffe://example.org/dba/alice\0"]],
      {
        detail: "its URI has the forbidden character U+0000",
        claimed: "spiffe://example.org/dba/alice\\u0000",
      },
    ],
    [
      "another trust domain",
      [[URI, "spiffe://example.com/dba/alice"]],
      {
        detail: "its URI is not of the form spiffe://example.org/{group}/{user}",
        claimed: "spiffe://example.com/dba/alice",
      },
    ],
  ])("is none with %s, and the log says what was claimed", async (_, names, line) => {
    using origin = echoOrigin();
    await using proxy = await start(origin.target, SPIFFE);
    const client = await connect(proxy.port, shown(names));
    expect((await client.rest()).length).toBe(0);
    client.close();
    expect(await proxy.log.line("refused")).toMatchObject({ reason: "identity_invalid", ...line });
    expect(origin.accepted).toHaveLength(0);
  });

  test("limits a client by its name, over all of its certificates", async () => {
    using origin = echoOrigin();
    const rateLimit = { capacity: "unlimited", maxConnections: 1 } as const;
    await using proxy = await start(origin.target, SPIFFE, { rateLimit });
    const first = await connect(proxy.port, shown([[URI, "spiffe://example.org/dba/alice"]]));
    await expectServed(first);
    const second = await connect(proxy.port, shown(everything));
    expect((await second.rest()).length).toBe(0);
    expect(await proxy.log.line("refused")).toMatchObject({
      client: "alice@dba",
      reason: "connection_limit",
    });
    const other = await connect(proxy.port, shown([[URI, "spiffe://example.org/dba/Alice"]]));
    await expectServed(other);
    for (const each of [first, second, other]) each.close();
  });

  test("changed by a reload ends connections that would be another client's, and keeps all others", async () => {
    using origin = echoOrigin();
    await using proxy = await start(origin.target, undefined);
    const same: readonly AltName[] = [[URI, "spiffe://example.org/guest/mallory"]];
    const clients = [
      await connect(proxy.port, shown(everything)),
      await connect(proxy.port, shown(undefined)),
      await connect(proxy.port, shown(same)),
    ] as const;
    for (const client of clients) await expectServed(client);
    await proxy.proxy.reload(config(origin.target, SPIFFE));
    const closed = await proxy.log.count("closed", 2);
    for (const each of closed)
      expect(each).toMatchObject({ client: "mallory@guest", reason: "authorization_revoked" });
    expect(closed.map(({ detail }) => detail).sort()).toEqual(["identity_changed", "identity_invalid"]);
    await Promise.all([clients[0].ended, clients[1].ended]);
    await expectServed(clients[2]);
    // A reload that changes nothing of it ends nothing, and new clients come by the new kind.
    await proxy.proxy.reload(config(origin.target, SPIFFE, { timeout: "9m" }));
    const fresh = await connect(proxy.port, shown(everything));
    await expectServed(fresh);
    await expectServed(clients[2]);
    for (const each of [...clients, fresh]) each.close();
    await until(() => proxy.proxy.stats().connections === 0, "nothing is held");
  });
});

test("expiryGrace keeps an open connection after its certificate's end, until the grace ends or a reload takes it back", async () => {
  using origin = echoOrigin();
  await using proxy = await start(origin.target, SPIFFE, { expiryGrace: "1h" });
  const notAfter = new Date(Math.ceil(Date.now() / 1_000 + 2) * 1_000);
  const old = shown([[URI, "spiffe://example.org/dba/alice"]], notAfter);
  const client = await connect(proxy.port, old);
  await expectServed(client);
  await until(() => Date.now() > notAfter.getTime() + 600, "it has run out");
  await expectServed(client);
  const late = await connect(proxy.port, old);
  await late.ended;
  late.close();
  expect((await proxy.log.line("refused")).reason).toBe("certificate_expired");
  const renewed = await connect(proxy.port, shown([[URI, "spiffe://example.org/dba/alice"]]));
  await expectServed(renewed);
  // A reload that checks certificates again keeps it too.
  const folder = mkdtempSync(`${tmpdir()}/tcpproxy-identity-`);
  const crl = `${folder}/crl.pem`;
  await Bun.write(crl, revoke([900]));
  const checked = (over: Partial<ProxyConfig>) => {
    const next = config(origin.target, SPIFFE, over);
    return { ...next, listener: { ...next.listener, crl } };
  };
  await proxy.proxy.reload(checked({ expiryGrace: "1h" }));
  await expectServed(client);
  await proxy.proxy.reload(checked({}));
  expect(await proxy.log.line("closed")).toMatchObject({
    client: "alice@dba",
    reason: "certificate_expired",
  });
  await client.ended;
  await expectServed(renewed);
  client.close();
  renewed.close();
  await rm(folder, { recursive: true });
});
