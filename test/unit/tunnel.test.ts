// The rules of the tunnel: its configuration, the status record, what it says of its certificate and of failures.

import { describe, expect, test } from "bun:test";
import type { Fault } from "../../src/lib/errors.ts";
import { ADMITTED, StatusReader, encodeRefusal } from "../../src/lib/tunnel-protocol.ts";
import { refusalText } from "../../src/connection/refusal-text.ts";
import { resolveConnect } from "../../src/tunnel/config.ts";
import { dialFailure, refusal } from "../../src/tunnel/failure.ts";
import { noticeOf } from "../../src/tunnel/own-certificate.ts";
import { cert } from "../support/peer.ts";
import { Random } from "../support/random.ts";

describe("the status record", () => {
  const text = "group_not_authorized (id k3f9-12c): your group dba is not listed for orders é";

  test("is read however it is split, and gives the rest back", () => {
    const random = new Random(7);
    for (let round = 0; round < 200; round++) {
      const refused = round % 2 === 0 ? text : undefined;
      const record = refused === undefined ? ADMITTED : encodeRefusal(refused);
      const all = Buffer.concat([record, Buffer.from("upstream")]);
      const reader = new StatusReader();
      let at = 0;
      for (;;) {
        const size = random.int(1, 5);
        const found = reader.push(all.subarray(at, at + size));
        at += size;
        if (found === undefined) continue;
        if (found === "invalid") throw new Error("invalid");
        expect(found.refused).toBe(refused);
        expect(String(Buffer.from(found.rest)) + String(all.subarray(at))).toBe("upstream");
        break;
      }
    }
  });

  test("is cut where its text is too long", () => {
    expect(new StatusReader().push(encodeRefusal("x".repeat(5_000)))).toMatchObject({
      refused: "x".repeat(1_024),
    });
  });

  test.each([
    ["text", "SSH-2.0-OpenSSH"],
    ["an admission with a text", "\x00\x00\x01x"],
    ["a text that is too long", "\x01\xff\xff"],
    ["another status", "\x02\x00\x00"],
  ])("is not %s", (_, bytes) => {
    expect(new StatusReader().push(Buffer.from(bytes, "latin1"))).toBe("invalid");
  });
});

describe("the text of a refusal", () => {
  const about = { client: "alice@dba", upstream: "orders" };

  test("names the client's group and the upstream", () => {
    expect(refusalText("group_not_authorized", about, "k3f9-12c")).toBe(
      "group_not_authorized (id k3f9-12c): your group dba is not listed for orders",
    );
  });

  test("names the server name that was asked for, cut to a length", () => {
    const detail = "x".repeat(300);
    expect(refusalText("unknown_server_name", { ...about, detail }, "1")).toHaveLength(181);
    expect(refusalText("unknown_server_name", about, "1")).toContain("no server name");
  });

  test("says nothing of details that are the operator's", () => {
    const detail = "10.0.0.5:5432 ECONNREFUSED";
    expect(refusalText("fleet_unavailable", { ...about, detail }, "1")).toContain("try again later");
    expect(refusalText("no_target", { ...about, detail }, "1")).not.toContain("10.0.0.5");
    expect(refusalText("proxy_header", { ...about, detail }, "1")).not.toContain("10.0.0.5");
  });
});

describe("the configuration", () => {
  const files = { ca: "ca.crt", certificate: "alice.crt", privateKey: "alice.key" };
  const tunnel = { server: "proxy.example.com:7443", listen: "127.0.0.1:5432", ...files };
  const read = (input: unknown, stdio = false) => {
    const faults: Fault[] = [];
    const config = resolveConnect(input, { directory: "/etc/tunnel", stdio }, faults);
    return { config, faults: faults.map(({ key, problem }) => `${key}: ${problem}`) };
  };
  const one = (over: object) => read({ tunnels: [{ ...tunnel, ...over }] });

  test("takes paths from its folder, files from the top, and the host for a server name", () => {
    const { listen, server } = tunnel;
    const { config, faults } = read({
      ...files,
      tunnels: [
        { server, listen },
        { ...tunnel, listen: "unix:db.sock", serverName: "db.example", ca: "/ca" },
      ],
    });
    expect(faults).toEqual([]);
    expect(config.tunnels).toEqual([
      {
        key: "tunnels[0]",
        server: { hostname: "proxy.example.com", port: 7443 },
        serverName: "proxy.example.com",
        listen: { hostname: "127.0.0.1", port: 5432 },
        ca: "/etc/tunnel/ca.crt",
        certificate: "/etc/tunnel/alice.crt",
        privateKey: "/etc/tunnel/alice.key",
      },
      {
        key: "tunnels[1]",
        server: { hostname: "proxy.example.com", port: 7443 },
        serverName: "db.example",
        listen: { unix: "/etc/tunnel/db.sock" },
        ca: "/ca",
        certificate: "/etc/tunnel/alice.crt",
        privateKey: "/etc/tunnel/alice.key",
      },
    ]);
  });

  test.each(["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "localhost:1", "unix:/run/x.sock"])(
    "%s is on this machine",
    (listen) => {
      expect(one({ listen })).toMatchObject({ faults: [], config: { warnings: [] } });
    },
  );

  test.each([":5432", "0.0.0.0:5432", "[::]:5432", "10.0.0.1:5432", "db.example:5432"])(
    "%s needs leave, and warns",
    (listen) => {
      expect(one({ listen }).faults).toEqual([
        `tunnels[0].listen: "${listen}" can be reached from other machines; use 127.0.0.1 or a Unix socket, or allow it with allowRemote`,
      ]);
      const allowed = one({ listen, allowRemote: true });
      expect(allowed.faults).toEqual([]);
      expect(allowed.config.warnings).toEqual([
        expect.stringContaining("can be reached from other machines"),
      ]);
    },
  );

  test.each<[object, string]>([
    [{ server: "proxy.example.com" }, 'tunnels[0].server: "proxy.example.com" is not the proxy\'s HOST:PORT'],
    [{ server: undefined }, "tunnels[0].server: is missing"],
    [{ server: "unix:/run/x" }, "tunnels[0].server: "],
    [{ listen: undefined }, "tunnels[0].listen: is missing"],
    [{ listen: "5432" }, 'tunnels[0].listen: "5432" is not an address'],
    [{ listen: `unix:/${"x".repeat(200)}` }, "tunnels[0].listen: "],
    [{ serverName: "" }, "tunnels[0].serverName: "],
    [{ serverName: "a b" }, 'tunnels[0].serverName: "a b" is not a server name'],
    [{ serverName: 5 }, "tunnels[0].serverName: 5 is not a server name"],
    [{ privateKey: undefined }, "tunnels[0].privateKey: is missing"],
    [{ servername: "x" }, "tunnels[0].servername: unknown key; did you mean serverName?"],
    [{ allowRemote: "yes" }, 'tunnels[0].allowRemote: "yes" is not true or false'],
  ])("%j is refused", (over, fault) => {
    const { faults } = one(over);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toStartWith(fault);
  });

  test("refuses an address that is listed twice, but for port 0", () => {
    expect(read({ tunnels: [tunnel, tunnel] }).faults).toEqual([
      'tunnels[1].listen: "127.0.0.1:5432" is listed twice',
    ]);
    const picked = { ...tunnel, listen: "127.0.0.1:0" };
    expect(read({ tunnels: [picked, picked] }).faults).toEqual([]);
  });

  test("needs a tunnel", () => {
    expect(read({}).faults).toHaveLength(1);
    expect(read({ tunnels: [] }).faults).toHaveLength(1);
    expect(read([]).faults).not.toEqual([]);
  });
});

describe("one's own certificate", () => {
  // 2020-01-01 to 2120-01-01.
  const pem = cert("alice.crt");
  const at = (text: string) => noticeOf(pem, Date.parse(text));

  test("is fine for most of its life", () => {
    expect(at("2119-12-30T23:00:00Z")).toBeUndefined();
  });

  test("is warned of a day before it expires", () => {
    expect(at("2119-12-31T01:00:00Z")).toEqual({
      unusable: false,
      text: "expires on 2120-01-01T00:00:00.000Z: renew it",
    });
  });

  test("cannot be used once it has expired, nor before it is valid", () => {
    expect(at("2120-01-01T00:00:00Z")).toEqual({
      unusable: true,
      text: "expired on 2120-01-01T00:00:00.000Z: renew it",
    });
    expect(at("2019-12-31T00:00:00Z")).toEqual({
      unusable: true,
      text: "is not valid before 2020-01-01T00:00:00.000Z",
    });
  });
});

describe("a failure", () => {
  const whom = { server: "p:1", serverName: "db.example", ca: "/ca.crt", certificate: "/a.crt" };
  const of = (code: string | undefined, message = "x") =>
    dialFailure(Object.assign(new Error(message), code === undefined ? {} : { code }), whom);

  test.each<[string | undefined, string, string, string]>([
    ["ECONNREFUSED", "x", "unreachable", "cannot reach p:1: nothing listens there (ECONNREFUSED)"],
    ["EWHATEVER", "odd\n", "unreachable", "cannot reach p:1: odd\\u000a (EWHATEVER)"],
    ["ERR_TLS_CERT_ALTNAME_INVALID", "x", "untrusted", 'is for another name than "db.example"'],
    [undefined, "the certificate is for another name", "untrusted", 'is for another name than "db.example"'],
    ["CERT_HAS_EXPIRED", "x", "untrusted", "its certificate has expired"],
    ["SELF_SIGNED_CERT_IN_CHAIN", "x", "untrusted", 'is not signed by a CA in "/ca.crt"'],
    ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", "x", "untrusted", 'is not signed by a CA in "/ca.crt"'],
    ["UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "x", "untrusted", 'is not signed by a CA in "/ca.crt"'],
    ["INVALID_PURPOSE", "x", "untrusted", "is not meant for servers"],
    ["EPROTO", "error:1:SSL routines:INTERNAL:WRONG_VERSION_NUMBER", "foreign", "does not speak TLS"],
    [
      "EPROTO",
      "error:1:SSL routines:INTERNAL:TLSV1_ALERT_PROTOCOL_VERSION",
      "foreign",
      "does not speak TLS 1.3",
    ],
    ["EPROTO", "error:1:SSL:INTERNAL:TLSV1_ALERT_NO_APPLICATION_PROTOCOL", "foreign", "is no proxy"],
    ["EPROTO", "error:1:SSL:INTERNAL:SSLV3_ALERT_HANDSHAKE_FAILURE", "closed", "refuses the TLS handshake"],
    ["ECONNRESET", "x", "closed", "broke the connection off"],
    [undefined, "the target left during the TLS handshake", "closed", "closed the connection"],
  ])("with %p (%s) is %s", (code, message, kind, text) => {
    const failure = of(code, message);
    expect(failure.kind).toBe(kind as never);
    expect(failure.text).toContain(text);
    expect(failure.text).toContain("p:1");
  });

  test("shows what a proxy wrote without what a terminal is fooled with", () => {
    expect(refusal("p:1", "no\x1b[31m\n").text).toBe("p:1 refused: no\\u001b[31m\\u000a");
  });
});
