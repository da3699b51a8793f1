// Lines of a stream of any size, in bounded memory.

/** A longer line is none that is wanted: it comes as an empty one. */
const MAX_LINE_LENGTH = 1_048_576;

/** @returns the lines without their ends, many at a time; also the last one, if it has no end */
export async function* linesOf(stream: AsyncIterable<Uint8Array>): AsyncGenerator<string[]> {
  const decoder = new TextDecoder();
  let rest = "";
  let isTooLong = false;
  for await (const chunk of stream) {
    const lines = decoder.decode(chunk, { stream: true }).split("\n");
    const last = lines.pop() ?? "";
    if (lines.length > 0) {
      lines[0] = isTooLong ? "" : rest + lines[0];
      rest = "";
      isTooLong = false;
    }
    isTooLong ||= rest.length + last.length > MAX_LINE_LENGTH;
    rest = isTooLong ? "" : rest + last;
    if (lines.length > 0) yield lines;
  }
  if (rest !== "") yield [rest];
}
