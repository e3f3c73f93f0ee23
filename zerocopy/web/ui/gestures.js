/**
 * Wheel, drag, pinch and pointer over the panes, as what they mean.
 *
 * `area()` gives { left, width } of the plots in CSS pixels of the window. `on` has `zoom(factor,
 * place)`, `pan(part)`, `select(from, to)`, `point(place, event)`, `leave()`, `settle()`; places are
 * from 0 (left) to 1 (right).
 */

import { h } from "./dom.js";

const ZOOM_PER_PIXEL = 0.0022;
const LINE_PIXELS = 16; // of a wheel that counts lines
const SELECT_MIN = 6; // pixels: less was a click
const WHEEL_SETTLES_MS = 250;

export function gestures(host, area, on) {
  const pointers = new Map();
  const band = h("div", { class: "band", hidden: true });
  host.append(band);
  let [mode, begun, pinch, timer] = [null, 0, null, 0];

  const placeOf = (x) => {
    const { left, width } = area();
    return (x - left) / Math.max(1, width);
  };

  host.addEventListener("wheel", (event) => {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? LINE_PIXELS : event.deltaMode === 2 ? innerHeight : 1;
    const [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
    if (event.shiftKey || Math.abs(dx) > Math.abs(dy)) on.pan((dx || dy) / area().width);
    else on.zoom(Math.exp(Math.max(-400, Math.min(400, dy)) * ZOOM_PER_PIXEL * (event.ctrlKey ? 4 : 1)), placeOf(event.clientX));
    clearTimeout(timer);
    timer = setTimeout(on.settle, WHEEL_SETTLES_MS);
  }, { passive: false });

  host.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.target.closest(".plot")) return;
    pointers.set(event.pointerId, event.clientX);
    host.setPointerCapture(event.pointerId);
    mode = event.shiftKey && pointers.size === 1 ? "select" : "pan";
    begun = event.clientX;
    pinch = pointers.size === 2 ? fingers() : null;
    host.classList.toggle("is-dragged", mode === "pan");
  });

  host.addEventListener("pointermove", (event) => {
    if (event.target.closest(".plot") || pointers.size) on.point(placeOf(event.clientX), event);
    if (!pointers.has(event.pointerId)) return;
    const before = pointers.get(event.pointerId);
    pointers.set(event.pointerId, event.clientX);
    if (pointers.size === 2) pinchTo();
    else if (mode === "pan") on.pan((before - event.clientX) / area().width);
    else if (mode === "select") showBand(event.clientX);
  });

  const fingers = () => {
    const [a, b] = [...pointers.values()];
    return { distance: Math.max(20, Math.abs(a - b)), middle: (a + b) / 2 };
  };

  function pinchTo() {
    const now = fingers();
    if (pinch) {
      on.pan((pinch.middle - now.middle) / area().width);
      on.zoom(pinch.distance / now.distance, placeOf(now.middle));
    }
    pinch = now;
  }

  function showBand(x) {
    const { left } = host.getBoundingClientRect();
    band.hidden = Math.abs(x - begun) < SELECT_MIN;
    band.style.left = `${Math.min(x, begun) - left}px`;
    band.style.width = `${Math.abs(x - begun)}px`;
  }

  function release(event) {
    if (!pointers.delete(event.pointerId)) return;
    const isClick = Math.abs(event.clientX - begun) < SELECT_MIN;
    if (mode === "select" && event.type === "pointerup" && !isClick) {
      on.select(placeOf(Math.min(begun, event.clientX)), placeOf(Math.max(begun, event.clientX)));
    }
    band.hidden = true;
    pinch = null;
    if (pointers.size) return;
    mode = null;
    host.classList.remove("is-dragged");
    on.settle();
  }
  host.addEventListener("pointerup", release);
  host.addEventListener("pointercancel", release);
  host.addEventListener("pointerleave", () => pointers.size || on.leave());
}
