// The door for operators over HTTPS: who gets in, who may do what, and what a reload changes for those who are in.

import { describe, expect, test } from "bun:test";
import { copyFileSync, writeFileSync } from "node:fs";
import { connect as connectTls } from "node:tls";
import type { ProxyConfig } from "tcpproxy";
import { askHttps, askSocket, change, httpsKeys, linesOf, SocketFolder } from "../support/admin.ts";
import { cert, certPath, connect, connectPlain, echoOrigin } from "../support/peer.ts";
import { issue, makeAuthority } from "../support/issue.ts";
import { startProxy, until, type TestProxy } from "../support/proxy.ts";

type Admin = NonNullable<ProxyConfig["admin"]>;

async function start(over: Partial<Admin> = {}, more: Omit<ProxyConfig, "listener"> = {}) {
  const proxy = await startProxy(["127.0.0.1:1"], { admin: { ...httpsKeys, ...over }, ...more });
  return Object.assign(proxy, { admin: await portOf(proxy) });
}

async function portOf({ log }: TestProxy): Promise<number> {
  await log.line("admin listening");
  const lines = log.lines.filter(({ msg }) => msg === "admin listening");
  const address = lines.map((line) => String(line["address"])).find((text) => !text.startsWith("unix:"));
  return Number(address?.split(":").at(-1));
}

/** What becomes of a TLS client that sends a request: the answer, or nothing. */
function knock(
  port: number,
  options: object,
  request = "GET /v1/targets HTTP/1.1\r\nHost: localhost\r\n\r\n",
) {
  return new Promise<string>((resolve) => {
    let text = "";
    const socket = connectTls({
      port,
      host: "127.0.0.1",
      servername: "localhost",
      ca: cert("ca.crt"),
      ...options,
    });
    socket.on("secureConnect", () => socket.write(request));
    socket.on("data", (chunk) => {
      text += String(chunk);
      socket.end();
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(text));
  });
}
const as = (name: string) => ({ cert: cert(`${name}.crt`), key: cert("key.pem") });

describe.each([1, 2])("with %i workers", (workers) => {
  test("an operator looks and changes, and is named in the log", async () => {
    await using proxy = await start({}, { workers });
    const { json } = await askHttps(proxy.admin, "/v1/status", "alice");
    expect([json.pid, json.right]).toEqual([process.pid, "operate"]);
    expect((await askHttps(proxy.admin, "/v1/reload", "alice", change())).status).toBe(200);
    expect(await proxy.log.line("admin")).toMatchObject({
      action: "reload",
      actor: "alice@admin",
      result: "ok",
    });
  });

  test("a reader looks, and may change nothing", async () => {
    await using proxy = await start({}, { workers });
    for (const path of ["/v1/status", "/v1/connections", "/v1/clients", "/v1/targets", "/"]) {
      expect((await askHttps(proxy.admin, path, "carol")).status).toBe(200);
    }
    expect((await askHttps(proxy.admin, "/v1/status", "carol")).json.right).toBe("read");
    const { status, json } = await askHttps(proxy.admin, "/v1/reload", "carol", change());
    expect([status, json]).toEqual([403, { error: "you have no right to this" }]);
    expect(await proxy.log.line("admin")).toMatchObject({ actor: "carol@ops", result: "refused" });
    expect(proxy.log.lines.some(({ msg }) => msg === "reloaded")).toBe(false);
  });
});

test.each<[string, object, string]>([
  ["without a certificate", {}, "certificate_missing"],
  ["of a stranger's CA", as("stranger"), "certificate_untrusted"],
  ["whose certificate has expired", as("expired"), "certificate_expired"],
  ["whose certificate is a server's", as("server-only"), "certificate_untrusted"],
  ["with two names", as("hostile-two-cns"), "identity_invalid"],
  ["with an invisible character in its name", as("hostile-zero-width"), "identity_invalid"],
  ["that is neither reader nor operator", as("bob"), "group_not_authorized"],
  ["of another group of the same user", as("alice-ops"), ""],
  ["with TLS 1.2", { ...as("alice"), maxVersion: "TLSv1.2" }, "handshake_failed"],
])("a client %s learns nothing", async (_, options, reason) => {
  await using proxy = await start({ readers: [] });
  const answer = await knock(proxy.admin, options);
  expect(answer).toBe("");
  const line = await proxy.log.line("admin refused");
  if (reason !== "") expect(line.reason).toBe(reason);
});

test("plain HTTP gets no answer", async () => {
  await using proxy = await start();
  const peer = await connectPlain(proxy.admin);
  await peer.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const answer = await peer.rest();
  expect(String(answer)).not.toContain("HTTP");
  peer.close();
  expect((await proxy.log.line("admin refused")).reason).toBe("handshake_failed");
});

test("strangers who fail again and again are refused before TLS, and the socket is not", async () => {
  using folder = new SocketFolder();
  const handshakes = { failures: 3, failuresRefill: "1h" };
  await using proxy = await start({ socket: folder.socket }, { handshakes });
  for (let i = 0; i < 5; i++) await knock(proxy.admin, as("stranger"));
  await proxy.log.line("admin refused", "source_limited");
  expect((await askSocket(folder.socket, "/v1/status")).status).toBe(200);
});

test("clients that begin no handshake make way for those who do", async () => {
  await using proxy = await start({}, { handshakes: { failures: 1_000 } });
  const silent = await Promise.all(Array.from({ length: 64 }, () => connectPlain(proxy.admin)));
  await until(
    () => proxy.log.lines.filter(({ msg }) => msg === "admin refused").length > 0,
    "some are refused",
  );
  // They may take their time for a moment.
  let answer = "";
  while (answer === "") answer = await knock(proxy.admin, as("alice"));
  expect(answer).toStartWith("HTTP/1.1 200 ");
  for (const peer of silent) peer.reset();
});

test("a client that sends its request with the end of its handshake is answered", async () => {
  await using proxy = await start();
  for (let i = 0; i < 20; i++) expect(await knock(proxy.admin, as("alice"))).toStartWith("HTTP/1.1 200 ");
});

test("a page of another origin is refused, and a rebound name too", async () => {
  await using proxy = await start();
  const request = (host: string, origin = "") => `GET /v1/targets HTTP/1.1\r\nHost: ${host}\r\n${origin}\r\n`;
  const ask = (text: string) => knock(proxy.admin, as("alice"), text);
  expect(await ask(request("localhost", "Origin: https://evil.example\r\n"))).toStartWith("HTTP/1.1 403 ");
  expect(await ask(request("evil.example"))).toStartWith("HTTP/1.1 421 ");
  expect(await ask(request("[::1]:9443"))).toStartWith("HTTP/1.1 200 ");
});

test("many connections are listed over TLS, whole", async () => {
  using origin = echoOrigin();
  await using proxy = await start(
    {},
    {
      upstreams: [{ name: "test", targets: [origin.target], authorizedGroups: ["admin"] }],
    },
  );
  const peers = await Promise.all(Array.from({ length: 700 }, () => connect(proxy.port)));
  await until(() => proxy.proxy.stats().upstreams[0]?.targets[0]?.open === 700, "all are open");
  expect(linesOf(await askHttps(proxy.admin, "/v1/connections", "carol"))).toHaveLength(700);
  for (const peer of peers) peer.reset();
});

describe("a reload", () => {
  /** A proxy whose admin files are copies, that can be replaced. */
  async function withFiles() {
    const folder = new SocketFolder();
    const files = { ca: "ca.crt", certificate: "server.crt", privateKey: "key.pem" };
    const admin: Partial<Admin> = {};
    for (const [key, file] of Object.entries(files)) {
      copyFileSync(certPath(file), folder.path(file));
      admin[key as keyof typeof files] = folder.path(file);
    }
    const config = { watch: false };
    const proxy = await start(admin, config);
    return Object.assign(proxy, {
      files: folder,
      keys: { ...httpsKeys, ...admin } as Admin,
      [Symbol.dispose]: () => folder[Symbol.dispose](),
    });
  }

  /** Follows the events as somebody. */
  async function follow(port: number, name: string): Promise<{ ended: Promise<void>; over: boolean }> {
    const response = await fetch(`https://localhost:${port}/v1/events`, {
      tls: { ca: cert("ca.crt"), ...as(name) },
    });
    expect(response.status).toBe(200);
    const state = { over: false, ended: Promise.resolve() };
    const end = () => void (state.over = true);
    state.ended = response.text().then(end, end);
    return state;
  }

  test("of new names takes rights away from those who are in, and from no others", async () => {
    await using proxy = await start({ readers: ["carol@ops", "bob@admin"] });
    const [carol, bob] = [await follow(proxy.admin, "carol"), await follow(proxy.admin, "bob")];
    const admin = { ...httpsKeys, readers: ["bob@admin"] };
    await proxy.proxy.reload({
      listener: {
        address: "127.0.0.1:0",
        ca: certPath("ca.crt"),
        certificate: certPath("server.crt"),
        privateKey: certPath("key.pem"),
      },
      upstreams: [{ name: "test", targets: ["127.0.0.1:1"], authorizedGroups: ["admin"] }],
      admin,
    });
    await carol.ended;
    expect(bob.over).toBe(false);
    expect(await knock(proxy.admin, as("carol"))).toBe("");
    expect(await knock(proxy.admin, as("bob"))).toStartWith("HTTP/1.1 200 ");
  });

  test("of the certificate shows the new one", async () => {
    await using proxy = await withFiles();
    const shown = () =>
      new Promise<string>((resolve) => {
        const socket = connectTls(
          { port: proxy.admin, host: "127.0.0.1", rejectUnauthorized: false, ...as("alice") },
          () => {
            resolve(socket.getPeerCertificate().fingerprint256);
            socket.destroy();
          },
        );
      });
    const before = await shown();
    const other = issue("localhost", undefined, { serial: 4_711 });
    writeFileSync(proxy.files.path("server.crt"), other.cert);
    await proxy.proxy.reload();
    expect(await shown()).not.toBe(before);
    expect(proxy.log.lines.some(({ msg }) => msg === "internal error")).toBe(false);
    proxy[Symbol.dispose]();
  });

  test("of the CA ends who is in by the old one, and lets in who comes by the new one", async () => {
    await using proxy = await withFiles();
    const carol = await follow(proxy.admin, "carol");
    const authority = makeAuthority([["CN", "another CA"]]);
    writeFileSync(proxy.files.path("ca.crt"), authority.cert);
    await proxy.proxy.reload();
    await carol.ended;
    expect(await knock(proxy.admin, as("alice"))).toBe("");
    expect(await knock(proxy.admin, issue("alice@admin", authority))).toStartWith("HTTP/1.1 200 ");
    proxy[Symbol.dispose]();
  });

  test("of files that do not fit is refused, and the door stays as it is", async () => {
    await using proxy = await withFiles();
    writeFileSync(proxy.files.path("key.pem"), cert("ecdsa.pem"));
    expect(proxy.proxy.reload()).rejects.toThrow("admin.privateKey");
    expect(await knock(proxy.admin, as("alice"))).toStartWith("HTTP/1.1 200 ");
    proxy[Symbol.dispose]();
  });
});

test("the door's certificate and CA are warned of before they expire", async () => {
  await using proxy = await start({ certificate: certPath("server-expired.crt") });
  expect(proxy.proxy.warnings).toContainEqual(
    expect.stringMatching(/^the admin's certificate expired on 2025/),
  );
});

test("files of the door that are no good are faults, all at once", async () => {
  const starting = startProxy(["127.0.0.1:1"], {
    admin: { ...httpsKeys, ca: certPath("alice.crt"), privateKey: certPath("ecdsa.pem") },
  });
  expect(starting).rejects.toThrow(
    /^admin\.ca: .*is not that of a CA\nadmin\.privateKey: .*is not the key of admin\.certificate/,
  );
  await starting.catch(() => {});
});

test("the port is closed with the proxy, and what is connected to it", async () => {
  const proxy = await start();
  const response = await fetch(`https://localhost:${proxy.admin}/v1/events`, {
    tls: { ca: cert("ca.crt"), ...as("alice") },
  });
  await proxy.proxy.close({ timeout: 0 });
  await response.text().catch(() => {});
  expect(connectPlain(proxy.admin)).rejects.toThrow();
});

test("a port that is taken is one clear line, and the proxy opens nothing", async () => {
  await using first = await start();
  const second = startProxy(["127.0.0.1:1"], {
    admin: { ...httpsKeys, address: `127.0.0.1:${first.admin}` },
  });
  expect(second).rejects.toThrow(
    `cannot listen on 127.0.0.1:${first.admin}: the address is in use (EADDRINUSE)`,
  );
  await second.catch(() => {});
});
