// Real programs that read the PROXY protocol, as targets: each answers an HTTP request with the header's contents.
//
// What they can read depends on their version. Of those in Debian 12, HAProxy 2.6 cannot read the client's Common Name,
// nginx 1.22 reads nothing but the addresses, and Varnish 7.1 reads all but the unique id. nginx reads all of it from
// 1.23.2 on, and HAProxy from 2.9 on, but HAProxy hands on the TLS part as bytes.

import { cert, connectPlain } from "./peer.ts";
import { runProgram, type Running } from "./program.ts";

/** What a consumer read from a header, in its own words. Fields that were not sent, or that it cannot read, are absent. */
export interface Reading {
  source?: string;
  sourcePort?: string;
  destination?: string;
  destinationPort?: string;
  client?: string;
  tlsVersion?: string;
  cipher?: string;
  /** 0 for a verified certificate. Varnish reports 0 for version 1 too. */
  verify?: string;
  serverName?: string;
  alpn?: string;
  uniqueId?: string;
}

/** A program that may be installed. */
export interface Consumer {
  readonly name: string;
  /** For `test.if`. */
  readonly available: boolean;
  /** Whether its version can read this field of a header of version 2. */
  reads(field: keyof Reading): boolean;
  /** Whether it can speak TLS, after the header. */
  readonly secure: boolean;
  start(options?: { tls?: boolean }): Promise<Running>;
}

/** The expression for each field, in the consumer's own language. */
type Expressions = { [field in keyof Reading]: string } & { ssl?: string };

interface Program {
  /** The name of the binary, and the flag that makes it print its version. */
  readonly command: readonly [name: string, flag: string];
  expressions(atLeast: (version: string) => boolean): Expressions;
  /** The setting that makes the port speak TLS with these files; undefined if the program cannot. */
  tls?(certificate: string, key: string): string;
  /**
   * A configuration that answers with one line `field=value` for each field.
   * @param tls the result of `tls`, or an empty string
   */
  configuration(
    port: number,
    folder: string,
    fields: [field: string, expression: string][],
    tls: string,
  ): string;
  /** Arguments that keep it in the foreground. */
  args(configuration: string, port: number, folder: string): string[];
}

export const haproxy = consumer({
  command: ["haproxy", "-v"],
  expressions: (atLeast) => ({
    source: "src",
    sourcePort: "src_port",
    destination: "dst",
    destinationPort: "dst_port",
    serverName: "fc_pp_authority",
    uniqueId: "fc_pp_unique_id",
    ...(atLeast("2.9.0") && { alpn: "fc_pp_tlv(0x01)", ssl: "fc_pp_tlv(0x20),hex" }),
  }),
  // It looks for the key beside the certificate.
  tls: (certificate) => ` ssl crt ${certificate}`,
  configuration: (port, _folder, fields, tls) => `defaults
  mode http
  timeout client 1m
  timeout server 1m
  timeout connect 5s
frontend in
  bind 127.0.0.1:${port} accept-proxy${tls}
  http-request return status 200 content-type text/plain lf-string "${fields
    .map(([field, expression]) => `${field}=%[${expression}]\\n`)
    .join("")}"
`,
  args: (configuration) => ["-db", "-f", configuration],
});

export const nginx = consumer({
  command: ["nginx", "-v"],
  expressions: (atLeast) => ({
    source: "$proxy_protocol_addr",
    sourcePort: "$proxy_protocol_port",
    destination: "$proxy_protocol_server_addr",
    destinationPort: "$proxy_protocol_server_port",
    ...(atLeast("1.23.2") && {
      client: "$proxy_protocol_tlv_ssl_cn",
      tlsVersion: "$proxy_protocol_tlv_ssl_version",
      cipher: "$proxy_protocol_tlv_ssl_cipher",
      verify: "$proxy_protocol_tlv_ssl_verify",
      serverName: "$proxy_protocol_tlv_authority",
      alpn: "$proxy_protocol_tlv_alpn",
      uniqueId: "$proxy_protocol_tlv_unique_id",
    }),
  }),
  tls: (certificate, key) => ` ssl; ssl_certificate ${certificate}; ssl_certificate_key ${key}`,
  configuration: (port, folder, fields, tls) => `daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log stderr error;
events { worker_connections 100; }
http {
  access_log off;
  client_body_temp_path ${folder}/client_body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  server {
    listen 127.0.0.1:${port} proxy_protocol${tls};
    return 200 "${fields.map(([field, expression]) => `${field}=${expression}\\n`).join("")}";
  }
}
`,
  args: (configuration) => ["-c", configuration, "-e", "stderr"],
});

/** Takes a second or two to start, because it compiles its configuration with a C compiler. */
export const varnish = consumer({
  command: ["varnishd", "-V"],
  expressions: () => ({
    source: "client.ip",
    sourcePort: "std.port(client.ip)",
    destination: "server.ip",
    destinationPort: "std.port(server.ip)",
    client: "proxy.client_cert_cn()",
    tlsVersion: "proxy.ssl_version()",
    cipher: "proxy.ssl_cipher()",
    verify: "proxy.ssl_verify_result()",
    serverName: "proxy.authority()",
    alpn: "proxy.alpn()",
  }),
  configuration: (_port, _folder, fields) => `vcl 4.1;
import proxy;
import std;
backend default none;
sub vcl_recv { return (synth(200)); }
sub vcl_synth {
${fields.map(([field, expression]) => `  synthetic("${field}=" + ${expression} + {"\n"});\n`).join("")}
  return (deliver);
}
`,
  args: (configuration, port, folder) => [
    ...["-F", "-j", "none", "-n", `${folder}/state`, "-s", "default,1m"],
    // By default there is room for a header of about 400 bytes.
    ...["-p", "workspace_session=2k"],
    ...["-f", configuration, "-a", `127.0.0.1:${port},PROXY`],
  ],
});

export const consumers: readonly Consumer[] = [haproxy, nginx, varnish];

/** Sends a consumer a header and a request. Returns what it read, or undefined if it did not answer with 200. */
export async function present(port: number, header: Uint8Array): Promise<Reading | undefined> {
  const peer = await connectPlain(port);
  await peer.send(Buffer.concat([header, Buffer.from(REQUEST)]));
  const answer = String(await peer.rest());
  peer.reset();
  return answer.startsWith("HTTP/1.1 200") ? readingOf(answer) : undefined;
}

/** A request that a consumer answers. It ends the connection afterwards. */
export const REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/** Reads a consumer's answer, head and body. */
export function readingOf(answer: string): Reading {
  const body = answer.slice(answer.indexOf("\r\n\r\n") + 4);
  // Varnish prints "(null)" for an absent field, the others print nothing.
  const said = [...body.matchAll(/^(\w+)=(?!\(null\)$)(.+)$/gm)].map(([, field, value]) => [field!, value!]);
  const { ssl, ...fields } = Object.fromEntries(said) as Reading & { ssl?: string };
  return { ...fields, ...(ssl !== undefined && takeApart(Buffer.from(ssl, "hex"))) };
}

/** Reads the TLS part that HAProxy hands on: PP2_TYPE_SSL has a byte, the verification's result, then values. */
function takeApart(ssl: Buffer): Reading {
  const found: Reading = { verify: String(ssl.readUInt32BE(1)) };
  for (let at = 5; at < ssl.length; at += 3 + ssl.readUInt16BE(at + 1)) {
    const field = SUBTYPES[ssl[at]!];
    if (field !== undefined) found[field] = String(ssl.subarray(at + 3, at + 3 + ssl.readUInt16BE(at + 1)));
  }
  return found;
}
const SUBTYPES: Record<number, keyof Reading> = { 0x21: "tlsVersion", 0x22: "client", 0x23: "cipher" };
const IN_SSL: readonly (keyof Reading)[] = ["verify", ...Object.values(SUBTYPES)];

function consumer({ command: [name, flag], expressions, tls, configuration, args }: Program): Consumer {
  const path = Bun.which(name, { PATH: `${Bun.env.PATH}:/usr/sbin:/usr/local/sbin` });
  const said = path === null ? undefined : Bun.spawnSync([path, flag], { stderr: "pipe" });
  const version = /\d+\.\d+\.\d+/.exec(`${said?.stdout}${said?.stderr}`)?.[0] ?? "0.0.0";
  const fields = expressions((least) => Bun.semver.order(version, least) >= 0);
  return {
    name: `${name} ${version}`,
    available: path !== null,
    reads: (field) => field in fields || ("ssl" in fields && IN_SSL.includes(field)),
    secure: tls !== undefined,
    start: (options = {}) =>
      runProgram(path!, (folder, port) => {
        const secrets =
          options.tls === true ? (tls?.(`${folder}/server.pem`, `${folder}/server.pem.key`) ?? "") : "";
        const file = `${folder}/configuration`;
        return {
          files: {
            "server.pem": cert("server.crt"),
            "server.pem.key": cert("key.pem"),
            configuration: configuration(port, folder, Object.entries(fields), secrets),
          },
          args: args(file, port, folder),
        };
      }),
  };
}
