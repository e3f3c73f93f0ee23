/** Numbers and times as text. Pure; `zone` is "utc" or "local". */

const DIGITS_OF_F4 = 9;
/** Beside an axis there is room for so many characters: 45,202.125 or 0.00001125. */
const LABEL_LENGTH = 10;
/** Of 0.00001125: what needs more is written as 1.1250e-5. */
const PLAIN_DECIMALS = 8;
/** Of 1.1250e-10. */
const EXPONENTIAL_DECIMALS = 4;

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

/** The same with commas between thousands: 62,040.47. */
export function grouped(value, dtype) {
  const [whole, ...rest] = exact(value, dtype).split(".");
  return [whole.replace(/\B(?=(\d{3})+$)/g, ","), ...rest].join(".");
}

/** A sum: f4 has no more digits worth reading than nine, and f8 shows the noise of its addition. */
export function sumText(value) {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-6)) return String(Number(value.toPrecision(DIGITS_OF_F4)));
  const maximumFractionDigits = 20;
  return Number(value.toPrecision(DIGITS_OF_F4)).toLocaleString("en-US", { maximumFractionDigits });
}

const UNITS = [[1e12, "T"], [1e9, "G"], [1e6, "M"]];
const trim = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);

// A step is 1, 2, 2.5 or 5 of a power of ten; the difference of two splits is almost that.
const isWhole = (number) => number > 0.5 && Math.abs(number - Math.round(number)) < 1e-3;

function decimalsOf(step) {
  let decimals = 0;
  for (let scaled = step; decimals < 12 && !isWhole(scaled); scaled *= 10) decimals++;
  return decimals;
}

/**
 * How an axis with these labels writes a value: with the decimals that the distance between two of
 * them needs, or with at most `more` of them, without zeros at the end; never more than fit.
 */
export function axisFormat(splits) {
  const step = splits.length > 1 ? Math.abs(splits[1] - splits[0]) : 1;
  const largest = Math.max(...splits.map(Math.abs), 0);
  const isTiny = largest > 0 && largest < 1e-4 && decimalsOf(step) > PLAIN_DECIMALS;
  if (isTiny || largest >= 1e15) {
    const decimals = decimalsOf(step / 10 ** Math.floor(Math.log10(largest)));
    return (value, more = 0) =>
      (value ? value.toExponential(Math.min(decimals + more, EXPONENTIAL_DECIMALS)).replace("+", "") : "0");
  }
  const [unit, letter] = UNITS.find(([each]) => largest >= each) ?? [1, ""];
  const wholes = splits.map((value) => Math.trunc(value / unit).toLocaleString("en-US").length);
  const room = Math.max(0, LABEL_LENGTH - Math.max(...wholes, 1) - letter.length - 1);
  const needed = decimalsOf(step / unit);
  return (value, more = 0) => {
    const decimals = Math.min(needed + more, room);
    const text = (value / unit).toLocaleString("en-US", {
      minimumFractionDigits: more ? 0 : decimals,
      maximumFractionDigits: decimals,
    });
    return text + (value ? letter : "");
  };
}

/** Labels of an axis. */
export const axisValues = (splits) => splits.map((value) => axisFormat(splits)(value));

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

/** now, 5 s, 3 min, 2 h, 9 d, then the date; a clock may be a day wrong. */
export function ago(seconds, nowS) {
  const age = nowS - seconds;
  if (age < -86400) return dateText(seconds, "utc");
  if (age < 2) return "now";
  if (age < 60) return `${Math.floor(age)} s`;
  if (age < 3600) return `${Math.floor(age / 60)} min`;
  if (age < 86400) return `${Math.floor(age / 3600)} h`;
  if (age < 60 * 86400) return `${Math.floor(age / 86400)} d`;
  return dateText(seconds, "utc");
}

/** The same in a sentence: now, 5 s ago, 2025-01-31. */
export function agoText(seconds, nowS) {
  const text = ago(seconds, nowS);
  return /[a-z]$/.test(text) && text !== "now" ? `${text} ago` : text;
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

/** 1 record, 1,234 records. */
export function recordsText(count) {
  const rounded = Math.round(count);
  return `${rounded.toLocaleString("en-US")} ${rounded === 1 ? "record" : "records"}`;
}

/** What a limit (429) means for who waits `waitS` seconds; `detail` is the server's word. */
export function limitText(waitS, detail = "there were too many requests", nowMs = Date.now()) {
  const [why] = detail.split(/; try again|\.$/);
  const at = () => new Date(nowMs + waitS * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return `${why[0].toUpperCase()}${why.slice(1)}. The page goes on ${waitS < 90 ? `in ${Math.ceil(waitS)} s` : `at ${at()}`}.`;
}
