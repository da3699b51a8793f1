// Which clients are refused and which are served, through a real TLS client. For each refusal no byte is served, no target
// is dialled, no token is spent, the log has one line with the reason, and a good client is served right after.

import { X509Certificate } from "node:crypto";
import { describe, expect, test } from "bun:test";
import { connect as tlsConnect } from "node:tls";
import {
  cert,
  certPath,
  connect,
  connectPlain,
  echoOrigin,
  type ClientOptions,
  type Peer,
} from "../support/peer.ts";
import { startProxy, until, type TestProxy } from "../support/proxy.ts";

// One token and no refill: a refused client that spent it would keep out the good client, as many of these certificates
// have the same name.
const oneToken = { rateLimit: { capacity: 1, fillRate: "1h" } };

async function expectRefusal(over: object, attempt: (proxy: TestProxy) => Promise<Peer>, expected: object) {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], { ...oneToken, ...over });

  const stranger = await attempt(proxy);
  await stranger.send("let me in");
  await stranger.ended;
  stranger.close();
  expect(stranger.received).toBe(0);

  const [line] = await proxy.log.count("refused", 1);
  expect(line).toEqual({
    level: "warn",
    msg: "refused",
    id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-z]+$/),
    remote: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
    listener: "127.0.0.1:0",
    ...expected,
  });
  await until(() => proxy.proxy.stats().connections === 0, "nothing is held");
  expect(origin.accepted).toHaveLength(0);
  expect(proxy.proxy.stats().clients).toBe(0);

  const alice = await connect(proxy.port);
  await alice.send("hello");
  expect((await alice.read(5)).toString()).toBe("hello");
  alice.close();
  await proxy.log.line("closed", "closed");
  expect(proxy.log.lines.filter(({ msg }) => msg === "refused")).toHaveLength(1);
  expect(proxy.log.lines.filter(({ msg }) => msg === "internal error")).toEqual([]);
}

/** The fields of a line about the certificate and the server name. */
function shown(name: string | null | undefined): object {
  const serverName = "localhost";
  if (typeof name !== "string") return { serverName };
  const { serialNumber, validToDate, subject } = new X509Certificate(cert(`${name}.crt`));
  return {
    serverName,
    serial: serialNumber,
    issuer: expect.stringContaining("CN="),
    notAfter: validToDate.toISOString(),
    ...(/^CN=/m.test(subject) && { claimed: expect.any(String) }),
  };
}

describe("certificates", () => {
  test.each<[string, ClientOptions, object]>([
    ["no certificate", { name: null }, { reason: "certificate_missing" }],
    [
      "a certificate of a stranger's CA with the same names",
      { name: "stranger" },
      { reason: "certificate_untrusted", detail: expect.any(String) },
    ],
    [
      "an expired certificate",
      { name: "expired" },
      { reason: "certificate_expired", detail: "CERT_HAS_EXPIRED" },
    ],
    [
      "a certificate that is not yet valid",
      { name: "not-yet-valid" },
      { reason: "certificate_expired", detail: "CERT_NOT_YET_VALID" },
    ],
    [
      "a certificate for servers only",
      { name: "server-only" },
      { reason: "certificate_untrusted", detail: "INVALID_PURPOSE" },
    ],
    [
      "a certificate that a leaf has signed",
      { name: "leaf-signed" },
      { reason: "certificate_untrusted", detail: expect.any(String) },
    ],
    [
      "a certificate of a CA that is not configured",
      { name: "second-root" },
      { reason: "certificate_untrusted", detail: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" },
    ],
  ])("a client with %s is refused", async (_, options, expected) => {
    await expectRefusal({}, ({ port }) => connect(port, options), { ...shown(options.name), ...expected });
  });

  test("a client whose certificate is revoked is refused", async () => {
    await expectRefusal(
      { listener: { crl: certPath("crl.pem") } },
      ({ port }) => connect(port, { name: "revoked" }),
      {
        ...shown("revoked"),
        reason: "certificate_revoked",
        detail: "CERT_REVOKED",
        claimed: "alice@admin",
      },
    );
  });

  test("a client under an intermediate CA that has no CRL is refused where the root has one", async () => {
    await expectRefusal(
      { listener: { crl: certPath("crl.pem") } },
      ({ port }) => connect(port, { name: "chained" }),
      {
        ...shown("chained"),
        reason: "certificate_untrusted",
        detail: "UNABLE_TO_GET_CRL",
      },
    );
  });

  test("a client is refused when the CRL is out of date", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], {
      listener: { crl: certPath("crl-outdated.pem") },
    });
    const client = await connect(proxy.port);
    await client.ended;
    client.close();
    expect(await proxy.log.line("refused")).toMatchObject({
      reason: "certificate_untrusted",
      detail: "CRL_HAS_EXPIRED",
    });
    expect(origin.accepted).toHaveLength(0);
  });

  test("a client whose certificate is revoked is served where no CRL says so", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    const client = await connect(proxy.port, { name: "revoked" });
    await client.send("x");
    expect((await client.read(1)).toString()).toBe("x");
    client.close();
  });
});

describe("names", () => {
  test.each([
    ["hostile-two-cns", "2 Common Names"],
    ["hostile-two-cns-reversed", "2 Common Names"],
    ["hostile-two-cns-in-one-rdn", "2 Common Names"],
    ["hostile-no-cn", "no Common Name"],
    ["hostile-no-at", "no @"],
    ["hostile-two-ats", "2 times @"],
    ["hostile-empty-user", "nothing before the @"],
    ["hostile-empty-group", "nothing after the @"],
    ["hostile-space", "the forbidden character U+0020"],
    ["hostile-trailing-space", "the forbidden character U+0020"],
    ["hostile-newline", "the forbidden character U+000A"],
    ["hostile-newline-in-o", "no Common Name"],
    ["hostile-nbsp", "the forbidden character U+00A0"],
    ["hostile-zero-width", "the forbidden character U+200B"],
    ["hostile-bidi", "the forbidden character U+202E"],
  ])("a client with the certificate %s is refused for its name", async (name, detail) => {
    await expectRefusal({}, ({ port }) => connect(port, { name }), {
      ...shown(name),
      reason: "identity_invalid",
      detail,
    });
  });
});

describe("groups", () => {
  test.each([
    ["carol", "carol@ops"],
    ["alice-ops", "alice@ops"],
    ["lookalike-group-case", "alice@Admin"],
    ["lookalike-newline-in-o", "mallory@guest"],
    ["lookalike-escaped", "mallory@guest,CN=alice"],
  ])("a client with the certificate %s is refused for its group", async (name, client) => {
    await expectRefusal({}, ({ port }) => connect(port, { name }), {
      ...shown(name),
      claimed: client,
      client,
      upstream: "test",
      reason: "group_not_authorized",
    });
  });
});

describe("handshakes", () => {
  test.each<[string, string | Uint8Array]>([
    ["plain HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
    ["a line of text", "hello\n"],
    ["zeros", new Uint8Array(2_000)],
    ["a record of the wrong size", Uint8Array.of(0x16, 0x03, 0x01, 0xff, 0xff, 0x01)],
    [
      "a handshake message that promises 16 MiB",
      Uint8Array.of(0x16, 0x03, 0x01, 0x00, 0x04, 0x01, 0xff, 0xff, 0xff),
    ],
  ])("a client that sends %s instead of a handshake is refused", async (_, bytes) => {
    await expectRefusal(
      { handshakeTimeout: 300 },
      async ({ port }) => {
        const plain = await connectPlain(port);
        await plain.send(bytes);
        await plain.ended;
        // TLS answers some of these with an alert; nothing else may come.
        expect((await plain.rest()).length).toBeLessThanOrEqual(7);
        plain.received = 0;
        return plain;
      },
      { reason: expect.stringMatching(/^handshake_(failed|timeout)$/), detail: expect.any(String) },
    );
  });

  test("a client that connects and leaves is refused", async () => {
    await expectRefusal(
      {},
      async ({ port }) => {
        const plain = await connectPlain(port);
        plain.close();
        return plain;
      },
      { reason: "handshake_failed", detail: expect.any(String) },
    );
  });

  test("a client that connects and breaks off is refused", async () => {
    await expectRefusal(
      {},
      async ({ port }) => {
        const plain = await connectPlain(port);
        plain.reset();
        return plain;
      },
      { reason: "handshake_failed", detail: "ECONNRESET" },
    );
  });
});

describe("clients that are served", () => {
  test.each<[string, ClientOptions]>([
    ["a plain Common Name", { name: "alice" }],
    ["a subject of several attributes", { name: "dave" }],
    ["a certificate without extended key usage", { name: "no-eku" }],
    ["an ECDSA certificate", { name: "ecdsa", key: "ecdsa.pem" }],
    ["a chain with an intermediate", { name: "chained" }],
  ])("a client with %s is served", async (_, options) => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target]);
    const client = await connect(proxy.port, options);
    await client.send("hello");
    expect((await client.read(5)).toString()).toBe("hello");
    client.close();
    expect((await proxy.log.line("closed")).reason).toBe("closed");
  });

  test("clients of either of two roots are served", async () => {
    const roots = `${import.meta.dir}/../../out/test-roots-${process.pid}.pem`;
    await Bun.write(roots, `two roots in one file\n${cert("ca.crt")}\n# the second\n${cert("ca2.crt")}`);
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], { listener: { ca: roots } });
    await Bun.file(roots).delete();
    for (const name of ["alice", "second-root"]) {
      const client = await connect(proxy.port, { name });
      await client.send(name);
      expect((await client.read(name.length)).toString()).toBe(name);
      client.close();
    }
  });

  test("a client is served by a proxy whose own certificate is ECDSA", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([origin.target], {
      listener: { certificate: certPath("server-ecdsa.crt"), privateKey: certPath("ecdsa.pem") },
    });
    const client = await connect(proxy.port);
    await client.send("x");
    expect((await client.read(1)).toString()).toBe("x");
    client.close();
  });
});

test("TLS 1.2 is refused, whatever the certificate", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target]);
  const old = tlsConnect({
    port: proxy.port,
    host: "127.0.0.1",
    maxVersion: "TLSv1.2",
    rejectUnauthorized: false,
    cert: cert("alice.crt"),
    key: cert("key.pem"),
  });
  const outcome = await new Promise<string>((resolve) => {
    old.on("secureConnect", () => resolve("connected"));
    old.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
  expect(outcome).toMatch(/PROTOCOL_VERSION/);
  expect(await proxy.log.line("refused")).toMatchObject({
    reason: "handshake_failed",
    detail: "UNSUPPORTED_PROTOCOL",
  });
  expect(origin.accepted).toHaveLength(0);
});

test("a proxy without session tickets sends none and resumes no session", async () => {
  using origin = echoOrigin();
  await using proxy = await startProxy([origin.target], { listener: { sessionTickets: false } });
  const tickets: Buffer[] = [];
  const client = tlsConnect({
    port: proxy.port,
    host: "127.0.0.1",
    ca: cert("ca.crt"),
    cert: cert("alice.crt"),
    key: cert("key.pem"),
    servername: "localhost",
  });
  client.on("session", (ticket) => tickets.push(ticket));
  client.write("x");
  await new Promise((resolve) => client.once("data", resolve));
  expect(client.getProtocol()).toBe("TLSv1.3");
  expect(tickets).toEqual([]);
  client.destroy();
});
