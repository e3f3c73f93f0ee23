/**
 * One pane: a chart of some columns, its legend, and the menu that says what it shows.
 *
 * uPlot draws axes and grid and keeps the scales; what lies on them is drawn by draw.js. All panes
 * show the same time, so the height alone is a pane's own.
 */

import { exactAt, lowerBound, recordAt } from "./dataset.js";
import { h } from "./dom.js";
import { drawBars, drawCandles, drawGaps, drawLevel, drawLine, drawTicks } from "./draw.js";
import { axisFormat, exact, sumText, timeLabels, timeText } from "./format.js";
import { KIND_NAMES, namesOf } from "./menu.js";
import { barOf, candleOf, OHLC, valueOf } from "./plan.js";

const AXIS_WIDTH = 80; // CSS pixels: the same in all panes, so that their times lie one above the other
const AXIS_HEIGHT = 28;
/** CSS pixels: half a letter of a label, half its height, from the newest value's tag to a label. */
const LETTER_HALF = 3.2;
const VALUE_HALF = 7;
const TAG_APART = 15;
/** Above and below the legend, which what is drawn leaves free. */
const HEAD_SPACE = 14;
const TAG_DIGITS = 2; // more than the axis has: a pixel is less than its step
const FAR = 100_000;
const FONT = "11px system-ui, -apple-system, 'Segoe UI', sans-serif";

export class Pane {
  data = null;
  labels = []; // of the values, as they are drawn; null where there is none
  #format = axisFormat([]);
  #headHeight = 0;
  #hasValues = false;
  #labelled = null;
  #observer;
  #head;
  #plot;
  #host;
  #context;
  #legend = h("div", { class: "legend" });
  #level = h("div", { class: "level-tag", hidden: true });
  #cross = { x: h("div", { class: "cross-x" }), y: h("div", { class: "cross-y" }), tag: h("div", { class: "cross-tag" }), time: h("div", { class: "cross-time" }) };

  /**
   * `spec` is { kind, columns }. `context` has `theme`, `zone()`, `gaps()`, `view()`, `dtypeOf(name)`,
   * `newest(name)`.
   */
  constructor(spec, context, menu) {
    this.spec = spec;
    this.#context = context;
    this.#host = h("div", { class: "plot" });
    this.#head = h("div", { class: "pane-head" }, menu, this.#legend);
    this.element = h("section", { class: "pane", "aria-label": this.title }, this.#head, this.#host);
    this.#observer = new ResizeObserver(() => this.#grow());
    this.#observer.observe(this.#head);
    this.over = null;
  }

  get title() {
    return `${namesOf(this.spec)}, ${KIND_NAMES[this.spec.kind].toLowerCase()}`;
  }
  get isTicks() {
    return this.data?.mode === "ticks";
  }

  /** Once it is in the document and has a size. */
  mount(isLast) {
    this.isLast = isLast;
    this.#plot?.destroy();
    const { width, height } = this.#host.getBoundingClientRect();
    const { start, end } = this.#context.view();
    this.#plot = new globalThis.uPlot(this.#options(width, height), [[start, end], [null, null]], this.#host);
    this.over = this.#plot.over;
    this.over.append(this.#level, this.#cross.x, this.#cross.y, this.#cross.tag, this.#cross.time);
    this.#plot.root.querySelector("canvas").setAttribute("role", "img");
    this.redraw();
  }

  unmount() {
    this.#observer.disconnect();
    this.#plot?.destroy();
    this.#plot = null;
    this.element.remove();
  }

  resize() {
    const { width, height } = this.#host.getBoundingClientRect();
    this.#headHeight = this.#head.offsetHeight;
    if (this.#plot && width > 0 && height > 0) this.#plot.setSize({ width, height });
  }

  /** A legend of more lines takes room; of fewer it gives none back, or values would jump. */
  #grow() {
    if (this.#head.offsetHeight <= this.#headHeight) return;
    this.#headHeight = this.#head.offsetHeight;
    this.redraw();
  }

  /** Draws the view as it is now. */
  redraw() {
    if (!this.#plot) return;
    const { start, end } = this.#context.view();
    this.#plot.setScale("x", { min: start, max: end });
    if (this.#newest() !== this.#labelled) this.#plot.redraw(false, true); // the tag moves among the labels
    this.#plot.root.querySelector("canvas").setAttribute("aria-label", this.title);
  }

  /** CSS pixels from the left of the plot; where a value lies from its top. */
  xOf(seconds) {
    return this.#plot.valToPos(seconds, "x");
  }
  yOf(value) {
    return this.#plot.valToPos(value, "y");
  }
  get plotWidth() {
    // uPlot lays its parts out a microtask later, so they cannot be asked yet.
    return this.#plot ? this.#host.clientWidth - AXIS_WIDTH : 0;
  }

  // ---- crosshair and legend

  /**
   * The crosshair at a record, or where other panes have one (-1: none here): `at` is { x, time } there,
   * null without a crosshair. `top` is the pointer's height over this pane, or null.
   */
  point(index, at, top) {
    const record = at && index >= 0 ? recordAt(this.data, index) : null;
    const x = record ? this.data.x[index] : at?.x;
    const isShown = Number.isFinite(x);
    this.#cross.x.hidden = !isShown;
    this.#cross.time.hidden = !isShown || !this.isLast;
    if (isShown) {
      const left = Math.round(this.xOf(x));
      this.#cross.x.style.transform = `translateX(${left}px)`;
      this.#cross.time.textContent = timeText(record ? record.frame.time[record.at] : at.time, this.#context.zone());
      this.#cross.time.style.left = `${Math.max(68, Math.min(this.plotWidth - 10, left))}px`;
    }
    const isHere = isShown && top !== null && this.#hasValues;
    this.#cross.y.hidden = this.#cross.tag.hidden = !isHere;
    if (isHere) {
      this.#cross.y.style.transform = `translateY(${Math.round(top)}px)`;
      this.#cross.tag.style.transform = `translateY(${Math.round(top) - 9}px)`;
      this.#cross.tag.textContent = this.#hasValues ? this.#format(this.#plot.posToVal(top, "y"), TAG_DIGITS) : "";
    }
    this.tell(index);
  }

  /** The legend: the values of a record. */
  tell(index) {
    this.#legend.replaceChildren(...this.#legendOf(index));
  }

  /** [[label, text, column], …] of a record, exactly as the server sent it. */
  valuesAt(index) {
    const { kind, columns } = this.spec;
    if (!this.data || index < 0 || !recordAt(this.data, index)) return [];
    const value = (name, column) => exact(exactAt(this.data, index, name), this.#context.dtypeOf(column));
    if (this.#areCandles) {
      const ofPart = (place) => columns[place] ?? columns[0];
      return this.#candle.map((name, place) => ["OHLC"[place], value(name, ofPart(place)), ofPart(place)]);
    }
    return columns.map((column) => {
      const label = namesOf({ columns: [column] });
      if (kind === "bars" && column === "time" && this.isTicks) return [label, "1", column];
      if (this.isTicks) return [label, value(column, column), column];
      if (kind === "bars") return [label, sumText(Number(exactAt(this.data, index, barOf(column)))), column];
      return [label, value(`${column}.close`, column), column];
    });
  }

  #legendOf(index) {
    const direction = this.#areCandles ? this.#directionOf(index) : "";
    return this.valuesAt(index).map(([label, text, column]) => {
      const value = h("b", { class: direction }, text);
      const swatch = this.#hasLines ? h("i", { class: `swatch line-${(this.spec.columns.indexOf(column) % 6) + 1}` }) : null;
      return h("span", {}, swatch, `${label} `, value);
    });
  }

  #directionOf(index) {
    const [open, , , close] = this.#candle.map((name) => this.data?.columns.get(name)?.[index]);
    if (close >= open) return "up";
    return close < open ? "down" : ""; // neither of NaN
  }

  // ---- what is in sight

  /** Single records of one column are a line; those of four are candles, too. */
  get #areCandles() {
    return this.spec.kind === "candles" && (!this.isTicks || this.spec.columns.length > 1);
  }

  /** The names of open, high, low and close in the dataset. */
  get #candle() {
    return this.isTicks ? this.spec.columns : candleOf(this.spec.columns);
  }

  /** Whether several columns are drawn, each in a colour of its own. */
  get #hasLines() {
    return this.spec.kind !== "candles" && this.spec.columns.length > 1;
  }

  /** [from, to) of the records in view, and one more on each side, so that lines leave the screen. */
  range() {
    if (!this.data) return [0, 0];
    const { start, end } = this.#context.view();
    const { x } = this.data;
    return [Math.max(0, lowerBound(x, start) - 1), Math.min(x.length, lowerBound(x, end) + 1)];
  }

  #heights() {
    const [from, to] = this.#inSight();
    const { kind } = this.spec;
    let [low, high] = [Infinity, -Infinity];
    for (const values of this.#extremes()) {
      for (let index = from; values && index < to; index++) {
        if (values[index] < low && values[index] !== -Infinity) low = values[index];
        if (values[index] > high && values[index] !== Infinity) high = values[index];
      }
    }
    this.#hasValues = low <= high;
    if (!this.#hasValues) return [0, 1];
    if (kind === "bars") [low, high] = [Math.min(0, low), Math.max(0, high)];
    if (kind === "bars" && low === high) high = 1;
    if (low === high) [low, high] = [low - (Math.abs(low) * 0.001 || 0.5), high + (Math.abs(high) * 0.001 || 0.5)];
    const height = this.over?.clientHeight || 300;
    const above = Math.min(this.#headHeight + HEAD_SPACE, height * 0.45);
    const below = kind === "bars" && low === 0 ? 0 : Math.min(14, height * 0.1);
    const unit = (high - low) / (height - above - below);
    return [low - unit * below, high + unit * above];
  }

  /** [from, to) of what is seen: bars that are cut, and a single value that holds into the view. */
  #inSight() {
    if (!this.data) return [0, 0];
    const { start, end } = this.#context.view();
    const { x, interval } = this.data;
    const half = (interval?.seconds ?? 0) / 2;
    const from = lowerBound(x, start - half);
    const holds = this.isTicks && this.spec.kind !== "bars" && !this.#areCandles;
    return [holds ? Math.max(0, from - 1) : from, lowerBound(x, end + half)];
  }

  /** The arrays that have the lowest and the highest of what is drawn. */
  #extremes() {
    const { kind, columns } = this.spec;
    if (kind === "bars") return columns.map((column) => this.#barsOf(column));
    const names = this.#areCandles ? this.#candle
      : columns.flatMap((column) => (this.isTicks ? [column] : [`${column}.low`, `${column}.high`]));
    return names.map((name) => this.data?.columns.get(name));
  }

  /** The values of a column drawn as bars; each single record counts as one. */
  #barsOf(column) {
    if (!this.isTicks) return this.data?.columns.get(barOf(column));
    const values = this.data.columns.get(column);
    return column === "time" ? values?.map((time) => (Number.isNaN(time) ? NaN : 1)) : values;
  }

  // ---- uPlot

  #options(width, height) {
    const { theme, zone } = this.#context;
    const stroke = (name) => () => theme.colors[name];
    const grid = { stroke: stroke("grid"), width: 1 };
    const local = (seconds) => new Date(seconds * 1000);
    const utc = (seconds) => globalThis.uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC");
    return {
      width,
      height,
      legend: { show: false },
      cursor: { show: false },
      padding: [0, 0, this.isLast ? 0 : 6, 0],
      tzDate: (seconds) => (zone() === "local" ? local : utc)(seconds),
      scales: {
        x: { time: true, auto: false, range: () => { const { start, end } = this.#context.view(); return [start, end]; } },
        y: { range: () => this.#heights() },
      },
      axes: [
        {
          show: true, stroke: stroke("muted"), grid, font: FONT, space: 84, gap: 6,
          ticks: { show: false }, size: this.isLast ? AXIS_HEIGHT : 0,
          values: (plot, splits) => this.#timeLabels(plot, splits),
        },
        {
          side: 1, stroke: stroke("muted"), grid, font: FONT, size: AXIS_WIDTH, space: 34, gap: 8,
          ticks: { show: false }, values: (plot, splits) => this.#valueLabels(plot, splits),
        },
      ],
      series: [{}, { paths: () => null, points: { show: false } }],
      hooks: { draw: [(plot) => this.#draw(plot)] },
    };
  }

  /** A label that the left edge would cut is left out. */
  #timeLabels(plot, splits) {
    if (!this.isLast) return splits.map(() => null);
    return timeLabels(splits, this.#context.zone()).map((label, index) =>
      (plot.valToPos(splits[index], "x") < label.length * LETTER_HALF ? null : label));
  }

  /** Labels, but those that an edge or the newest value's tag would cut, or that repeat another. */
  #valueLabels(plot, splits) {
    this.#format = axisFormat(splits);
    this.#labelled = this.#newest();
    if (!this.#hasValues) return splits.map(() => null);
    // Not the element's height: uPlot makes labels before it gives the element its new size.
    const height = plot.valToPos(plot.scales.y.min, "y");
    const tag = this.#labelled === null ? NaN : plot.valToPos(this.#labelled, "y");
    const isTagged = tag >= 0 && tag <= height;
    let before = null;
    return (this.labels = splits.map((value) => {
      const top = plot.valToPos(value, "y");
      const isCut = top < VALUE_HALF || top > height - (this.isLast ? 0 : VALUE_HALF);
      if (isCut || (isTagged && Math.abs(top - tag) < TAG_APART)) return null;
      const label = this.#format(value);
      if (label === before) return null;
      before = label;
      return label;
    }));
  }

  /** The newest value, where the pane shows one column of them; else null. */
  #newest() {
    const isOne = this.spec.kind === "candles" || (this.spec.kind === "line" && !this.#hasLines);
    const value = isOne ? this.#context.newest(valueOf(this.spec)) : null;
    return Number.isFinite(value) ? value : null;
  }

  #draw(plot) {
    const { ctx, bbox } = plot;
    const density = globalThis.devicePixelRatio;
    const [from, to] = this.range();
    const scaleX = bbox.width / (plot.scales.x.max - plot.scales.x.min);
    const scaleY = bbox.height / (plot.scales.y.max - plot.scales.y.min);
    const frame = {
      ctx, from, to, density, left: bbox.left, top: bbox.top, width: bbox.width, height: bbox.height,
      x: (seconds) => bbox.left + (seconds - plot.scales.x.min) * scaleX,
      // Far outside is as good as infinite, which a canvas does not draw at all.
      y: (value) => Math.max(-FAR, Math.min(FAR, bbox.top + (plot.scales.y.max - value) * scaleY)),
    };
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    drawGaps(frame, this.#context.gaps(), this.#context.theme.colors);
    if (this.data && to > from) this.#drawColumns(frame);
    ctx.restore();
  }

  #drawColumns(frame) {
    const { kind, columns } = this.spec;
    const { theme } = this.#context;
    const { data } = this;
    const isOfBars = OHLC.every((name) => this.#context.dtypeOf(name));
    const seconds = data.interval?.seconds ?? (isOfBars ? this.#apart(frame) : 0);
    if (this.#areCandles) this.#drawCandles(frame, seconds);
    else columns.forEach((column, index) => {
      const color = this.#hasLines || kind === "line" ? theme.line(index) : theme.colors.accent;
      if (kind === "bars") {
        const values = this.#barsOf(column);
        if (values) drawBars(frame, { data, values, seconds, color: this.#hasLines ? color : theme.colors.bars });
      } else if (this.isTicks) {
        if (data.columns.has(column)) drawTicks(frame, { data, column, color });
      } else if (data.columns.has(`${column}.close`)) drawLine(frame, { data, column, color });
    });
    const value = this.#newest();
    if (value !== null) drawLevel(frame, value, kind === "line" ? theme.line(0) : theme.colors.accent);
    this.#tagLevel();
  }

  #drawCandles(frame, seconds) {
    const { data } = this;
    const values = this.#candle.map((name) => data.columns.get(name));
    if (!values.every(Boolean)) return; // the data of the panes before these
    drawCandles(frame, { data, values, seconds: seconds || 1, colors: this.#context.theme.colors });
  }

  /** Seconds between the two records that are nearest to each other: so wide is a bar of the series. */
  #apart({ from, to }) {
    const { x } = this.data;
    let apart = Infinity;
    for (let index = from + 1; index < to; index++) {
      const distance = x[index] - x[index - 1];
      if (distance > 0 && distance < apart) apart = distance;
    }
    return apart < Infinity ? apart : 1;
  }

  /** The newest value beside the axis, where it is in sight. */
  #tagLevel() {
    const value = this.#newest();
    const top = value === null ? NaN : this.yOf(value);
    this.#level.hidden = !(this.#hasValues && top >= 0 && top <= this.over.clientHeight);
    if (this.#level.hidden) return;
    this.#level.textContent = this.#format(value, TAG_DIGITS);
    this.#level.style.transform = `translateY(${Math.round(top) - 9}px)`;
  }
}
