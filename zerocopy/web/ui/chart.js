/**
 * The panes of one series and the view they share.
 *
 * Owns panes, view, crosshair and whether the view follows the newest record. It asks the loader for
 * what is in view and draws once a frame of the screen, however much happens between two.
 */

import { beside, exactAt, nearest, recordAt } from "./dataset.js";
import { Follow } from "./follow.js";
import { gestures } from "./gestures.js";
import { Loader } from "./loader.js";
import { paneMenu } from "./menu.js";
import { Pane } from "./pane.js";
import { defaultPanes, drawable, OHLC } from "./plan.js";
import * as views from "./view.js";

const ZOOM_STEP = 0.7;
const PAN_STEP = 0.2;

export class Chart {
  view = { start: 0, end: 1 };
  follow = false;
  panes = [];
  series = null;
  loader = null;
  #live = null;
  #server;
  #host;
  #context;
  #on;
  #isBusy = false;
  #isDue = false;
  #isMarked = false;
  #wasReset = false;
  #cursor = { x: null, place: null, pane: null, top: null };
  #waiting = [];

  /**
   * `on` has `view(isDiscrete)`, `panes()`, `live(state)`, `records()`, `error(error)`, `drawn()`,
   * `reset()`.
   */
  constructor(host, server, { theme, zone }, on) {
    this.#host = host;
    this.#server = server;
    this.#on = on;
    this.#context = {
      theme, zone,
      gaps: () => this.loader?.gaps ?? [],
      view: () => this.view,
      dtypeOf: (name) => this.series?.info.columns.find((column) => column.name === name)?.dtype,
      newest: (name) => Number(this.newest(name) ?? NaN),
    };
    new ResizeObserver(() => this.resize()).observe(host);
    gestures(host, () => this.#area(), {
      zoom: (factor, place) => this.zoom(factor, place),
      pan: (part) => this.pan(part),
      select: (from, to) => this.select(from, to),
      point: (place, event) => this.#pointTo(place, event),
      leave: () => this.point(null),
      settle: () => this.#on.view(false),
    });
  }

  // ---- what is shown

  /** Another series: { exchange, symbol, type, info }, from `panes` and `view`, or the usual ones. */
  open(series, { panes, view, last }) {
    this.close();
    this.series = series;
    const loader = (this.loader = new Loader(this.#server.client, series, {
      data: () => this.#take(),
      error: (error) => this.#on.error(error),
      busy: (isBusy) => { this.#isBusy = isBusy; this.#settle(); },
    }));
    const { bounds } = loader;
    this.follow = !view;
    if (view) this.view = views.clamp(view, bounds);
    else this.view = last ? views.clamp(views.newest(bounds, last), bounds) : views.all(bounds);
    this.#live = new Follow(this.#server.client, loader, series, {
      state: (state, error) => {
        this.#on.live(state, error);
        if (state === "open" && this.#wasReset) this.#confirm(loader);
      },
      records: () => this.#took(),
      reset: () => this.#reset(),
    });
    this.setPanes(panes ?? []);
  }

  close() {
    this.#live?.stop();
    this.loader?.close();
    for (const pane of this.panes) pane.unmount();
    [this.panes, this.series, this.loader, this.#live] = [[], null, null, null];
    this.#isBusy = this.#isMarked = false;
    this.point(null);
  }

  get specs() {
    return this.panes.map(({ spec }) => spec);
  }

  /** Panes of columns that the series has; without any the usual ones. */
  setPanes(asked) {
    const columns = drawable(this.series.info.columns);
    const isKnown = (kind, name) => columns.includes(name) || (kind === "bars" && name === "time");
    const fitting = asked
      .map(({ kind, columns: some }) => ({ kind, columns: some.filter((name) => isKnown(kind, name)) }))
      .filter(({ columns: some }) => some.length)
      .map(({ kind, columns: some }) => ({ kind, columns: kind !== "candles" || some.length === OHLC.length ? some : some.slice(0, 1) }));
    const specs = fitting.length ? fitting : defaultPanes(this.series.info.columns);
    const before = this.loader.liveColumns(this.specs).join();
    for (const pane of this.panes) pane.unmount();
    this.panes = specs.map((spec, place) => {
      const change = (next) => this.changePanes(specs.toSpliced(place, 1, next), place);
      const menu = paneMenu({
        spec, columns, place, isOnly: specs.length === 1,
        onChange: change,
        onRemove: () => this.changePanes(specs.toSpliced(place, 1)),
        onMove: () => this.changePanes(specs.toSpliced(place - 1, 2, spec, specs[place - 1]), place - 1),
      });
      const pane = new Pane(spec, this.#context, menu);
      pane.element.classList.toggle("is-small", place > 0);
      pane.data = null;
      return pane;
    });
    this.#host.append(...this.panes.map(({ element }) => element));
    this.panes.forEach((pane, place) => pane.mount(place === this.panes.length - 1));
    this.#take();
    const wanted = this.loader.liveColumns(specs);
    if (this.#live && (before !== wanted.join() || !this.#live.isRunning)) this.#live.start(wanted);
    this.#moved();
  }

  /** The same by hand: the address changes, and the menu that was used stays open. */
  changePanes(specs, openPlace = -1) {
    this.setPanes(specs);
    const menu = this.panes[openPlace]?.element.querySelector("details");
    if (menu) {
      menu.open = true;
      menu.querySelector("input:checked")?.focus();
    }
    this.#on.panes();
  }

  /** Live streams end while nobody looks; then tiles have what was appended meanwhile. */
  pause() {
    this.#live?.stop();
  }
  async resume() {
    const { loader, series } = this;
    if (!loader || this.#live.isRunning) return;
    const { symbol, type, exchange } = series;
    try {
      const { types } = await this.#server.client.catalog(symbol, { type, exchange });
      if (loader !== this.loader || this.#live.isRunning) return;
      const last = types[type]?.last_time ?? loader.bounds.last;
      loader.bounds.last = Math.max(last, loader.bounds.last);
      this.#live.start(loader.liveColumns(this.specs), last);
    } catch (error) {
      this.#on.error(error);
    }
  }
  retry() {
    this.loader?.retry();
    this.resume();
  }

  #reset() {
    this.#wasReset = true;
    this.#on.reset();
  }

  /**
   * After a reset, once the new stream is open: the columns of a day are replaced one after the other,
   * and what was read before the stream was open may lack the last ones, of which it tells nothing.
   */
  async #confirm(loader) {
    this.#wasReset = false;
    const { symbol, type, exchange } = this.series;
    const { first, last } = loader.bounds;
    try {
      const { types } = await this.#server.client.catalog(symbol, { type, exchange });
      if (loader !== this.loader) return;
      if (types[type]?.first_time === first && types[type].last_time >= last) loader.reload();
      else this.#reset();
    } catch {
      if (loader === this.loader) this.#reset();
    }
  }

  // ---- the view

  get #bounds() {
    return this.loader?.bounds ?? { first: 0, last: 1 };
  }

  setView(view, { follow = false, isDiscrete = true } = {}) {
    if (!this.loader) return;
    this.view = views.clamp(view, this.#bounds);
    this.follow = follow;
    this.#moved();
    this.#on.view(isDiscrete);
  }
  showAll() {
    this.setView(views.all(this.#bounds), { follow: true });
  }
  showNewest(spanS = views.spanOf(this.view), { isDiscrete = true } = {}) {
    this.setView(views.newest(this.#bounds, spanS), { follow: true, isDiscrete });
  }
  showOldest() {
    this.setView(views.oldest(this.#bounds, views.spanOf(this.view)));
  }
  zoom(factor, place = 0.5) {
    if (!this.loader) return;
    // Who follows the newest record keeps it in sight.
    const fixed = this.follow && views.showsNewest(this.view, this.#bounds) && place > 0.85 ? 1 - views.MARGIN : place;
    this.view = views.zoom(this.view, factor, fixed, this.#bounds);
    this.follow &&= views.showsNewest(this.view, this.#bounds);
    this.#moved();
  }
  pan(part) {
    if (!this.loader || !part) return;
    this.view = views.pan(this.view, part, this.#bounds);
    this.follow = part > 0 && views.showsNewest(this.view, this.#bounds);
    this.#moved();
  }
  select(from, to) {
    const span = views.spanOf(this.view);
    this.setView({ start: this.view.start + span * from, end: this.view.start + span * to });
  }

  /** What a key means here; whether it means anything. */
  key(name, isShifted) {
    const steps = {
      "+": () => this.zoom(ZOOM_STEP), "=": () => this.zoom(ZOOM_STEP),
      "-": () => this.zoom(1 / ZOOM_STEP), "_": () => this.zoom(1 / ZOOM_STEP),
      ArrowLeft: () => (isShifted ? this.stepCursor(-1) : this.pan(-PAN_STEP)),
      ArrowRight: () => (isShifted ? this.stepCursor(1) : this.pan(PAN_STEP)),
      Home: () => this.showOldest(), End: () => this.showNewest(), 0: () => this.showAll(),
    };
    if (!this.loader || !steps[name]) return false;
    steps[name]();
    if (!isShifted) this.#on.view(false);
    return true;
  }

  resize() {
    for (const pane of this.panes) pane.resize();
    if (this.panes.length) this.#moved();
  }

  /** Colours or zone changed. */
  restyle() {
    this.panes.forEach((pane, place) => pane.mount(place === this.panes.length - 1));
    this.#moved();
  }

  #area() {
    const over = this.panes[0]?.over;
    return over ? over.getBoundingClientRect() : { left: 0, width: 1 };
  }

  // ---- crosshair

  #pointTo(place, event) {
    const pane = this.panes.find(({ element }) => element.contains(event.target)) ?? this.#cursor.pane;
    const top = pane?.over ? event.clientY - pane.over.getBoundingClientRect().top : null;
    this.point(0, pane, top);
    this.#cursor.place = place; // it stays under the pointer while the view moves
  }

  /** The crosshair at a time, or (null) none: then legends tell the newest record in view. */
  point(x, pane = null, top = null) {
    this.#cursor = { x, place: null, pane, top };
    this.#due();
  }

  get #pointedX() {
    const { x, place } = this.#cursor;
    return place === null ? x : this.view.start + views.spanOf(this.view) * place;
  }

  /** By keyboard: to the next record. */
  stepCursor(by) {
    const pane = this.panes[0];
    if (!pane?.data?.length) return;
    const [from, to] = pane.range();
    const now = this.#pointedX === null ? to - 2 - by : nearest(pane.data.x, this.#pointedX);
    const index = Math.max(from, Math.min(to - 1, now + by));
    this.point(pane.data.x[index], pane, null);
  }

  /** The record at the crosshair: { time, nanos, panes: [[[label, text], …], …] }, or null. */
  get pointed() {
    const x = this.#pointedX;
    if (x === null) return null;
    const pane = this.panes.find(({ data }) => data?.length);
    if (!pane) return null;
    const index = nearest(pane.data.x, x);
    const record = recordAt(pane.data, index);
    if (!record) return null;
    const nanos = pane.isTicks ? Number(exactAt(pane.data, index, "nanos") ?? 0) : 0;
    return {
      time: record.frame.time[record.at], nanos, interval: pane.data.interval?.label ?? null,
      panes: this.panes.map((each) => each.valuesAt(beside(each.data, pane.data, pane.data.x[index]))),
    };
  }

  /** The newest value of a column that the live stream has told, as it came; null before it has. */
  newest(name) {
    const frames = this.loader?.tail?.frames;
    const frame = frames?.[frames.length - 1];
    return frame?.has(name) ? frame.get(name).at(-1) : null;
  }

  /** Records in view, as far as is known. */
  get count() {
    return this.loader?.count(this.view) ?? null;
  }

  /** Resolves when everything in view has come and is drawn. */
  idle() {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#due();
    });
  }

  // ---- inside

  #take() {
    for (const pane of this.panes) pane.data = this.loader.dataset(pane.spec) ?? pane.data;
    this.#due();
  }

  #took() {
    if (this.follow) {
      const newest = views.newest(this.#bounds, views.spanOf(this.view));
      if (newest.end > this.view.end) this.view = newest;
      this.#moved();
    }
    this.#on.records();
  }

  #moved() {
    this.#show();
    this.#due();
  }

  #show() {
    const width = this.panes[0]?.plotWidth;
    if (this.loader && width > 0) this.loader.show(this.specs, this.view, width, devicePixelRatio);
  }

  #due() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      const { pane, top } = this.#cursor;
      const x = this.#pointedX;
      const first = this.panes.find(({ data }) => data?.length)?.data;
      const place = first ? nearest(first.x, x ?? Math.min(this.view.end, this.#bounds.last + 1)) : -1;
      const record = first ? recordAt(first, place) : null;
      const time = record ? record.frame.time[record.at] : first?.x[place]; // a gap is no record
      const at = x === null || !first ? null : { x: first.x[place], time };
      for (const each of this.panes) {
        each.redraw();
        each.point(first ? beside(each.data, first, first.x[place]) : -1, at, each === pane ? top : null);
      }
      if (!this.#isMarked && this.panes.some(({ data }) => data?.length)) {
        this.#isMarked = true;
        performance.mark("zerocopy:drawn"); // bench/page.py reads when a series was first drawn
      }
      this.#on.drawn();
      this.#settle();
    });
  }

  #settle() {
    if (this.#isBusy || this.#isDue || !this.#waiting.length) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    // The loader may have found that it needs more; it says so before the next task.
    setTimeout(() => {
      if (this.#isBusy || this.#isDue) this.#waiting.push(...waiting);
      else for (const resolve of waiting) resolve();
    });
  }
}
