// When a connection has to end, and why.

import { describe, expect, test } from "bun:test";
import { Deadlines, type Due, type Phase, type Timeouts } from "../../src/connection/deadlines.ts";
import { Random } from "../support/random.ts";

const config: Timeouts = {
  handshakeTimeout: 10,
  connectTimeout: 20,
  timeout: 30,
  maxConnectionDuration: 1_000,
  disconnectExpired: true,
  expiryGrace: 0,
};

/** Accepted at 100, admitted with a certificate that expires on the date 5,000. */
function admitted(over: Partial<Timeouts> = {}, random = 0): Deadlines {
  const deadlines = new Deadlines(100);
  deadlines.admitted(5_000);
  deadlines.limit({ ...config, ...over }, random);
  deadlines.enterPhase(200);
  return deadlines;
}

describe("deadlines", () => {
  test.each<[Phase, number, Due | undefined]>([
    ["handshake", 209, undefined],
    ["handshake", 210, "handshake_timeout"],
    ["dialing", 219, undefined],
    ["dialing", 220, "connect_timeout"],
    ["relaying", 229, undefined],
    ["relaying", 230, "idle_timeout"],
    ["closing", 229, undefined],
    ["closing", 230, "idle_timeout"],
    ["over", 10_000_000, undefined],
  ])("the deadline that is due in the phase %s at %d is %p", (phase, now, due) => {
    expect(admitted().due(phase, { now, date: 0 }, 0, config)).toBe(due as Due);
  });

  test("the idle deadline starts anew with every byte", () => {
    const deadlines = admitted();
    expect(deadlines.due("relaying", { now: 229, date: 0 }, 1, config)).toBeUndefined();
    expect(deadlines.due("relaying", { now: 258, date: 0 }, 1, config)).toBeUndefined();
    expect(deadlines.due("relaying", { now: 259, date: 0 }, 1, config)).toBe("idle_timeout");
  });

  test.each<Phase>(["dialing", "relaying", "closing"])(
    "the deadline of the whole connection comes first in the phase %s",
    (phase) => {
      expect(admitted().due(phase, { now: 1_100, date: 9_999 }, 0, config)).toBe("max_duration");
    },
  );

  test("the deadline of the whole connection is shortened by a tenth at most, and is optional", () => {
    const due = (now: number, over: Partial<Timeouts>, random: number) =>
      admitted(over, random).due("relaying", { now, date: 0 }, 1, config);
    expect(due(999, {}, 1)).toBeUndefined();
    expect(due(1_000, {}, 1)).toBe("max_duration");
    expect(due(1e12, { maxConnectionDuration: undefined }, 1)).toBeUndefined();
  });

  test("a certificate's deadline counts only where expired certificates end connections", () => {
    const late = { now: 201, date: 5_000 };
    expect(admitted().due("relaying", { now: 201, date: 4_999 }, 0, config)).toBeUndefined();
    expect(admitted().due("relaying", late, 0, config)).toBe("certificate_expired");
    expect(admitted().due("relaying", late, 0, { ...config, disconnectExpired: false })).toBeUndefined();
    const graceful = { ...config, expiryGrace: 500 };
    expect(admitted().due("relaying", { now: 201, date: 5_499 }, 0, graceful)).toBeUndefined();
    expect(admitted().due("relaying", { now: 201, date: 5_500 }, 0, graceful)).toBe("certificate_expired");
  });

  test("the handshake's deadline is the only one before admission", () => {
    expect(new Deadlines(100).due("handshake", { now: 109, date: 1e15 }, 0, config)).toBeUndefined();
    expect(new Deadlines(100).due("handshake", { now: 110, date: 1e15 }, 0, config)).toBe(
      "handshake_timeout",
    );
  });
});

describe("deadlines after a lost authorization", () => {
  const at = (deadlines: Deadlines, now: number) => deadlines.due("relaying", { now, date: 0 }, now, config);

  test("a lost authorization ends the connection within the grace, and keeps the reason", () => {
    const deadlines = admitted();
    deadlines.revoke({ now: 300, grace: 100, why: "group_not_authorized", random: 0.5 });
    expect(deadlines.revokedFor).toBe("group_not_authorized");
    expect(at(deadlines, 349)).toBeUndefined();
    expect(at(deadlines, 350)).toBe("authorization_revoked");
  });

  test("a lost authorization is not postponed by another one, and a shorter grace brings it forward", () => {
    const deadlines = admitted();
    deadlines.revoke({ now: 300, grace: 100, why: "a", random: 0.5 });
    deadlines.revoke({ now: 310, grace: 100, why: "b", random: 1 });
    expect(at(deadlines, 350)).toBe("authorization_revoked");
    deadlines.revoke({ now: 310, grace: 20, why: "c", random: 1 });
    expect(deadlines.revokedFor).toBe("c");
    expect(at(deadlines, 329)).toBeUndefined();
    expect(at(deadlines, 330)).toBe("authorization_revoked");
  });

  test("a lost authorization does not outlast the connection's own deadline", () => {
    const deadlines = admitted();
    deadlines.revoke({ now: 300, grace: 1e9, why: "a", random: 1 });
    expect(at(deadlines, 1_099)).toBeUndefined();
    expect(at(deadlines, 1_100)).toBe("authorization_revoked");
  });

  test("the part that chance takes off a connection's duration stays the same over reloads", () => {
    const deadlines = admitted();
    deadlines.limit({ ...config, maxConnectionDuration: 2_000 }, 1);
    expect(at(deadlines, 2_099)).toBeUndefined();
    expect(at(deadlines, 2_100)).toBe("max_duration");
  });

  test("what another configuration would end is known before, and changes nothing", () => {
    const deadlines = admitted();
    deadlines.admitted(5_000);
    const ask = (now: number, over: object, bytes = 0) =>
      deadlines.shortened("relaying", { now, date: now }, bytes, { ...config, timeout: 9_000, ...over });
    expect(ask(600, {})).toBeUndefined();
    expect(ask(600, { maxConnectionDuration: 500 })).toBe("max_duration");
    expect(ask(599, { maxConnectionDuration: 500 })).toBeUndefined();
    expect(ask(600, { timeout: 100 })).toBe("idle_timeout");
    expect(ask(600, { timeout: 100 }, 1)).toBeUndefined();
    expect(ask(5_000, { maxConnectionDuration: 1e9, disconnectExpired: true })).toBe("certificate_expired");
    expect(at(deadlines, 229)).toBeUndefined();
  });

  test("a lost authorization is forgotten once the connection is authorized again", () => {
    const deadlines = admitted();
    deadlines.revoke({ now: 300, grace: 100, why: "a", random: 1 });
    deadlines.limit(config, 0);
    expect(deadlines.isRevoked).toBe(false);
    expect(at(deadlines, 400)).toBeUndefined();
    expect(at(deadlines, 1_100)).toBe("max_duration");
  });
});

describe("a period of a connection's life", () => {
  test.each([
    [100, 109, false],
    [100, 110, true],
    [110, 119, false],
    [109, 110, true],
    [110, 145, true],
    // The look before was at a time when the connection was not there yet.
    [0, 105, false],
    [0, 110, true],
  ])("of 10 is completed between %i and %i: %p", (before, now, expected) => {
    expect(admitted().completes(10, before, now)).toBe(expected);
  });

  test("is completed as often as it fits, at whatever moments one looks", () => {
    const random = new Random(7);
    for (let round = 0; round < 100; round++) {
      const deadlines = new Deadlines(random.int(0, 1_000));
      const period = random.int(50, 250);
      const start = random.int(0, 2_000);
      let [now, count] = [start, 0];
      for (let look = 0; look < 100; look++) {
        const before = now;
        // More often than the period.
        now += random.int(1, 50);
        if (deadlines.completes(period, before, now)) count++;
      }
      const whole = (at: number) => Math.max(0, Math.floor((at - deadlines.acceptedAt) / period));
      expect(count).toBe(whole(now) - whole(start));
    }
  });
});
