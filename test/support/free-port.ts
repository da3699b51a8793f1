// A port for a program that cannot say which one the system picked.

/** A port of 127.0.0.1 on which nobody listens now. */
export function freePort(): number {
  const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  probe.stop(true);
  return probe.port;
}
