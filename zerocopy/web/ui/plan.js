/**
 * What a series shows first, and what a view needs from the server. Pure.
 *
 * Panes of one detail share their requests: "coarse" (candles and bars, some pixels wide each) and
 * "fine" (lines, one bucket a pixel column, so that the line is pixel for pixel that of all records).
 * A day that lacks a column that is asked for is left out, so a pane of such a column asks alone: else
 * it would hide that day from the others.
 */

import { gridOf, intervalFor, rangeOfTile, tickTileFor, tilesOver } from "./levels.js";

/** CSS pixels of the narrowest candle, with the space beside it. */
const CANDLE_PIXELS = 6;
/** Single records at most a CSS pixel: above it bars look the same and are less to load. */
const TICKS_PER_PIXEL = { coarse: 0.5, fine: 4 };
/** What is drawn as single records stays so a little longer: estimates of their count differ. */
const STAYS_TICKS = 1.5;
/** Bars a tile: a view has at most 1,200 / 6, or some 2,000. */
const TILE_BARS = { coarse: 256, fine: 2048 };

const UNDRAWN = new Set(["time", "nanos"]);
const VOLUMES = ["volume", "size", "amount", "qty", "quantity"];
const PRICES = ["price", "close", "last", "mid"];
const QUOTES = ["best_bid", "best_ask"];

/** The names of the columns that a pane can show. */
export const drawable = (columns) =>
  columns.filter(({ name, dtype }) => !UNDRAWN.has(name) && !dtype.startsWith("|S")).map(({ name }) => name);

/** What a series of these columns shows first: candles of its price and its volume, or its quotes; without columns, its records. */
export function defaultPanes(columns) {
  const drawn = drawable(columns);
  const named = PRICES.find((name) => drawn.includes(name));
  if (!named && QUOTES.every((name) => drawn.includes(name))) return [{ kind: "line", columns: QUOTES }];
  const price = named ?? drawn[0];
  const volume = VOLUMES.find((name) => drawn.includes(name) && name !== price);
  if (!price) return [{ kind: "bars", columns: ["time"] }];
  const isBars = OHLC.every((name) => drawn.includes(name));
  return [{ kind: "candles", columns: isBars ? [...OHLC] : [price] }, ...(volume ? [{ kind: "bars", columns: [volume] }] : [])];
}

export const detailOf = ({ kind }) => (kind === "line" ? "fine" : "coarse");

/** The panes that share requests: name → { detail, panes }. `partial` are columns that some days lack. */
export function groupsOf(panes, partial) {
  const groups = new Map();
  for (const detail of ["coarse", "fine"]) {
    for (const pane of panes.filter((each) => detailOf(each) === detail)) {
      const name = groupOf(pane, partial);
      if (!groups.has(name)) groups.set(name, { detail, panes: [] });
      groups.get(name).panes.push(pane);
    }
  }
  return groups;
}

export const groupOf = (pane, partial) =>
  [detailOf(pane), ...columnsOf([pane]).filter((name) => partial.has(name))].join(" ");

/** What stands for a column as bars: its sum; for `time`, the number of records. */
export const barOf = (name) => (name === "time" ? "time.count" : `${name}.sum`);

/** The parts of a candle, and the columns of a series that has one for each. */
export const OHLC = Object.freeze(["open", "high", "low", "close"]);

/** The four outputs of candles: of one column, or each of a column of its own. */
export const candleOf = (columns) => OHLC.map((part, place) => `${columns[place] ?? columns[0]}.${part}`);

/** The column whose newest value stands for the pane: of candles the last, which is the close. */
export const valueOf = ({ kind, columns }) => (kind === "candles" ? columns[columns.length - 1] : columns[0]);

/** The columns of /api/bars that a pane draws. */
export const outputsOf = ({ kind, columns }) => {
  if (kind === "candles") return candleOf(columns);
  return columns.flatMap((name) => (kind === "bars" ? [barOf(name)] : OHLC.map((part) => `${name}.${part}`)));
};

/** Every column that is drawn, each once, in an order that does not depend on that of the panes. */
export const columnsOf = (panes) => [...new Set(panes.flatMap(({ columns }) => columns))].sort();

/**
 * The level and tiles for the panes of one detail.
 *
 * `ticks` is how many records are in view, as far as one knows (null: not at all), `wasTicks` whether
 * single records are drawn now, `hasNanos` whether the series has a column of that name.
 */
export function planFor({ detail, panes, view, widthPx, density, ticks, wasTicks, hasNanos }) {
  const span = view.end - view.start;
  const ticksMax = TICKS_PER_PIXEL[detail] * widthPx * (wasTicks ? STAYS_TICKS : 1);
  const isTicks = ticks !== null && ticks <= ticksMax;
  const columns = columnsOf(panes);
  if (isTicks) {
    const length = tickTileFor(span);
    const asked = ["time", ...(hasNanos ? ["nanos"] : []), ...columns.filter((name) => name !== "time" && name !== "nanos")];
    return finish({ mode: "ticks", detail, columns: asked, grid: { length, shift: 0 }, label: `${length}` }, view);
  }
  const pixels = detail === "coarse" ? CANDLE_PIXELS : 1 / Math.min(2, density);
  const interval = intervalFor(span, widthPx, pixels);
  const wanted = [...new Set([...panes.flatMap(outputsOf), "time.count"])].sort();
  const grid = gridOf(interval, TILE_BARS[detail]);
  return finish({ mode: "bars", detail, columns: asked(wanted), grid, interval, label: interval.label }, view);
}

/** ["price.close", "price.open"] as ["price:close+open"], as /api/bars takes them. */
function asked(outputs) {
  const byColumn = new Map();
  for (const output of outputs) {
    const at = output.lastIndexOf(".");
    const [column, aggregate] = [output.slice(0, at), output.slice(at + 1)];
    byColumn.set(column, [...(byColumn.get(column) ?? []), aggregate]);
  }
  return [...byColumn].map(([column, aggregates]) => `${column}:${aggregates.join("+")}`);
}

function finish(plan, view) {
  const name = `${plan.mode} ${plan.label} ${plan.columns.join(",")}`;
  return { ...plan, name, wanted: tilesOver(plan.grid, view.start, view.end) };
}

/**
 * One tile's request: { key, start, end }, or null where it can hold nothing. From `edge` on the
 * tail has the records; a tile over it ends there, and says so in its key.
 */
export function tileRequest(plan, index, { first, edge }) {
  const [start, stop] = rangeOfTile(plan.grid, index);
  const end = Math.min(stop, edge);
  if (start >= end || end <= first) return null;
  return { key: `${plan.name} ${index}${end < stop ? ` before ${edge}` : ""}`, start, end };
}
