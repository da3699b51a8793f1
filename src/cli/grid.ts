// Rows in columns that fit a width: the less important columns make way, and long texts are cut. Pure.

import { cut, widthOf } from "./human.ts";

export interface Column<T> {
  readonly title: string;
  /** What is in a row. It may be anything that fits one line and moves no cursor. */
  text(row: T): string;
  /** Numbers stand at the right. */
  readonly right?: boolean;
  /** Where a long text is cut. Default: at the end. */
  readonly cut?: "end" | "middle";
  /** The fewest columns to which it is cut. Default: it is not cut. */
  readonly least?: number;
  /** Whether it makes way where there is no room: the highest first. Default: never. */
  readonly rank?: number;
}

/** Columns with their widths. */
export interface Grid<T> {
  readonly columns: readonly { readonly column: Column<T>; readonly width: number }[];
  readonly gap: number;
  readonly width: number;
}

/**
 * Chooses columns and their widths.
 * @param rows all, or the first of them: {@link fits} says whether the widths do for another one
 */
export function fitGrid<T>(columns: readonly Column<T>[], rows: readonly T[], width: number): Grid<T> {
  const gap = width >= 100 ? 2 : 1;
  let sized = columns.map((column) => {
    const wanted = Math.max(widthOf(column.title), ...rows.map((row) => widthOf(column.text(row))));
    return {
      column,
      wanted,
      width: Math.min(wanted, Math.max(column.least ?? Infinity, widthOf(column.title))),
    };
  });
  const used = () => sized.reduce((sum, each) => sum + each.width + gap, -gap);
  while (used() > width) {
    const ranks = sized.map(({ column: { rank = -1 } }) => rank);
    const highest = Math.max(...ranks);
    if (highest < 0) break;
    sized = sized.toSpliced(ranks.indexOf(highest), 1);
  }
  for (let left = width - used(); left > 0; left--) {
    const hungry = sized.filter((each) => each.width < each.wanted);
    if (hungry.length === 0) break;
    hungry.reduce((a, b) => (b.width < a.width ? b : a)).width++;
  }
  return { columns: sized.map(({ column, width }) => ({ column, width })), gap, width };
}

/** Whether what is not to be cut in a row is not. */
export function fits<T>({ columns }: Grid<T>, row: T): boolean {
  return columns.every(
    ({ column, width }) => column.least !== undefined || widthOf(column.text(row)) <= width,
  );
}

export function gridTitle<T>(grid: Grid<T>): string {
  return line(grid, ({ title }) => title);
}

export function gridLine<T>(grid: Grid<T>, row: T): string {
  return line(grid, (column) => column.text(row));
}

function line<T>({ columns, gap, width: whole }: Grid<T>, text: (column: Column<T>) => string): string {
  const cells = columns.map(({ column, width }) => {
    const cell = cut(text(column), width, column.cut);
    const fill = " ".repeat(width - widthOf(cell));
    return column.right ? fill + cell : cell + fill;
  });
  return cut(cells.join(" ".repeat(gap)).trimEnd(), whole);
}
