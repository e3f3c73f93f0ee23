/** The menu of a pane: how it is drawn, and which columns. */

import { h, icon } from "./dom.js";
import { OHLC } from "./plan.js";

export const KIND_NAMES = { candles: "Candles", line: "Line", bars: "Bars" };

/** What is drawn, in words: `time` stands for the records, and four columns of candles for OHLC. */
export const namesOf = ({ kind, columns }) =>
  (kind === "candles" && columns.length > 1 ? "OHLC" : columns.map((column) => (column === "time" ? "records" : column)).join(", "));

/** The menu of a pane: `columns` are those that can be drawn, `place` is 0 for the uppermost. */
export function paneMenu({ spec, columns, place, isOnly, onChange, onRemove, onMove }) {
  const name = `kind-${Math.random().toString(36).slice(2)}`;
  const hasBars = OHLC.every((column) => columns.includes(column));
  const columnsFor = (kind) => {
    if (spec.kind === "candles") return kind === "candles" ? spec.columns : spec.columns.slice(-1);
    const fitting = spec.columns.filter((column) => kind === "bars" || column !== "time");
    const some = fitting.length ? fitting : columns.slice(0, 1);
    return kind === "candles" ? some.slice(0, 1) : some;
  };
  const kinds = Object.entries(KIND_NAMES).map(([kind, text]) =>
    h("label", {}, h("input", {
      type: "radio", name, checked: kind === spec.kind, disabled: !columnsFor(kind).length,
      onchange: () => onChange({ kind, columns: columnsFor(kind) }),
    }), text));
  const isSingle = spec.kind === "candles";
  const choice = (label, isChosen, choose) => h("label", {}, h("input", {
    type: isSingle ? "radio" : "checkbox", name: `${name}-column`, checked: isChosen, onchange: choose,
  }), label);
  const choices = isSingle
    ? [...(hasBars ? [[...OHLC]] : []), ...columns.map((column) => [column])].map((some) =>
      choice(namesOf({ kind: "candles", columns: some }), some.join() === spec.columns.join(), () => onChange({ ...spec, columns: some })))
    : [...columns, ...(spec.kind === "bars" ? ["time"] : [])].map((column) =>
      choice(namesOf({ columns: [column] }), spec.columns.includes(column), ({ target }) => {
        const others = spec.columns.filter((each) => each !== column);
        const next = target.checked ? [...others, column] : others;
        if (next.length) onChange({ ...spec, columns: next });
        else target.checked = true;
      }));
  const names = namesOf(spec);
  return h("details", { class: "menu", ontoggle: ({ target }) => opensWhereThereIsRoom(target) },
    h("summary", { "aria-label": `${names}: change this pane` }, h("span", {}, names), h("small", {}, KIND_NAMES[spec.kind]), icon("down")),
    h("div", { class: "menu-body" },
      h("fieldset", {}, h("legend", {}, "Drawn as"), kinds),
      h("fieldset", {}, h("legend", {}, isSingle ? "Column" : "Columns"), h("div", { class: "choices" }, choices)),
      h("div", { class: "row" },
        h("button", { type: "button", class: "quiet", disabled: place === 0, onclick: onMove }, "Move up"),
        h("button", { type: "button", class: "quiet", disabled: isOnly, onclick: onRemove }, "Remove pane"))));
}

/** Below its button, or above where the window ends before it does. */
function opensWhereThereIsRoom(menu) {
  menu.classList.remove("opens-up");
  if (!menu.open) return;
  const { bottom, height } = menu.querySelector(".menu-body").getBoundingClientRect();
  menu.classList.toggle("opens-up", bottom > innerHeight && menu.getBoundingClientRect().top > height);
}
