/** Export, key and keyboard help: dialogs of the browser, so focus and Escape are its own. */

import { $, h } from "./dom.js";
import { recordsText, timeText } from "./format.js";
import { barsLink, COMPUTED_MAX, curlSnippet, pythonSnippet, rangeOf, recordLinks } from "./snippets.js";

export function setUpDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.querySelector("[data-close]")?.addEventListener("click", () => dialog.close());
  }
}

/**
 * What is in view, to take along. `asked` is { base, key, exchange, symbol, type, columns, view,
 * count, zone, bars }: `bars` is { columns, interval } of what is drawn, or null.
 */
export function showExport(asked) {
  tell("");
  const { base, key, view, count, zone, columns, bars } = asked;
  const [start, end] = rangeOf(view);
  const links = recordLinks(base, asked);
  if (bars) links.push(barsLink(base, { ...asked, columns: bars.columns }, bars.interval));
  $("export-told").textContent =
    `${asked.symbol} ${asked.type} of ${asked.exchange}, ${columns.join(", ")}, from ${timeText(start, zone)} ` +
    `until ${timeText(end, zone)} ${zone === "utc" ? "UTC" : "local time"}` +
    (count === null ? "." : `: ${bars ? "about " : ""}${recordsText(count)}.`);
  const isTooLong = count !== null && count > COMPUTED_MAX;
  $("export-long").hidden = !isTooLong;
  $("export-links").replaceChildren(...links.map(({ label, href, file, format }) => {
    const link = h("a", { class: "button", href, download: file, "data-format": format }, label);
    if (key) link.addEventListener("click", (event) => { event.preventDefault(); save(link, key); });
    return link;
  }));
  for (const [id, text] of [["export-curl", curlSnippet(base, asked, Boolean(key))], ["export-python", pythonSnippet(base, asked)]]) {
    $(id).textContent = text;
    $(`${id}-copy`).onclick = () => copy($(id), text);
  }
  $("export").showModal();
}

async function copy(element, text) {
  try {
    await navigator.clipboard.writeText(text);
    tell("Copied.");
  } catch {
    getSelection().selectAllChildren(element); // plain http has no clipboard: at least it is selected
    tell("Selected; press Ctrl+C to copy.");
  }
}

/** In the dialog: what is outside of it nobody sees or hears while it is open. */
function tell(text) {
  $("export-status").textContent = text;
}

/** A link cannot carry a key, so the body goes through memory. */
async function save(link, key) {
  tell(`Loading ${link.download} …`);
  try {
    const response = await fetch(link.href, { headers: { Authorization: `Bearer ${key}` } });
    if (!response.ok) {
      const problem = await response.json().catch(() => ({}));
      tell(problem.detail ?? `The server answered ${response.status}.`);
      return;
    }
    const href = URL.createObjectURL(await response.blob());
    h("a", { href, download: link.download }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
    tell(`${link.download} is saved.`);
  } catch {
    tell(`The connection broke before all of ${link.download} had come. Try again.`);
  }
}

/** Asks for a key; it is given to `onKey`. */
export function askKey(detail, onKey) {
  const dialog = $("key");
  if (dialog.open) return;
  $("key-told").textContent = detail;
  $("key-form").onsubmit = (event) => {
    event.preventDefault();
    const value = $("key-value").value.trim();
    if (!value) return;
    $("key-value").value = "";
    dialog.close();
    onKey(value);
  };
  dialog.showModal();
}

export const showHelp = () => $("help").showModal();
