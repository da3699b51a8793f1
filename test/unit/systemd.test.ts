// What systemd says to a service and what it is told, without either.

import { afterEach, describe, expect, jest, test } from "bun:test";
import type { Phase } from "tcpproxy";
import { Service, type Watched } from "../../src/cli/service.ts";
import { formatAddress, isPicked, parseListener } from "../../src/lib/address.ts";
import {
  Notifier,
  findManager,
  notifySocket,
  passedSockets,
  socketNamed,
  watchdogTime,
} from "../../src/lib/systemd.ts";

describe("the environment", () => {
  test.each<[string | undefined, string | undefined]>([
    ["/run/systemd/notify", "/run/systemd/notify"],
    ["@/org/freedesktop/systemd1/notify", "@/org/freedesktop/systemd1/notify"],
    [`/${"x".repeat(106)}`, `/${"x".repeat(106)}`],
    [`/${"x".repeat(107)}`, undefined],
    ["vsock:2:1234", undefined],
    ["notify", undefined],
    ["/", undefined],
    ["@", undefined],
    ["", undefined],
    [undefined, undefined],
  ])("NOTIFY_SOCKET=%p leads to the socket %p", (NOTIFY_SOCKET, expected) => {
    expect(notifySocket({ NOTIFY_SOCKET })).toBe(expected);
  });

  test.each<[string | undefined, string | undefined, number | undefined]>([
    ["30000000", undefined, 30_000],
    ["30000000", "42", 30_000],
    ["500", "42", 0.5],
    ["30000000", "43", undefined],
    ["30000000", "", undefined],
    ["30000000", "42x", undefined],
    ["0", undefined, undefined],
    ["-1", undefined, undefined],
    ["1e9", undefined, undefined],
    ["9".repeat(30), undefined, undefined],
    ["", undefined, undefined],
    [undefined, "42", undefined],
  ])("WATCHDOG_USEC=%p and WATCHDOG_PID=%p ask process 42 for a sign within %p ms", (time, pid, expected) => {
    expect(watchdogTime({ WATCHDOG_USEC: time, WATCHDOG_PID: pid }, 42)).toBe(expected);
  });

  test.each<[string | undefined, string | undefined, string | undefined, [string, number[]][]]>([
    [
      "42",
      "2",
      "web:db",
      [
        ["web", [3]],
        ["db", [4]],
      ],
    ],
    ["42", "2", "web:web", [["web", [3, 4]]]],
    [
      "42",
      "2",
      "web",
      [
        ["web", [3]],
        ["unknown", [4]],
      ],
    ],
    ["42", "1", undefined, [["unknown", [3]]]],
    ["42", "1", "web:more", [["web", [3]]]],
    ["42", "0", "", []],
    ["42", "-1", "web", []],
    ["42", "999999999", "web", []],
    ["42", undefined, "web", []],
    ["43", "1", "web", []],
    ["", "1", "web", []],
    [undefined, "1", "web", []],
  ])(
    "LISTEN_PID=%p LISTEN_FDS=%p LISTEN_FDNAMES=%p pass sockets to process 42",
    (pid, fds, names, expected) => {
      const env = { LISTEN_PID: pid, LISTEN_FDS: fds, LISTEN_FDNAMES: names };
      expect([...passedSockets(env, 42)]).toEqual(expected);
    },
  );

  test("a name leads to its one socket, or to a line that says why not", () => {
    const sockets = new Map([
      ["web", [3]],
      ["db", [4, 5]],
    ]);
    expect(socketNamed("web", sockets)).toBe(3);
    expect(socketNamed("db", sockets)).toBe(
      "systemd has passed 2 sockets of this name; give each a FileDescriptorName of its own",
    );
    expect(socketNamed("x", sockets)).toBe(
      'systemd has passed no socket of this name; it has passed "web", "db"',
    );
    expect(socketNamed("x", new Map())).toBe("systemd has passed no socket to this process");
  });

  test("no manager is found where NOTIFY_SOCKET is not set", () => {
    expect(findManager({ WATCHDOG_USEC: "1000000" }, 1)).toBeUndefined();
  });
});

describe("the address of a socket of systemd", () => {
  test.each(["web", "tcpproxy.socket", "a/b@c", "x".repeat(255)])(
    "systemd:%s is read and written",
    (name) => {
      const address = parseListener(`systemd:${name}`);
      expect(address).toEqual({ hostname: "", port: 0, systemd: name });
      expect(formatAddress(address!)).toBe(`systemd:${name}`);
      expect(isPicked(address!)).toBe(false);
    },
  );

  test.each([
    "systemd:",
    "systemd:a:b",
    "systemd:a b",
    "systemd:a\n",
    "systemd:é",
    `systemd:${"x".repeat(256)}`,
  ])("%p is refused", (text) => expect(parseListener(text)).toBeUndefined());

  test("a host with the name systemd is still a host", () => {
    // Digits after the colon would be a port; a name of digits is the name of a socket all the same.
    expect(parseListener("systemd.example:5000")).toEqual({ hostname: "systemd.example", port: 5_000 });
    expect(parseListener("systemd:5000")).toEqual({ hostname: "", port: 0, systemd: "5000" });
  });
});

afterEach(() => void jest.useRealTimers());

/** A manager that takes messages while `full` is false, and a proxy to tell of. */
function service(watchdog?: number) {
  const heard: string[] = [];
  const world = {
    heard,
    full: false,
    connections: 0,
    answer: Promise.withResolvers<void>(),
    asked: 0,
  };
  const notifier = new Notifier((text) => (world.full ? "EAGAIN" : void heard.push(text)));
  const proxy = {
    addresses: [
      { hostname: "::1", port: 5 },
      { hostname: "", port: 0, systemd: "web" },
    ],
    stats: () => ({ connections: world.connections, clients: 0, upstreams: [] }),
    responds: () => (world.asked++, world.answer.promise),
  } satisfies Watched;
  const told = new Service({ notifier, microseconds: () => 123n, watchdog }, () => proxy);
  return Object.assign(world, { enter: (phase: Phase) => told.enter(phase), notifier });
}

describe("a service", () => {
  test("tells of each phase, with a status", () => {
    jest.useFakeTimers();
    const { heard, enter } = service();
    for (const phase of ["running", "reloading", "running", "draining"] as const) enter(phase);
    expect(heard).toEqual([
      "READY=1\nSTATUS=Listening on [::1]:5, systemd:web; 0 connections open",
      "RELOADING=1\nMONOTONIC_USEC=123\nSTATUS=Reading the configuration again; listening on [::1]:5, systemd:web; 0 connections open",
      "READY=1\nSTATUS=Listening on [::1]:5, systemd:web; 0 connections open",
      "STOPPING=1\nSTATUS=Stopping; 0 connections open",
    ]);
  });

  test("tells of its connections now and then, if their number has changed", () => {
    jest.useFakeTimers();
    const world = service();
    world.enter("running");
    world.heard.length = 0;
    jest.advanceTimersByTime(20_000);
    expect(world.heard).toEqual([]);
    world.connections = 1;
    jest.advanceTimersByTime(20_000);
    expect(world.heard).toEqual(["STATUS=Listening on [::1]:5, systemd:web; 1 connection open"]);
  });

  test("gives a sign of life at half of the time, and none while a thread does not answer", async () => {
    jest.useFakeTimers();
    const world = service(1_000);
    const signs = () => world.heard.filter((each) => each === "WATCHDOG=1").length;
    const settle = async () => {
      for (let i = 0; i < 10; i++) await Promise.resolve();
    };
    world.enter("running");
    jest.advanceTimersByTime(60_000);
    await settle();
    expect([signs(), world.asked]).toEqual([0, 1]);
    world.answer.resolve();
    await settle();
    expect(signs()).toBe(1);
    for (let i = 2; i <= 5; i++) {
      jest.advanceTimersByTime(499);
      await settle();
      expect(signs()).toBe(i - 1);
      jest.advanceTimersByTime(1);
      await settle();
      expect(signs()).toBe(i);
    }
    world.answer = Promise.withResolvers();
    jest.advanceTimersByTime(60_000);
    await settle();
    expect(signs()).toBe(5);
  });

  test("sends changes of state later and in order if systemd's queue is full, and leaves out what is worthless then", () => {
    jest.useFakeTimers();
    const world = service();
    world.full = true;
    world.enter("running");
    world.enter("reloading");
    world.notifier.mention("WATCHDOG=1");
    jest.advanceTimersByTime(1_000);
    expect(world.heard).toEqual([]);
    world.full = false;
    world.enter("running");
    jest.advanceTimersByTime(50);
    expect(world.heard.map((each) => each.split("\n")[0])).toEqual(["READY=1", "RELOADING=1", "READY=1"]);
  });
});
