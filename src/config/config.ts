// The configuration that the proxy runs on: complete, checked, frozen. What people write is a ProxyConfig
// (proxy-config.ts); resolve.ts turns it into a Config.

import type { Address, TargetAddress } from "../lib/address.ts";
import type { LogLevel } from "../lib/log.ts";
import type { WhenDown } from "./fleet-schema.ts";
import type { ProxyProtocolVersion } from "./schema.ts";
import type { StoreAddress } from "./store-address.ts";

export { BUILT_IN } from "./built-in.ts";
export type {
  Duration,
  ListenerConfig,
  ProxyConfig,
  StoreConfig,
  TargetConfig,
  UpstreamConfig,
} from "./proxy-config.ts";
export type { ProxyProtocolVersion, StoreAddress, WhenDown };

/** The strict shape: complete, checked, frozen. Durations are milliseconds, paths are absolute. */
export interface Config {
  readonly timeout: number;
  readonly handshakeTimeout: number;
  readonly connectTimeout: number;
  readonly shutdownTimeout: number;
  readonly maxConnectionDuration: number | undefined;
  readonly disconnectExpired: boolean;
  readonly revocationGrace: number;
  readonly maxConnections: number | undefined;
  readonly workers: number;
  readonly watch: boolean;
  readonly logLevel: LogLevel;
  readonly handshakes: {
    readonly max: number | undefined;
    readonly perSource: number;
    readonly failures: number;
    readonly failuresRefill: number;
    readonly exempt: readonly string[];
  };
  /** At least one. */
  readonly listeners: readonly Listener[];
  /** At least one. */
  readonly upstreams: readonly Upstream[];
  /** The name of the upstream for connections that no server name leads elsewhere; undefined for none. */
  readonly fallback: string | undefined;
  readonly rateLimit: {
    /** Infinity where there are no buckets. */
    readonly capacity: number;
    readonly fillRate: number;
    readonly maxConnections: number | undefined;
  };
  /** Undefined where the proxy counts alone. */
  readonly fleet: FleetConfig | undefined;
}

/** The fleet that the proxy is a part of. */
export interface FleetConfig {
  readonly store: { readonly url: StoreAddress; readonly passwordFile: string | undefined };
  readonly tls:
    | {
        readonly ca: string;
        readonly certificate: string | undefined;
        readonly privateKey: string | undefined;
      }
    | undefined;
  readonly namespace: string;
  readonly node: string | undefined;
  readonly timeout: number;
  readonly lease: number;
  readonly heartbeat: number;
  readonly whenDown: WhenDown;
}

/** A {@link ListenerConfig}, complete. */
export interface Listener {
  /** Where it is in what was written: `listener`, or `listeners[2]`. */
  readonly key: string;
  readonly address: Address;
  readonly ca: string;
  readonly certificate: string;
  readonly privateKey: string;
  readonly crl: string | undefined;
  readonly sessionTickets: boolean;
  readonly reusePort: boolean;
  readonly upstream: string | undefined;
}

/** An {@link UpstreamConfig}, complete. */
export interface Upstream {
  readonly name: string;
  readonly targets: readonly Target[];
  readonly authorizedGroups: readonly string[];
  /** Lower case. */
  readonly serverNames: readonly string[] | undefined;
  readonly healthCheck: HealthCheck | undefined;
  /** Failed dials in a row after which a target is ejected. */
  readonly fall: number;
  readonly slowStart: number;
  readonly tls: UpstreamTls | undefined;
  readonly proxyProtocol: ProxyProtocolVersion | undefined;
}

/** A server of an upstream. */
export interface Target {
  readonly address: TargetAddress;
  readonly weight: number;
  readonly backup: boolean;
}

/** How targets are looked after. */
export interface HealthCheck {
  readonly interval: number;
  readonly timeout: number;
  readonly rise: number;
  readonly fall: number;
}

/** TLS to the targets of an upstream. */
export interface UpstreamTls {
  readonly ca: string;
  readonly certificate: string | undefined;
  readonly privateKey: string | undefined;
  readonly serverName: string | undefined;
}
