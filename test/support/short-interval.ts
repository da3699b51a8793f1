// Tests that wait for a number of refusals wait for the line that counts them. This shortens the wait, in the thread
// that imports it.

import { RefusalLog } from "../../src/connection/refusal-log.ts";

RefusalLog.intervalMs = 50;
