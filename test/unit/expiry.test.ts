// When certificates and revocation lists cause a warning before they expire.

import { describe, expect, test } from "bun:test";
import { ExpiryWatch, expiriesOf, expiryWarnings, type Expiry } from "../../src/config/expiry.ts";
import { cert } from "../support/peer.ts";
import { issue, makeAuthority, revoke } from "../support/issue.ts";
import { listsOf } from "../support/lists.ts";

const DAY = 86_400_000;
const start = Date.UTC(2026, 0, 1);
const of = (kind: Expiry["kind"], days: number): Expiry => ({
  kind,
  what: "it",
  from: start,
  until: start + days * DAY,
});

describe("expiry warnings", () => {
  test.each<[string, Expiry, number, RegExp | undefined]>([
    ["no warning for a certificate with 65 days left", of("server", 365), 300, undefined],
    ["no warning for a certificate with 31 days left", of("server", 365), 334, undefined],
    [
      "a warning for a certificate with 30 days left",
      of("server", 365),
      335,
      /^it expires on 2027-01-01T00:00:00.000Z, in 30 days$/,
    ],
    ["a warning for a CA with 6 days left", of("ca", 365), 359, /in 6 days$/],
    ["a warning for a CA with half a day left", of("ca", 365), 364.5, /in 12 hours$/],
    ["a warning for a CA with a minute left", of("ca", 365), 365 - 1 / 1440, /in 1 minutes$/],
    [
      "a warning for an expired certificate",
      of("server", 365),
      365,
      /^it expired on 2027-01-01T00:00:00.000Z$/,
    ],
    [
      "a warning for a certificate that is not valid yet",
      of("server", 365),
      -1,
      /^it is not valid before 2026-01-01/,
    ],
    ["no warning for a list of a month, after half of its time", of("crl", 30), 15, undefined],
    ["a warning for a list of a month, in the last tenth of its time", of("crl", 30), 27, /in 3 days$/],
    ["no warning for a new list of a week", of("crl", 7), 0, undefined],
    ["no warning for a new list of a day", of("crl", 1), 0, undefined],
    ["a warning for a list of a day, in the last tenth of its time", of("crl", 1), 0.91, /in 2 hours$/],
    [
      "a warning for a list of ten years, in the last tenth of its time",
      of("crl", 3650),
      3300,
      /in 350 days$/,
    ],
    ["a warning for an expired list", of("crl", 30), 30, /expired.*clients of that CA are refused/],
    ["no warning for a list that never expires", { ...of("crl", 0), until: Infinity }, 100_000, undefined],
  ])("the expiry check gives %s", (_, expiry, day, text) => {
    const warnings = expiryWarnings([expiry], start + day * DAY);
    if (text === undefined) expect(warnings).toEqual([]);
    else {
      expect(warnings).toHaveLength(1);
      expect(warnings[0]!.text).toMatch(text);
    }
  });

  test("an expiry is reported once at 30, 7 and 1 days before, and once when it has happened", () => {
    const watch = new ExpiryWatch();
    watch.follow([of("server", 365), of("ca", 3650)], start);
    const said: number[] = [];
    for (let hour = 0; hour < 24 * 370; hour++) {
      if (watch.due(start + hour * 3_600_000).length > 0) said.push(365 - hour / 24);
    }
    expect(said).toEqual([30, 7, 1, 0]);
  });

  test("an expiry that was reported at the start is not reported again before the next step", () => {
    const watch = new ExpiryWatch();
    watch.follow([of("server", 365)], start + 340 * DAY);
    expect(watch.due(start + 341 * DAY)).toEqual([]);
    expect(watch.due(start + 358 * DAY)).toHaveLength(1);
  });

  test("expiries are those of the proxy's certificate, the CAs and the lists", () => {
    const ca = makeAuthority([["CN", "a CA"]], undefined, { notAfter: new Date(start) });
    const own = issue("proxy", ca, { notAfter: new Date(start + DAY) });
    const crl = listsOf(revoke([], ca, new Date(start + 2 * DAY)));
    const all = expiriesOf({ cert: own.cert, ca: [ca.cert, cert("ca.crt")], crl });
    expect(all.map(({ kind, what, until }) => [kind, what, (until - start) / DAY])).toEqual([
      ["server", "the proxy's certificate", 1],
      ["ca", 'the CA "CN=a CA"', 0],
      ["ca", expect.stringContaining("tcpproxy test CA"), expect.any(Number)],
      ["crl", 'the revocation list of "CN=a CA"', 2],
    ]);
  });
});
