/**
 * The newest records, as they come by /api/live, and the bars they make.
 *
 * Pure. Times ascend in the files. So once a record of second S is there, all records before S are
 * final. The tail holds every record from its `edge` on; tiles end before it. Then a bar over the
 * edge is the tile's part and the tail's part, and no record is counted twice or missed.
 */

/** So many messages become one frame, or every drawing would walk through all there were. */
const FRAMES_MAX = 64;

export class Tail {
  frames = [];
  length = 0;
  #bars = new Map();

  /** `columns` are those of the frames; `edge` is the first second of the tail. */
  constructor(columns, edge) {
    this.columns = columns;
    this.edge = edge;
  }

  get lastTime() {
    const last = this.frames[this.frames.length - 1];
    return last ? last.time[last.length - 1] : null;
  }

  add(frame) {
    if (!frame.length) return;
    this.frames.push(frame);
    this.length += frame.length;
    for (const bars of this.#bars.values()) bars.add(frame);
    if (this.frames.length > FRAMES_MAX) this.frames = [joined(this.frames)];
  }

  /** The tail's own bars of an interval, as a frame with the columns that /api/bars would give. */
  bars(interval) {
    let bars = this.#bars.get(interval.label);
    if (!bars) {
      bars = new Bars(interval, this.columns);
      for (const frame of this.frames) bars.add(frame);
      if (this.#bars.size > 3) this.#bars.clear(); // levels that were looked at before
      this.#bars.set(interval.label, bars);
    }
    return bars.frame();
  }

  /** A tail that begins later: `edge` must be at most `lastTime`. */
  from(edge) {
    const later = new Tail(this.columns, edge);
    for (const frame of this.frames) {
      let first = 0;
      while (first < frame.length && frame.time[first] < edge) first += 1;
      if (first < frame.length) later.add(first ? rest(frame, first) : frame);
    }
    return later;
  }
}

/** Frames with the same columns of numbers as one. */
function joined(frames) {
  const length = frames.reduce((sum, each) => sum + each.length, 0);
  const columns = new Map();
  for (const name of frames[0].columns) {
    const values = new (frames[0].get(name).constructor)(length);
    let at = 0;
    for (const frame of frames) {
      values.set(frame.get(name), at);
      at += frame.length;
    }
    columns.set(name, values);
  }
  return frameOf(columns, length);
}

/** A frame without its first records. */
function rest(frame, first) {
  const columns = new Map(frame.columns.map((name) => [name, cut(frame.get(name), first)]));
  return frameOf(columns, frame.length - first);
}

const cut = (values, first) => (values.subarray ? values.subarray(first) : [...values].slice(first));

/** What `assemble` needs of a frame. */
export function frameOf(columns, length) {
  return {
    length,
    columns: [...columns.keys()],
    time: columns.get("time"),
    has: (name) => columns.has(name),
    get: (name) => columns.get(name),
  };
}

const isNumber = (value) => value === value; // eslint-disable-line no-self-compare -- not NaN

class Bars {
  #interval;
  #names;
  #columns = new Map([["time", []], ["time.count", []]]);

  constructor(interval, columns) {
    this.#interval = interval;
    this.#names = columns.filter((name) => name !== "time");
    for (const name of this.#names) {
      for (const kind of ["open", "high", "low", "close", "sum"]) this.#columns.set(`${name}.${kind}`, []);
    }
  }

  add(frame) {
    const { seconds, shift } = this.#interval;
    const begins = this.#columns.get("time");
    const counts = this.#columns.get("time.count");
    const places = new Uint32Array(frame.length);
    for (let index = 0; index < frame.length; index++) {
      const begin = Math.max(0, Math.floor((frame.time[index] - shift) / seconds) * seconds + shift);
      if (begins[begins.length - 1] !== begin) {
        begins.push(begin);
        counts.push(0);
      }
      counts[counts.length - 1] += 1;
      places[index] = counts.length - 1;
    }
    for (const name of this.#names) {
      const values = frame.get(name);
      if (!values.bytesAt) this.#fold(name, values, places);
    }
  }

  #fold(name, values, places) {
    const [open, high, low, close, sum] = ["open", "high", "low", "close", "sum"].map((kind) =>
      this.#columns.get(`${name}.${kind}`));
    for (let index = 0; index < places.length; index++) {
      const [bar, value] = [places[index], values[index]];
      if (open.length === bar) {
        for (const each of [open, high, low, close]) each.push(value);
        sum.push(isNumber(value) ? Number(value) : NaN);
      } else if (isNumber(value)) {
        if (!isNumber(open[bar])) open[bar] = high[bar] = low[bar] = value;
        if (value > high[bar]) high[bar] = value;
        if (value < low[bar]) low[bar] = value;
        close[bar] = value;
        sum[bar] = (isNumber(sum[bar]) ? sum[bar] : 0) + Number(value);
      }
    }
  }

  frame() {
    return frameOf(this.#columns, this.#columns.get("time").length);
  }
}

/**
 * Bars of tiles, then bars of the tail: a bar that both have part of becomes one. Frames of tiles
 * are left as they are.
 */
export function joinBars(frames, tail) {
  if (!tail.length) return frames;
  const filled = frames.filter(({ length }) => length);
  const last = filled[filled.length - 1];
  if (!last || last.time[last.length - 1] !== tail.time[0]) return [...filled, tail];
  const columns = new Map();
  for (const name of tail.columns) {
    const values = [...tail.get(name)];
    if (last.has(name)) values[0] = combined(name, last.get(name).at(-1), values[0]);
    columns.set(name, values);
  }
  const before = new Map(last.columns.map((name) => [name, last.get(name).subarray(0, -1)]));
  return [...filled.slice(0, -1), frameOf(before, last.length - 1), frameOf(columns, tail.length)];
}

function combined(name, before, after) {
  if (!isNumber(before)) return after;
  if (!isNumber(after)) return before;
  if (name.endsWith(".high")) return after > before ? after : before;
  if (name.endsWith(".low")) return after < before ? after : before;
  if (name.endsWith(".open") || name === "time") return before;
  if (name.endsWith(".close")) return after;
  return before + after;
}
