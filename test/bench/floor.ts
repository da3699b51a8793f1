// The floor: what the arithmetic alone costs, as openssl's own benchmark has it, so that a reader sees how little of a
// handshake or a GiB is left for a proxy to save.

/** What the measures' rows are compared with. */
export interface Floor {
  /** By kind; of a handshake in microseconds, of a GiB in seconds. */
  readonly figures: Readonly<Record<FloorKind, number>>;
  /** What they are made of, for people. */
  readonly lines: readonly string[];
}

/** A server's share of a handshake, full or resumed, and a GiB encrypted or decrypted once. */
export type FloorKind = "rsa" | "ecdsa" | "resumed" | "gib";

/** Measures it, so many seconds for each figure. */
export function floor(seconds: number): Floor {
  // -mr: "+F2:2:2048:<signatures a second>:<verifications a second>", F4 for ECDSA, "+F5:22:253:<derivations a second>:…"
  // for ECDH, "+F:25:AES-128-GCM:<bytes a second>".
  const speed = (tag: string, ...args: string[]): [number, number] => {
    const command = ["openssl", "speed", "-mr", "-seconds", String(seconds), ...args];
    const { stdout } = Bun.spawnSync(command, { stderr: "ignore" });
    const line = stdout
      .toString()
      .split("\n")
      .find((text) => text.startsWith(`+${tag}:`));
    const [first = NaN, second = NaN] = (line?.split(":").slice(3) ?? []).map((field) => 1 / Number(field));
    return [first, second];
  };
  const rsa = speed("F2", "rsa2048");
  const ecdsa = speed("F4", "ecdsap256");
  const [derivation] = speed("F5", "ecdhx25519");
  const [byte] = speed("F", "-evp", "aes-128-gcm", "-bytes", "16384");
  // A key pair and a derivation; in a full handshake a signature, and the client's certificate and signature verified.
  const exchange = 2 * derivation;
  const full = ([sign, verify]: [number, number]) => exchange + sign + 2 * verify;
  const us = (s: number) => `${Math.round(s * 1e6)} µs`;
  const figures = {
    rsa: full(rsa) * 1e6,
    ecdsa: full(ecdsa) * 1e6,
    resumed: exchange * 1e6,
    gib: 2 ** 30 * byte,
  };
  return {
    figures,
    lines: [
      `RSA-2048: a signature ${us(rsa[0])}, a verification ${us(rsa[1])}; a full handshake has one and two`,
      `ECDSA P-256: a signature ${us(ecdsa[0])}, a verification ${us(ecdsa[1])}; likewise`,
      `X25519: ${us(derivation)}; every handshake has two`,
      `AES-128-GCM in records of 16 KiB: ${figures.gib.toFixed(2)} s per GiB`,
    ],
  };
}
