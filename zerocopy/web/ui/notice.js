/** What is said instead of a chart, or above it: each says what to do next. */

import { $, h } from "./dom.js";

const code = (text) => h("code", {}, text);

/** In place of the chart: a title, paragraphs, buttons ([text, onclick, class]). Without a title: none. */
export function showNotice(title, paragraphs = [], buttons = []) {
  const notice = $("notice");
  notice.hidden = !title;
  $("chart").hidden = Boolean(title);
  $("foot").hidden = $("bar").hidden = Boolean(title);
  // A page that looks again and finds the same leaves the button that may just be pressed.
  const told = JSON.stringify([title, paragraphs.map(String), buttons.map(([text]) => text)]);
  if (notice.dataset.told === told) return;
  notice.dataset.told = told;
  if (!title) return notice.replaceChildren();
  notice.replaceChildren(h("div", { class: "card" },
    h("h2", {}, title),
    ...paragraphs.map((paragraph) => (paragraph instanceof Node ? paragraph : h("p", {}, paragraph))),
    buttons.length ? h("div", { class: "row" }, buttons.map(([text, onclick, more = ""]) => h("button", { type: "button", class: `strong ${more}`, onclick }, text))) : null));
  tell(title);
}

export const emptyRoot = () => [
  "No data yet",
  [
    "This server has no day file. The page looks again every few seconds and goes on by itself.",
    h("p", {}, "To try it, make some, below the directory that the server serves:"),
    h("pre", { tabindex: "0" }, "zerocopy generate DIR --days 14"),
    h("p", {}, "Your own: ", code("zerocopy import FILE --root DIR"), " takes CSV, Parquet and others, ", code("zerocopy record --root DIR"),
      " appends what comes in by a pipe, while the page is open. Each column has one file a day: ", code("{exchange}/{symbol}/{type}/{column}.{DD}.{MM}.{YY}.bin"), "."),
    h("p", {}, "Data elsewhere? Start the server with ", code("zerocopy serve --data-path DIR"), "."),
  ],
];

/** A line above the chart: null takes it away. */
export function showBanner(text, button = null) {
  const banner = $("banner");
  banner.hidden = !text;
  banner.replaceChildren(...(text ? [h("span", {}, text), button && h("button", { type: "button", class: "quiet", onclick: button[1] }, button[0])].filter(Boolean) : []));
}

/** To a screen reader alone: what the eye sees without words. */
export function tell(text) {
  $("told").textContent = text;
}
