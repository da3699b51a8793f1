// What comes in pieces: lines of text, and server-sent events. Pure.

/** An event of a server (HTML, section "Server-sent events"), as far as the proxy's door uses them. */
export interface ServerEvent {
  readonly name: string;
  readonly data: string;
}

/** Lines that are not empty, in whatever pieces they come. A last line without an end is none: it was cut off. */
export async function* lines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of chunks) {
    const found = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = found.pop() as string;
    for (const line of found) if (line !== "") yield line;
  }
}

export async function* events(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of chunks) {
    const found = (rest + decoder.decode(chunk, { stream: true })).split("\n\n");
    rest = found.pop() as string;
    for (const text of found) {
      const event = eventOf(text);
      if (event !== undefined) yield event;
    }
  }
}

function eventOf(text: string): ServerEvent | undefined {
  let name = "message";
  const data: string[] = [];
  for (const line of text.split("\n")) {
    const [, field, value = ""] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (field === "event") name = value;
    else if (field === "data") data.push(value);
  }
  return data.length === 0 ? undefined : { name, data: data.join("\n") };
}
