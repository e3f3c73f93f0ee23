/**
 * Brings what the view needs, keeps what was seen, and gives each group of panes its dataset.
 *
 * Owns the tiles of one series and its tail. It knows no canvas. A dataset is given when all its
 * tiles are there; until then the one before stays, and is drawn at the new scale.
 */

import { assemble, countIn, gapsOf, placeBars, placeTicks } from "./dataset.js";
import { rangeWithout } from "./levels.js";
import { columnsOf, groupOf, groupsOf, outputsOf, planFor, tileRequest } from "./plan.js";
import { joinBars } from "./tail.js";
import { Tiles } from "./tiles.js";

const CACHE_BYTES_MAX = 96 << 20;
/** Records of a tail; then it begins anew, later, and tiles hold what was before. */
const TAIL_MAX = 50_000;
/** A level that is looked at for so long is worth its neighbours; a zoom only passes through it. */
const STAYS_MS = 150;

export class Loader {
  /** What the server has: { first, last } seconds, [[begin, end]] of missing days. */
  bounds = { first: 0, last: 0 };
  gaps = [];
  skipped = new Set();
  #client;
  #series;
  #hasNanos;
  #partial;
  #tiles;
  #tail = null;
  #next = null; // the tail that takes over once tiles reach to its edge
  #datasets = new Map();
  #asked = null;
  #scheduled = false;
  #isRefined = false;
  #level = "";
  #timer = 0;
  #on;

  /**
   * `series` is { symbol, type, exchange, info } with `info` of the catalog. `on` has `data()`: there is
   * another dataset; `error(error)` and `busy(isBusy)`.
   */
  constructor(client, series, on) {
    this.#client = client;
    this.#series = series;
    this.#on = on;
    const { info } = series;
    this.bounds = { first: info.first_time ?? 0, last: info.last_time ?? 0 };
    this.gaps = gapsOf(info.missing_days ?? []);
    this.#hasNanos = info.columns.some(({ name, days }) => name === "nanos" && days === undefined);
    this.#partial = new Set(info.columns.filter(({ days }) => days !== undefined).map(({ name }) => name));
    this.#tiles = new Tiles({ bytesMax: CACHE_BYTES_MAX, onChange: (_, error) => this.#changed(error) });
  }

  get tail() {
    return this.#tail;
  }
  get cachedTiles() {
    return this.#tiles.count;
  }
  /** Requests on their way, neighbours included. */
  get loading() {
    return this.#tiles.loading;
  }
  /** What a pane draws, or null. */
  dataset(pane) {
    return this.#datasets.get(groupOf(pane, this.#partial)) ?? null;
  }

  /** The columns that the live stream must have for these panes. */
  liveColumns(panes) {
    const others = columnsOf(panes).filter((name) => name !== "time" && name !== "nanos");
    return ["time", ...(this.#hasNanos ? ["nanos"] : []), ...others];
  }

  /** From now on the screen shows this: panes, view, width in CSS pixels, device pixels a pixel. */
  show(panes, view, widthPx, density) {
    this.#asked = { panes, view, widthPx, density };
    this.#isRefined = false;
    this.#schedule();
  }

  /** Records in view, as far as is known; null where nothing is. */
  count(view) {
    const whole = [...this.#datasets.values()]
      .filter(({ covered: { start, end } }) => start <= view.start && end >= view.end)
      .map((dataset) => countIn(dataset, view.start, view.end, dataset.interval?.seconds));
    if (whole.length) return Math.max(...whole); // some may leave days out
    for (const dataset of this.#datasets.values()) {
      const { start, end } = dataset.covered;
      const seconds = dataset.interval?.seconds;
      const overlap = Math.min(end, view.end) - Math.max(start, view.start);
      if (overlap > (view.end - view.start) / 4) {
        const known = countIn(dataset, Math.max(start, view.start), Math.min(end, view.end), seconds);
        return (known * (view.end - view.start)) / overlap;
      }
    }
    return null;
  }

  /** Takes a new tail: null ends live; its edge is where tiles end. */
  setTail(tail) {
    this.#tail = tail;
    this.#next = null;
    this.#tiles.drop((key) => key.includes(" before "));
    this.#schedule();
  }

  /** New records of the tail's own stream. */
  append(tail, frame) {
    tail.add(frame);
    this.#next?.add(frame);
    if (tail.lastTime > this.bounds.last) this.bounds.last = tail.lastTime;
    if (tail !== this.#tail) return;
    if (tail.length > TAIL_MAX && !this.#next && tail.lastTime > tail.edge) this.#next = tail.from(tail.lastTime);
    this.#schedule();
  }

  /** Asks for everything anew: files may have been replaced. */
  reload() {
    this.#tiles.clear();
    this.#schedule();
  }

  /** Tries again what failed. */
  retry() {
    this.#tiles.retry();
    this.#schedule();
  }

  close() {
    this.#asked = null;
    clearTimeout(this.#timer);
    this.#tiles.clear();
  }

  #changed(error) {
    if (error && error.name !== "AbortError") this.#on.error(error);
    this.#schedule();
  }

  /** Once a frame of the screen, however often it is asked for. */
  #schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    globalThis.queueMicrotask(() => {
      this.#scheduled = false;
      if (this.#asked) this.#update();
    });
  }

  #update() {
    const { panes, view, widthPx, density } = this.#asked;
    const ticks = this.count(view);
    const groups = groupsOf(panes, this.#partial);
    for (const name of this.#datasets.keys()) if (!groups.has(name)) this.#datasets.delete(name);
    const plans = [...groups].map(([group, { detail, panes: some }]) => {
      const known = { ticks, wasTicks: this.#datasets.get(group)?.mode === "ticks", hasNanos: this.#hasNanos };
      return { ...planFor({ detail, panes: some, view, widthPx, density, ...known }), group, panes: some };
    });
    const visible = plans.flatMap((plan) => this.#requests(plan, plan.wanted, this.#tail));
    const next = this.#next ? plans.flatMap((plan) => this.#requests(plan, plan.wanted, this.#next)) : [];
    const isWhole = visible.every(({ key }) => this.#tiles.has(key));
    const neighbours = this.#stays(plans) && isWhole ? plans.flatMap((plan) => this.#neighbours(plan)) : [];
    const all = [...visible, ...next, ...neighbours];
    this.#tiles.retain(all.map(({ key }) => key));
    for (const each of all) this.#tiles.load(each.key, (signal) => this.#fetch(each, signal));
    this.#on.busy(!isWhole);
    if (next.length && next.every(({ key }) => this.#tiles.has(key))) [this.#tail, this.#next] = [this.#next, null];
    else if (this.#next && !next.length) [this.#tail, this.#next] = [this.#next, null];
    for (const plan of plans) this.#give(plan);
  }

  /** Whether the level has been the same for a while; if not, looks again once it has. */
  #stays(plans) {
    const level = plans.map(({ name }) => name).join(";");
    if (level !== this.#level) {
      this.#level = level;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => {
        this.#timer = 0;
        this.#schedule();
      }, STAYS_MS);
    }
    return this.#timer === 0;
  }

  #requests(plan, indexes, tail) {
    const limits = { first: this.bounds.first, edge: tail?.edge ?? Infinity };
    return indexes
      .map((index) => ({ index, plan, ...tileRequest(plan, index, limits) }))
      .filter(({ key, start }) => key && start <= this.bounds.last);
  }

  /** One tile on each side: a pan finds it there. */
  #neighbours(plan) {
    const { wanted } = plan;
    return this.#requests(plan, [wanted[0] - 1, wanted[wanted.length - 1] + 1], this.#tail);
  }

  async #fetch({ plan, start, end }, signal) {
    const { symbol, type, exchange } = this.#series;
    const options = { type, exchange, start, end, signal };
    const frame =
      plan.mode === "ticks"
        ? await this.#client.data(symbol, plan.columns, options)
        : await this.#client.bars(symbol, plan.columns, { ...options, interval: plan.interval.label });
    for (const day of frame.skipped) this.skipped.add(day);
    return frame;
  }

  #give(plan) {
    const requests = this.#requests(plan, plan.wanted, this.#tail);
    const before = this.#datasets.get(plan.group);
    const frames = requests.map(({ key }) => this.#tiles.get(key));
    const have = frames.filter(Boolean);
    if (have.length < frames.length && (before?.name !== plan.name || !have.length)) return;
    // A view that moved within what is there needs no new arrays.
    const state = `${plan.name} ${requests.filter((_, at) => frames[at]).map(({ key }) => key)} ${this.#tail?.edge} ${this.#tail?.length}`;
    const missing = new Set(requests.filter((_, at) => !frames[at]).map(({ index }) => index));
    const covered = rangeWithout(plan.grid, plan.wanted, missing);
    if (before?.state === state) {
      before.covered = covered;
      return;
    }
    const dataset = this.#assemble(plan, have);
    Object.assign(dataset, { name: plan.name, state, covered, mode: plan.mode, interval: plan.interval ?? null });
    this.#datasets.set(plan.group, dataset);
    this.#on.data();
    // What was estimated is known now: single records may do. Once, or two estimates could alternate.
    if (before?.name !== plan.name && !this.#isRefined) {
      this.#isRefined = true;
      this.#schedule();
    }
  }

  #assemble(plan, frames) {
    if (plan.mode === "ticks") {
      const names = columnsOf(plan.panes);
      const place = placeTicks;
      return assemble([...frames, ...(this.#tail?.frames ?? [])], names, place, this.gaps);
    }
    const names = [...new Set([...plan.panes.flatMap(outputsOf), "time.count"])];
    const joined = this.#tail ? joinBars(frames, this.#tail.bars(plan.interval)) : frames;
    return assemble(joined, names, placeBars(plan.interval.seconds), this.gaps);
  }
}
