/** The parts of the page that need no browser: levels, datasets, the tail, words, the address. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { assemble, beside, countIn, exactAt, gapsOf, nearest, placeBars, placeTicks, recordAt } from "../../zerocopy/web/ui/dataset.js";
import * as format from "../../zerocopy/web/ui/format.js";
import * as levels from "../../zerocopy/web/ui/levels.js";
import { fragmentOf, stateOf } from "../../zerocopy/web/ui/link.js";
import { defaultPanes, groupsOf, planFor, tileRequest } from "../../zerocopy/web/ui/plan.js";
import { search } from "../../zerocopy/web/ui/search.js";
import { barsLink, curlSnippet, pythonSnippet, recordLinks } from "../../zerocopy/web/ui/snippets.js";
import { frameOf, joinBars, Tail } from "../../zerocopy/web/ui/tail.js";
import { Tiles } from "../../zerocopy/web/ui/tiles.js";
import * as views from "../../zerocopy/web/ui/view.js";

const frame = (columns) => frameOf(new Map(Object.entries(columns)), Object.values(columns)[0].length);
const records = (time, price) => frame({ time: Uint32Array.from(time), price: Float32Array.from(price) });

/** Numbers that are the same in each run. */
function* random(seed) {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

test("a pane of a column that some days lack asks alone", () => {
  const pane = (kind, ...columns) => ({ kind, columns });
  const panes = [pane("candles", "price"), pane("bars", "volume"), pane("line", "price"), pane("bars", "size"), pane("bars", "time")];
  const groups = (...partial) => [...groupsOf(panes, new Set(partial))].map(([name, { detail, panes: some }]) => [name, detail, some.length]);
  assert.deepEqual(groups(), [["coarse", "coarse", 4], ["fine", "fine", 1]]);
  assert.deepEqual(groups("volume"), [["coarse", "coarse", 3], ["coarse volume", "coarse", 1], ["fine", "fine", 1]]);
});

test("a record of one pane has its own in another, or none there", () => {
  const bars = (...x) => ({ x: Float64Array.from(x), interval: { seconds: 10 } });
  const ticks = (...x) => ({ x: Float64Array.from(x), interval: null });
  assert.equal(beside(bars(5, 15, 35), bars(5, 15, 25, 35), 15), 1);
  assert.equal(beside(bars(5, 15, 35), bars(5, 15, 25, 35), 25), -1);
  assert.equal(beside(ticks(1, 9), ticks(1, 4, 9), 4), -1);
  assert.equal(beside(ticks(1, 9), ticks(1, 4, 9), 9), 1);
  assert.equal(beside(ticks(1, 9), bars(5), 5), 0);
  assert.deepEqual([beside(null, bars(5), 5), beside(bars(), bars(5), 5)], [-1, -1]);
});

test("a limit says when the page goes on", () => {
  assert.equal(format.limitText(0.2, "No more."), "No more. The page goes on in 1 s.");
  const told = "this key may ask 5 times a second; try again in 1 s";
  assert.equal(format.limitText(1, told), "This key may ask 5 times a second. The page goes on in 1 s.");
  assert.match(format.limitText(7_200, undefined, 0), /^There were too many requests\. The page goes on at \d+:\d\d.*\.$/);
});

test("a series shows its price and volume first, or its quotes", () => {
  const shown = (...names) => defaultPanes(names.map((name) => ({ name, dtype: "<f4" }))).map(({ kind, columns }) => `${kind} ${columns}`);
  assert.deepEqual(shown("time", "best_ask", "best_bid", "price", "volume"), ["candles price", "bars volume"]);
  assert.deepEqual(shown("time", "ask_size", "best_ask", "best_bid", "bid_size", "nanos"), ["line best_bid,best_ask"]);
  assert.deepEqual(shown("time", "close", "high", "low", "open", "volume"), ["candles open,high,low,close", "bars volume"]);
  assert.deepEqual(shown("time", "rate"), ["candles rate"]);
  assert.deepEqual(shown("time"), ["bars time"]);
});

test("a view's tiles cover it once, without a hole, and begin where bars begin", () => {
  const numbers = random(1);
  for (let turn = 0; turn < 500; turn++) {
    const [a, b, c] = [numbers.next().value, numbers.next().value, numbers.next().value];
    const [start, span] = [a * 2e9, 10 ** (b * 8)];
    const interval = levels.INTERVALS[Math.floor(c * levels.INTERVALS.length)];
    const grid = levels.gridOf(interval, 256);
    const tiles = levels.tilesOver(grid, start, start + span).slice(0, 1000);
    const ranges = tiles.map((index) => levels.rangeOfTile(grid, index));
    assert.ok(ranges[0][0] <= start);
    for (const [begin] of ranges) assert.equal(levels.bucketOf(interval, begin), begin);
    ranges.slice(1).forEach(([begin], place) => assert.equal(begin, ranges[place][1]));
    if (tiles.length < 1000) assert.ok(ranges.at(-1)[1] >= start + span);
  }
});

test("weeks begin on Monday, and the first of them at 0", () => {
  const week = levels.INTERVALS.find(({ label }) => label === "1w");
  assert.equal(levels.bucketOf(week, 345600), 345600);
  assert.equal(levels.bucketOf(week, 345599), 0);
  assert.deepEqual(levels.rangeOfTile(levels.gridOf(week, 2), -1), [0, 345600]);
});

test("the interval is the shortest that leaves each bar its pixels", () => {
  assert.equal(levels.intervalFor(86400, 1200, 6).label, "10m");
  assert.equal(levels.intervalFor(10, 1200, 6).label, "1s");
  assert.equal(levels.intervalFor(1e12, 1200, 6).label, "4w");
});

test("zooming ten levels in and out around a place comes back to the same view", () => {
  const bounds = { first: 1.7e9, last: 1.76e9 };
  const before = views.all(bounds);
  let view = before;
  for (let step = 0; step < 10; step++) view = views.zoom(view, 0.5, 0.3, bounds);
  assert.ok(Math.abs(views.spanOf(view) - views.spanOf(before) / 1024) < 1e-3);
  for (let step = 0; step < 10; step++) view = views.zoom(view, 2, 0.3, bounds);
  assert.ok(Math.abs(view.start - before.start) < 1e-3 && Math.abs(view.end - before.end) < 1e-3);
});

test("a view never leaves its data", () => {
  const bounds = { first: 1000, last: 2000 };
  const numbers = random(2);
  let view = views.all(bounds);
  for (let turn = 0; turn < 2000; turn++) {
    const [a, b, c] = [numbers.next().value, numbers.next().value, numbers.next().value];
    view = a < 0.5 ? views.zoom(view, 4 ** (b - 0.5), c, bounds) : views.pan(view, b * 4 - 2, bounds);
    assert.ok(view.start >= 0 && view.start < view.end);
    assert.ok(view.start < bounds.last + 1 && view.end > bounds.first);
  }
});

test("the whole newest second is in view, however short the view is, and stays so when zoomed", () => {
  for (const bounds of [{ first: 1000, last: 1000 }, { first: 0, last: 3 }, { first: 0, last: 4e9 }]) {
    const all = views.all(bounds);
    assert.ok(all.start <= bounds.first && all.end > bounds.last + 1);
    assert.ok(views.newest(bounds, views.spanOf(all)).end <= all.end + 1e-6); // so following moves nothing
  }
  const bounds = { first: 1000, last: 9000 };
  for (const span of [0.1, 1, 5, 3600]) {
    const view = views.clamp(views.newest(bounds, span), bounds);
    assert.ok(view.end > bounds.last + 1 && view.start < bounds.last + 1);
    assert.ok(views.showsNewest(view, bounds));
    assert.ok(views.showsNewest(views.zoom(view, 0.5, 1 - views.MARGIN, bounds), bounds));
  }
});

test("an f4 is written as the shortest decimal that reads back as it", () => {
  assert.equal(format.shortestF4(Math.fround(0.1)), "0.1");
  assert.equal(format.shortestF4(Math.fround(62040.47)), "62040.47");
  assert.equal(format.shortestF4(NaN), "NaN");
  assert.equal(format.shortestF4(-0.5), "-0.5");
  const bits = new DataView(new ArrayBuffer(4));
  const numbers = random(3);
  for (let turn = 0; turn < 3000; turn++) {
    bits.setUint32(0, numbers.next().value * 2 ** 32);
    const value = bits.getFloat32(0);
    if (Number.isFinite(value)) assert.equal(Math.fround(Number(format.shortestF4(value))), value);
  }
});

test("times and counts are words of the field", () => {
  assert.equal(format.timeText(1738308123, "utc"), "2025-01-31 07:22:03");
  assert.equal(format.timeText(1738308123, "local"), "2025-01-31 02:22:03");
  assert.equal(format.timeText(1738308123, "utc", 5_000_000), "2025-01-31 07:22:03.005");
  assert.equal(format.exact(12345678901234567890n, "<u8"), "12345678901234567890");
  assert.deepEqual(["now", "5 s ago", "2001-09-09"], [0, 5, 90 * 86400].map((age) => format.agoText(1e9, 1e9 + age)));
  assert.deepEqual(["now", "5 s", "2 min", "3 h", "4 d"], [0, 5, 125, 3 * 3600, 4 * 86400].map((age) => format.ago(1e9, 1e9 + age)));
  assert.deepEqual(format.axisValues([0, 0.5, 1]), ["0.0", "0.5", "1.0"]);
  assert.deepEqual(format.axisValues([1e6, 1.5e6]), ["1.0M", "1.5M"]);
  assert.deepEqual(format.axisValues([1740, 1742.5, 1745]), ["1,740.0", "1,742.5", "1,745.0"]);
  assert.deepEqual(format.axisValues([0.1, 0.1 + 0.00025]), ["0.10000", "0.10025"]);
  assert.deepEqual(format.axisValues([2e6, 4.5e6, 7e6]), ["2.0M", "4.5M", "7.0M"]);
  assert.deepEqual([1e9, 1e9 - 5, 1e9 - 4 * 86400, 0, 1e9 + 60, 2e9].map((time) => format.agoText(time, 1e9)),
    ["now", "5 s ago", "4 d ago", "1970-01-01", "now", "2033-05-18"]);
  assert.deepEqual([0, 1, 1.4, 12345].map(format.recordsText), ["0 records", "1 record", "1 record", "12,345 records"]);
  assert.deepEqual(format.timeLabels([1735689600, 1735776000], "utc"), ["2025", "2 Jan"]);
  assert.equal(format.spanText(86400 * 14), "14 d");
});

test("values of any size have labels that differ, fit beside the axis, and are exact in the headline", () => {
  const cases = [
    [[1.18e-10, 1.2e-10, 1.22e-10], ["1.18e-10", "1.20e-10", "1.22e-10"], 1.187569e-10, "1.1876e-10"],
    [[1.1e-5, 1.12e-5], ["0.0000110", "0.0000112"], 1.1097e-5, "0.0000111"],
    [[130.1e6, 130.12e6], ["130.10M", "130.12M"], 130.123456e6, "130.1235M"],
    [[45000, 45050], ["45,000", "45,050"], 45172.34, "45,172.34"],
    [[-0.2, 0, 0.2], ["-0.2", "0.0", "0.2"], -0.25, "-0.25"],
    [[1e15, 2e15], ["1e15", "2e15"], 1.5e15, "1.5e15"],
  ];
  for (const [splits, labels, value, tag] of cases) {
    assert.deepEqual(format.axisValues(splits), labels);
    assert.equal(format.axisFormat(splits)(value, 2).replace(/0+(?=e)/, ""), tag);
  }
  const ids = format.axisFormat([2 ** 60, 2 ** 60 + 1024]);
  for (const label of [ids(2 ** 60), ids(-(2 ** 60), 2)]) assert.ok(label.length <= 12, label);
  assert.equal(format.axisFormat([])(0.5, 2), "0.5");
  assert.deepEqual([format.grouped(Math.fround(612101.94), "<f4"), format.grouped(-0.5, "<f4"), format.grouped(2n ** 60n, "<u8"), format.grouped(NaN, "<f4")],
    ["612,101.94", "-0.5", "1,152,921,504,606,846,976", "NaN"]);
  assert.deepEqual([24812345678.123, -3762.905171, 0, 1.23456789012e-5, NaN].map(format.sumText),
    ["24,812,345,700", "-3,762.90517", "0", "0.0000123456789", "NaN"]);
});

test("a search finds what a hand in a hurry types, the best first", () => {
  const entries = [["BTC-USD", "coinbase"], ["ETH-BTC", "coinbase"], ["BTC-USD", "kraken"], ["tAAVE:USD", "bitfinex"], ["^GSPC", "nyse"]]
    .map(([symbol, exchange]) => ({ symbol, exchange }));
  const found = (query) => search(query, entries).map(({ symbol, exchange }) => `${exchange}/${symbol}`);
  assert.equal(found("btc")[0], "coinbase/BTC-USD");
  assert.equal(found("btcusd")[0], "coinbase/BTC-USD");
  assert.equal(found("btc krak")[0], "kraken/BTC-USD");
  assert.deepEqual(found("aave"), ["bitfinex/tAAVE:USD"]);
  assert.deepEqual(found("gspc"), ["nyse/^GSPC"]);
  assert.deepEqual(found("zzz"), []);
  assert.equal(found("").length, entries.length);
});

test("the address says the view, and reads as what it said", () => {
  const state = {
    exchange: "bitfinex", symbol: "tAAVE:USD", type: "MD", zone: "local", follow: false,
    view: { start: 1738308123, end: 1738311723.5 },
    panes: [{ kind: "candles", columns: ["price"] }, { kind: "line", columns: ["best_bid", "a&b#1~x"] }],
  };
  assert.deepEqual(stateOf(fragmentOf(state)), state);
  const following = { ...state, follow: true };
  assert.deepEqual(stateOf(fragmentOf(following)).last, 3601);
  assert.equal(stateOf(fragmentOf({ ...following, view: { start: 0.1, end: 3600.1 } })).last, 3600);
  assert.equal(stateOf(fragmentOf({ ...following, view: { start: 0, end: 1.08 } })).last, 2);
  for (const odd of ["", "#", "#/a", "#/a/b/c?from=x&to=y&panes=pie:price;:;line:", "#/%E0%A4%A/b", "#/../etc"]) {
    assert.equal(stateOf(odd).view, undefined);
  }
  assert.equal(stateOf("#/../etc").symbol, undefined);
});

test("frames are joined in order, cut at gaps, and every value is found again", () => {
  const day = 86400;
  const first = records([10, 20, day - 1], [1, 2, 3]);
  const second = records([3 * day + 5, 3 * day + 6], [4, 5]);
  const gaps = gapsOf(["1970-01-02", "1970-01-03"]);
  assert.deepEqual(gaps, [[day, 3 * day]]);
  const joined = assemble([first, second], ["price"], placeTicks, gaps);
  assert.deepEqual([...joined.columns.get("price")], [1, 2, 3, NaN, 4, 5]);
  assert.equal(joined.x[3], day);
  assert.equal(recordAt(joined, 3), null);
  assert.equal(exactAt(joined, 4, "price"), 4);
  assert.equal(exactAt(joined, 2, "price"), 3);
  assert.equal(exactAt(joined, 2, "volume"), undefined);
  assert.equal(nearest(joined.x, 19), 1);
  assert.equal(countIn(joined, 0, 4 * day), 5); // the gap is no record
  assert.equal(countIn(joined, 15, 3 * day + 6), 3);
});

test("a gap inside one frame cuts it as well, and one before all records cuts nothing", () => {
  const day = 86400;
  const joined = assemble([records([day + 1, 3 * day + 1], [1, 2])], ["price"], placeTicks, [[0, day], [2 * day, 3 * day], [9 * day, 10 * day]]);
  assert.deepEqual([...joined.columns.get("price")], [1, NaN, 2]);
});

test("single records are placed by nanos, or else in order across their second", () => {
  assert.deepEqual([...placeTicks(records([5, 5, 6], [1, 2, 3]))], [5, 5.5, 6]);
  const nanos = frame({ time: Uint32Array.of(5, 5), nanos: Uint32Array.of(0, 250_000_000) });
  assert.deepEqual([...placeTicks(nanos)], [5, 5.25]);
});

test("records in view are counted from bars, cut at the ends", () => {
  const bars = frame({ time: Uint32Array.of(0, 10, 20), "time.count": Uint32Array.of(100, 50, 10) });
  const data = assemble([bars], ["time.count"], placeBars(10));
  assert.equal(countIn(data, 0, 30, 10), 160);
  assert.equal(countIn(data, 5, 15, 10), 75);
  assert.equal(countIn(data, 100, 200, 10), 0);
});

/** The bars of records, as simply as can be. */
function naive(times, prices, seconds, shift = 0) {
  const bars = new Map();
  times.forEach((time, index) => {
    const begin = Math.max(0, Math.floor((time - shift) / seconds) * seconds + shift);
    if (!bars.has(begin)) bars.set(begin, []);
    bars.get(begin).push(prices[index]);
  });
  return [...bars].map(([begin, all]) => {
    const values = all.filter((value) => !Number.isNaN(value));
    return [begin, values[0] ?? NaN, values.length ? Math.max(...values) : NaN, values.length ? Math.min(...values) : NaN,
      values.at(-1) ?? NaN, values.length ? values.reduce((sum, value) => sum + value, 0) : NaN, all.length];
  });
}

const NAMES = ["time", "price.open", "price.high", "price.low", "price.close", "price.sum", "time.count"];
const rows = (frames) => frames.flatMap((each) =>
  Array.from({ length: each.length }, (_, index) => NAMES.map((name) => each.get(name).at(index))));
const tileOf = (all) => frame(Object.fromEntries(NAMES.map((name, column) =>
  [name, (name === "time" ? Uint32Array : Float64Array).from(all, (row) => row[column])])));

test("tile and tail make the bars of all records, wherever the edge between them lies", () => {
  const numbers = random(4);
  for (const seconds of [1, 5, 60]) {
    const times = [];
    const prices = [];
    for (let time = 1000; times.length < 300; ) {
      time += Math.floor(numbers.next().value * 4);
      times.push(time);
      prices.push(numbers.next().value < 0.1 ? NaN : Math.round(numbers.next().value * 1000) / 8);
    }
    for (const edge of [1000, times[100], times[299], times[299] + 1]) {
      const split = times.findIndex((time) => time >= edge);
      const cut = split < 0 ? times.length : split;
      const tail = new Tail(["time", "price"], edge);
      for (let at = cut; at < times.length; at += 7) tail.add(records(times.slice(at, at + 7), prices.slice(at, at + 7)));
      const tile = tileOf(naive(times.slice(0, cut), prices.slice(0, cut), seconds));
      const interval = { seconds, shift: 0, label: `${seconds}s` };
      const expected = naive(times, prices.map(Math.fround), seconds);
      assert.deepEqual(rows(joinBars([tile], tail.bars(interval))), expected);
    }
  }
});

test("a tail that begins later keeps exactly the records from there on", () => {
  const tail = new Tail(["time", "price"], 5);
  tail.add(records([5, 6, 6], [1, 2, 3]));
  tail.add(records([7], [4]));
  const later = tail.from(6);
  assert.deepEqual(later.frames.flatMap(({ time }) => [...time]), [6, 6, 7]);
  assert.equal(later.edge, 6);
});

test("many small messages are kept as few frames, and none is lost", () => {
  const tail = new Tail(["time", "price"], 0);
  for (let time = 0; time < 1000; time++) tail.add(records([time], [time / 2]));
  assert.ok(tail.frames.length <= 65);
  assert.deepEqual(tail.frames.flatMap(({ time }) => [...time]), Array.from({ length: 1000 }, (_, time) => time));
  assert.equal(tail.frames.at(-1).get("price").at(-1), 499.5);
});

test("a plan draws single records once they are few, and asks tiles up to the edge alone", () => {
  const panes = [{ kind: "line", columns: ["price"] }];
  const known = { detail: "fine", panes, view: { start: 1000, end: 2200 }, widthPx: 600, density: 1, hasNanos: false, wasTicks: false };
  const bars = planFor({ ...known, ticks: 2401 });
  assert.deepEqual([bars.mode, bars.interval.label], ["bars", "2s"]);
  assert.deepEqual(bars.columns, ["price:close+high+low+open", "time:count"]);
  const ticks = planFor({ ...known, ticks: 2400 });
  assert.deepEqual([ticks.mode, ticks.columns], ["ticks", ["time", "price"]]);
  assert.equal(planFor({ ...known, ticks: 2401, wasTicks: true }).mode, "ticks");
  assert.deepEqual(tileRequest(ticks, 1, { first: 0, edge: 900 }), { key: `${ticks.name} 1 before 900`, start: 600, end: 900 });
  assert.equal(tileRequest(ticks, 2, { first: 0, edge: 900 }), null);
  assert.equal(tileRequest(ticks, 0, { first: 600, edge: Infinity }), null);
});

test("a pane of records alone counts them, and asks for their number once", () => {
  const panes = [{ kind: "bars", columns: ["time"] }];
  const view = { start: 0, end: 86400 };
  const plan = planFor({ detail: "coarse", panes, view, widthPx: 600, density: 1, hasNanos: false, wasTicks: false, ticks: null });
  assert.deepEqual(plan.columns, ["time:count"]);
});

test("what is known of a view ends where a tile is missing", () => {
  const grid = { length: 100, shift: 40 };
  assert.deepEqual(levels.rangeWithout(grid, [3, 4, 5], new Set()), { start: 340, end: 640 });
  assert.deepEqual(levels.rangeWithout(grid, [3, 4, 5, 6], new Set([4])), { start: 540, end: 740 });
  assert.deepEqual(levels.rangeWithout(grid, [3], new Set([3])), { start: 0, end: 0 });
});

test("tiles are bounded, the least recently used go first, and superseded loads are aborted", async () => {
  const changed = [];
  const tiles = new Tiles({ bytesMax: 3 * (100 * 2 + 64) * 8, onChange: (key, error) => changed.push([key, error?.message]) });
  const big = () => Promise.resolve(records(Array(100).fill(1), Array(100).fill(1)));
  const signals = {};
  for (const key of ["a", "b", "c"]) tiles.load(key, big);
  await new Promise(setImmediate);
  tiles.get("a");
  tiles.load("d", big);
  tiles.load("slow", (signal) => new Promise((_, reject) => {
    signals.slow = signal;
    signal.addEventListener("abort", () => reject(new Error("aborted")));
  }));
  tiles.load("bad", () => Promise.reject(new Error("no")));
  await new Promise(setImmediate);
  assert.deepEqual(["a", "b", "c", "d"].map((key) => tiles.has(key)), [true, false, true, true]);
  tiles.retain(["a"]);
  assert.ok(signals.slow.aborted);
  await new Promise(setImmediate);
  assert.deepEqual(changed.at(-1), ["bad", "no"]);
  assert.equal(tiles.loading, 0);
});

test("exports name the range that is seen, whole seconds, and survive a shell", () => {
  const asked = { exchange: "bitfinex", symbol: "BTC+ETH", type: "MD", columns: ["time", "price"], view: { start: 100.5, end: 200.2 } };
  const [csv, parquet, arrow] = recordLinks("http://host:1/sub/", asked);
  const query = new URL(csv.href).searchParams;
  assert.equal(new URL(csv.href).pathname, "/sub/api/data");
  assert.deepEqual([query.get("symbol"), query.get("start"), query.get("end"), query.get("format")], ["BTC+ETH", "100", "200", "csv"]);
  assert.equal(new URL(parquet.href).searchParams.get("format"), "parquet");
  assert.equal(arrow.file, "BTC_ETH-MD-1970-01-01.arrows");
  assert.match(curlSnippet("http://host:1/", { ...asked, symbol: "a'b" }, true), /Bearer \$ZEROCOPY_KEY.*a%27b|a'\\''b/s);
  assert.match(pythonSnippet("http://host:1/", asked, true), /^import os\n.*Client\("http:\/\/host:1", key=os\.environ\["ZEROCOPY_KEY"\]\)/s);
  assert.match(pythonSnippet("http://host:1/", asked), /start="1970-01-01T00:01:40Z",\n {8}end="1970-01-01T00:03:21Z"/);
  const bars = barsLink("http://host:1/", { ...asked, columns: ["price:open", "price:close"] }, "5m");
  assert.equal(new URL(bars.href).searchParams.get("columns"), "price:open,price:close");
  const plus = barsLink("http://host:1/", { ...asked, columns: ["a+b:open"] }, "5m");
  assert.equal(new URL(plus.href).searchParams.get("columns"), "a+b:open");
});
