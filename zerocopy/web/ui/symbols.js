/**
 * The list of symbols: search, recency, exchanges. A listbox that the search field steers, so that
 * typing, arrows and Enter are enough.
 */

import { $, h } from "./dom.js";
import { ago, timeText } from "./format.js";
import { search } from "./search.js";

const SHOWN_MAX = 200;
/** What changed within so many seconds of the newest is as new: else a busy list would never rest. */
const AS_NEW_S = 60;

const nameOf = ({ symbol, exchange }) => `${symbol}/${exchange}`;
const byName = (a, b) => (nameOf(a) < nameOf(b) ? -1 : 1);

export class SymbolList {
  #entries = [];
  #found = [];
  #active = 0;
  #chosen = null;
  #onChoose;
  #input = $("search");
  #list = $("symbols");
  #exchange = $("exchange-filter");
  #told = $("symbols-told");

  constructor(onChoose) {
    this.#onChoose = onChoose;
    this.#input.addEventListener("input", () => this.#filter());
    this.#exchange.addEventListener("change", () => this.#filter());
    this.#input.addEventListener("keydown", (event) => this.#key(event));
    this.#list.addEventListener("click", (event) => {
      const item = event.target.closest("[role=option]");
      if (item) this.#choose(Number(item.dataset.index));
    });
  }

  /** Whether the server has any symbol. */
  get isEmpty() {
    return this.#entries.length === 0;
  }
  get entries() {
    return this.#entries;
  }

  /** The answer of /api/symbols; what is typed and chosen stays. */
  show({ exchanges }) {
    this.#entries = Object.entries(exchanges).flatMap(([exchange, symbols]) =>
      symbols.map(({ symbol, last_update: updated }) => ({ symbol, exchange, updated })));
    const newest = this.#entries.reduce((most, { updated }) => Math.max(most, updated), 0);
    const rank = ({ updated }) => Math.min(updated, newest - AS_NEW_S);
    this.#entries.sort((a, b) => rank(b) - rank(a) || byName(a, b));
    const names = Object.keys(exchanges);
    const now = [...this.#exchange.options].map(({ value }) => value).filter(Boolean);
    if (names.join() !== now.join()) {
      const { value } = this.#exchange;
      this.#exchange.replaceChildren(h("option", { value: "" }, "All exchanges"),
        ...names.map((name) => h("option", { value: name }, name)));
      this.#exchange.value = names.includes(value) ? value : "";
      this.#exchange.hidden = names.length < 2;
    }
    const active = this.#found[this.#active];
    this.#filter(active);
  }

  /** Marks what the chart shows. */
  mark(exchange, symbol) {
    this.#chosen = `${exchange}/${symbol}`;
    this.#render();
  }

  /** Forgets everything, what was typed too. */
  clear() {
    this.#chosen = null;
    this.#input.value = "";
    this.show({ exchanges: {} });
  }

  focus() {
    this.#input.focus();
    this.#input.select();
  }

  #filter(keep) {
    const exchange = this.#exchange.value;
    const some = exchange ? this.#entries.filter((entry) => entry.exchange === exchange) : this.#entries;
    this.#found = search(this.#input.value, this.#input.value ? [...some].sort(byName) : some);
    const at = keep ? this.#found.findIndex(({ symbol, exchange: other }) => symbol === keep.symbol && other === keep.exchange) : 0;
    this.#active = Math.max(0, at);
    this.#render();
  }

  #render() {
    const nowS = Date.now() / 1000;
    const items = this.#found.slice(0, SHOWN_MAX).map(({ symbol, exchange, updated }, index) =>
      h("li", {
        role: "option", id: `symbol-${index}`, "data-index": String(index), title: `last changed ${timeText(updated, "utc")} UTC`,
        "aria-selected": String(`${exchange}/${symbol}` === this.#chosen), class: index === this.#active ? "is-active" : "",
      }, h("span", { class: "symbol" }, symbol), h("span", { class: "exchange" }, exchange), h("time", {}, ago(updated, nowS))));
    this.#list.replaceChildren(...items);
    this.#input.setAttribute("aria-activedescendant", items.length ? `symbol-${this.#active}` : "");
    this.#told.replaceChildren(...this.#tell());
  }

  #tell() {
    const typed = this.#input.value.trim();
    if (!this.#entries.length) return [];
    if (!this.#found.length) {
      const clear = () => {
        this.#input.value = this.#exchange.value = "";
        this.#filter();
        this.#input.focus();
      };
      return [h("p", {}, `No symbol matches “${typed}”.`), h("button", { type: "button", class: "quiet", onclick: clear }, "Show all symbols")];
    }
    const left = this.#found.length - SHOWN_MAX;
    return left > 0 ? [h("p", {}, `${left.toLocaleString("en-US")} more: type to find them.`)] : [];
  }

  #key(event) {
    const last = Math.min(this.#found.length, SHOWN_MAX) - 1;
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 };
    if (event.key in moves) {
      this.#active = Math.max(0, Math.min(last, this.#active + moves[event.key]));
      this.#render();
      this.#list.children[this.#active]?.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter") this.#choose(this.#active);
    else if (event.key === "Escape" && this.#input.value) {
      this.#input.value = "";
      this.#filter();
    } else return;
    event.preventDefault();
  }

  #choose(index) {
    const entry = this.#found[index];
    if (!entry) return;
    this.#active = index;
    this.#onChoose(entry);
  }
}
