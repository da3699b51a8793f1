// The configuration that the proxy runs on: complete, checked, frozen. People write a ProxyConfig (proxy-config.ts);
// resolve.ts turns it into a Config.

import type { IdentitySettings } from "../auth/identity-rule.ts";
import type { Address, TargetAddress } from "../lib/address.ts";
import type { LogLevel } from "../lib/log.ts";
import type { ClientLimit } from "../state/client-rules.ts";
import type { WhenDown } from "./fleet-schema.ts";
import type { ProxyProtocolVersion } from "./upstream-schema.ts";
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
  readonly expiryGrace: number;
  readonly revocationGrace: number;
  readonly maxConnections: number | undefined;
  readonly workers: number;
  readonly watch: boolean;
  readonly logLevel: LogLevel;
  readonly log: {
    readonly admissions: boolean;
    readonly progress: number | undefined;
  };
  readonly metrics: MetricsSettings | undefined;
  readonly admin: AdminSettings | undefined;
  /** Undefined where the proxy counts alone. */
  readonly fleet: FleetConfig | undefined;
  /** The absolute path of the configuration that decides beside this one, without effect. */
  readonly shadow: { readonly config: string } | undefined;
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
  /** The name of the upstream for connections that no server name routes elsewhere; undefined for none. */
  readonly fallback: string | undefined;
  readonly rateLimit: {
    /** Infinity without token buckets. */
    readonly capacity: number;
    readonly fillRate: number;
    readonly maxConnections: number | undefined;
  };
  /** Those of single clients and groups, incomplete as they are written. */
  readonly limits: readonly ClientLimit[];
  readonly tests: readonly PolicyTest[];
}

/** Who must be allowed where, or refused. Either `client` or `certificate` is given. */
export interface PolicyTest {
  readonly client: string | undefined;
  readonly certificate: string | undefined;
  readonly serverName: string | undefined;
  /** The place of its listener. */
  readonly listener: number;
  readonly from: string | undefined;
  /** Milliseconds since 1970; undefined for now. */
  readonly at: number | undefined;
  /** An upstream's name, or a reason of refusal. */
  readonly expect: string;
}

/** The port for monitoring. */
export interface MetricsSettings {
  readonly address: Address;
  readonly topClients: number;
}

/** The door for operators: at least one of `socket` and `address`; the files go with `address`. */
export interface AdminSettings {
  readonly socket: string | undefined;
  readonly address: Address | undefined;
  readonly ca: string | undefined;
  readonly certificate: string | undefined;
  readonly privateKey: string | undefined;
  /** `user@group` or `*@group`. */
  readonly readers: readonly string[];
  readonly operators: readonly string[];
  readonly stateDirectory: string | undefined;
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

/** A complete {@link ListenerConfig}. */
export interface Listener {
  /** Its place in the written configuration: `listener`, or `listeners[2]`. */
  readonly key: string;
  readonly address: Address;
  readonly ca: string;
  readonly certificate: string;
  readonly privateKey: string;
  readonly certificates: readonly ListenerCertificate[] | undefined;
  /** The preferred one first. */
  readonly alpn: readonly string[] | undefined;
  readonly crl: string | undefined;
  /** Ranges; undefined for every address. */
  readonly allow: readonly string[] | undefined;
  readonly deny: readonly string[] | undefined;
  /** Undefined: no balancer is trusted to name its callers. */
  readonly acceptProxy: { readonly from: readonly string[] } | undefined;
  readonly sessionTickets: boolean;
  readonly reusePort: boolean;
  readonly upstream: string | undefined;
  /** Undefined: the Common Name. */
  readonly identity: IdentitySettings | undefined;
}

/** A further certificate of a listener. */
export interface ListenerCertificate {
  readonly certificate: string;
  readonly privateKey: string;
  /** Lower case; undefined for the names in the certificate. */
  readonly serverNames: readonly string[] | undefined;
}

/** A complete {@link UpstreamConfig}. */
export interface Upstream {
  readonly name: string;
  readonly targets: readonly Target[];
  readonly authorizedGroups: readonly string[];
  /** `user@group`. */
  readonly authorizedClients: readonly string[];
  /** Everybody with a valid identity may reach it; both lists are empty then. */
  readonly anyGroup: boolean;
  /** Lower case. */
  readonly serverNames: readonly string[] | undefined;
  readonly healthCheck: HealthCheck | undefined;
  /** Consecutive failed dials after which a target is ejected. */
  readonly fall: number;
  readonly slowStart: number;
  readonly maxConnections?: number | undefined;
  readonly tls: UpstreamTls | undefined;
  readonly proxyProtocol: ProxyProtocolVersion | undefined;
}

/** A server of an upstream. */
export interface Target {
  readonly address: TargetAddress;
  readonly weight: number;
  readonly backup: boolean;
  readonly maxConnections?: number | undefined;
}

/** How targets are checked. */
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
