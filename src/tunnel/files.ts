// The PEM files of a tunnel, as TLS wants them.

import { ofUpstream } from "../config/credentials.ts";
import type { Fault } from "../lib/errors.ts";
import { TUNNEL_OFFER } from "../lib/tunnel-protocol.ts";
import type { TargetTls } from "../upstreams/dial.ts";
import type { TunnelConfig } from "./config.ts";

/** BoringSSL's number for TLS 1.3, the only version that is spoken (RFC 8446). */
const TLS_1_3 = 0x0304;

/** The runtime takes these, although its types leave them out. */
const OPTIONS = { minVersion: TLS_1_3, ALPNProtocols: TUNNEL_OFFER } as object;

/**
 * Reads the files of a tunnel and checks them against each other.
 * @param faults collects what is wrong; the result is fit for use only if it stays empty
 * @param warnings collects what is allowed but should not be so
 */
export function readFiles(
  { key, ca, certificate, privateKey, serverName }: TunnelConfig,
  faults: Fault[],
  warnings: Set<string>,
): TargetTls & { readonly cert: string } {
  const files = { ca, certificate, privateKey, serverName };
  const { cert = "", ...others } = ofUpstream(files, key, faults, warnings);
  return { ...others, cert, serverName, options: OPTIONS };
}
