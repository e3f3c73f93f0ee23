/**
 * Candles, lines, bars and gaps on a canvas, in its own pixels.
 *
 * Owns no state: everything comes with the call. `frame` is { ctx, x, y, left, top, width, height,
 * from, to, density }: `x(seconds)` and `y(value)` give pixels, [from, to) are the records in sight.
 */

const BODY = 0.7; // of a bar's width; the rest is space
const MARKS_APART = 7; // CSS pixels between records from which each has a mark
const HATCH_APART = 8;

export function drawCandles({ ctx, x, y, from, to, density }, { data, values, seconds, colors }) {
  const [open, high, low, close] = values;
  const step = x(seconds) - x(0);
  const body = Math.max(1, Math.floor(step * BODY));
  const wick = Math.max(1, Math.floor(Math.min(density, step / 4)));
  for (const isUp of [true, false]) {
    ctx.fillStyle = isUp ? colors.up : colors.down;
    ctx.beginPath();
    for (let index = from; index < to; index++) {
      if (close[index] >= open[index] !== isUp || Number.isNaN(close[index])) continue;
      const middle = x(data.x[index]);
      const [top, bottom] = [y(high[index]), y(low[index])];
      ctx.rect(Math.round(middle - wick / 2), top, wick, Math.max(bottom - top, 1));
      if (body <= wick) continue;
      const [first, last] = [y(Math.max(open[index], close[index])), y(Math.min(open[index], close[index]))];
      ctx.rect(Math.round(middle - body / 2), Math.round(first), body, Math.max(Math.round(last - first), density));
    }
    ctx.fill();
  }
}

/** Through open, high, low and close of each bucket: one pixel wide, it is the line of all records. */
export function drawLine({ ctx, x, y, from, to, density }, { data, column, color }) {
  const [open, high, low, close] = ["open", "high", "low", "close"].map((each) =>
    data.columns.get(`${column}.${each}`));
  begin(ctx, color, density);
  let isBroken = true;
  for (let index = from; index < to; index++) {
    if (Number.isNaN(close[index])) {
      isBroken = true;
      continue;
    }
    const at = x(data.x[index]);
    if (isBroken) ctx.moveTo(at, y(open[index]));
    else ctx.lineTo(at, y(open[index]));
    if (high[index] !== low[index]) {
      const isRising = close[index] >= open[index];
      ctx.lineTo(at, y(isRising ? low[index] : high[index]));
      ctx.lineTo(at, y(isRising ? high[index] : low[index]));
      ctx.lineTo(at, y(close[index]));
    }
    isBroken = false;
  }
  ctx.stroke();
}

/** Single records: each value holds until the next; a mark on each where there is room. */
export function drawTicks({ ctx, x, y, from, to, density }, { data, column, color }) {
  const values = data.columns.get(column);
  begin(ctx, color, density);
  let [isBroken, before] = [true, 0];
  for (let index = from; index < to; index++) {
    const value = values[index];
    if (Number.isNaN(value)) {
      isBroken = true;
      continue;
    }
    const [at, height] = [x(data.x[index]), y(value)];
    if (isBroken) ctx.moveTo(at, height);
    else {
      ctx.lineTo(at, before);
      ctx.lineTo(at, height);
    }
    [isBroken, before] = [false, height];
  }
  ctx.stroke();
  const apart = (x(data.x[to - 1]) - x(data.x[from])) / Math.max(1, to - from);
  if (to - from > 1 && apart < MARKS_APART * density) return;
  ctx.fillStyle = color;
  ctx.beginPath();
  for (let index = from; index < to; index++) {
    if (Number.isNaN(values[index])) continue;
    const [at, height] = [x(data.x[index]), y(values[index])];
    ctx.moveTo(at + 2.5 * density, height);
    ctx.arc(at, height, 2.5 * density, 0, 2 * Math.PI);
  }
  ctx.fill();
}

/** From zero to the value; a bar's width, or a stroke for a single record. */
export function drawBars({ ctx, x, y, from, to, density }, { data, values, seconds, color }) {
  const step = seconds ? x(seconds) - x(0) : 0;
  const width = Math.max(density, Math.floor(step * BODY));
  const zero = y(0);
  ctx.fillStyle = color;
  ctx.beginPath();
  for (let index = from; index < to; index++) {
    if (Number.isNaN(values[index])) continue;
    const height = y(values[index]);
    ctx.rect(Math.round(x(data.x[index]) - width / 2), Math.min(zero, height), width, Math.max(Math.abs(zero - height), values[index] ? density : 0));
  }
  ctx.fill();
}

/** Days without files: hatched, and named where there is room. */
export function drawGaps({ ctx, x, left, top, width, height, density }, gaps, colors) {
  for (const [start, end] of gaps) {
    const from = Math.max(left, x(start));
    const to = Math.min(left + width, x(end));
    if (to - from < 1) continue;
    ctx.save();
    ctx.beginPath();
    ctx.rect(from, top, to - from, height);
    ctx.clip();
    ctx.strokeStyle = colors.gap;
    ctx.lineWidth = density;
    ctx.beginPath();
    for (let at = from - height; at < to; at += HATCH_APART * density) {
      ctx.moveTo(at, top + height);
      ctx.lineTo(at + height, top);
    }
    ctx.stroke();
    const days = Math.round((end - start) / 86400);
    const text = days === 1 ? "no data for a day" : `no data for ${days} days`;
    ctx.font = `${11 * density}px system-ui, sans-serif`;
    if (ctx.measureText(text).width < to - from - 8 * density) {
      ctx.fillStyle = colors.muted;
      ctx.textAlign = "center";
      ctx.fillText(text, (from + to) / 2, top + height - 10 * density);
    }
    ctx.restore();
  }
}

/** The newest value: a dashed line across. */
export function drawLevel({ ctx, y, left, width, density }, value, color) {
  const height = Math.round(y(value)) + 0.5;
  ctx.save();
  ctx.strokeStyle = color;
  ctx.lineWidth = density;
  ctx.setLineDash([2 * density, 3 * density]);
  ctx.beginPath();
  ctx.moveTo(left, height);
  ctx.lineTo(left + width, height);
  ctx.stroke();
  ctx.restore();
}

function begin(ctx, color, density) {
  ctx.strokeStyle = color;
  ctx.lineWidth = 1.25 * density;
  ctx.lineJoin = "round";
  ctx.beginPath();
}
