export { keyFiles as schedules } from "./files.ts";
