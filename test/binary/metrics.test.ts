// The port for monitoring of the built binary: what Prometheus and its tools say of it, and what misuse gets.

import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { Run } from "../support/binary.ts";
import { Folder } from "../support/folder.ts";
import { certPath, connect, connectPlain, echoOrigin } from "../support/peer.ts";
import { monitoredAt, scrapeUntil } from "../support/scrape.ts";

const promtool = Bun.which("promtool");
const prometheus = Bun.which("prometheus");
const OPENMETRICS = "application/openmetrics-text; version=1.0.0";

/** A proxy with a port for monitoring. */
async function monitored(
  folder: Folder,
  targets: string[],
  workers = 1,
  before = "true",
): Promise<Run & { port: number; url: string }> {
  const file = folder.path("proxy.json");
  writeFileSync(file, configuration(targets, workers));
  const run = await Run.start(["--config", file, "--log-format", "json"], { before });
  const port = await run.port();
  return Object.assign(run, { port, url: await monitoredAt(run) });
}

function configuration(targets: string[], workers = 1): string {
  return JSON.stringify({
    listener: {
      address: "127.0.0.1:0",
      ca: certPath("ca.crt"),
      certificate: certPath("server.crt"),
      privateKey: certPath("key.pem"),
    },
    upstreams: [
      { name: 'te"st\\', targets, authorizedGroups: ["admin"] },
      { name: "closed", targets, authorizedGroups: ["nobody"], serverNames: ["closed.example"] },
    ],
    rateLimit: { capacity: 1_000_000, fillRate: "1ms" },
    handshakes: { exempt: ["127.0.0.0/8"] },
    metrics: { address: "127.0.0.1:0", topClients: 3 },
    workers,
  });
}

function tool(args: string[], stdin: string) {
  const { exitCode, stdout, stderr } = Bun.spawnSync([promtool!, ...args], {
    stdin: Buffer.from(stdin),
    stdout: "pipe",
    stderr: "pipe",
  });
  return { code: exitCode, said: `${stdout}${stderr}` };
}

/** OpenMetrics as the older text, for a tool that knows no other: each name as it is in the samples, and its type. */
function asText(openmetrics: string): string {
  return openmetrics
    .replace(/^# (?:UNIT .*|EOF)\n/gm, "")
    .replace(/^# TYPE (\S+) counter\n# HELP \S+/gm, "# TYPE $1_total counter\n# HELP $1_total")
    .replace(/^# TYPE (\S+) info\n# HELP \S+/gm, "# TYPE $1_info gauge\n# HELP $1_info");
}

describe("the tools of Prometheus", () => {
  test.skipIf(promtool === null)("promtool has no remark on the metrics, in either format", async () => {
    using folder = new Folder();
    using origin = echoOrigin();
    await using run = await monitored(folder, [origin.target], 2);
    const client = await connect(run.port);
    await client.send("x");
    await client.read(1);
    const text = await (await fetch(`${run.url}/metrics`)).text();
    expect(tool(["check", "metrics"], text)).toEqual({ code: 0, said: "" });
    const answer = await fetch(`${run.url}/metrics`, { headers: { accept: OPENMETRICS } });
    expect(answer.headers.get("content-type")).toBe(`${OPENMETRICS}; charset=utf-8`);
    expect(tool(["check", "metrics"], asText(await answer.text()))).toEqual({ code: 0, said: "" });
    client.reset();
  });

  test.skipIf(promtool === null)("promtool accepts the five alerts of `proxy help metrics`", () => {
    using folder = new Folder();
    const page = readFileSync(new URL("../../src/cli/topics/metrics.md", import.meta.url), "utf8");
    const rules = /^```yaml\n(groups:.*?)^```$/ms.exec(page)![1]!;
    writeFileSync(folder.path("rules.yml"), rules);
    const { code, said } = tool(["check", "rules", folder.path("rules.yml")], "");
    expect({ code, said }).toMatchObject({
      code: 0,
      said: expect.stringContaining("SUCCESS: 5 rules found"),
    });
  });

  test.skipIf(prometheus === null)(
    "a Prometheus that scrapes has what 1,000 connections of known clients have counted",
    async () => {
      using folder = new Folder();
      using origin = echoOrigin();
      await using run = await monitored(folder, [origin.target], 2);
      const counted = { admitted: 0, refused: 0, untrusted: 0, bytes: 0, open: 0 };
      const held: { reset(): void }[] = [];
      const one = async (i: number) => {
        if (i % 10 === 0) {
          const client = await connect(run.port, { name: "stranger" });
          await client.rest();
          client.close();
          counted.untrusted++;
        } else if (i % 10 === 1) {
          const client = await connect(run.port, { serverName: "closed.example" });
          await client.rest();
          client.close();
          counted.refused++;
        } else {
          const client = await connect(run.port, { name: i % 2 === 0 ? "alice" : "bob" });
          await client.send("x".repeat(i));
          expect((await client.read(i)).length).toBe(i);
          counted.admitted++;
          counted.bytes += i;
          if (i % 100 === 2) {
            counted.open++;
            held.push(client);
          } else client.close();
        }
      };
      for (let i = 0; i < 1_000; i += 20) await Promise.all(Array.from({ length: 20 }, (_, j) => one(i + j)));
      await scrapeUntil(
        run.url,
        (each) =>
          each.sum("connections_open") === counted.open && each.sum("received_bytes_total") === counted.bytes,
        "all is counted",
      );

      writeFileSync(
        folder.path("prometheus.yml"),
        `global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: tcpproxy\n    static_configs:\n      - targets: ["${run.url.slice(7)}"]\n`,
      );
      await using server = await startPrometheus(folder);
      const ask = async (query: string) => {
        const response = await fetch(`${server.url}/api/v1/query?query=${encodeURIComponent(query)}`);
        const { data } = (await response.json()) as { data: { result: { value: [number, string] }[] } };
        return data.result.map(({ value }) => Number(value[1]));
      };
      const deadline = performance.now() + 20_000;
      while ((await ask("tcpproxy_connections_accepted_total")).length === 0) {
        if (performance.now() > deadline) throw new Error("Prometheus has scraped nothing");
        await Bun.sleep(50);
      }
      const upstream = `{upstream="te\\"st\\\\"}`;
      const answers = {
        up: await ask("up"),
        accepted: await ask("tcpproxy_connections_accepted_total"),
        admitted: await ask(`sum(tcpproxy_admissions_total${upstream})`),
        untrusted: await ask('sum(tcpproxy_refusals_total{reason="certificate_untrusted",upstream=""})'),
        refused: await ask('sum(tcpproxy_refusals_total{reason="group_not_authorized",upstream="closed"})'),
        allRefused: await ask("sum(tcpproxy_refusals_total)"),
        received: await ask(`tcpproxy_received_bytes_total${upstream}`),
        sent: await ask(`tcpproxy_sent_bytes_total${upstream}`),
        open: await ask(`tcpproxy_connections_open${upstream}`),
        toTarget: await ask(`sum(tcpproxy_target_connections_open{target="${origin.target}"})`),
        closed: await ask('sum(tcpproxy_connections_closed_total{reason="closed"})'),
        durations: await ask("sum(tcpproxy_connection_duration_seconds_count)"),
        handshakes: await ask('sum(tcpproxy_handshake_duration_seconds_bucket{le="+Inf"})'),
        top: await ask("sum(tcpproxy_top_client_connections_open)"),
      };
      const { admitted, untrusted, refused, bytes, open } = counted;
      expect(answers).toEqual({
        up: [1],
        accepted: [1_000],
        admitted: [admitted],
        untrusted: [untrusted],
        refused: [refused],
        allRefused: [untrusted + refused],
        received: [bytes],
        sent: [bytes],
        open: [open],
        toTarget: [open],
        closed: [admitted - open],
        durations: [admitted - open],
        handshakes: [admitted + refused],
        top: [open],
      });
      // It asks for OpenMetrics: what it makes of the types.
      const metadata = await fetch(`${server.url}/api/v1/metadata`);
      const { data } = (await metadata.json()) as { data: Record<string, { type: string; unit: string }[]> };
      expect(data["tcpproxy_connections_accepted"]![0]).toMatchObject({ type: "counter" });
      expect(data["tcpproxy_build"]![0]).toMatchObject({ type: "info" });
      expect(data["tcpproxy_handshake_duration_seconds"]![0]).toMatchObject({
        type: "histogram",
        unit: "seconds",
      });
      for (const client of held) client.reset();
    },
  );
});

/** On a port that the system picks. */
async function startPrometheus(folder: Folder): Promise<AsyncDisposable & { url: string }> {
  const child = Bun.spawn(
    [
      prometheus!,
      `--config.file=${folder.path("prometheus.yml")}`,
      `--storage.tsdb.path=${folder.path("data")}`,
      "--web.listen-address=127.0.0.1:0",
    ],
    { stdin: "ignore", stdout: "ignore", stderr: "pipe" },
  );
  const port = Promise.withResolvers<string>();
  const reading = (async () => {
    let text = "";
    for await (const chunk of child.stderr) {
      text += new TextDecoder().decode(chunk);
      const found = /msg="Listening on" address=127\.0\.0\.1:(\d+)/.exec(text);
      if (found !== null) port.resolve(found[1]!);
    }
    port.reject(new Error(`Prometheus ended: ${text}`));
  })();
  port.promise.catch(() => {});
  const url = `http://127.0.0.1:${await port.promise}`;
  // It listens before it can answer.
  while ((await fetch(`${url}/-/ready`)).status !== 200) await Bun.sleep(20);
  return {
    url,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.exited;
      await reading;
    },
  };
}

/** What a plain socket gets for these bytes, until it is closed. */
async function raw(url: string, bytes: string | Uint8Array): Promise<string> {
  const peer = await connectPlain(Number(new URL(url).port));
  await peer.send(bytes);
  const answer = String(await peer.rest());
  peer.reset();
  return answer;
}

describe("misuse of the port for monitoring", () => {
  test("gets a short answer in JSON, whatever the host says", async () => {
    using folder = new Folder();
    await using run = await monitored(folder, ["127.0.0.1:1"]);
    const { url } = run;
    const ask = async (method: string, path: string, headers: Record<string, string> = {}) => {
      const response = await fetch(url + path, { method, headers });
      const { status } = response;
      const text = await response.text();
      return status < 400 ? { status } : { status, error: (JSON.parse(text) as { error: string }).error };
    };
    const where = "there is /metrics, /livez and /readyz";
    const answers: [string, string, object][] = [
      ["GET", "/metrics", { status: 200 }],
      ["HEAD", "/metrics", { status: 200 }],
      ["GET", "/", { status: 404, error: where }],
      ["GET", "/metrics/", { status: 404, error: where }],
      ["GET", "/constructor", { status: 404, error: where }],
      ["GET", "/%6detrics", { status: 404, error: where }],
      ["POST", "/metrics", { status: 405, error: "only GET and HEAD" }],
      ["DELETE", "/livez", { status: 405, error: "only GET and HEAD" }],
      ["OPTIONS", "/readyz", { status: 405, error: "only GET and HEAD" }],
      ["GET", "/metrics?name=x", { status: 400, error: 'unknown query parameter "name"' }],
      ["GET", "/livez?upstream=x", { status: 400, error: 'unknown query parameter "upstream"' }],
      ["GET", "/livez?verbose&verbose", { status: 400, error: 'the query has "verbose" twice' }],
      ["GET", "/readyz?upstream=%1b[31m", { status: 404, error: 'there is no upstream "\\u001b[31m"' }],
      ["GET", "/readyz?upstream=closed", { status: 200 }],
    ];
    for (const [method, path, answer] of answers) {
      expect({ method, path, ...(await ask(method, path)) }).toEqual({ method, path, ...answer } as never);
    }
    for (const host of ["evil.example", "a/livez?b=c", "a b", "[::1]:99999"]) {
      const answer = await raw(url, `GET /livez HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      expect(answer).toStartWith("HTTP/1.1 200 OK\r\n");
      expect(answer).toEndWith("\r\n\r\nok\n");
    }
  });

  test("is bounded, and in nobody's way", async () => {
    using folder = new Folder();
    using origin = echoOrigin();
    await using run = await monitored(folder, [origin.target]);
    const { url } = run;
    expect(await raw(url, `GET /${"a".repeat(50_000)} HTTP/1.1\r\nHost: a\r\n\r\n`)).toStartWith(
      "HTTP/1.1 431",
    );
    expect(await raw(url, `GET / HTTP/1.1\r\nHost: a\r\nX: ${"a".repeat(50_000)}\r\n\r\n`)).toStartWith(
      "HTTP/1.1 431",
    );
    expect(await raw(url, Buffer.from("16030100f0ff00ff0d0a0d0a", "hex"))).toStartWith("HTTP/1.1 400");
    expect(await raw(url, "GET /metrics HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n")).toStartWith("HTTP/1.1 400");
    expect(await raw(url, `POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n`)).toMatch(
      /^HTTP\/1.1 4/,
    );
    // Clients that come and say nothing, or half of something, are let go after a while.
    const silent = await Promise.all([connectPlain(port(url)), connectPlain(port(url))]);
    await silent[1]!.send("GET /metrics HTTP/1.1\r\nHost: a\r\n");
    // Some of so many are turned away.
    const ask = () =>
      fetch(`${url}/metrics`).then(
        (each) => each.text(),
        () => undefined,
      );
    const flood = Promise.all(Array.from({ length: 300 }, ask));
    const client = await connect(run.port);
    await client.send("x");
    expect(String(await client.read(1))).toBe("x");
    client.close();
    const texts = (await flood).filter((text) => text !== undefined);
    expect(texts.length).toBeGreaterThan(0);
    for (const text of texts) expect(text).toEndWith("\n");
    await Promise.all(silent.map((each) => each.rest()));
    for (const each of silent) each.reset();
    expect((await fetch(`${url}/livez`)).status).toBe(200);
  });

  test("leaves descriptors for clients, however many come and stay", async () => {
    using folder = new Folder();
    using origin = echoOrigin();
    await using run = await monitored(folder, [origin.target], 1, "ulimit -n 200");
    const idle = await Promise.all(
      Array.from({ length: 400 }, () => connectPlain(port(run.url)).catch(() => undefined)),
    );
    const clients = await Promise.all(Array.from({ length: 30 }, () => connect(run.port)));
    for (const client of clients) {
      await client.send("x");
      expect(String(await client.read(1))).toBe("x");
    }
    for (const each of [...idle, ...clients]) each?.reset();
  });

  const port = (url: string) => Number(new URL(url).port);
});

test("a proxy without the key has no such port, and says nothing of metrics", async () => {
  await using run = await Run.proxy(["127.0.0.1:1"]);
  run.child.kill("SIGTERM");
  expect(await run.exit()).toBe(0);
  expect(run.stderr).not.toContain("metrics");
});

test("the check prints the address, and how many series there can be", async () => {
  using folder = new Folder();
  writeFileSync(folder.path("proxy.json"), configuration(["127.0.0.1:1"]));
  await using run = await Run.start(["check", "--config", folder.path("proxy.json")]);
  expect(await run.exit()).toBe(0);
  expect(await run.stdout).toMatch(/^ *metrics +127\.0\.0\.1:0, \d+ series at most$/m);
});

test("a port for monitoring that is in use is one line, and exit code 1", async () => {
  using folder = new Folder();
  using squatter = echoOrigin();
  const taken = `127.0.0.1:${squatter.port}`;
  const config = JSON.parse(configuration(["127.0.0.1:1"])) as Record<string, unknown>;
  writeFileSync(folder.path("proxy.json"), JSON.stringify({ ...config, metrics: { address: taken } }));
  await using run = await Run.start(["--config", folder.path("proxy.json"), "--log-format", "json"]);
  expect(await run.exit()).toBe(1);
  expect(run.stderr).toBe(
    `proxy: cannot listen on ${taken} (metrics.address): the address is in use (EADDRINUSE)\n`,
  );
});
