// Real balancers before the proxy, which pass TLS on as it comes and send a PROXY header first, from 127.0.0.2.

import { runProgram, type Running } from "./program.ts";

const which = (name: string) => Bun.which(name, { PATH: `${Bun.env.PATH}:/usr/sbin:/usr/local/sbin` });

/** A balancer that may be installed. */
export interface Sender {
  readonly name: string;
  readonly available: boolean;
  /** Starts it before the proxy's port. */
  start(proxyPort: number): Promise<Running>;
}

const haproxy = (option: string): Sender => ({
  name: `haproxy with ${option}`,
  available: which("haproxy") !== null,
  start: (proxyPort) =>
    runProgram(which("haproxy")!, (folder, port) => ({
      files: {
        "haproxy.cfg": `defaults
  mode tcp
  timeout client 1m
  timeout server 1m
  timeout connect 5s
listen in
  bind 127.0.0.1:${port}
  server one 127.0.0.1:${proxyPort} source 127.0.0.2 ${option}
`,
      },
      args: ["-db", "-f", `${folder}/haproxy.cfg`],
    })),
});

/** It has version 1 only. */
const nginx: Sender = {
  name: "nginx",
  available: which("nginx") !== null,
  start: (proxyPort) =>
    runProgram(which("nginx")!, (folder, port) => ({
      files: {
        "nginx.conf": `daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log stderr crit;
include /etc/nginx/modules-enabled/*stream.conf;
events { worker_connections 100; }
stream {
  server {
    listen 127.0.0.1:${port};
    proxy_pass 127.0.0.1:${proxyPort};
    proxy_bind 127.0.0.2;
    proxy_protocol on;
    proxy_half_close on;
  }
}
`,
      },
      args: ["-c", `${folder}/nginx.conf`, "-e", "stderr"],
    })),
};

export const senders: readonly Sender[] = [
  haproxy("send-proxy"),
  haproxy("send-proxy-v2"),
  haproxy("send-proxy-v2-ssl-cn proxy-v2-options crc32c,unique-id"),
  nginx,
];
