/**
 * The visible range of time, and how it moves. Pure: every function returns a new view.
 *
 * A view is { start, end } in unix seconds, with fractions. `bounds` is { first, last }: the data.
 */

/** Seconds: closer, a record is as wide as the screen. */
const SPAN_MIN = 0.05;
/** Of the data's own span: so much may be seen at once, so that its ends are seen. */
const SPAN_MAX_RATIO = 1.5;
/** Of the view: so much of it stays on data when it is moved beyond an end. */
const KEPT = 0.1;
/** Of the view, right of the newest record, when all or the newest is shown. */
export const MARGIN = 0.04;

export const spanOf = (view) => view.end - view.start;

/** `last` is a whole second, and a record may lie anywhere in it. */
const endOf = (bounds) => bounds.last + 1;

const longestOf = (bounds) => (endOf(bounds) - bounds.first) * SPAN_MAX_RATIO + 60;

/** The nearest view that still shows data. */
export function clamp(view, bounds) {
  const span = Math.min(Math.max(spanOf(view), SPAN_MIN), longestOf(bounds));
  let start = view.start + (spanOf(view) - span) / 2;
  start = Math.min(start, endOf(bounds) - span * KEPT);
  start = Math.max(start, bounds.first - span * (1 - KEPT), 0);
  return { start, end: start + span };
}

/** Zooms by `factor` (below 1: closer) around a place from 0 (left) to 1 (right). */
export function zoom(view, factor, place, bounds) {
  const span = spanOf(view);
  const wanted = Math.min(Math.max(span * factor, SPAN_MIN), longestOf(bounds));
  const fixed = view.start + span * place;
  const start = fixed - wanted * place;
  return clamp({ start, end: start + wanted }, bounds);
}

/** Moves by a part of its span; positive is later. */
export function pan(view, part, bounds) {
  const by = spanOf(view) * part;
  return clamp({ start: view.start + by, end: view.end + by }, bounds);
}

/** All there is, with a margin on both sides. */
export function all(bounds) {
  const span = (endOf(bounds) - bounds.first) / (1 - 2 * MARGIN);
  const { end } = newest(bounds, span);
  return { start: Math.max(0, end - span), end };
}

/** The newest `spanS` seconds. */
export function newest(bounds, spanS) {
  const end = endOf(bounds) + spanS * MARGIN;
  return { start: Math.max(0, end - spanS), end };
}

/** The oldest `spanS` seconds. */
export function oldest(bounds, spanS) {
  const start = Math.max(0, bounds.first - spanS * MARGIN);
  return { start, end: start + spanS };
}

/** Whether the newest record is in view: then the view follows it. */
export const showsNewest = (view, bounds) => view.end >= endOf(bounds) && view.start < endOf(bounds);
