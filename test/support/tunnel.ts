// A tunnel inside the test's own process, in front of a proxy in the same process.

import { Tunnel } from "../../src/tunnel/tunnel.ts";
import { readFiles } from "../../src/tunnel/files.ts";
import type { TargetAddress } from "../../src/lib/address.ts";
import type { TunnelConfig } from "../../src/tunnel/config.ts";
import { certPath } from "./peer.ts";
import { Log } from "./proxy.ts";

/** A tunnel that listens. Leaving the scope breaks off what is open. */
export interface TestTunnel extends Disposable {
  readonly tunnel: Tunnel;
  /** 0 for a Unix socket. */
  readonly port: number;
  readonly log: Log;
}

const ON_LOOPBACK: TargetAddress = { hostname: "127.0.0.1", port: 0 };

/** What a tunnel of a test is told: alice's certificate, and a port that the system picks. */
export function tunnelConfig(port: number, over: Partial<TunnelConfig> = {}): TunnelConfig {
  return {
    key: "tunnels[0]",
    server: { hostname: "127.0.0.1", port },
    serverName: "localhost",
    listen: ON_LOOPBACK,
    ca: certPath("ca.crt"),
    certificate: certPath("alice.crt"),
    privateKey: certPath("key.pem"),
    ...over,
  };
}

export async function startTunnel(port: number, over: Partial<TunnelConfig> = {}): Promise<TestTunnel> {
  const log = new Log();
  const config = tunnelConfig(port, over);
  const tunnel = new Tunnel(config, readFiles(config, [], new Set()), log);
  await tunnel.listen(config.listen!);
  const { address } = tunnel;
  return {
    tunnel,
    port: address !== undefined && "port" in address ? address.port : 0,
    log,
    [Symbol.dispose]() {
      tunnel.stop();
      tunnel.cut();
    },
  };
}
