/**
 * Which level of detail a view needs: intervals of bars, and tiles of a fixed number of them.
 *
 * Pure. A tile is named by its level and index, so that equal views ask for equal ranges, and a
 * cache can hold them: ours, the browser's, a CDN's.
 */

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;
const WEEK = 7 * DAY;
/** 1970-01-05, the first Monday: /api/bars begins weeks there. */
const MONDAY = 4 * DAY;

const level = (seconds, label, shift = 0) => Object.freeze({ seconds, label, shift });

/** What /api/bars calls `auto`, ascending. */
export const INTERVALS = Object.freeze([
  ...[1, 2, 5, 10, 15, 30].map((n) => level(n, `${n}s`)),
  ...[1, 2, 5, 10, 15, 30].map((n) => level(n * MINUTE, `${n}m`)),
  ...[1, 2, 4, 6, 12].map((n) => level(n * HOUR, `${n}h`)),
  ...[1, 2].map((n) => level(n * DAY, `${n}d`)),
  ...[1, 2, 4].map((n) => level(n * WEEK, `${n}w`, MONDAY)),
]);

/** The shortest interval that makes each bar at least `pixels` wide; the longest where none does. */
export function intervalFor(spanS, widthPx, pixels) {
  const shortest = (spanS / Math.max(widthPx, 1)) * pixels;
  return INTERVALS.find(({ seconds }) => seconds >= shortest) ?? INTERVALS[INTERVALS.length - 1];
}

/** Lengths of tiles of single records: about twice from one to the next. */
const TICK_TILES = [1, 2, 5, 10, 20, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE,
  30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, DAY / 2, DAY, 2 * DAY, 4 * DAY, WEEK, 2 * WEEK,
  4 * WEEK, 16 * WEEK, 64 * WEEK];

/** The length of a tile of single records for a view of `spanS`: two or three cover the view. */
export const tickTileFor = (spanS) =>
  TICK_TILES.find((length) => length >= spanS / 2) ?? TICK_TILES[TICK_TILES.length - 1];

/** A grid of tiles: `length` seconds each, one of which begins at `shift`. */
export const gridOf = (interval, buckets) => ({
  length: interval.seconds * buckets,
  shift: interval.shift,
});

/** The tile that holds a second. */
export const tileAt = ({ length, shift }, time) => Math.floor((time - shift) / length);

/** [begin, end) of a tile in seconds; nothing lies before 0. */
export function rangeOfTile({ length, shift }, index) {
  const begin = index * length + shift;
  return [Math.max(0, begin), Math.max(0, begin + length)];
}

/** The tiles that [start, end) touches, ascending. */
export function tilesOver(grid, start, end) {
  const first = Math.max(tileAt(grid, Math.max(0, start)), tileAt(grid, 0));
  const last = Math.max(first, tileAt(grid, Math.ceil(end) - 1));
  return Array.from({ length: last - first + 1 }, (_, place) => first + place);
}

/** [begin, end) of the longest run of tiles without those that are missing; `indexes` ascend. */
export function rangeWithout(grid, indexes, missing) {
  let [longest, run] = [[], []];
  for (const index of indexes) {
    run = missing.has(index) ? [] : [...run, index];
    if (run.length > longest.length) longest = run;
  }
  if (!longest.length) return { start: 0, end: 0 };
  const begin = longest[0] * grid.length + grid.shift;
  return { start: begin, end: begin + longest.length * grid.length };
}

/** The bucket of an interval that holds a second, by its begin. */
export const bucketOf = ({ seconds, shift }, time) =>
  Math.max(0, Math.floor((time - shift) / seconds) * seconds + shift);
