/**
 * The zerocopy client for browsers and Node 20 or newer: columnar market data as typed arrays.
 *
 * One module without dependencies. A zerocopy server has it at `/ui/zerocopy.js`; a copy of the
 * file works as well.
 *
 * @example
 * import { Client } from "./zerocopy.js";
 *
 * const client = new Client("http://127.0.0.1:8080");
 * const frame = await client.data("BTC-USD", ["time", "price"], {
 *   type: "MD", start: "2025-01-01", end: "2025-02-01",
 * });
 * console.log(frame.length, frame.date(0), frame.get("price").at(-1));
 *
 * @packageDocumentation
 */

/**
 * Asks one server. It keeps no connection and no state, so one client serves a whole program.
 *
 * A request is tried again where the connection fails, the server is silent, or the status is 429,
 * 502, 503 or 504, until a minute has passed without a byte. `Retry-After` is honoured, but of a
 * limit (429) only up to `timeout`. A server that has never answered is given up after three tries.
 * A body that broke off is resumed if the data is still the same, and else begun anew: a frame is
 * never made of two states.
 */
export class Client {
  /**
   * @param url - The server, such as `"https://data.example.com"`. The default is the page's origin
   * in a browser, and the variable `ZEROCOPY_URL` in Node.
   */
  constructor(url?: string | URL | null, options?: ClientOptions);

  /**
   * The symbols of all exchanges, or of one.
   *
   * @example
   * const { exchanges } = await client.symbols();
   */
  symbols(options?: RequestOptions): Promise<Symbols>;

  /**
   * What there is of a symbol: types, columns with their dtypes, days.
   *
   * @throws {@link NotFound} if there is no such symbol or type.
   */
  catalog(symbol: string, options?: RequestOptions & { type?: string }): Promise<Catalog>;

  /**
   * All records with `start <= time < end`.
   *
   * @param columns - Names, or one text with commas; the frame keeps their order.
   * @throws {@link NotFound} if there is no such series; {@link BadRequest} names what is wrong.
   * @example
   * const frame = await client.data("BTC-USD", ["time", "price"], { type: "MD", last: 100 });
   */
  data(symbol: string, columns: string | readonly string[], options: DataOptions): Promise<Frame>;

  /**
   * Bars: a record for each interval that has records. The columns are `time`, where the interval
   * begins, then `price.open`, `price.high` and so on; `frame.intervalS` is the interval.
   *
   * @param columns - Such as `"price:ohlc"`, `"volume:sum"`, `"price:open+close+count"`.
   * @example
   * const bars = await client.bars("BTC-USD", "price:ohlc", { type: "MD", interval: "1h" });
   */
  bars(symbol: string, columns: string | readonly string[], options: BarsOptions): Promise<Frame>;

  /**
   * Every record from `cursor` or `start` on, else from now on, and then what is appended: each
   * once and in order. The stream reconnects with its cursor for as long as it is read, and loses
   * nothing. It ends without an error when the signal is aborted.
   *
   * Messages come by WebSocket; with a key, each connection has a ticket of its own. They come as
   * server-sent events where there is no WebSocket, or where a proxy blocks it; infinities are NaN
   * then. What waits in memory for a slow consumer is bounded: the rest is asked for again later.
   *
   * @throws {@link Reset} if the day of the cursor was replaced or became shorter. Another
   * `for await` over the same iterator goes on with that day. {@link Unauthorized} if the key was
   * revoked.
   * @example
   * for await (const frame of client.live("BTC-USD", ["time", "price"], { type: "MD" })) {
   *   console.log(frame.cursor, frame.length, frame.row(-1));
   * }
   */
  live(
    symbol: string,
    columns: string | readonly string[],
    options: LiveOptions,
  ): AsyncIterableIterator<Frame>;

  /**
   * A word that stands in for the key, where no field can be sent: the parameter `ticket` of a URL.
   * It opens requests for a minute; a stream that it has opened goes on. The client's own streams
   * have theirs.
   *
   * @throws {@link NotFound} if the server asks nobody for a key.
   * @example
   * const url = new URL("https://data.example.com/api/data?symbol=BTC-USD&type=MD&format=csv");
   * url.searchParams.set("ticket", await client.ticket());
   */
  ticket(options?: { signal?: AbortSignal }): Promise<string>;
}

/**
 * Records by column. All columns are views of one `ArrayBuffer`; nothing was parsed or copied.
 *
 * @example
 * const price = frame.get("price");
 * for (let index = 0; index < frame.length; index++) sum += price[index];
 */
export class Frame {
  private constructor();
  /** The number of records. */
  readonly length: number;
  /** The names of the columns, in the order of the request. */
  readonly columns: readonly string[];
  /** Days, as `DD.MM.YY`, that were left out because they lack a column. */
  readonly skipped: readonly string[];
  /** Seconds of a bar; null where the records are none. */
  readonly intervalS: number | null;
  /** Where a live stream goes on after this frame; else null. */
  readonly cursor: string | null;
  /** The column `time`: unix seconds. */
  readonly time: Uint32Array;
  /** Whether there is such a column. */
  has(name: string): boolean;
  /**
   * A column. Say what it holds where that is no number: `frame.get<BigUint64Array>("id")`,
   * `frame.get<TextColumn>("maker_order_id")`.
   *
   * @throws `RangeError` if there is no such column.
   */
  get<C extends Column = NumberColumn>(name: string): C;
  /** The dtype of a column. */
  dtype(name: string): Dtype;
  /** The moment of a record, to the millisecond where there is a column `nanos`. */
  date(index: number): Date;
  /** One record as an object; -1 is the last. For printing: columns are faster. */
  row(index: number): Record<string, number | bigint | string | undefined>;
  /** Pairs of name and column. */
  [Symbol.iterator](): IterableIterator<[string, Column]>;
}

/** Texts of at most `width` bytes, padded with NUL. */
export class TextColumn {
  private constructor();
  /** The number of texts. */
  readonly length: number;
  /** The bytes of one text. */
  readonly width: number;
  /** All texts, one after another. */
  readonly bytes: Uint8Array;
  /** A text without its padding; negative counts from the end. */
  at(index: number): string | undefined;
  /** The bytes of a text, padding included. */
  bytesAt(index: number): Uint8Array;
  [Symbol.iterator](): IterableIterator<string>;
}

/**
 * A moment: unix seconds, a `Date`, or ISO 8601. Text without a zone is UTC, whatever the machine's
 * zone is; a date alone is its midnight.
 */
export type Time = number | Date | string;

/** Columns whose values are numbers: all but `<u8`, `<i8` and texts. */
export type NumberColumn =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array;

/** Columns whose values are `bigint`: `<u8` and `<i8`. */
export type BigIntColumn = BigUint64Array | BigInt64Array;

/** Any column of a frame. */
export type Column = NumberColumn | BigIntColumn | TextColumn;

/** How numpy spells a dtype; `|S16` is text of at most 16 bytes. */
export type Dtype =
  "<u4" | "<f4" | "<u8" | "<f8" | "<i4" | "<i8" | "<u2" | "<i2" | "|u1" | "|i1" | `|S${number}`;

/** Where the client finds things, and what it uses. */
export interface ClientOptions {
  /**
   * An API key, sent as `Authorization: Bearer`, and never to where a redirect points. In Node,
   * `ZEROCOPY_KEY` is the default: for the server of `ZEROCOPY_URL` alone where that is set, else
   * not over plain HTTP to another machine.
   */
  key?: string;
  /** The exchange of requests that name none. Default `"coinbase"`. */
  exchange?: string;
  /** Seconds without a byte from the server after which a request is tried again. Default 30. */
  timeout?: number;
  /** Used in place of the global `fetch`. */
  fetch?: typeof globalThis.fetch;
  /**
   * Used in place of the global `WebSocket`, such as that of the package `ws` in Node 20, which has
   * none. `null`: live streams are server-sent events.
   */
  WebSocket?: WebSocketClass | null;
}

/** What the client needs of a WebSocket: the browser's own, or that of the package `ws` (`npm install ws`); without it, server-sent events are taken. */
export type WebSocketClass = new (url: string) => {
  binaryType: any;
  onopen: any;
  onmessage: any;
  onerror: any;
  onclose: any;
  close(): void;
};

/** What every request takes. */
export interface RequestOptions {
  /** The exchange; else that of the client. */
  exchange?: string;
  /** Aborts the request: the promise is rejected with the signal's reason. */
  signal?: AbortSignal;
}

/** What a series is beside its symbol. */
export interface SeriesOptions extends RequestOptions {
  /** The type, such as `"MD"` or `"TRADES"`. */
  type: string;
}

/** The range of a request. */
export interface RangeOptions extends SeriesOptions {
  /** The first moment, inclusive. Without it, everything from the first record on. */
  start?: Time | null;
  /** The moment at which to stop, exclusive. Without it, everything up to now. */
  end?: Time | null;
  /** Called as bytes come in; `total` is null until the header line is there. */
  onProgress?: (progress: Progress) => void;
}

/** Bytes of a body. */
export interface Progress {
  received: number;
  total: number | null;
}

/** Options of {@link Client.data}. */
export interface DataOptions extends RangeOptions {
  /** Only the last so many records of the range. */
  last?: number;
}

/** Options of {@link Client.bars}. */
export interface BarsOptions extends RangeOptions {
  /** Seconds, or a number with `s m h d w`, such as `"5m"`. Without it, what suits `maxPoints`. */
  interval?: number | string;
  /** At most so many bars, if the interval is the server's choice. Default 2,000. */
  maxPoints?: number;
}

/** Options of {@link Client.live}. */
export interface LiveOptions extends SeriesOptions {
  /** Begin with the first record at or after this moment. */
  start?: Time | null;
  /** Go on where a frame with this cursor ended; it wins over `start`. */
  cursor?: string | null;
  /** Told when a connection is there, and when one has failed. */
  onState?: (state: LiveState) => void;
}

/** What becomes of the connection of a live stream. */
export type LiveState =
  | {
      /** The server has answered; what comes next begins at `cursor`. */
      state: "open";
      cursor: string;
    }
  | {
      /** The stream broke off; it is asked for again in `waitS` seconds. */
      state: "waiting";
      error: ZerocopyError;
      waitS: number;
    };

/** Answer of {@link Client.symbols}. */
export interface Symbols {
  /** All symbols of the listed exchanges, sorted. */
  symbols: string[];
  /** The symbols of each exchange, those updated last first. */
  exchanges: Record<string, { symbol: string; last_update: number; last_update_date: string }[]>;
}

/** Answer of {@link Client.catalog}. */
export interface Catalog {
  exchange: string;
  symbol: string;
  types: Record<string, CatalogType>;
}

/** What there is of one type of a symbol; days are `YYYY-MM-DD`, times unix seconds. */
export interface CatalogType {
  /** Columns that every day has, then others with the number of their `days`. */
  columns: { name: string; dtype: Dtype; record_size: number; days?: number }[];
  days: number;
  first_day: string | null;
  last_day: string | null;
  first_time: number | null;
  last_time: number | null;
  missing_days: string[];
}

/** A limit, of the fields `RateLimit` and `RateLimit-Policy`; null is what they do not tell. */
export interface RateLimit {
  /** The name of the limit. */
  policy: string;
  /** How much is allowed in `windowS` seconds. */
  quota: number | null;
  /** How much of it is left. */
  remaining: number;
  /** Seconds after which there is more. */
  resetS: number | null;
  windowS: number | null;
}

/**
 * The root of all errors of this module. A request that its caller aborted fails with the reason of
 * the caller's signal instead.
 */
export class ZerocopyError extends Error {
  protected constructor();
  /** What is wrong and what would be right, in one sentence. It never holds a key. */
  readonly detail: string;
  /** The status of the response; null where there was none. */
  readonly status: number | null;
  /** Seconds that the server asks to wait, if it does. */
  readonly retryAfterS: number | null;
  /** The limit that is reached, if the server tells it with a 429. */
  readonly rateLimit: RateLimit | null;
}
/** 400 and other statuses below 500, or an argument that was refused before it was sent. */
export class BadRequest extends ZerocopyError {}
/** 401, 403: the key is missing, unknown, or does not cover this. */
export class Unauthorized extends ZerocopyError {}
/** 404: there is no such exchange, symbol, type or column. */
export class NotFound extends ZerocopyError {}
/** 429: a limit of the key or address is reached, and lasts longer than `timeout`. */
export class TooManyRequests extends ZerocopyError {}
/** 501: the server lacks what was asked for. */
export class NotInstalled extends ZerocopyError {}
/** 502, 503, 504: the server is busy, starts or stops. */
export class Unavailable extends ZerocopyError {}
/** Any other status, or an answer that is none of zerocopy's. */
export class UnexpectedAnswer extends ZerocopyError {}
/** There is no connection. */
export class ConnectionFailed extends ZerocopyError {}
/** The server was silent for `timeout` seconds. */
export class Timeout extends ConnectionFailed {}
/** The connection broke amid a body, again and again. */
export class Interrupted extends ConnectionFailed {}
/** The data changed each time while it was fetched, so that no attempt was of one state. */
export class ChangedData extends ZerocopyError {}
/**
 * The day behind a live stream's cursor was replaced or became shorter. Drop what you have of that
 * day and iterate on: the stream goes on at `cursor`, the beginning of the day.
 */
export class Reset extends ZerocopyError {
  /** What happened to the day. */
  readonly reason: string;
  /** Where the stream goes on. */
  readonly cursor: string;
}
