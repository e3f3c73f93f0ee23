/** Every public name of the JavaScript client, as its users write them; compiled, and then run. */

import WebSocket from "ws";

import {
  BadRequest,
  ChangedData,
  Client,
  ConnectionFailed,
  Frame,
  Interrupted,
  NotFound,
  NotInstalled,
  Reset,
  TextColumn,
  Timeout,
  TooManyRequests,
  Unauthorized,
  Unavailable,
  UnexpectedAnswer,
  ZerocopyError,
} from "../../zerocopy/web/zerocopy.js";
import type {
  BarsOptions,
  BigIntColumn,
  Catalog,
  CatalogType,
  ClientOptions,
  Column,
  DataOptions,
  Dtype,
  LiveOptions,
  LiveState,
  NumberColumn,
  Progress,
  RangeOptions,
  RateLimit,
  RequestOptions,
  SeriesOptions,
  Symbols,
  Time,
  WebSocketClass,
} from "../../zerocopy/web/zerocopy.js";

const url: string = process.argv[2]!;
const options: ClientOptions = { exchange: "coinbase", timeout: 30, fetch };
const clients: Client[] = [
  new Client(url, options),
  new Client(new URL(url), { WebSocket }),
  new Client(url, { WebSocket: WebSocket as WebSocketClass }),
  new Client(url, { WebSocket: globalThis.WebSocket, key: "key" }),
  new Client(url, { WebSocket: null }),
];
const client = clients[0]!;

const request: RequestOptions = { exchange: "coinbase", signal: new AbortController().signal };
const listed: Symbols = await client.symbols(request);
const entry: { symbol: string; last_update: number } | undefined =
  listed.exchanges["coinbase"]?.[0];
const symbol: string = listed.symbols.find((name) => name === "X") ?? entry!.symbol;

const catalog: Catalog = await client.catalog(symbol, { type: "MD" });
const type: CatalogType = catalog.types["MD"]!;
const names: string[] = type.columns.map(({ name }) => name);
const dtype: Dtype = type.columns[0]!.dtype;
const day: string = type.first_day ?? type.missing_days[0] ?? "none";

const series: SeriesOptions = { type: "MD" };
const times: Time[] = [type.first_time!, new Date(type.last_time! * 1000), "2025-01-31T09:30:00Z"];
const range: RangeOptions = { ...series, start: times[0]!, end: null };
let last: Progress = { received: 0, total: null };
const wanted: DataOptions = { ...range, last: 7, onProgress: (progress) => (last = progress) };
const frame: Frame = await client.data(symbol, ["time", "price", "u8", "S16"] as const, wanted);
const share: number = last.received / (last.total ?? 1);

const price: NumberColumn = frame.get("price");
const first: number | undefined = price[0];
const floats: Float32Array = frame.get<Float32Array>("price");
const ids: BigIntColumn = frame.get<BigIntColumn>("u8");
const id: bigint | undefined = ids[0];
const texts: TextColumn = frame.get<TextColumn>("S16");
const text: string | undefined = texts.at(-1);
const raw: Uint8Array = texts.bytesAt(0);
const all: string[] = [...texts];
const seconds: Uint32Array = frame.time;
const date: Date = frame.date(0);
const row: Record<string, number | bigint | string | undefined> = frame.row(-1);
const columns: [string, Column][] = [...frame];
const facts: [number, readonly string[], readonly string[], Dtype, boolean] = [
  frame.length,
  frame.columns,
  frame.skipped,
  frame.dtype("price"),
  frame.has("price"),
];
const widths: [number, number, Uint8Array] = [texts.width, texts.length, texts.bytes];

const barsWanted: BarsOptions = { ...range, interval: "5m", maxPoints: 100 };
const bars = await client.bars(symbol, "u2:ohlc", barsWanted);
const interval: number | null = bars.intervalS;

const liveOptions: LiveOptions = { ...series, start: 0, cursor: null };
let state: LiveState | undefined;
for await (const part of clients[1]!.live(symbol, "time", {
  ...liveOptions,
  onState: (told) => (state = told),
})) {
  const cursor: string | null = part.cursor;
  if (cursor) break;
}
const told: string =
  state?.state === "open" ? state.cursor : `${state?.error.detail} ${state?.waitS}`;

const kinds = [
  BadRequest,
  ChangedData,
  ConnectionFailed,
  Interrupted,
  NotFound,
  NotInstalled,
  Reset,
  Timeout,
  TooManyRequests,
  Unauthorized,
  Unavailable,
  UnexpectedAnswer,
  ZerocopyError,
];
try {
  await client.data("NONE", "time", { type: "MD" });
} catch (error) {
  if (error instanceof Reset) console.log(error.reason, error.cursor);
  if (!(error instanceof NotFound)) throw error;
  const status: number | null = error.status;
  const wait: number | null = error.retryAfterS;
  const limit: RateLimit | null = error.rateLimit;
  if (limit) console.log(limit.policy, limit.quota, limit.remaining, limit.resetS, limit.windowS);
  console.log(status, wait, error.detail, error.name);
}

export const ticket = (): Promise<string> => client.ticket({ signal: new AbortController().signal });

// What is wrong is refused while it is written.
// @ts-expect-error: there is no series without a type
void (() => client.data(symbol, "time", {}));
// @ts-expect-error: milliseconds are no option
void (() => client.bars(symbol, "price", { type: "MD", intervalMs: 5 }));
// @ts-expect-error: a column is read-only, and so is the frame
void (() => (frame.length = 0));
// @ts-expect-error: a frame is made by a client
void (() => new Frame());

console.log(
  JSON.stringify([
    names.length,
    dtype,
    day,
    share,
    first === floats[0],
    typeof id,
    text === all.at(-1),
    raw.length,
    seconds.length,
    date.getTime() === seconds[0]! * 1000,
    Object.keys(row),
    columns.length,
    facts.length,
    widths[0],
    interval,
    told,
    kinds.every((kind) => kind.prototype instanceof Error || kind.name),
  ]),
);
