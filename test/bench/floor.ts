// The floor: what the arithmetic alone costs, as openssl's own benchmark has it, so that a reader sees how little of a
// handshake or a GiB is left for a proxy to save.

/** Lines for people; none where there is no openssl. */
export function floor(seconds: number): string[] {
  const openssl = Bun.which("openssl");
  if (openssl === null) return ["openssl is missing: no floor"];
  const speed = (...args: string[]) =>
    Bun.spawnSync([openssl, "speed", "-mr", "-seconds", String(seconds), ...args], {
      stderr: "ignore",
    }).stdout.toString();
  // -mr: "+F2:2:2048:<signatures a second>:<verifications a second>", F4 for ECDSA, "+F5:22:253:<derivations a second>:…"
  // for ECDH, "+F:25:AES-128-GCM:<bytes a second>".
  const fields = (text: string, tag: string) =>
    (text.split("\n").find((line) => line.startsWith(`+${tag}:`)) ?? "")
      .split(":")
      .slice(3)
      .map((field) => 1 / Number(field));
  const rsa = fields(speed("rsa2048"), "F2");
  const ecdsa = fields(speed("ecdsap256"), "F4");
  const ecdh = fields(speed("ecdhx25519"), "F5");
  const gcm = fields(speed("-evp", "aes-128-gcm", "-bytes", "16384"), "F");
  const us = (s: number | undefined) => `${Math.round((s ?? NaN) * 1e6)} µs`;
  const handshake = ([sign = NaN, verify = NaN]: number[]) => us(sign + 2 * verify + 2 * (ecdh[0] ?? NaN));
  return [
    `RSA-2048: a signature ${us(rsa[0])}, a verification ${us(rsa[1])}; a handshake's one and two, with X25519: ${handshake(rsa)}`,
    `ECDSA P-256: a signature ${us(ecdsa[0])}, a verification ${us(ecdsa[1])}; a handshake's, with X25519: ${handshake(ecdsa)}`,
    `AES-128-GCM in records of 16 KiB: ${(2 ** 30 * (gcm[0] ?? NaN)).toFixed(2)} s per GiB`,
  ];
}
