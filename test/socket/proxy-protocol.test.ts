// The encoder of PROXY headers, checked by other programs that read them.

import { describe, expect, test } from "bun:test";
import { encodeProxyHeader, MAX_HEADER_BYTES, type Caller } from "../../src/upstreams/proxy-protocol.ts";
import { consumers, present, type Reading } from "../support/consumers.ts";

const caller: Caller = {
  source: { hostname: "::ffff:192.0.2.1", port: 56_324 },
  destination: { hostname: "198.51.100.7", port: 443 },
  client: "jürgen@größe",
  tlsVersion: "TLSv1.3",
  cipher: "TLS_AES_128_GCM_SHA256",
  serverName: "db.example",
  alpn: "h2",
  resumed: false,
  uniqueId: "7f3a-1",
};

const addresses: Reading = {
  source: "192.0.2.1",
  sourcePort: "56324",
  destination: "198.51.100.7",
  destinationPort: "443",
};

const overIPv6: Caller = {
  ...caller,
  source: { hostname: "2001:db8::1%eth0", port: 65_535 },
  destination: { hostname: "2001:db8::2", port: 1 },
};

const addressesIPv6: Reading = {
  source: "2001:db8::1",
  sourcePort: "65535",
  destination: "2001:db8::2",
  destinationPort: "1",
};

const names: Reading = {
  client: "jürgen@größe",
  tlsVersion: "TLSv1.3",
  cipher: "TLS_AES_128_GCM_SHA256",
  verify: "0",
  serverName: "db.example",
  alpn: "h2",
  uniqueId: "7f3a-1",
};

for (const consumer of consumers) {
  describe.if(consumer.available)(consumer.name, () => {
    const readable = (names: Reading) =>
      Object.fromEntries(Object.entries(names).filter(([field]) => consumer.reads(field as keyof Reading)));

    test(`${consumer.name} reads the addresses of version 1`, async () => {
      await using running = await consumer.start();
      const told = async (each: Caller) =>
        addressesOf(await present(running.port, encodeProxyHeader("v1", each)!));
      expect(await told(caller)).toEqual(addresses);
      expect(await told(overIPv6)).toEqual(addressesIPv6);
    });

    test(`${consumer.name} reads all of version 2 that its version can read`, async () => {
      await using running = await consumer.start();
      const told = (each: Caller) => present(running.port, encodeProxyHeader("v2", each)!);
      expect(await told(caller)).toEqual({ ...addresses, ...readable(names) });
      expect(await told(overIPv6)).toEqual({ ...addressesIPv6, ...readable(names) });
    });

    test(`${consumer.name} reads the longest header`, async () => {
      await using running = await consumer.start();
      const length = encodeProxyHeader("v2", { ...overIPv6, client: "a" })!.length;
      const client = "a".repeat(MAX_HEADER_BYTES - length + 1);
      const header = encodeProxyHeader("v2", { ...overIPv6, client })!;
      expect(header).toHaveLength(MAX_HEADER_BYTES);
      expect(await present(running.port, header)).toEqual({
        ...addressesIPv6,
        ...readable({ ...names, client }),
      });
    });
  });
}

function addressesOf(reading: Reading | undefined): Reading | undefined {
  const fields = Object.entries(reading ?? {}).filter(([field]) => field in addresses);
  return reading && Object.fromEntries(fields);
}
