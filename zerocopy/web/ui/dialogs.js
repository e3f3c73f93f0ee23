/** Export and keyboard help: dialogs of the browser, so focus and Escape are its own. */

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
 * What is in view, to take along. `asked` is { base, ticket, exchange, symbol, type, columns, view,
 * count, zone, bars }: `bars` is { columns, interval } of what is drawn, or null; `ticket()` promises
 * what stands in for the key, and is null where there is none.
 */
export function showExport(asked) {
  tell("");
  const { base, ticket, view, count, zone, columns, bars } = asked;
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
    if (ticket) link.addEventListener("click", (event) => { event.preventDefault(); save(link, ticket); });
    return link;
  }));
  for (const [id, text] of [["export-curl", curlSnippet(base, asked, Boolean(ticket))], ["export-python", pythonSnippet(base, asked, Boolean(ticket))]]) {
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

/** A link cannot carry a key, and shows no ticket: one is made when it is taken. */
async function save(link, ticket) {
  tell("Asking for a ticket …");
  try {
    const target = new URL(link.href);
    target.searchParams.set("ticket", await ticket());
    h("a", { href: target.href, download: link.download }).click();
    tell("The download has begun.");
  } catch (error) {
    tell(error.detail ?? String(error));
  }
}

/** Takes away what an export has told. */
export function forgetExport() {
  $("export").close();
  for (const id of ["export-told", "export-links", "export-curl", "export-python"]) $(id).replaceChildren();
}

export const showHelp = () => $("help").showModal();
