/**
 * The view in the address: #/coinbase/BTC-USD/MD?from=…&to=…&panes=candles:price;bars:volume
 *
 * Pure. What is left out has its default; what cannot be read is left out, never an error.
 */

export const KINDS = ["candles", "line", "bars"];
const NAME = /^[A-Za-z0-9_^][A-Za-z0-9._:+@^=&#~-]{0,63}$/;
export const PANES_MAX = 6;
const ROUNDING_S = 1e-3;

const isoOf = (seconds) => {
  const text = new Date(Math.round(seconds * 1000)).toISOString();
  return text.replace(/\.000Z$/, "Z").replace(/:00Z$/, "Z");
};

const secondsOf = (text) => {
  const ms = /^\d{4}-\d\d-\d\dT/.test(text ?? "") ? Date.parse(text) : NaN;
  return Number.isNaN(ms) || ms < 0 ? null : ms / 1000;
};

// A comma and a colon may stand in a fragment as they are: RFC 3986 section 3.5.
const encode = (text) => encodeURIComponent(text).replace(/%3A/g, ":").replace(/%2C/g, ",");

/** The fragment of a state; `follow` keeps the span alone, for the newest record moves on. */
export function fragmentOf({ exchange, symbol, type, view, follow, panes, zone }) {
  if (!symbol) return "#/";
  const parameters = [];
  if (view && follow) parameters.push(`last=${Math.max(1, Math.ceil(view.end - view.start - ROUNDING_S))}`);
  else if (view) parameters.push(`from=${isoOf(view.start)}`, `to=${isoOf(view.end)}`);
  if (panes?.length) parameters.push(`panes=${panes.map(paneText).join(";")}`);
  if (zone === "local") parameters.push("zone=local");
  const path = [exchange, symbol, type].filter(Boolean).map(encode).join("/");
  return `#/${path}${parameters.length ? `?${parameters.join("&")}` : ""}`;
}

const paneText = ({ kind, columns }) => `${kind}:${columns.map(encode).join(",")}`;

/** The state of a fragment. */
export function stateOf(fragment) {
  const [path, query = ""] = fragment.replace(/^#\/?/, "").split("?");
  const names = path.split("/").map(decode);
  const state = { zone: "utc", follow: false };
  if (names.length < 2 || !names.every((name) => NAME.test(name))) return state;
  [state.exchange, state.symbol, state.type] = names;
  const parameters = new Map(query.split("&").map((pair) => {
    const at = pair.indexOf("=");
    return [pair.slice(0, at), pair.slice(at + 1)];
  }));
  if (parameters.get("zone") === "local") state.zone = "local";
  const [start, end] = [secondsOf(parameters.get("from")), secondsOf(parameters.get("to"))];
  const last = Number(parameters.get("last"));
  if (start !== null && end !== null && start < end) state.view = { start, end };
  else if (last > 0 && last < 2 ** 32) [state.follow, state.last] = [true, last];
  const panes = (parameters.get("panes") ?? "").split(";").map(paneOf).filter(Boolean);
  if (panes.length) state.panes = panes.slice(0, PANES_MAX);
  return state;
}

function paneOf(text) {
  const [kind, ...rest] = text.split(":");
  const columns = rest.join(":").split(",").map(decode).filter((name) => NAME.test(name));
  return KINDS.includes(kind) && columns.length ? { kind, columns: [...new Set(columns)] } : null;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}
