// The black box again, with two worker threads in it: nothing that can be seen from outside is another.

import { Run } from "../support/binary.ts";

Run.workers = 2;
await import("./blackbox.test.ts");
