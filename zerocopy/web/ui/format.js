/** Numbers and times as text. Pure; `zone` is "utc" or "local". */

const DIGITS_OF_F4 = 9;

/** The shortest decimal that reads back as the same f4: 0.1 and not 0.10000000149011612. */
export function shortestF4(value) {
  if (!Number.isFinite(value)) return String(value);
  for (let digits = 1; digits < DIGITS_OF_F4; digits++) {
    const text = value.toPrecision(digits);
    if (Math.fround(Number(text)) === value) return String(Number(text));
  }
  return String(Number(value.toPrecision(DIGITS_OF_F4)));
}

/** A value exactly as the column holds it. */
export function exact(value, dtype) {
  if (value === undefined || value === null) return "–";
  if (typeof value === "number" && Number.isNaN(value)) return "NaN";
  return dtype === "<f4" ? shortestF4(value) : String(value);
}

/** A value for an axis or a headline: 1.5M, 0.0025, 62,040.5. */
export function brief(value, digits = 5) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-6)) return value.toExponential(2);
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"]]) {
    if (size >= unit) return `${trim((value / unit).toPrecision(3))}${letter}`;
  }
  const decimals = Math.max(0, Math.min(8, digits - 1 - Math.floor(Math.log10(size || 1))));
  return value.toLocaleString("en-US", { maximumFractionDigits: decimals });
}

const trim = (text) => (text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text);

// A step is 1, 2, 2.5 or 5 of a power of ten; the difference of two splits is almost that.
const isWhole = (number) => number > 0.5 && Math.abs(number - Math.round(number)) < 1e-3;

/** Labels of an axis: all with the decimals that the distance between two of them needs. */
export function axisValues(splits) {
  const step = splits.length > 1 ? Math.abs(splits[1] - splits[0]) : 1;
  const largest = Math.max(...splits.map(Math.abs), 0);
  const [unit, letter] = [[1e12, "T"], [1e9, "G"], [1e6, "M"]].find(([each]) => largest >= each) ?? [1, ""];
  let decimals = 0;
  for (let scaled = step / unit; decimals < 12 && !isWhole(scaled); scaled *= 10) decimals++;
  return splits.map((value) =>
    (value / unit).toLocaleString("en-US", {
      minimumFractionDigits: decimals,
      maximumFractionDigits: decimals,
    }) + (value ? letter : ""));
}

const two = (number) => String(number).padStart(2, "0");

/** The parts of a time in a zone. */
export function partsOf(seconds, zone) {
  const date = new Date(Math.floor(seconds * 1000));
  const local = zone === "local";
  return {
    year: local ? date.getFullYear() : date.getUTCFullYear(),
    month: (local ? date.getMonth() : date.getUTCMonth()) + 1,
    day: local ? date.getDate() : date.getUTCDate(),
    hour: local ? date.getHours() : date.getUTCHours(),
    minute: local ? date.getMinutes() : date.getUTCMinutes(),
    second: local ? date.getSeconds() : date.getUTCSeconds(),
  };
}

export function dateText(seconds, zone) {
  const { year, month, day } = partsOf(seconds, zone);
  return `${year}-${two(month)}-${two(day)}`;
}

/** 2025-01-31 07:22:03; `nanos` adds .123456789, without zeros at its end in threes. */
export function timeText(seconds, zone, nanos = 0) {
  const { hour, minute, second } = partsOf(seconds, zone);
  const fraction = nanos ? `.${String(nanos).padStart(9, "0").replace(/(000){1,2}$/, "")}` : "";
  return `${dateText(seconds, zone)} ${two(hour)}:${two(minute)}:${two(second)}${fraction}`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Labels of the axis of time: what is new at each of them, the coarsest word there is. */
export function timeLabels(splits, zone) {
  const step = splits.length > 1 ? splits[1] - splits[0] : 1;
  return splits.map((split) => {
    const { year, month, day, hour, minute, second } = partsOf(split + 1e-6, zone);
    const fraction = step < 1 ? split - Math.floor(split) : 0;
    if (fraction > 1e-6 && fraction < 1 - 1e-6) {
      return `:${two(second)}${fraction.toFixed(Math.min(6, Math.ceil(-Math.log10(step)))).slice(1)}`;
    }
    if (second && step < 60) return `${two(hour)}:${two(minute)}:${two(second)}`;
    if (hour || minute) return `${two(hour)}:${two(minute)}`;
    if (day === 1 && month === 1) return String(year);
    if (day === 1) return MONTHS[month - 1];
    return `${day} ${MONTHS[month - 1]}`;
  });
}

/** now, 5 s, 3 min, 2 h, 9 d ago, then the date. */
export function ago(seconds, nowS) {
  const age = Math.max(0, nowS - seconds);
  if (age < 2) return "now";
  if (age < 60) return `${Math.floor(age)} s`;
  if (age < 3600) return `${Math.floor(age / 60)} min`;
  if (age < 86400) return `${Math.floor(age / 3600)} h`;
  if (age < 60 * 86400) return `${Math.floor(age / 86400)} d`;
  return dateText(seconds, "utc");
}

/** 25 s, 4 min, 6 h, 12 d, 3 y: a span in words. */
export function spanText(seconds) {
  for (const [unit, word] of [[31557600, "y"], [86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    if (seconds >= unit * (unit > 86400 ? 2 : 1.5) || unit === 1) {
      return `${trim((seconds / unit).toPrecision(seconds / unit < 100 ? 2 : 3))} ${word}`;
    }
  }
  return "";
}

export const countText = (count) => count.toLocaleString("en-US");
