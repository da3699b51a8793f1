// Refusals are counted in one line an interval. This shortens the interval in the thread that imports it, for tests that
// wait for such a line.

import { RefusalLog } from "../../src/connection/refusal-log.ts";

RefusalLog.intervalMs = 50;
