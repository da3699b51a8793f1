// What a running proxy says of a client is what becomes of it: for every reason that depends on the moment a real client is
// refused, and the proxy names the same reason. Asked by an id, it says what became of a connection.

import { afterAll, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { connect as plainConnect } from "node:net";
import type { Subject } from "../../src/admin/subject.ts";
import { Windows } from "../../src/admin/windows.ts";
import { parseSubject, type Block } from "../../src/auth/blocks.ts";
import { askSocket, change, SocketFolder, type Answered } from "../support/admin.ts";
import { cert, echoOrigin } from "../support/peer.ts";
import { startProxy, type TestProxy } from "../support/proxy.ts";
import { closedTarget } from "../support/served.ts";
import { visit, type Visit } from "../support/visit.ts";

/** The proxy that was started last, as its windows see it. */
let subject: Subject;
const open = Windows.open.bind(Windows);
const spy = spyOn(Windows, "open").mockImplementation((seen, config) => open((subject = seen), config));
afterAll(() => spy.mockRestore());

let visits: Visit[] = [];
beforeEach(() => void (visits = []));

type Over = NonNullable<Parameters<typeof startProxy>[1]> & {
  targets?: string[];
  /** The `maxConnections` of the upstream, or of its target. */
  upstreamCap?: number;
  targetCap?: number;
};

const alice = (name = "alice") => ({ cert: cert(`${name}.crt`), key: cert("key.pem") });

/** A proxy with a door for operators, in front of an echo server. */
class Stand implements AsyncDisposable {
  readonly folder = new SocketFolder();
  readonly origin = echoOrigin();
  proxy!: TestProxy;

  async start({ targets, upstreamCap, targetCap, ...over }: Over = {}): Promise<this> {
    const admin = { socket: this.folder.socket };
    const upstreams = [
      {
        name: "test",
        targets: [{ address: this.origin.target, ...(targetCap && { maxConnections: targetCap }) }],
        authorizedGroups: ["admin"],
        ...(upstreamCap && { maxConnections: upstreamCap }),
      },
    ];
    if (upstreamCap !== undefined || targetCap !== undefined) over = { ...over, upstreams };
    this.proxy = await startProxy(targets ?? [this.origin.target], { watch: false, admin, ...over });
    return this;
  }

  async visit(name?: string): Promise<Visit> {
    const made = await visit(this.proxy.port, { identity: alice(name) });
    visits.push(made);
    return made;
  }

  ask(question: object): Promise<Answered> {
    return askSocket(this.folder.socket, "/v1/explain", change(JSON.stringify(question)));
  }

  /** Why the last client was refused. */
  async refused(reason: string): Promise<string> {
    return String((await this.proxy.log.line("refused", reason))["id"]);
  }

  async [Symbol.asyncDispose]() {
    for (const each of visits) each.leave();
    await this.proxy[Symbol.asyncDispose]();
    this.origin[Symbol.dispose]();
    this.folder[Symbol.dispose]();
  }
}

const block = (text: string): Block => ({
  ...parseSubject(text)!,
  reason: "audit",
  actor: "test",
  since: 0,
  until: undefined,
});

interface Case {
  readonly reason: string;
  readonly over: Over;
  /** What happens before the client comes that is refused. */
  before(stand: Stand): Promise<unknown>;
  readonly step: string;
  readonly key?: string;
}

const served = async (stand: Stand) => expect((await stand.visit()).served).toBe(true);

const CASES: Case[] = [
  {
    reason: "connection_limit",
    over: { rateLimit: { maxConnections: 1 } },
    before: served,
    step: "open",
    key: "rateLimit.maxConnections",
  },
  {
    reason: "rate_limited",
    over: { rateLimit: { capacity: 1, fillRate: "1h" } },
    before: served,
    step: "tokens",
    key: "rateLimit.capacity",
  },
  { reason: "overloaded", over: { maxConnections: 1 }, before: served, step: "room", key: "maxConnections" },
  {
    reason: "source_limited",
    over: { handshakes: { failures: 1, failuresRefill: "1h" } },
    before: async (stand) => {
      await stand.visit("stranger");
      await stand.refused("certificate_untrusted");
    },
    step: "source",
    key: "handshakes.failures",
  },
  {
    reason: "address_denied",
    over: { listener: { deny: ["10.0.0.0/8", "127.0.0.0/8"] } },
    before: async () => {},
    step: "address",
    key: "listener.deny[1]",
  },
  {
    reason: "connection_limit",
    over: {
      rateLimit: { maxConnections: 9 },
      limits: [
        { match: "*@admin", capacity: 5 },
        { match: "alice@admin", maxConnections: 1 },
      ],
    },
    before: served,
    step: "open",
    key: "limits[1].maxConnections",
  },
  {
    reason: "rate_limited",
    over: { limits: [{ match: "*@admin", capacity: 1, fillRate: "1h" }] },
    before: served,
    step: "tokens",
    key: "limits[0].capacity",
  },
  {
    reason: "connection_limit",
    over: { upstreamCap: 1 },
    before: served,
    step: "target",
    key: "upstreams[0].maxConnections",
  },
  {
    reason: "no_target",
    over: { targetCap: 1 },
    before: served,
    step: "target",
    key: "upstreams[0].targets",
  },
  {
    reason: "no_target",
    over: { targets: [closedTarget()] },
    before: async (stand) => {
      for (let i = 0; i < 3; i++) await stand.visit();
    },
    step: "target",
  },
  {
    reason: "blocked",
    over: {},
    before: () => subject.setBlocks([block("*@admin")]),
    step: "blocks",
  },
];

describe.each([1, 2])(
  "with %i workers, a running proxy names the reason that a client is refused for:",
  (workers) => {
    test.each(CASES.map((each) => [each.reason, each] as const))("%s", async (reason, each) => {
      await using stand = await new Stand().start({ workers, ...each.over });
      await each.before(stand);
      expect((await stand.visit()).served).toBe(false);
      const id = await stand.refused(reason);
      const question = { certificate: cert("alice.crt"), from: "127.0.0.1" };
      const { json } = await stand.ask(question);
      expect(json.reason).toBe(reason);
      const failed = json.steps.filter(({ ok }: { ok?: boolean }) => ok === false);
      expect(failed).toEqual([expect.objectContaining({ step: each.step, remedy: expect.any(String) })]);
      expect(failed[0].key).toBe(each.key);
      // By its id too, with what would become of it at this moment.
      const { json: then } = await stand.ask({ id });
      expect(then.reason).toBe(reason);
      expect(then.steps[0]).toMatchObject({ step: "refused", ok: false, remedy: expect.any(String) });
    });
  },
);

test("asking takes nothing: no token, no place, no target's turn", async () => {
  await using stand = await new Stand().start({
    rateLimit: { capacity: 1, fillRate: "1h", maxConnections: 1 },
  });
  const question = { client: "alice@admin", from: "127.0.0.1" };
  const first = (await stand.ask(question)).json;
  for (let i = 0; i < 5; i++) expect((await stand.ask(question)).json).toEqual(first);
  expect(first).toMatchObject({ upstream: "test", client: "alice@admin" });
  expect(first.steps.map(({ step }: { step: string }) => step)).toEqual([
    "source",
    "room",
    "listener",
    "identity",
    "blocks",
    "route",
    "authorization",
    "open",
    "tokens",
    "target",
  ]);
  expect(first.steps.at(-1).text).toBe(`${stand.origin.target}, which is up, with 0 open`);
  expect(stand.proxy.proxy.stats()).toMatchObject({ connections: 0, clients: 0 });
  await served(stand);
  // It is no change: the log has no line about it.
  expect(stand.proxy.log.lines.filter(({ msg }) => msg === "admin")).toEqual([]);
});

describe("asked by an id, a running proxy says what became of", () => {
  test.each<[string, (port: number) => Promise<unknown>]>([
    ["certificate_missing", (port) => visit(port, { identity: {} as never })],
    ["certificate_untrusted", (port) => visit(port, { identity: alice("stranger") })],
    ["group_not_authorized", (port) => visit(port, { identity: alice("carol") })],
    [
      "handshake_failed",
      async (port) => {
        const socket = plainConnect(port, "127.0.0.1", () => socket.end("GET / HTTP/1.0\r\n\r\n"));
        socket.on("error", () => {});
      },
    ],
    [
      "handshake_timeout",
      async (port) => {
        const socket = plainConnect(port, "127.0.0.1");
        socket.on("error", () => {});
      },
    ],
  ])("a client that was refused: %s", async (reason, come) => {
    await using stand = await new Stand().start({ handshakeTimeout: "300ms" });
    await come(stand.proxy.port);
    const { json } = await stand.ask({ id: await stand.refused(reason) });
    expect(json).toMatchObject({ reason, steps: [{ step: "refused", ok: false }, { step: "now" }] });
    if (reason !== "group_not_authorized") return;
    expect(json.steps[1]).toMatchObject({
      ok: false,
      text: expect.stringContaining('would be refused: group_not_authorized: the group "ops"'),
      key: "upstreams[0].authorizedGroups",
    });
  });

  test.each([1, 2])("a connection that is open, with %i workers", async (workers) => {
    await using stand = await new Stand().start({ workers, logLevel: "debug" });
    await served(stand);
    const id = String((await stand.proxy.log.line("admitted"))["id"]);
    const { json } = await stand.ask({ id });
    expect(json).toMatchObject({
      upstream: "test",
      client: "alice@admin",
      steps: [
        {
          step: "admitted",
          ok: true,
          text: expect.stringContaining(` to ${stand.origin.target}, open for `),
        },
        { step: "now", ok: true, text: "would be allowed: test" },
      ],
    });
  });
});

test.each<[object, number, string]>([
  [{}, 400, "either client or certificate is needed"],
  [{ client: "a@b", certificate: "x" }, 400, "either client or certificate is needed"],
  [{ client: "*@b" }, 400, "client is not user@group"],
  [{ client: 1 }, 400, "client is not text"],
  [
    { client: "a@b", x: "y" },
    400,
    "the body has an unknown key; known here: id, client, certificate, serverName, listener, from, at",
  ],
  [{ client: "a@b", from: "10.0.0.0/8" }, 400, "from is not an IP address"],
  [{ client: "a@b", at: "noon" }, 400, "at is not a date"],
  [
    { client: "a@b", listener: ":1" },
    400,
    'listener: ":1" is no listener\'s address; there is "127.0.0.1:0"',
  ],
  [{ certificate: "x" }, 400, "certificate is not PEM of a certificate and its chain"],
  [
    { certificate: "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n" },
    400,
    "certificate is damaged",
  ],
  [{ id: "x", client: "a@b" }, 400, "id stands alone"],
  [{ id: "x" }, 404, "no open connection and no refusal of late has this id"],
])("the question %j is refused with %i", async (question, status, error) => {
  await using stand = await new Stand().start();
  const answer = await stand.ask(question);
  expect({ status: answer.status, error: answer.json.error }).toEqual({ status, error });
});
