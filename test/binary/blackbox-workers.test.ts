// Repeats the tests of blackbox.test.ts with two worker threads: seen from outside, nothing differs.

import { Run } from "../support/binary.ts";

Run.workers = 2;
await import("./blackbox.test.ts");
