// The library: what `import … from "tcpproxy"` brings. Importing it does nothing.

export type { Address, TargetAddress, UnixAddress } from "./lib/address.ts";
export {
  BUILT_IN,
  type Config,
  type Duration,
  type HealthCheck,
  type Listener,
  type ListenerConfig,
  type ProxyConfig,
  type StoreConfig,
  type Target,
  type TargetConfig,
  type Upstream,
  type UpstreamConfig,
  type UpstreamTls,
} from "./config/config.ts";
export { ConfigError, StartError, type CloseReason, type Fault, type RefusalReason } from "./lib/errors.ts";
export type { EndReason, Ending } from "./engine/questions.ts";
export type { Comings, Forecast } from "./engine/reload-plan.ts";
export {
  createLogger,
  type Fields,
  type LogFormat,
  type LogLevel,
  type Logger,
  type LoggerOptions,
} from "./lib/log.ts";
export {
  createProxy,
  type CloseOptions,
  type Proxy,
  type Phase,
  type ProxyOptions,
  type ProxyStats,
} from "./proxy.ts";
