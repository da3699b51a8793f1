// Why connections are refused and why they end: the stable codes of the log, with meaning and remedy.
// The types, `proxy help reasons` and README.md beside this file come from here.

/** What a code means, and what the operator can do about it. */
export interface Reason {
  readonly meaning: string;
  readonly remedy: string;
}

export const REFUSAL_REASONS = {
  handshake_failed: {
    meaning:
      "No TLS 1.3 handshake. Most likely the client does not trust the proxy; or it is a scan, plain text, an old TLS version, a TCP check.",
    remedy: "See `detail`. Give the client the CA of the proxy's certificate.",
  },
  handshake_timeout: {
    meaning: "The handshake was not finished within `handshakeTimeout`.",
    remedy: "Many from one address are an attack or a broken network.",
  },
  certificate_missing: {
    meaning: "The client presented no certificate.",
    remedy: "Configure the client with a certificate and its key.",
  },
  certificate_untrusted: {
    meaning:
      "No chain to the CA: signed by another CA, an intermediate is missing, not for client authentication, or a CRL is missing or outdated.",
    remedy: "See `detail`. Issue the certificate from the right CA, or renew the CRL.",
  },
  certificate_expired: {
    meaning: "The certificate is outside its validity, before or after.",
    remedy: "Renew it, or set the clock.",
  },
  certificate_revoked: {
    meaning: "The certificate is listed in the CRL.",
    remedy: "Find out who still uses the revoked certificate.",
  },
  certificate_weak: {
    meaning: "The chain has an RSA key below 2048 bits, or a signature with SHA-1 or MD5 below the root.",
    remedy: "See `detail`. Issue a new certificate.",
  },
  identity_invalid: {
    meaning:
      "The certificate is trusted, but its Common Name is not exactly one `user@group`, or its name of another kind not as `identity` wants it.",
    remedy: "See `detail`. Issue a certificate with such a name.",
  },
  unknown_server_name: {
    meaning:
      "No upstream has the server name that the client asked for, or the client asked for none and there is no fallback.",
    remedy: "See `detail`. Set the server name in the client, or add it to `serverNames`.",
  },
  group_not_authorized: {
    meaning: "The upstream lists neither the client's group nor the client itself.",
    remedy: "Add the group to `authorizedGroups`, or the client to `authorizedClients`; case matters.",
  },
  blocked: {
    meaning: "An operator has blocked the client, its group, its certificate or its network.",
    remedy: "See `detail`; `proxy blocks` lists who blocked what and why, `proxy unblock` ends it.",
  },
  connection_limit: {
    meaning:
      "The client has `maxConnections` connections open, its own or everybody's; or the upstream that `detail` names has its `maxConnections`.",
    remedy: "Look for a leak in the client, or raise the limit.",
  },
  rate_limited: {
    meaning: "The client's token bucket is empty: it connects faster than the bucket fills.",
    remedy:
      "Use a connection pool, or raise `capacity`, or shorten `fillRate`, in `rateLimit` or in `limits`.",
  },
  fleet_unavailable: {
    meaning: 'The store of the fleet did not answer, and `fleet.whenDown` is `"refuse"`.',
    remedy:
      "See the `fleet store unavailable` line before. Bring the store back, or choose another `fleet.whenDown`.",
  },
  address_denied: {
    meaning:
      "The listener's `deny` has the client's address, or its `allow` lacks it. The connection is closed before TLS.",
    remedy: "See `detail`. If the client may connect, change `listener.allow` or `listener.deny`.",
  },
  proxy_header_missing: {
    meaning:
      "A balancer of `acceptProxy` sent no PROXY header: something else came first, or nothing within `handshakeTimeout`.",
    remedy: "Have the balancer send one (HAProxy: `send-proxy-v2`), or take it out of `acceptProxy.from`.",
  },
  proxy_header_invalid: {
    meaning:
      "A balancer of `acceptProxy` sent a wrong or incomplete PROXY header, or is not listed any more.",
    remedy: "See `detail`, and look at the balancer.",
  },
  source_limited: {
    meaning: "Too many handshakes from the client's address failed. The connection is closed before TLS.",
    remedy:
      "Find out what fails there and stop it, or raise `handshakes.failures`, or list a load balancer in `handshakes.exempt`.",
  },
  overloaded: {
    meaning: "All clients together have `maxConnections` connections open.",
    remedy: "Raise it and the descriptor limit, or find out who holds the connections.",
  },
  no_target: {
    meaning: "No target of the upstream answered, or those that are left have their `maxConnections`.",
    remedy: "See `detail` and the `target failed` lines before it.",
  },
  proxy_header: {
    meaning: "The client's name does not fit into a PROXY protocol header: it has more than some 270 bytes.",
    remedy: "Issue a certificate with a shorter Common Name.",
  },
} as const satisfies Record<string, Reason>;

export const CLOSE_REASONS = {
  closed: {
    meaning: "Both sides ended and every byte was delivered.",
    remedy:
      "Nothing. With `bytesIn` 0 and `endedBy` `client`, the client possibly does not trust the proxy's certificate.",
  },
  client_reset: { meaning: "The client broke the connection off.", remedy: "Look at the client." },
  upstream_reset: { meaning: "The target broke the connection off.", remedy: "Look at the target." },
  client_error: { meaning: "The client broke the TLS protocol.", remedy: "Look at the client." },
  idle_timeout: {
    meaning: "No byte went in either direction for `timeout`.",
    remedy: "Raise `timeout`, or have the client send keepalives.",
  },
  max_duration: {
    meaning: "The connection was open for `maxConnectionDuration`.",
    remedy: "The client connects again.",
  },
  certificate_expired: {
    meaning: "The client's certificate expired while it was connected.",
    remedy: "Renew it. `expiryGrace` or `disconnectExpired = false` lets such connections go on.",
  },
  authorization_revoked: {
    meaning: "A reload withdrew the client's authorization.",
    remedy: "See `detail`.",
  },
  kicked: {
    meaning: "An operator ended the connection. The client may connect again.",
    remedy: "See `detail`, and the `admin` line before for who did it.",
  },
  blocked: {
    meaning: "An operator has blocked the client, its group, its certificate or its network.",
    remedy: "See `detail`; `proxy blocks` lists who blocked what and why, `proxy unblock` ends it.",
  },
  shutdown: {
    meaning: "The connection was still open at the end of the shutdown.",
    remedy: "Raise `shutdownTimeout` if connections need longer.",
  },
  internal_error: {
    meaning: "A bug in the proxy.",
    remedy: "Report the line before it, which has the error.",
  },
} as const satisfies Record<string, Reason>;

/** Reasons that depend only on the configuration and on who asks for what, not on the moment: a test can expect them. */
export const DECIDED_REASONS: readonly RefusalReason[] = [
  "proxy_header_missing",
  "address_denied",
  "handshake_failed",
  "certificate_untrusted",
  "certificate_expired",
  "certificate_revoked",
  "certificate_weak",
  "identity_invalid",
  "unknown_server_name",
  "group_not_authorized",
  "proxy_header",
];

/** The place of each code among its like: what the counters know it by. */
export const REFUSAL_CODE = placesOf(REFUSAL_REASONS);
export const CLOSE_CODE = placesOf(CLOSE_REASONS);

function placesOf<K extends string>(reasons: Readonly<Record<K, Reason>>): Readonly<Record<K, number>> {
  return Object.fromEntries(Object.keys(reasons).map((code, i) => [code, i])) as Record<K, number>;
}

/** Why a connection was refused. The codes are stable: dashboards and alerts are built on them. */
export type RefusalReason = keyof typeof REFUSAL_REASONS;

/**
 * Why an admitted connection ended. Only `closed` is an orderly end, passed on as one. After any other the client sees
 * its connection close without a close_notify and the upstream sees a reset, so that neither mistakes a partial stream
 * for a complete one.
 */
export type CloseReason = keyof typeof CLOSE_REASONS;
