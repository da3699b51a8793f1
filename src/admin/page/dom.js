// How values get into the page: as text, whatever is in them. Elements that are there are changed and not made anew, so that
// focus, selection and scrolling stay.

/** Text of others as it may be shown: with what hides or reorders it written out. */
function plain(value) {
  const hidden = /(?! )[\p{C}\p{Z}\p{White_Space}\p{Default_Ignorable_Code_Point}\u2800]/gu;
  return String(value ?? "–").replace(hidden, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

function byId(id) {
  return document.getElementById(id);
}

/** Makes an element; children are elements or text. */
function make(tag, className = "", ...children) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children);
  return node;
}

function setText(node, value) {
  const text = plain(value);
  if (node.textContent !== text) node.textContent = text;
}

/** A sentence of the proxy's own, with `code` in it. */
function prose(text) {
  return text.split("`").map((part, i) => (i % 2 === 0 ? part : make("code", "", part)));
}

/** How full something is, in a bar. */
function setBar(node, share, tone = "") {
  node.style.width = `${Math.min(100, Math.max(0, share * 100 || 0)).toFixed(1)}%`;
  node.className = tone;
}

function button(click, label = "") {
  const node = make("button", "", label);
  node.type = "button";
  node.addEventListener("click", click);
  return node;
}

const elements = new WeakMap();

/** What each row of a table shows now. */
const rowItems = new WeakMap();

/** Makes the children of an element those of the items: known ones by their key, in the items' order. */
function fill(parent, items, keyOf, create, update) {
  const before = elements.get(parent) ?? new Map();
  const after = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (!after.has(key)) after.set(key, [before.get(key)?.[0] ?? create(item), item]);
  }
  for (const [key, [node]] of before) if (!after.has(key)) node.remove();
  let place = parent.firstElementChild;
  for (const [node, item] of after.values()) {
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
    update(node, item);
  }
  elements.set(parent, after);
}

/**
 * Fills a table. A column has a `title`, the `text` of a cell or the `share` of its bar, and may have a `kind` (a class) and
 * a `tone` (good, warn, bad). A column of `buttons` has pairs of a label, or what makes it, and what is called with the item.
 */
function fillTable(table, columns, items, keyOf) {
  table.classList.toggle("none", items.length === 0);
  if (table.tHead === null) {
    const titles = columns.map(({ title, kind }) => make("th", kind, title));
    for (const title of titles) title.scope = "col";
    table.createTHead().append(make("tr", "", ...titles));
    table.createTBody();
  }
  const create = () => {
    const row = make("tr");
    for (const { share, buttons = [] } of columns) {
      const bar = share ? [make("div", "bar", make("i")), make("span", "number")] : [];
      row.append(make("td", "", ...bar, ...buttons.map(([, act]) => button(() => act(rowItems.get(row))))));
    }
    return row;
  };
  fill(table.tBodies[0], items, keyOf, create, (row, item) => {
    rowItems.set(row, item);
    columns.forEach(({ title, kind = "", text, share, buttons, tone = () => "" }, i) => {
      const cell = row.cells[i];
      cell.dataset.title = title;
      cell.className = share ? "meter" : `${kind} ${tone(item)}`;
      if (share) {
        setBar(cell.firstChild.firstChild, share(item), tone(item));
        setText(cell.lastChild, `${Math.round(share(item) * 100)} %`);
      } else if (buttons) {
        buttons.forEach(([label], j) =>
          setText(cell.children[j], typeof label === "string" ? label : label(item)),
        );
      } else setText(cell, text(item));
    });
  });
}

function span(ms) {
  const units = [
    ["y", 31_536_000_000],
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["min", 60_000],
    ["s", 1_000],
  ];
  const at = units.findIndex(([, size]) => ms >= size);
  if (at === -1) return "0 s";
  const [[unit, size], next] = [units[at], units[at + 1]];
  const first = `${count(Math.floor(ms / size))} ${unit}`;
  const rest = next === undefined || ms >= 10 * size ? 0 : Math.floor((ms % size) / next[1]);
  return rest === 0 ? first : `${first} ${rest} ${next[0]}`;
}

function count(value) {
  return Math.round(value).toLocaleString("en-US");
}

function bytes(value) {
  let unit = 0;
  for (; value >= 999.5; unit++) value /= 1024;
  const digits = unit > 0 && value < 9.95 ? value.toFixed(1) : count(value);
  return `${digits} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][unit]}`;
}

function rate(value) {
  return value > 0 && value < 9.95 ? value.toFixed(1) : count(value);
}

/** A moment in the reader's own time. */
function moment(date) {
  return new Date(date).toLocaleString("sv-SE");
}
