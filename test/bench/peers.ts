// Who takes part: this proxy and the proxies that are installed, each with one thread, TLS 1.3 only, client
// certificates demanded, no session tickets, the same certificates and the same backend.

import { mkdirSync } from "node:fs";

/** Certificates of one kind of key: ca.crt, server.crt, server.key, client.crt, client.key, server.pem (both). */
export type Keys = "rsa" | "ecdsa";

/** A proxy that can be started. */
export interface Peer {
  readonly name: string;
  /** The command that starts it in the foreground, and its configuration files by name. */
  command(setup: Setup): { command: string[]; files?: Record<string, string> };
  /** What its `--version` is. */
  version: string[];
  /** The program, if it is installed. */
  program: string | null;
}

/** What a peer is given. */
export interface Setup {
  /** The program as found. */
  program: string;
  port: number;
  backend: number;
  /** Folder with the certificates. */
  certs: string;
  /** Folder for its own files. */
  folder: string;
}

const which = (name: string) => Bun.which(name, { PATH: `${process.env.PATH}:/usr/sbin:/usr/local/sbin` });

/** This proxy first; `out` is the built binary. */
export function peers(out: string): Peer[] {
  return [
    {
      name: "tcpproxy",
      program: out,
      version: ["--version"],
      command: ({ program, port, backend, certs }) => ({
        command: [
          program,
          `127.0.0.1:${port}`,
          ...["--targets", `127.0.0.1:${backend}`, "--groups", "bench", "--log-level", "silent"],
          ...["--ca", `${certs}/ca.crt`, "--cert", `${certs}/server.crt`, "--key", `${certs}/server.key`],
          ...["--capacity", "1000000", "--fill-rate", "1ms", "--timeout", "1h"],
        ],
      }),
    },
    {
      name: "haproxy",
      program: which("haproxy"),
      version: ["-v"],
      command: ({ program, port, backend, certs, folder }) => ({
        command: [program, "-db", "-f", `${folder}/haproxy.cfg`],
        files: {
          "haproxy.cfg": `global
  nbthread 1
  maxconn 9900
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend in
  bind 127.0.0.1:${port} ssl crt ${certs}/server.pem ca-file ${certs}/ca.crt verify required ssl-min-ver TLSv1.3 no-tls-tickets ciphersuites TLS_AES_128_GCM_SHA256
  default_backend out
backend out
  balance leastconn
  server one 127.0.0.1:${backend}
`,
        },
      }),
    },
    {
      name: "nginx",
      program: which("nginx"),
      version: ["-v"],
      command: ({ program, port, backend, certs, folder }) => ({
        command: [program, "-c", `${folder}/nginx.conf`, "-e", "stderr"],
        files: {
          "nginx.conf": `daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid ${folder}/nginx.pid;
error_log stderr crit;
include /etc/nginx/modules-enabled/*stream.conf;
events { worker_connections 19900; }
stream {
  upstream one { least_conn; server 127.0.0.1:${backend}; }
  server {
    listen 127.0.0.1:${port} ssl backlog=511;
    ssl_certificate ${certs}/server.crt;
    ssl_certificate_key ${certs}/server.key;
    ssl_client_certificate ${certs}/ca.crt;
    ssl_verify_client on;
    ssl_protocols TLSv1.3;
    ssl_session_tickets off;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    proxy_timeout 1h;
    proxy_pass one;
  }
}
`,
        },
      }),
    },
    {
      name: "stunnel",
      program: which("stunnel") ?? which("stunnel4"),
      version: ["-version"],
      command: ({ program, port, backend, certs, folder }) => ({
        command: [program, `${folder}/stunnel.conf`],
        files: {
          "stunnel.conf": `foreground = quiet
pid =
syslog = no
debug = 0
[one]
accept = 127.0.0.1:${port}
connect = 127.0.0.1:${backend}
cert = ${certs}/server.crt
key = ${certs}/server.key
CAfile = ${certs}/ca.crt
verifyChain = yes
sslVersion = TLSv1.3
options = NO_TICKET
ciphersuites = TLS_AES_128_GCM_SHA256
TIMEOUTidle = 3600
`,
        },
      }),
    },
  ];
}

/** A peer that runs. */
export interface Running {
  readonly pid: number;
  readonly port: number;
  /** Milliseconds from exec to the first connection it accepted. */
  readonly startup: number;
  stop(): Promise<void>;
}

/** A port that is free now. */
function freePort(): number {
  const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  probe.stop(true);
  return probe.port;
}

/** Starts a peer and waits until it accepts. */
export async function start(peer: Peer, backend: number, certs: string, scratch: string): Promise<Running> {
  const port = freePort();
  const folder = `${scratch}/${peer.name}-${port}`;
  mkdirSync(folder);
  const { command, files = {} } = peer.command({ program: peer.program!, port, backend, certs, folder });
  for (const [name, text] of Object.entries(files)) await Bun.write(`${folder}/${name}`, text);
  const began = performance.now();
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  for (;;) {
    try {
      (await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } })).terminate();
      break;
    } catch {
      if (child.exitCode !== null)
        throw new Error(`${peer.name} ended: ${await new Response(child.stderr).text()}`);
      await Bun.sleep(1);
    }
  }
  return {
    pid: child.pid,
    port,
    startup: performance.now() - began,
    async stop() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}
