/**
 * The page: symbols on the left, a chart on the right, the address as their memory.
 *
 * Owns which series is open, what the address says, and what is told to the user. `window.zerocopy`
 * is what scripts and tests may ask: docs/page.md.
 */

import { ConnectionFailed, NotFound, TooManyRequests, Unauthorized, Unavailable } from "../zerocopy.js";
import { Access } from "./access.js";
import { forgetExport, setUpDialogs, showExport, showHelp } from "./dialogs.js";
import { Chart } from "./chart.js";
import { $ } from "./dom.js";
import { agoText, grouped, limitText, recordsText, spanText, timeText } from "./format.js";
import { fragmentOf, PANES_MAX, stateOf } from "./link.js";
import { emptyRoot, showBanner, showNotice, tell } from "./notice.js";
import { drawable, outputsOf, valueOf } from "./plan.js";
import { Server } from "./server.js";
import { SymbolList } from "./symbols.js";
import { Theme } from "./theme.js";
import { all as allOf, spanOf } from "./view.js";

const SYMBOLS_EVERY_MS = 10_000;
const EMPTY_EVERY_MS = 3_000;
/** A series that changed within so many seconds opens with its last hours, else with all of it. */
const RECENT_S = 600;
const RECENT_SPAN_S = 6 * 3600;
const ADDRESS_SETTLES_MS = 300;

const server = new Server({
  gone: () => {
    showBanner("The server does not answer. Trying again …");
    tell("The server does not answer.");
  },
  back: () => {
    showBanner(null);
    tell("The server answers again.");
    goOn();
  },
  limited: (waitS, detail) => showBanner(limitText(waitS, detail)),
  unlimited: () => {
    showBanner(null);
    if (isOwed) goOn();
  },
});
const access = new Access(server, {
  lock: (isForgotten) => {
    if (isForgotten) history.replaceState(null, "", "#/");
    else if (chart.series) history.replaceState(null, "", address());
    empty();
  },
  unlock: () => refresh(),
});
const theme = new Theme();
let zone = "utc";
let live = "";
let liveWhy = "";
let addressTimer = 0;
let turn = 0;
let isOpening = false;
let isOwed = false; // something was not had, for a limit was reached
let symbolsTimer = 0;

const chart = new Chart($("chart"), server, { theme, zone: () => zone }, {
  view: (isDiscrete) => remember(isDiscrete),
  panes: () => remember(true),
  live: (state, error) => {
    [live, liveWhy] = [state, error instanceof TooManyRequests ? `: ${error.detail}` : ""];
    if (error instanceof Unauthorized) complain(error);
    else foot();
  },
  records: () => { [live, liveWhy] = ["open", ""]; headline(); },
  error: (error) => complain(error),
  drawn: () => foot(),
  reset: () => { tell("The files were replaced; loading anew."); route(); },
});

theme.onChange = () => chart.restyle();

const list = new SymbolList((entry) => {
  document.body.classList.remove("shows-list");
  $("chart").focus(); // keys mean the chart from here on
  if (entry.symbol === chart.series?.symbol && entry.exchange === chart.series.exchange) return;
  const { panes } = stateOf(location.hash);
  visit({ ...entry, panes });
});

/** Goes to another series, as a step of the history. */
function visit(state) {
  history.pushState(null, "", fragmentOf({ ...state, zone }));
  route();
}

// ---- what is open

/** Opens what the address names; until then the address is not that of what is shown. */
async function route() {
  if (access.isLocked) return;
  const mine = ++turn;
  isOpening = true;
  clearTimeout(addressTimer);
  await open(mine, stateOf(location.hash));
  if (mine !== turn) return;
  isOpening = false;
  remember(false);
}

async function open(mine, state) {
  setZone(state.zone);
  if (!state.symbol) return openFirst();
  list.mark(state.exchange, state.symbol);
  const { series } = chart;
  const isSame = series && series.symbol === state.symbol && series.exchange === state.exchange;
  let catalog;
  try {
    catalog = await server.client.catalog(state.symbol, { exchange: state.exchange });
  } catch (error) {
    if (mine === turn) failed(error, state);
    return;
  }
  if (mine !== turn) return;
  const types = Object.keys(catalog.types);
  const type = types.includes(state.type) ? state.type : (types.find((name) => catalog.types[name].days > 0) ?? types[0]);
  const info = type && catalog.types[type];
  if (!info?.columns.length || info.last_time === null) {
    chart.close();
    const others = types.filter((name) => name !== type && catalog.types[name].last_time !== null);
    showNotice(`${[state.symbol, type].filter(Boolean).join(" ")} has no record yet`,
      ["Nothing can be drawn before the first one. Choose another symbol, or wait: the page looks again by itself."],
      [...others.map((name) => [`Show ${name}`, () => visit({ ...state, type: name })]), chooseSymbol]);
    return;
  }
  showNotice(null);
  showTypes(types, type);
  const isRecent = Math.abs(Date.now() / 1000 - info.last_time) < RECENT_S;
  const last = state.last ?? (isRecent && !isSame ? Math.min(RECENT_SPAN_S, info.last_time - info.first_time) : null);
  chart.open({ ...state, type, info }, { panes: state.panes, view: state.view, last });
  $("bar").hidden = $("foot").hidden = false;
  document.title = `${state.symbol} · zerocopy`;
  $("title").textContent = $("title").title = state.symbol;
  $("where").textContent = $("where").title = state.exchange;
  $("price").textContent = "";
  live = liveWhy = "";
  chart.resize();
  headline();
}

/** Shows another view of what is open already, where the address names the same series. */
function sameSeries(state) {
  const { series, specs } = chart;
  if (!series || !["exchange", "symbol", "type"].every((name) => series[name] === state[name])) return false;
  turn += 1; // whatever was on its way is not wanted any more
  isOpening = false;
  clearTimeout(addressTimer);
  setZone(state.zone);
  if (state.panes && JSON.stringify(state.panes) !== JSON.stringify(specs)) chart.setPanes(state.panes);
  if (state.view) chart.setView(state.view, { isDiscrete: false });
  else if (state.last) chart.showNewest(state.last, { isDiscrete: false });
  chart.restyle();
  return true;
}

function openFirst() {
  const [first] = list.entries;
  if (!first) return;
  history.replaceState(null, "", fragmentOf({ ...first, zone }));
  return route();
}

function failed(error, { symbol, exchange }) {
  chart.close();
  if (complain(error)) return;
  const isGone = error instanceof NotFound;
  showNotice(isGone ? `There is no ${symbol} on ${exchange}` : "This cannot be shown", [
    error.detail ?? String(error),
    isGone ? "Choose another symbol from the list." : "",
  ].filter(Boolean), [["Try again", () => route()], chooseSymbol]);
}

/** Where the list is not beside the chart: a button of a notice that opens it. */
const chooseSymbol = ["Choose a symbol", () => actions["open-list"](), "only-phone"];

/** What went wrong, where it belongs; whether that was all there is to say. */
function complain(error) {
  if (error instanceof Unauthorized && error.status === 401) {
    access.refused();
    return true;
  }
  if (error instanceof TooManyRequests) return (isOwed = true); // the server has said for how long
  if (error instanceof ConnectionFailed || error instanceof Unavailable) {
    server.lost();
    return true;
  }
  if (chart.series) showBanner(error.detail ?? String(error), ["Try again", () => { showBanner(null); chart.retry(); }]);
  return false;
}

async function refresh() {
  clearTimeout(symbolsTimer);
  if (access.isLocked) return;
  const { client } = server;
  if (!document.hidden) {
    try {
      const found = await client.symbols();
      if (client !== server.client) return; // another key's
      list.show(found);
      if (list.isEmpty) {
        chart.close();
        $("bar").hidden = true;
        showNotice(...(server.key ? NOTHING : emptyRoot()));
      } else if (!chart.series && !stateOf(location.hash).symbol) openFirst();
      else if (!chart.series) route();
    } catch (error) {
      if (client !== server.client) return;
      complain(error);
    }
  }
  clearTimeout(symbolsTimer);
  const everyMs = list.isEmpty ? EMPTY_EVERY_MS : SYMBOLS_EVERY_MS;
  if (!access.isLocked) symbolsTimer = setTimeout(refresh, Math.max(everyMs, server.limitS * 1000));
}

const NOTHING = ["Nothing to see with this key", ["There is no data yet, or none that this key may see. The page looks again every few seconds."]];

/** What was not had is asked for again. */
function goOn() {
  isOwed = false;
  refresh();
  chart.retry();
  if (!chart.series) route();
}

/** As the page was before anything was asked. */
function empty() {
  turn += 1; // what is on its way is not wanted any more
  isOpening = isOwed = false;
  clearTimeout(addressTimer);
  clearTimeout(symbolsTimer);
  chart.close();
  list.clear();
  forgetExport();
  showBanner(null);
  $("type").replaceChildren();
  for (const id of ["title", "where", "price", "told", "live-told", "shown", "pointed"]) $(id).textContent = $(id).title = "";
  document.title = "zerocopy";
  document.body.classList.remove("shows-list");
}

// ---- the address

function address() {
  const { series, view, follow, specs } = chart;
  return fragmentOf({ ...series, view, follow, panes: specs, zone });
}

/** Writes the view into the address: a step of the history where it was one of the user's. */
function remember(isDiscrete) {
  clearTimeout(addressTimer);
  if (!chart.series || isOpening) return;
  if (isDiscrete && address() !== location.hash) history.pushState(null, "", address());
  else addressTimer = setTimeout(() => chart.series && history.replaceState(null, "", address()), ADDRESS_SETTLES_MS);
}

// ---- what is told

function showTypes(types, type) {
  const select = $("type");
  select.replaceChildren(...types.map((name) => new Option(name, name, false, name === type)));
  select.hidden = types.length < 2;
}

function headline() {
  const column = valueOf(chart.specs[0]);
  const value = column === "time" ? null : chart.newest(column);
  $("price").textContent = value === null ? "" : grouped(value, chart.series.info.columns.find(({ name }) => name === column).dtype);
}

function foot() {
  const { loader, follow, pointed } = chart;
  if (!loader) return;
  const last = loader.bounds.last;
  const states = { open: "Live", waiting: "Reconnecting", off: "Not live", "": "Connecting" };
  $("live-told").textContent = `${states[live]}${liveWhy} · last record ${agoText(last, Date.now() / 1000)}`;
  $("live-told").dataset.state = live;
  $("follow").setAttribute("aria-pressed", String(follow));
  $("add-pane").disabled = chart.specs.length >= PANES_MAX;
  const data = loader.dataset(chart.specs[0]);
  const what = !data ? "" : data.mode === "ticks" ? "single records" : `bars of ${data.interval.label}`;
  const count = chart.count;
  const span = chart.view.end - chart.view.start;
  const skipped = loader.skipped.size ? ` · skipped, a column is missing: ${[...loader.skipped].slice(0, 3).join(", ")}${loader.skipped.size > 3 ? " …" : ""}` : "";
  $("shown").textContent = [spanText(span), what, count === null ? "" : recordsText(count)].filter(Boolean).join(" · ") + skipped;
  const at = pointed;
  $("pointed").textContent = at ? `${timeText(at.time, zone, at.nanos)} ${zone === "utc" ? "UTC" : "local"}` : "";
  for (const button of $("spans").children) {
    const isAll = button.dataset.span === "all";
    const all = spanOf(allOf(loader.bounds));
    button.setAttribute("aria-pressed", String(isAll ? Math.abs(span - all) < all * 0.01 : Math.abs(span - button.dataset.span) < 1));
  }
}

function setZone(next) {
  zone = next;
  $("zone").textContent = zone === "utc" ? "UTC" : "Local";
  $("zone").setAttribute("aria-label", zone === "utc" ? "Times are UTC; show local time" : "Times are local; show UTC");
}

// ---- what is pressed

const actions = {
  follow: () => chart.showNewest(),
  zone: () => {
    setZone(zone === "utc" ? "local" : "utc");
    chart.restyle();
    remember(false);
  },
  theme: () => theme.toggle(),
  "add-pane": () => {
    const used = new Set(chart.specs.flatMap(({ columns }) => columns));
    const some = drawable(chart.series.info.columns);
    const column = some.find((name) => !used.has(name)) ?? some[0];
    const spec = column ? { kind: "line", columns: [column] } : { kind: "bars", columns: ["time"] };
    chart.changePanes([...chart.specs, spec], chart.specs.length);
  },
  "show-export": () => {
    const { series, view, specs, count, loader } = chart;
    const columns = loader.liveColumns(specs);
    const data = loader.dataset(specs[0]);
    const drawn = specs.flatMap(outputsOf).map((name) => name.replace(/\.(\w+)$/, ":$1"));
    const bars = data?.interval ? { columns: [...new Set(drawn)], interval: data.interval.label } : null;
    const ticket = server.key ? () => server.client.ticket() : null;
    showExport({ base: server.base, ticket, ...series, columns, view, count, zone, bars });
  },
  "show-help": showHelp,
  "open-list": () => { document.body.classList.add("shows-list"); list.focus(); },
  "close-list": () => document.body.classList.remove("shows-list"),
};
for (const [id, act] of Object.entries(actions)) $(id).addEventListener("click", act);

$("spans").addEventListener("click", ({ target }) => {
  const { span } = target.dataset ?? {};
  if (span === "all") chart.showAll();
  else if (span) chart.showNewest(Number(span));
});
$("type").addEventListener("change", ({ target }) => {
  const { series, view } = chart;
  visit({ ...series, type: target.value, view });
});

const KEYS = { e: "show-export", u: "zone", t: "theme", l: "follow", "?": "show-help" };
addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (key === "Escape") {
    document.querySelectorAll("details[open]").forEach((menu) => { menu.open = false; menu.querySelector("summary").focus(); });
    document.body.classList.remove("shows-list");
    chart.point(null);
  }
  if (target.closest("input, select, textarea, .menu-body")) return;
  if (key === "/") list.focus();
  else if (KEYS[key.toLowerCase()] && chart.series) actions[KEYS[key.toLowerCase()]]();
  else if (chart.key(key, event.shiftKey)) {
    if (event.shiftKey && chart.pointed) tellPointed();
  } else return;
  event.preventDefault();
});

/** The record at the crosshair, in words. */
function tellPointed() {
  const { time, nanos, panes } = chart.pointed;
  tell([timeText(time, zone, nanos), ...panes.flat().map(([label, text]) => `${label} ${text}`)].join(", "));
}

document.addEventListener("pointerdown", ({ target }) => {
  document.querySelectorAll("details[open]").forEach((menu) => { if (!menu.contains(target)) menu.open = false; });
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return chart.pause();
  chart.resume();
  refresh();
});
addEventListener("popstate", () => sameSeries(stateOf(location.hash)) || route());
setInterval(foot, 1000);

/** For scripts and tests: docs/page.md describes it. */
window.zerocopy = Object.freeze({
  chart,
  idle: () => chart.idle(),
  state: () => ({ ...chart.series, info: undefined, view: { ...chart.view }, follow: chart.follow, zone, live, isDark: theme.isDark }),
  panes: () => chart.panes.map(({ spec, data, isTicks }) => ({
    ...spec, mode: isTicks ? "ticks" : "bars", interval: data?.interval?.label ?? null,
    x: data ? [...data.x] : [],
    values: data ? Object.fromEntries((isTicks ? spec.columns : outputsOf(spec)).map((name) => [name, [...(data.columns.get(name) ?? [])]])) : {},
  })),
});

setUpDialogs();
setZone("utc");
refresh();
if (stateOf(location.hash).symbol) route();
