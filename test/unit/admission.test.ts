// Admission and re-authorization, on sockets that report what real TLS reports rarely or never.

import { X509Certificate } from "node:crypto";
import { describe, expect, setSystemTime, test } from "bun:test";
import {
  admit,
  decide,
  reauthorize as reauthorizeUnder,
  type Circumstances,
  type ClientSocket,
  type ListenerState,
  type Question,
  type Refusal,
} from "../../src/connection/admission.ts";
import type { Pool } from "../../src/upstreams/pool.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { COMMON_NAME, identityRule } from "../../src/auth/identity-rule.ts";
import { Blocks } from "../../src/auth/blocks.ts";
import { Router } from "../../src/auth/server-name.ts";
import { Balancer } from "../../src/state/balancer.ts";
import { Limits } from "../../src/state/limits.ts";
import { issue, makeAuthority, revoke, testAuthority, type Identity } from "../support/issue.ts";
import { cert } from "../support/peer.ts";
import { small } from "../support/ledger.ts";
import { trusting as trust } from "../support/lists.ts";

const day = 86_400_000;
const alice = issue("alice@admin", testAuthority, { serial: 501 });
const expired = issue("alice@admin", testAuthority, { notAfter: new Date(Date.now() - day) });
const early = issue("alice@admin", testAuthority, { notBefore: new Date(Date.now() + day) });

type Chain = readonly string[];

/** A socket after a good handshake with this chain; `over` replaces single members. */
function socketOf(chain: Chain, over: Partial<Record<keyof ClientSocket, unknown>> = {}): ClientSocket {
  type Link = { raw: Buffer; issuerCertificate?: Link };
  const links = chain.map((pem): Link => ({ raw: new X509Certificate(pem).raw }));
  links.forEach((link, i) => (link.issuerCertificate = links[i + 1] ?? link));
  const [leaf] = chain;
  return {
    authorized: true,
    getPeerX509Certificate: () => leaf && new X509Certificate(leaf),
    getPeerCertificate: () => links[0],
    getServername: () => "db.example.com",
    isSessionReused: () => false,
    getTLSVersion: () => "TLSv1.3",
    getCipher: () => ({ name: "TLS_AES_128_GCM_SHA256" }),
    alpnProtocol: null,
    remoteAddress: "127.0.0.1",
    remotePort: 40_000,
    localAddress: "127.0.0.1",
    localPort: 5_000,
    ...over,
  } as unknown as ClientSocket;
}

/** What admission needs beside a socket: two upstreams, one of them without server names. */
function world(entrance: Partial<ListenerState> = {}, upstreams: readonly object[] = []) {
  const config = resolveConfig(
    {
      upstreams: [
        {
          name: "db",
          targets: ["127.0.0.1:1"],
          authorizedGroups: ["admin"],
          serverNames: ["db.example.com"],
        },
        { name: "others", targets: ["127.0.0.1:2"], authorizedGroups: ["ops"] },
        ...upstreams,
      ],
      rateLimit: { capacity: 1, fillRate: "1h" },
    },
    { directory: "/", cores: 1 },
    [],
  );
  const ledger = small();
  const limits = new Limits(ledger, config.rateLimit);
  const pools = new Map(
    config.upstreams.map((upstream): [string, Pool] => [
      upstream.name,
      {
        upstream,
        targets: new Map(),
        tls: undefined,
        balancer: new Balancer(ledger, [], upstream),
        removed: false,
        row: 0,
        groups: new Map(),
      },
    ]),
  );
  const circumstances: Circumstances = {
    rules: {
      config: { ...config, maxConnections: 10 },
      isExempt: () => false,
      router: new Router(config.upstreams, config.fallback),
      pools,
      blocks: Blocks.NONE,
      routes: [],
    },
    limits,
    listener: {
      address: ":5000",
      row: 0,
      upstream: undefined,
      balancers: undefined,
      identity: COMMON_NAME,
      networks: undefined,
      trust: trusting(),
      generation: 3,
      authoritiesSince: 3,
      removed: false,
      ...entrance,
    },
    generation: 3,
    address: undefined,
    id: "x-1",
    now: 0,
  };
  return { circumstances, limits, pools };
}

const trusting = (crl?: string[], ca = [cert("ca.crt")]) => trust(ca, crl);

/** Asks for admission, and checks that a refusal has taken no token. */
function attempt(
  socket: ClientSocket,
  { circumstances, limits }: ReturnType<typeof world>,
  over: object = {},
) {
  const result = admit(socket, true, null, { ...circumstances, ...over });
  expect(limits.size).toBe("reason" in result ? 0 : 1);
  return result as Partial<Refusal> & { client?: string; pool?: Pool; expiresAt?: number };
}

describe("admission of a full handshake", () => {
  test.each<[string, boolean, Error | null, Partial<Record<keyof ClientSocket, unknown>>]>([
    ["a handshake that failed", false, null, {}],
    ["a handshake that failed, on a socket that claims to be authorized", false, new Error("x"), {}],
    ["an error beside success", true, new Error("x"), {}],
    ["a socket that is not authorized", true, null, { authorized: false }],
    ["a socket that does not say", true, null, { authorized: undefined }],
  ])("admission refuses what TLS refused: %s", (_, success, error, over) => {
    const { circumstances, limits } = world();
    const result = admit(socketOf([alice.cert], over), success, error, circumstances);
    expect("reason" in result && result.reason).toBeOneOf(["handshake_failed", "certificate_untrusted"]);
    expect(limits.size).toBe(0);
  });

  test("admission accepts the verdict of TLS after a full handshake under the rules in force", () => {
    const result = attempt(socketOf([alice.cert]), world());
    expect(result).toMatchObject({ client: "alice@admin" });
    expect(result.pool?.upstream.name).toBe("db");
    expect(result.expiresAt).toBe(new X509Certificate(alice.cert).validToDate.getTime());
  });

  test("admission refuses an authorized socket that has no certificate", () => {
    const none = { getPeerX509Certificate: () => undefined };
    expect(attempt(socketOf([alice.cert], none), world()).reason).toBe("certificate_untrusted");
  });
});

const again: [string, object, object, string][] = [
  ["a resumed session", { isSessionReused: () => true }, {}, "resumed session"],
  ["a handshake from before a reload", {}, { generation: 2 }, "after a reload"],
];

describe.each(again)("admission of %s", (_, over, circumstances, detail) => {
  const middle = makeAuthority([["CN", "middle"]], testAuthority, { serial: 601 });
  const chained = issue("alice@admin", middle, { serial: 602 });
  const other = makeAuthority([["CN", "another CA"]]);

  test.each<[string, Chain, ListenerState["trust"]]>([
    ["a certificate that is still good", [alice.cert, cert("ca.crt")], trusting()],
    ["a chain without its root", [alice.cert], trusting()],
    ["a certificate when another one is revoked", [alice.cert], trusting([revoke([9])])],
    [
      "a chain through an intermediate CA",
      [chained.cert, middle.cert, cert("ca.crt")],
      trusting([revoke([]), revoke([], middle)]),
    ],
    [
      "a certificate when another root was removed",
      [alice.cert],
      trusting(undefined, [other.cert, cert("ca.crt")]),
    ],
  ])("admission accepts %s", (_case, chain, trust) => {
    const result = attempt(socketOf(chain, over), world({ trust }), circumstances);
    expect(result.client).toBe("alice@admin");
  });

  test.each<[string, Chain, ListenerState["trust"], string]>([
    ["a missing chain", [], trusting(), "certificate_untrusted"],
    ["an expired certificate", [expired.cert, cert("ca.crt")], trusting(), "certificate_expired"],
    ["a certificate that is not valid yet", [early.cert], trusting(), "certificate_expired"],
    ["a revoked certificate", [alice.cert], trusting([revoke([501])]), "certificate_revoked"],
    [
      "a certificate that an expired list revokes",
      [alice.cert],
      trusting([outdated([501])]),
      "certificate_revoked",
    ],
    ["a certificate whose list has expired", [alice.cert], trusting([outdated([])]), "certificate_untrusted"],
    [
      "a certificate whose CA has no list, although another CA has one",
      [alice.cert],
      trusting([revoke([], other)]),
      "certificate_untrusted",
    ],
    [
      "a certificate whose CA was removed",
      [alice.cert, cert("ca.crt")],
      trusting(undefined, [other.cert]),
      "certificate_untrusted",
    ],
    [
      "a certificate whose CA now has the same name and another key",
      [alice.cert, cert("ca.crt")],
      trusting(undefined, [cert("stranger-ca.crt")]),
      "certificate_untrusted",
    ],
    [
      "a certificate whose intermediate CA is revoked",
      [chained.cert, middle.cert],
      trusting([revoke([601]), revoke([], middle)]),
      "certificate_revoked",
    ],
    ["a certificate whose intermediate CA is missing", [chained.cert], trusting(), "certificate_untrusted"],
  ])("admission refuses %s", (_case, chain, trust, reason) => {
    const result = attempt(socketOf(chain, over), world({ trust }), circumstances);
    expect(result).toEqual({ reason, detail } as object);
  });

  test("admission refuses a socket that has no chain, or one without bytes", () => {
    for (const answer of [undefined, null, {}, { raw: undefined }, { raw: new Uint8Array() }]) {
      const socket = socketOf([chained.cert], { ...over, getPeerCertificate: () => answer });
      expect(attempt(socket, world(), circumstances).reason).toBe("certificate_untrusted");
    }
    const bare = socketOf([alice.cert], { ...over, getPeerX509Certificate: () => undefined });
    expect(attempt(bare, world(), circumstances).reason).toBe("certificate_untrusted");
  });

  test("admission needs no chain where a trusted CA itself has signed the certificate", () => {
    const socket = socketOf([alice.cert], { ...over, getPeerCertificate: () => undefined });
    expect(attempt(socket, world(), circumstances).client).toBe("alice@admin");
  });

  test("admission accepts a certificate whose chain is a circle", () => {
    const [first, second] = [{ raw: raw(chained) }, { raw: new X509Certificate(middle.cert).raw }] as {
      raw: Buffer;
      issuerCertificate: unknown;
    }[];
    first!.issuerCertificate = second;
    second!.issuerCertificate = first;
    const socket = socketOf([chained.cert], { ...over, getPeerCertificate: () => first });
    expect(attempt(socket, world(), circumstances).client).toBe("alice@admin");
  });

  test("admission checks identity, group and limits as for a full handshake", () => {
    const unnamed = issue("nobody");
    expect(attempt(socketOf([unnamed.cert], over), world(), circumstances).reason).toBe("identity_invalid");
    const ops = issue("bob@ops");
    expect(attempt(socketOf([ops.cert], over), world(), circumstances).reason).toBe("group_not_authorized");
    const busy = world();
    expect(attempt(socketOf([alice.cert], over), busy, circumstances).client).toBe("alice@admin");
    const second = admit(socketOf([alice.cert], over), true, null, {
      ...busy.circumstances,
      ...circumstances,
    });
    expect(second).toEqual({ reason: "rate_limited", client: "alice@admin", upstream: "db" });
  });

  function outdated(serials: number[]): string {
    return revoke(serials, testAuthority, new Date(Date.now() - day));
  }

  function raw(identity: Identity): Buffer {
    return new X509Certificate(identity.cert).raw;
  }
});

test("admission refuses a resumed session once the revocation list has expired", () => {
  const trust = trusting([revoke([], testAuthority, new Date(Date.now() + 60_000))]);
  const resumed = { isSessionReused: () => true };
  expect(attempt(socketOf([alice.cert], resumed), world({ trust })).client).toBe("alice@admin");
  setSystemTime(trust.revocations![0]!.nextUpdate!);
  try {
    expect(attempt(socketOf([alice.cert], resumed), world({ trust })).reason).toBe("certificate_untrusted");
  } finally {
    setSystemTime();
  }
});

describe("routing by server name", () => {
  const asking = (answer: unknown) => socketOf([alice.cert], { getServername: () => answer });
  const ops = (answer: unknown) => socketOf([issue("bob@ops").cert], { getServername: () => answer });

  test.each([null, undefined, false, true, "", 0, {}, "x".repeat(70_000), "db.example.com.evil", "\0"])(
    "admission sends the server name %p to the fallback upstream",
    (answer) => {
      expect(attempt(ops(answer), world()).pool?.upstream.name).toBe("others");
      expect(attempt(asking(answer), world())).toEqual({
        reason: "group_not_authorized",
        client: "alice@admin",
        upstream: "others",
      });
    },
  );

  test("admission refuses a server name that no upstream has, and logs at most 255 characters of it", () => {
    const { circumstances } = world();
    const rules = {
      ...circumstances.rules,
      router: new Router(circumstances.rules.config.upstreams, undefined),
    };
    for (const [answer, detail] of [
      [undefined, undefined],
      ["elsewhere.org", "elsewhere.org"],
      ["x".repeat(70_000), "x".repeat(255)],
    ] as const) {
      expect(attempt(asking(answer), world(), { rules })).toEqual({
        reason: "unknown_server_name",
        client: "alice@admin",
        detail,
      } as object);
    }
  });

  test("admission ignores the server name on a listener that is pinned to an upstream", () => {
    expect(attempt(asking("db.example.com"), world({ upstream: "others" })).reason).toBe(
      "group_not_authorized",
    );
    expect(attempt(asking("elsewhere.org"), world({ upstream: "db" })).pool?.upstream.name).toBe("db");
  });

  test("admission refuses where the upstream that the listener is pinned to does not exist", () => {
    expect(attempt(asking("db.example.com"), world({ upstream: "gone" })).reason).toBe("unknown_server_name");
  });

  test("admission takes no token for a server name that does not fit into the required PROXY header", () => {
    const proxied = {
      name: "proxied",
      targets: ["127.0.0.1:3"],
      authorizedGroups: ["admin"],
      serverNames: ["p.example.com"],
      proxyProtocol: "v2",
    };
    const pinned = world({ upstream: "proxied" }, [proxied]);
    expect(attempt(asking("a b"), pinned).reason).toBe("proxy_header");
    expect(attempt(asking("p.example.com"), pinned).client).toBe("alice@admin");
  });
});

/** Calls {@link reauthorizeUnder} with the upstreams of {@link world}. */
function reauthorize(
  socket: ClientSocket,
  inside: { client: string; pool: Pool; serverName: string },
  listener: ListenerState,
  router: Router,
  {
    disconnectExpired,
    expiryGrace = 0,
    ...how
  }: { generation: number; judged: boolean; disconnectExpired: boolean; expiryGrace?: number },
) {
  const { circumstances, pools } = world();
  const config = { ...circumstances.rules.config, disconnectExpired, expiryGrace };
  pools.set(inside.pool.upstream.name, inside.pool);
  return reauthorizeUnder(socket, inside, {
    ...how,
    listener,
    address: "192.0.2.7",
    rules: { config, router, pools, blocks: Blocks.NONE },
  });
}

describe("the admission decision", () => {
  const ask = (over: Partial<Parameters<typeof decide>[0]> = {}, entrance: Partial<ListenerState> = {}) => {
    const { circumstances, limits } = world(entrance);
    const { listener, rules } = circumstances;
    const certificate = new X509Certificate(alice.cert);
    const from = { certificate, chain: () => [], vouched: false };
    const question: Question = {
      listener,
      from,
      serverName: "db.example.com",
      address: "192.0.2.7",
      date: Date.now(),
      ...over,
    };
    const decision = decide(question, rules);
    expect(decide(question, rules)).toEqual(decision);
    expect(limits.size).toBe(0);
    return decision;
  };

  test("the admission decision needs no socket and takes no token, however often it is asked", () => {
    expect(ask()).toMatchObject({ client: "alice@admin", upstream: "db" });
  });

  test.each<[string, Parameters<typeof ask>[0], Partial<ListenerState>, string]>([
    ["a listener that was removed", {}, { removed: true }, "certificate_untrusted"],
    ["a date after the certificate's", { date: Date.now() + 40_000 * day }, {}, "certificate_expired"],
    [
      "a group that is not authorized",
      { from: { client: "bob@ops", group: "ops" } },
      {},
      "group_not_authorized",
    ],
    ["an upstream that does not exist", {}, { upstream: "gone" }, "unknown_server_name"],
  ])("the admission decision refuses %s", (_, over, entrance, reason) => {
    expect(ask(over, entrance)).toMatchObject({ reason });
  });

  test.each([
    ["alice@admin", "client"],
    ["*@admin", "group"],
    [
      `sha256:${new X509Certificate(alice.cert).fingerprint256.replaceAll(":", "").toLowerCase()}`,
      "certificate",
    ],
    ["192.0.2.0/24", "network"],
  ] as const)("the decision refuses a client while %s is blocked", (subject, kind) => {
    const { circumstances } = world();
    const { listener, rules } = circumstances;
    const now = Date.now();
    const block = { subject, kind, reason: "lost laptop", actor: "uid 0", since: now, until: now + 1_000 };
    const blocks = new Blocks([block]);
    const certificate = new X509Certificate(alice.cert);
    const from = { certificate, chain: () => [], vouched: false };
    const question = { listener, from, serverName: "db.example.com", address: "192.0.2.7" };
    expect(decide({ ...question, date: now }, { ...rules, blocks })).toMatchObject({
      reason: "blocked",
      client: "alice@admin",
      detail: `${subject}: lost laptop`,
    });
    expect(decide({ ...question, date: now + 1_000 }, { ...rules, blocks })).toHaveProperty("upstream", "db");
  });

  test("the admission decision is the same for the identity of an open connection as for its certificate", () => {
    const from = { client: "alice@admin", group: "admin" };
    expect(ask({ from })).toEqual(ask());
    expect(ask({ from, serverName: "elsewhere" })).toMatchObject({
      reason: "group_not_authorized",
      upstream: "others",
    });
  });
});

describe("re-authorization after a reload", () => {
  const judged = { generation: 2, judged: true, disconnectExpired: true };
  const inside = (pool: Pool) => ({ client: "alice@admin", pool, serverName: "db.example.com" });

  test("an open connection stays open while it is authorized", () => {
    const { circumstances, pools } = world();
    const db = inside(pools.get("db")!);
    expect(
      reauthorize(socketOf([alice.cert]), db, circumstances.listener, circumstances.rules.router, judged),
    ).toBeUndefined();
  });

  test("an open connection ends when its server name or its listener now leads to another upstream", () => {
    const { circumstances, pools } = world();
    const { config, router } = circumstances.rules;
    const { listener: entrance } = circumstances;
    const db = inside(pools.get("db")!);
    const socket = socketOf([alice.cert]);
    expect(reauthorize(socket, db, { ...entrance, upstream: "others" }, router, judged)).toBe(
      "upstream_changed",
    );
    expect(reauthorize(socket, db, { ...entrance, upstream: "db" }, router, judged)).toBeUndefined();
    const upstreams = config.upstreams.map((each) => ({ ...each, serverNames: undefined }));
    const moved = new Router(upstreams, "others");
    expect(reauthorize(socket, db, entrance, moved, judged)).toBe("upstream_changed");
    expect(reauthorize(socket, db, entrance, new Router(upstreams, undefined), judged)).toBe(
      "unknown_server_name",
    );
  });

  test("an open connection ends for its listener first, then its upstream, its group, its certificate", () => {
    const { circumstances, pools } = world({ trust: trusting([revoke([501])]) });
    const { listener: entrance } = circumstances;
    const socket = socketOf([alice.cert]);
    const db = pools.get("db")!;
    expect(reauthorize(socket, inside(db), entrance, circumstances.rules.router, judged)).toBe(
      "certificate_revoked",
    );
    db.upstream = { ...db.upstream, authorizedGroups: ["Admin", "ops"] };
    expect(reauthorize(socket, inside(db), entrance, circumstances.rules.router, judged)).toBe(
      "group_not_authorized",
    );
    db.removed = true;
    expect(reauthorize(socket, inside(db), entrance, circumstances.rules.router, judged)).toBe(
      "upstream_removed",
    );
    entrance.removed = true;
    expect(reauthorize(socket, inside(db), entrance, circumstances.rules.router, judged)).toBe(
      "listener_removed",
    );
  });

  test("an open connection has its certificate checked again only when the trusted CAs or lists have changed", () => {
    const { circumstances, pools } = world({ trust: trusting([revoke([501])]) });
    const rest = { ...judged, judged: false };
    const db = inside(pools.get("db")!);
    expect(
      reauthorize(socketOf([alice.cert]), db, circumstances.listener, circumstances.rules.router, rest),
    ).toBeUndefined();
  });

  test("an open connection may outlive its certificate with disconnectExpired off, but never if revoked or untrusted", () => {
    const late = issue("alice@admin", testAuthority, {
      serial: 700,
      notAfter: new Date(Date.now() - day),
    });
    const lenient = { ...judged, disconnectExpired: false };
    const verdict = (trust: ListenerState["trust"], how: typeof judged) => {
      const { circumstances, pools } = world({ trust });
      return reauthorize(
        socketOf([late.cert]),
        inside(pools.get("db")!),
        circumstances.listener,
        circumstances.rules.router,
        how,
      );
    };
    expect(verdict(trusting(), judged)).toBe("certificate_expired");
    expect(verdict(trusting(), lenient)).toBeUndefined();
    expect(verdict(trusting([revoke([1])]), lenient)).toBeUndefined();
    expect(verdict(trusting([revoke([700])]), lenient)).toBe("certificate_revoked");
    expect(verdict(trusting(undefined, [cert("ca2.crt")]), lenient)).toBe("certificate_untrusted");
    const within = (expiryGrace: number) => ({ ...judged, expiryGrace }) as typeof judged;
    expect(verdict(trusting(), within(day - 60_000))).toBe("certificate_expired");
    expect(verdict(trusting(), within(day + 60_000))).toBeUndefined();
    expect(verdict(trusting([revoke([1])]), within(2 * day))).toBeUndefined();
    expect(verdict(trusting([revoke([700])]), within(2 * day))).toBe("certificate_revoked");
    expect(verdict(trusting(undefined, [cert("ca2.crt")]), within(2 * day))).toBe("certificate_untrusted");
  });

  test("an open connection with a certificate that is not valid yet ends, whatever the grace is", () => {
    const { circumstances, pools } = world();
    const how = { ...judged, expiryGrace: 365 * day };
    expect(
      reauthorize(
        socketOf([early.cert]),
        inside(pools.get("db")!),
        circumstances.listener,
        circumstances.rules.router,
        how,
      ),
    ).toBe("certificate_expired");
  });

  test.each([
    ["spiffe://x/admin/alice", undefined],
    ["spiffe://x/admin/bob", "identity_changed"],
    ["spiffe://x/ops/alice", "group_not_authorized"],
    [undefined, "identity_invalid"],
  ])("an open connection of alice@admin whose URI is now %p ends as %p", (uri, expected) => {
    for (const notAfter of [undefined, new Date(Date.now() - day)]) {
      const names = uri === undefined ? undefined : [[0x86, uri] as const];
      const shown = issue("alice@admin", testAuthority, { names, ...(notAfter && { notAfter }) });
      const identity = identityRule({ from: "uri", pattern: "spiffe://x/{group}/{user}" });
      const { circumstances, pools } = world({ identity });
      const verdict = reauthorize(
        socketOf([shown.cert]),
        inside(pools.get("db")!),
        circumstances.listener,
        circumstances.rules.router,
        { ...judged, expiryGrace: 2 * day },
      );
      // Of an expired certificate nothing is decided beside whose it is.
      expect(verdict).toBe(notAfter && expected ? "identity_changed" : (expected as never));
    }
  });
});
