// Markdown for a terminal: paragraphs and list entries wrapped to its width, code and tables as they are. Pure.

import { WIDTH, wrap } from "./columns.ts";

const ENTRY = /^\s*([-*]|\d+\.) /;

export function reflow(markdown: string): string {
  const out: string[] = [];
  let paragraph: string[] = [];
  let inCode = false;
  const flush = () => {
    const [first = "", ...rest] = paragraph;
    paragraph = [];
    if (first === "") return;
    const indent = " ".repeat(ENTRY.exec(first)?.[0].length ?? /^ */.exec(first)![0].length);
    const head = first.slice(0, indent.length);
    const text = [first.slice(indent.length), ...rest.map((line) => line.trim())].join(" ");
    out.push(...wrap(text, WIDTH - indent.length).map((line, i) => (i === 0 ? head : indent) + line));
  };
  for (const line of markdown.split("\n")) {
    const fence = /^\s*```/.test(line);
    if (fence || inCode || line === "" || /^[#|]/.test(line)) {
      flush();
      out.push(line);
      if (fence) inCode = !inCode;
      continue;
    }
    if (ENTRY.test(line)) flush();
    paragraph.push(line);
  }
  flush();
  return out.join("\n");
}
