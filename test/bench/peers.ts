// Who takes part: this proxy and the proxies that are installed, all with TLS 1.3 only, client certificates demanded,
// the same cipher, the same certificates and the same backend.

import { readFileSync, writeFileSync } from "node:fs";
import type { Features } from "./features.ts";

/** Certificates of one kind of key: ca.crt, server.crt, server.key, client.crt, client.key, server.pem (both). */
export type Keys = "rsa" | "ecdsa";

/** A proxy that can be started. */
export interface Peer extends Features {
  readonly name: string;
  /** The program, if it is installed. */
  readonly program: string | null;
  /** What makes it say its version. */
  readonly version: readonly string[];
  /** Changes the configuration in its folder and has the process take it; left out where open connections do not notice. */
  reload?(folder: string, pid: number): void;
  /** The arguments that start it in the foreground, and its configuration files by name. */
  command(setup: Setup): { args: string[]; files: Record<string, string> };
}

/** What a peer is given. */
export interface Setup {
  readonly port: number;
  readonly backend: number;
  /** Folder with the certificates. */
  readonly certs: string;
  /** Folder for its own files. */
  readonly folder: string;
  /** The most connections at a time. */
  readonly connections: number;
  /** Whether sessions may be resumed. */
  readonly tickets: boolean;
  /** Threads or processes. */
  readonly workers: number;
  /** The address of a Redis that is asked about each connection; undefined for none. */
  readonly store: string | undefined;
  /** Whether clients are exempt from what limits the handshakes of one address, or of strangers. */
  readonly exempt: boolean;
  /** The port for metrics, which somebody scrapes, beside a door for operators; undefined for neither. */
  readonly watched: number | undefined;
}

const which = (name: string) => Bun.which(name, { PATH: `${process.env.PATH}:/usr/sbin:/usr/local/sbin` });

const CIPHER = "TLS_AES_128_GCM_SHA256";

/** This proxy; `program` is the built binary, and `features` is what that one can do. */
export function ourselves(program: string, features: Features): Peer {
  return {
    name: "tcpproxy",
    program,
    version: ["--version"],
    ...features,
    reload(folder, pid) {
      const path = `${folder}/proxy.toml`;
      const text = readFileSync(path, "utf8");
      // Now the one group is authorized, now another one too: what is open is judged again.
      const [from, to] = text.includes('["bench"]')
        ? ['["bench"]', '["bench", "other"]']
        : ['["bench", "other"]', '["bench"]'];
      writeFileSync(path, text.replace(from, to));
      process.kill(pid, "SIGHUP");
    },
    command: ({ port, backend, certs, folder, tickets, workers, store, watched, exempt }) => ({
      args: [
        ...["--config", `${folder}/proxy.toml`, "--log-level", "silent"],
        ...(features.workers ? ["--workers", String(workers)] : []),
      ],
      files: {
        "proxy.toml": `timeout = "1h"
[listener]
address = "127.0.0.1:${port}"
ca = "${certs}/ca.crt"
certificate = "${certs}/server.crt"
privateKey = "${certs}/server.key"
${features.tickets ? `sessionTickets = ${tickets}` : ""}
[[upstreams]]
name = "one"
targets = ["127.0.0.1:${backend}"]
authorizedGroups = ["bench"]
[rateLimit]
capacity = 1000000
fillRate = "1ms"
${exempt ? '[handshakes]\nexempt = ["127.0.0.0/8"]' : ""}
${store === undefined ? "" : `[fleet]\nstore = "${store}"\ntimeout = "500ms"`}
${watched === undefined ? "" : `[metrics]\naddress = "127.0.0.1:${watched}"\n[admin]\nsocket = "admin.sock"`}
`,
      },
    }),
  };
}

/** The client's ends that are installed, in front of this proxy: `backend` is the proxy's port. */
export function tunnels(program: string): Peer[] {
  const ends = { tickets: false, workers: false, fleet: false, watched: false };
  return [
    {
      name: "tcpproxy",
      program,
      version: ["--version"],
      ...ends,
      command: ({ port, backend, certs }) => ({
        args: [
          ...["connect", `127.0.0.1:${backend}`, "--server-name", "localhost", "--log-level", "silent"],
          ...["--listen", `127.0.0.1:${port}`, "--ca", `${certs}/ca.crt`],
          ...["--cert", `${certs}/client.crt`, "--key", `${certs}/client.key`],
        ],
        files: {},
      }),
    },
    {
      name: "stunnel",
      program: which("stunnel") ?? which("stunnel4"),
      version: ["-version"],
      ...ends,
      command: ({ port, backend, certs, folder }) => ({
        args: [`${folder}/stunnel.conf`],
        files: {
          "stunnel.conf": `foreground = quiet
pid =
syslog = no
debug = 0
[one]
client = yes
accept = 127.0.0.1:${port}
connect = 127.0.0.1:${backend}
sni = localhost
checkHost = localhost
cert = ${certs}/client.crt
key = ${certs}/client.key
CAfile = ${certs}/ca.crt
verifyChain = yes
sslVersion = TLSv1.3
ciphersuites = ${CIPHER}
TIMEOUTidle = 3600
sessionResume = no
`,
        },
      }),
    },
  ];
}

/** The others. */
export const PEERS: readonly Peer[] = [
  {
    name: "haproxy",
    program: which("haproxy"),
    version: ["-v"],
    tickets: true,
    workers: true,
    fleet: false,
    watched: false,
    command: ({ port, backend, certs, folder, connections, tickets, workers }) => ({
      args: ["-db", "-f", `${folder}/haproxy.cfg`],
      files: {
        // Without a cache OpenSSL sends two tickets still, but they are empty and cost next to nothing.
        "haproxy.cfg": `global
  nbthread ${workers}
  maxconn ${connections}
  ${tickets ? "" : "tune.ssl.cachesize 0"}
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend in
  bind 127.0.0.1:${port} ssl crt ${certs}/server.pem ca-file ${certs}/ca.crt verify required ssl-min-ver TLSv1.3 ciphersuites ${CIPHER} ${tickets ? "" : "no-tls-tickets"}
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
    tickets: true,
    workers: true,
    fleet: false,
    watched: false,
    command: ({ port, backend, certs, folder, connections, tickets, workers }) => ({
      args: ["-c", `${folder}/nginx.conf`, "-e", "stderr"],
      files: {
        // With one worker there is no master process beside it; with several, each has a socket of its own.
        "nginx.conf": `daemon off;
master_process ${workers > 1 ? "on" : "off"};
worker_processes ${workers};
pid ${folder}/nginx.pid;
error_log stderr crit;
include /etc/nginx/modules-enabled/*stream.conf;
events { worker_connections ${2 * connections + 100}; }
stream {
  upstream one { least_conn; server 127.0.0.1:${backend}; }
  server {
    listen 127.0.0.1:${port} ssl backlog=511 ${workers > 1 ? "reuseport" : ""};
    ssl_certificate ${certs}/server.crt;
    ssl_certificate_key ${certs}/server.key;
    ssl_client_certificate ${certs}/ca.crt;
    ssl_verify_client on;
    ssl_protocols TLSv1.3;
    ssl_session_tickets ${tickets ? "on" : "off"};
    ssl_conf_command Ciphersuites ${CIPHER};
    ${tickets ? "" : "ssl_conf_command NumTickets 0;"}
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
    tickets: true,
    // It has a thread for each connection, whatever one says.
    workers: false,
    fleet: false,
    watched: false,
    command: ({ port, backend, certs, folder, tickets }) => ({
      args: [`${folder}/stunnel.conf`],
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
ciphersuites = ${CIPHER}
TIMEOUTidle = 3600
${tickets ? "" : "options = NO_TICKET\nsessionResume = no"}
`,
      },
    }),
  },
];
