/** Light and dark: what the system prefers, or what was chosen; and the colours for the canvas. */

const NAMES = ["text", "muted", "faint", "grid", "ground", "accent", "up", "down", "bars", "gap",
  "line-1", "line-2", "line-3", "line-4", "line-5", "line-6"];
const KEY = "zerocopy.theme";

export class Theme {
  colors = {};
  #prefersDark = matchMedia("(prefers-color-scheme: dark)");
  onChange = () => {};

  constructor() {
    this.#prefersDark.addEventListener("change", () => this.apply());
    this.apply();
  }

  get isDark() {
    const chosen = sessionStorage.getItem(KEY);
    return chosen ? chosen === "dark" : this.#prefersDark.matches;
  }

  toggle() {
    const next = this.isDark ? "light" : "dark";
    const system = this.#prefersDark.matches ? "dark" : "light";
    if (next === system) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, next);
    this.apply();
  }

  apply() {
    document.documentElement.dataset.theme = this.isDark ? "dark" : "light";
    const style = getComputedStyle(document.documentElement);
    for (const name of NAMES) this.colors[name] = style.getPropertyValue(`--${name}`).trim();
    this.onChange();
  }

  /** The colour of the nth line of a pane. */
  line(index) {
    return this.colors[`line-${(index % 6) + 1}`];
  }
}
