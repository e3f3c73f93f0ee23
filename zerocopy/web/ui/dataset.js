/**
 * What a pane draws: the frames of all tiles in view as one array of places and one a column.
 *
 * Pure. Values are doubles for drawing; `exactAt` gives them as the server sent them.
 */

/** A stretch of a dataset: `count` records of `frame` from `first` on, drawn from `begin` on. */
const segment = (frame, first, count, begin) => ({ frame, first, count, begin });

/**
 * Joins frames that ascend in time. `place` gives [x, …] of a frame's records; a gap ([begin, end)
 * in seconds) that lies between two records becomes a record of NaN, so that no line crosses it.
 */
export function assemble(frames, names, place, gaps = []) {
  const parts = cutAtGaps(frames, gaps);
  const length = parts.reduce((sum, { count }) => sum + count, 0);
  const x = new Float64Array(length);
  const columns = new Map(names.map((name) => [name, new Float64Array(length)]));
  const placed = new Map();
  for (const { frame, first, count, begin, at } of parts) {
    if (!frame) {
      x[begin] = at;
      for (const values of columns.values()) values[begin] = NaN;
      continue;
    }
    if (!placed.has(frame)) placed.set(frame, place(frame));
    x.set(placed.get(frame).subarray(first, first + count), begin);
    for (const name of names) fill(columns.get(name), begin, frame, name, first, count);
  }
  for (let index = 1; index < length; index++) if (x[index] < x[index - 1]) x[index] = x[index - 1];
  return { length, x, columns, segments: parts.filter(({ frame }) => frame) };
}

function fill(target, begin, frame, name, first, count) {
  const values = frame.has(name) ? frame.get(name) : null;
  if (!values || values.bytesAt) target.fill(NaN, begin, begin + count); // text has no height
  else if (values instanceof BigUint64Array || values instanceof BigInt64Array || Array.isArray(values)) {
    for (let index = 0; index < count; index++) target[begin + index] = Number(values[first + index]);
  } else target.set(values.subarray(first, first + count), begin);
}

function cutAtGaps(frames, gaps) {
  const parts = [];
  let [begin, next, last] = [0, 0, -Infinity];
  const add = (part, count) => {
    parts.push(part);
    begin += count;
  };
  for (const frame of frames) {
    if (!frame.length) continue;
    const time = frame.time;
    let first = 0;
    while (next < gaps.length && gaps[next][0] <= last) next += 1;
    for (; next < gaps.length && gaps[next][0] < time[frame.length - 1]; next += 1) {
      const [gap] = gaps[next];
      const at = lowerBound(time, gap);
      if (at > first) add(segment(frame, first, at - first, begin), at - first);
      if (parts.length) add({ frame: null, begin, count: 1, at: gap }, 1);
      first = at;
    }
    add(segment(frame, first, frame.length - first, begin), frame.length - first);
    last = time[frame.length - 1];
  }
  return parts;
}

/** The first index whose value is at least `value`: bisect_left. */
export function lowerBound(values, value, length = values.length) {
  let [low, high] = [0, length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The index whose place is nearest to `x`; -1 of nothing. */
export function nearest(values, x) {
  const at = lowerBound(values, x);
  if (at === 0) return values.length ? 0 : -1;
  if (at === values.length) return at - 1;
  return x - values[at - 1] <= values[at] - x ? at - 1 : at;
}

/** The index that belongs to `place`, one of `other`; -1 where `data` has no record or bar there. */
export function beside(data, other, place) {
  const index = data ? nearest(data.x, place) : -1;
  if (index < 0 || Boolean(data.interval) !== Boolean(other.interval)) return index;
  const apart = Math.abs(data.x[index] - place);
  return apart === 0 || apart < Math.max(data.interval?.seconds, other.interval?.seconds) ? index : -1;
}

/** The record at an index: its frame and its place there; null in a gap. */
export function recordAt({ segments }, index) {
  let [low, high] = [0, segments.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (segments[middle].begin <= index) low = middle + 1;
    else high = middle;
  }
  const found = segments[low - 1];
  if (!found || index >= found.begin + found.count) return null;
  return { frame: found.frame, at: found.first + index - found.begin };
}

/** A value as the server sent it: BigInt and text too; undefined where there is none. */
export function exactAt(dataset, index, name) {
  const record = recordAt(dataset, index);
  return record?.frame.has(name) ? record.frame.get(name).at(record.at) : undefined;
}

/** Bars are drawn in the middle of their interval. */
export const placeBars = (seconds) => (frame) =>
  Float64Array.from(frame.time, (begin) => begin + seconds / 2);

/**
 * Single records: by `nanos` where the series has them; else those of one second are drawn in order
 * across it, for the files keep their order, and not when in that second they were.
 */
export function placeTicks(frame) {
  const { time, length } = frame;
  const x = new Float64Array(length);
  if (frame.has("nanos")) {
    const nanos = frame.get("nanos");
    for (let index = 0; index < length; index++) x[index] = time[index] + nanos[index] / 1e9;
    return x;
  }
  for (let first = 0; first < length; ) {
    let end = first + 1;
    while (end < length && time[end] === time[first]) end += 1;
    for (let index = first; index < end; index++) x[index] = time[first] + (index - first) / (end - first);
    first = end;
  }
  return x;
}

/** Records in [start, end): of single records, or estimated from bars that are cut. */
export function countIn(dataset, start, end, seconds) {
  const { x, columns, segments } = dataset;
  const half = (seconds ?? 0) / 2;
  const [from, to] = [lowerBound(x, start - half), lowerBound(x, end + half)];
  const counts = columns.get("time.count");
  if (!seconds || !counts) {
    return segments.reduce((sum, { begin, count }) =>
      sum + Math.max(0, Math.min(to, begin + count) - Math.max(from, begin)), 0); // a gap is no record
  }
  let sum = 0;
  for (let index = from; index < to; index++) {
    const begin = x[index] - half;
    const share = (Math.min(end, begin + seconds) - Math.max(start, begin)) / seconds;
    if (counts[index] > 0) sum += counts[index] * Math.min(1, Math.max(0, share));
  }
  return sum;
}

const DAY = 86400;

/** ["2025-02-03", "2025-02-04"] as [[begin, end]] in seconds, neighbours joined. */
export function gapsOf(days) {
  const gaps = [];
  for (const day of days) {
    const begin = Date.parse(`${day}T00:00:00Z`) / 1000;
    const last = gaps[gaps.length - 1];
    if (last && last[1] === begin) last[1] += DAY;
    else gaps.push([begin, begin + DAY]);
  }
  return gaps;
}
