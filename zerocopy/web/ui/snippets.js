/** The visible range for other tools: links, a curl command, Python. Pure. */

/** [first second, first second after it] of a view; at least one second. */
export function rangeOf(view) {
  const start = Math.max(0, Math.floor(view.start));
  return [start, Math.max(start + 1, Math.ceil(view.end))];
}

const FORMATS = [["csv", "CSV", "csv"], ["parquet", "Parquet", "parquet"], ["arrow", "Arrow", "arrows"]];
/** Of a computed format: [formats] records_max of the server, as it is shipped. */
export const COMPUTED_MAX = 10_000_000;

function url(base, endpoint, { exchange, symbol, type, columns, view }, more) {
  const [start, end] = rangeOf(view);
  const target = new URL(`api/${endpoint}`, base);
  const parameters = { symbol, type, exchange, start, end: end - 1, columns: columns.join(","), ...more };
  // A plus stays encoded: in a form it is a blank.
  target.search = Object.entries(parameters)
    .map(([name, value]) => `${name}=${encodeURIComponent(value).replace(/%2C/g, ",").replace(/%3A/g, ":")}`)
    .join("&");
  return target.href;
}

const fileName = ({ symbol, type, view }, ending) => {
  const [start] = rangeOf(view);
  const day = new Date(start * 1000).toISOString().slice(0, 10);
  return `${symbol.replace(/[^A-Za-z0-9._-]/g, "_")}-${type}-${day}.${ending}`;
};

/** [{ label, href, file }]: every record of the range. */
export const recordLinks = (base, asked) =>
  FORMATS.map(([format, label, ending]) => ({
    format,
    label,
    href: url(base, "data", asked, { format }),
    file: fileName(asked, ending),
  }));

/** The bars that are drawn, as CSV; `asked.columns` are those of /api/bars. */
export const barsLink = (base, asked, interval) => ({
  format: "csv",
  label: `Bars of ${interval} as CSV`,
  href: url(base, "bars", asked, { interval, format: "csv" }),
  file: fileName(asked, `${interval}.csv`),
});

const quoted = (text) => `'${text.replace(/'/g, `'\\''`)}'`;

export function curlSnippet(base, asked, hasKey) {
  const [csv] = recordLinks(base, asked);
  const key = hasKey ? ' -H "Authorization: Bearer $ZEROCOPY_KEY"' : "";
  return `curl -f${key} -o ${quoted(csv.file)} \\\n  ${quoted(csv.href)}`;
}

const isoOf = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 19);

export function pythonSnippet(base, { exchange, symbol, type, columns, view }, hasKey) {
  const [start, end] = rangeOf(view);
  const text = (value) => JSON.stringify(value);
  const url = text(base.replace(/\/$/, ""));
  return `${hasKey ? "import os\n\n" : ""}from zerocopy.client import Client

with Client(${hasKey ? `${url}, key=os.environ["ZEROCOPY_KEY"]` : url}) as client:
    frame = client.data(
        ${text(symbol)},
        [${columns.map(text).join(", ")}],
        type=${text(type)},
        exchange=${text(exchange)},
        start="${isoOf(start)}Z",
        end="${isoOf(end)}Z",
    )
print(frame)`;
}
