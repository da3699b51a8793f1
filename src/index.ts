// The library: what `import … from "tcpproxy"` brings. Importing it does nothing.

export type { Address } from "./address.ts";
export { BUILT_IN, type Config, type Duration, type ProxyConfig, type Upstream } from "./config.ts";
export { ConfigError, StartError, type CloseReason, type Fault, type RefusalReason } from "./errors.ts";
export {
  createLogger,
  type Fields,
  type LogFormat,
  type LogLevel,
  type Logger,
  type LoggerOptions,
} from "./log.ts";
export { createProxy, type CloseOptions, type Proxy, type ProxyOptions, type ProxyStats } from "./proxy.ts";
