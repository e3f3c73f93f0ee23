/**
 * The zerocopy client for browsers and Node 20: market data as typed arrays, without parsing.
 *
 * Owns one request after another and what comes of it: retries, resumed bodies, live streams that
 * reconnect with their cursor. Everything public is described in zerocopy.d.ts beside this file.
 *
 * A body is read once, into one ArrayBuffer in which each column begins at a multiple of 8 bytes, so
 * that every typed array is a view.
 */

const U32_MAX = 4_294_967_295;
const TRIES = 5;
/** Of one pause between two tries; the first is at most a quarter of a second. */
const PAUSE_MAX_S = 8;
/** A server that asks for a longer pause than this is believed, and the caller told. */
const RETRY_AFTER_MAX_S = 60;
/** No header line is longer: 32 columns of 64 characters, and every day of a century skipped. */
const HEADER_BYTES_MAX = 1 << 20;
/** Live messages that wait for the consumer; beyond it the file is the queue. */
const QUEUE_BYTES_MAX = 16 << 20;
/** A WebSocket shows no pings, so after so many timeouts without a message it is opened anew. */
const SOCKET_TIMEOUTS = 4;
const RESET_CODE = 4001;

// ---- errors

export class ZerocopyError extends Error {
  constructor(detail, { status = 0, retryAfterS = null, cause } = {}) {
    super(detail, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.detail = detail;
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}
export class BadRequest extends ZerocopyError {}
export class Unauthorized extends ZerocopyError {}
export class NotFound extends ZerocopyError {}
export class TooManyRequests extends ZerocopyError {}
export class NotInstalled extends ZerocopyError {}
export class Unavailable extends ZerocopyError {}
export class ConnectionFailed extends ZerocopyError {}
export class Timeout extends ZerocopyError {}
export class InvalidResponse extends ZerocopyError {}
export class Reset extends ZerocopyError {
  constructor(reason, cursor) {
    super(cursor ? `${reason}; go on at ${cursor}` : reason);
    this.reason = reason;
    this.cursor = cursor;
  }
}

const BY_STATUS = {
  400: BadRequest, 401: Unauthorized, 404: NotFound, 429: TooManyRequests, 501: NotInstalled,
  502: Unavailable, 503: Unavailable, 504: Unavailable,
};

/** Whether the same request may succeed a little later. */
const mayPass = (error) =>
  [ConnectionFailed, Timeout, TooManyRequests, Unavailable].some((kind) => error instanceof kind);

/** RFC 9110 section 10.2.3: seconds or a date. */
function retryAfter(value) {
  if (!value) return null;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? null : Math.max(0, seconds);
}

/** The error of a response that is none of 200 and 206; RFC 9457. */
async function problemOf(response, watch) {
  let detail = `the server answered ${response.status} ${response.statusText}`.trim();
  const text = await watch.wait(response.text());
  try {
    const problem = JSON.parse(text);
    if (typeof problem.detail === "string") detail = problem.detail;
  } catch {
    // A proxy's page: the status says enough.
  }
  const kind = BY_STATUS[response.status] ?? ZerocopyError;
  const retryAfterS = retryAfter(response.headers.get("Retry-After"));
  return new kind(detail, { status: response.status, retryAfterS });
}

// ---- frames

const ARRAYS = {
  "<u4": Uint32Array, "<f4": Float32Array, "<u8": BigUint64Array, "<f8": Float64Array,
  "<i4": Int32Array, "<i8": BigInt64Array, "<u2": Uint16Array, "<i2": Int16Array,
  "|u1": Uint8Array, "|i1": Int8Array,
};
const TEXT = new TextDecoder();

export class TextColumn {
  constructor(bytes, width) {
    this.bytes = bytes;
    this.width = width;
    this.length = bytes.length / width;
  }
  bytesAt(index) {
    return this.bytes.subarray(index * this.width, (index + 1) * this.width);
  }
  at(index) {
    const place = index < 0 ? this.length + index : index;
    if (!(place >= 0 && place < this.length)) return undefined;
    const bytes = this.bytesAt(place);
    let end = bytes.length;
    while (end && !bytes[end - 1]) end--;
    return TEXT.decode(bytes.subarray(0, end));
  }
  *[Symbol.iterator]() {
    for (let index = 0; index < this.length; index++) yield this.at(index);
  }
}

export class Frame {
  #columns;
  /** `columns`: name → [dtype, typed array or TextColumn]; `told`: the header line of the body. */
  constructor(columns, length, told = {}) {
    this.#columns = columns;
    this.columns = [...columns.keys()];
    this.length = length;
    this.skipped = told.skipped ?? [];
    this.intervalS = told.interval_s ?? null;
    this.cursor = told.cursor ?? null;
  }
  #entry(name) {
    const entry = this.#columns.get(name);
    if (!entry) throw new RangeError(`no column ${name}: there are ${this.columns.join(", ")}`);
    return entry;
  }
  has(name) {
    return this.#columns.has(name);
  }
  get(name) {
    return this.#entry(name)[1];
  }
  dtype(name) {
    return this.#entry(name)[0];
  }
  get time() {
    return this.get("time");
  }
  date(index) {
    const ms = this.has("nanos") ? this.get("nanos").at(index) / 1e6 : 0;
    return new Date(this.time.at(index) * 1000 + ms);
  }
  row(index) {
    return Object.fromEntries(this.columns.map((name) => [name, this.get(name).at(index)]));
  }
  *[Symbol.iterator]() {
    for (const [name, [, values]] of this.#columns) yield [name, values];
  }
}

/** A typed array (or text) over `count` values of `dtype` in `buffer`. */
function viewOf(dtype, buffer, offset, count) {
  if (ARRAYS[dtype]) return new ARRAYS[dtype](buffer, offset, count);
  const width = widthOf(dtype);
  return new TextColumn(new Uint8Array(buffer, offset, count * width), width);
}

function widthOf(dtype) {
  const width = ARRAYS[dtype]?.BYTES_PER_ELEMENT ?? Number(/^\|S([1-9]\d*)$/.exec(dtype)?.[1]);
  if (!width) throw new InvalidResponse(`the server sent a dtype that is none: ${dtype}`);
  return width;
}

/** A body in the format `columns`, as it comes in: header line, one allocation, bytes into place. */
class Assembly {
  etag = null;
  received = 0;
  total = null;
  #line = new Uint8Array(0);
  #header = null;
  #slots = [];
  #bytes;

  take(chunk) {
    let at = this.#header ? 0 : this.#begin(chunk);
    this.received += chunk.length;
    while (at < chunk.length) {
      const slot = this.#slots[0];
      if (!slot) throw new InvalidResponse("the body is longer than its header line says");
      const count = Math.min(slot.left, chunk.length - at);
      this.#bytes.set(chunk.subarray(at, at + count), slot.offset);
      slot.offset += count;
      at += count;
      if (!(slot.left -= count)) this.#slots.shift();
    }
  }

  get isWhole() {
    return this.received === this.total;
  }

  frame() {
    const { columns } = this.#header;
    const views = columns.map((column) => [
      column.name,
      [column.dtype, viewOf(column.dtype, this.#bytes.buffer, column.offset, column.num_records)],
    ]);
    return new Frame(new Map(views), columns[0].num_records, this.#header);
  }

  /** Collects the header line; returns where in `chunk` the records begin. */
  #begin(chunk) {
    const end = chunk.indexOf(10) + 1;
    const piece = end ? chunk.subarray(0, end) : chunk;
    const line = new Uint8Array(this.#line.length + piece.length);
    line.set(this.#line);
    line.set(piece, this.#line.length);
    this.#line = line;
    if (line.length > HEADER_BYTES_MAX) throw new InvalidResponse("the header line has no end");
    if (!end) return chunk.length;
    try {
      this.#header = JSON.parse(TEXT.decode(line));
      this.#place(this.#header.columns);
    } catch (cause) {
      if (cause instanceof ZerocopyError) throw cause;
      throw new InvalidResponse("the body has no header line of this format", { cause });
    }
    return end;
  }

  #place(columns) {
    let size = 0;
    this.total = this.#line.length;
    for (const column of columns) {
      if (column.data_length !== column.num_records * widthOf(column.dtype)) {
        throw new InvalidResponse(`the header line contradicts itself: column ${column.name}`);
      }
      column.offset = size;
      if (column.data_length) this.#slots.push({ offset: size, left: column.data_length });
      size += Math.ceil(column.data_length / 8) * 8;
      this.total += column.data_length;
    }
    this.#bytes = new Uint8Array(size);
  }
}

function frameOfMessage(data) {
  const assembly = new Assembly();
  assembly.take(new Uint8Array(data));
  if (!assembly.isWhole) throw new InvalidResponse("a live message ends before its records do");
  return assembly.frame();
}

// ---- times

const ISO = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$/;

/** Unix seconds, rounded up: [a, b) and [b, c) never share a record, nor lose one. */
function secondsOf(name, value) {
  let seconds = NaN;
  if (typeof value === "number") seconds = value;
  else if (value instanceof Date) seconds = value.getTime() / 1000;
  else if (typeof value === "string") seconds = secondsOfIso(value);
  if (Number.isNaN(seconds)) {
    throw new TypeError(`${name}: must be unix seconds, a Date or ISO 8601, not ${String(value)}`);
  }
  if (seconds < 0 || seconds > U32_MAX + 1) {
    throw new RangeError(`${name}: must be unix seconds from 0 to ${U32_MAX}, not ${seconds}`);
  }
  return Math.ceil(seconds);
}

function secondsOfIso(text) {
  const match = ISO.exec(text);
  if (!match) return NaN;
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map((each) => Number(each ?? 0));
  const date = new Date(Date.UTC(year, month - 1, day));
  if (date.getUTCMonth() !== month - 1 || hour > 23 || minute > 59 || second > 59) return NaN;
  const zone = match[8] ?? "Z";
  const sign = zone[0] === "-" ? -1 : 1;
  const offset = zone === "Z" ? 0 : sign * (Number(zone.slice(1, 3)) * 60 + Number(zone.slice(-2)));
  return date / 1000 + (hour * 60 + minute - offset) * 60 + second + Number(match[7] ?? 0);
}

/** The wire's range, both ends inclusive. An empty one is a second of a year that no file has. */
function rangeOf(start, end) {
  const first = start == null ? 0 : secondsOf("start", start);
  const stop = end == null ? U32_MAX + 1 : secondsOf("end", end);
  if (first > stop) throw new RangeError("start: must not be after end");
  return first === stop ? { start: U32_MAX, end: U32_MAX } : { start: first, end: stop - 1 };
}

// ---- waiting

function pause(seconds, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, seconds * 1000);
    signal?.addEventListener("abort", done);
    if (signal?.aborted) done();
  });
}

/** Full jitter: clients that lost one server do not come back as one. */
const backoffS = (failures) => Math.random() * Math.min(PAUSE_MAX_S, 2 ** failures / 8);

/** Aborts a request when its caller does, or after so long without a byte. */
class Watch {
  #controller = new AbortController();
  #caller;
  #timeoutS;
  #onAbort = () => this.#controller.abort(this.#caller.reason);

  constructor(caller, timeoutS) {
    caller?.throwIfAborted();
    this.#caller = caller;
    this.#timeoutS = timeoutS;
    caller?.addEventListener("abort", this.#onAbort);
  }
  get signal() {
    return this.#controller.signal;
  }
  /** What the network gives; a failure as an error of ours, an abort with the caller's reason. */
  async wait(promise) {
    const expire = () => this.#controller.abort(new Timeout(`silent for ${this.#timeoutS} s`));
    const timer = setTimeout(expire, this.#timeoutS * 1000);
    try {
      return await promise;
    } catch (cause) {
      if (this.signal.aborted) throw this.signal.reason;
      throw new ConnectionFailed("the connection failed", { cause });
    } finally {
      clearTimeout(timer);
    }
  }
  stop() {
    this.#caller?.removeEventListener("abort", this.#onAbort);
  }
}

// ---- the client

export class Client {
  #base;
  #key;
  #exchange;
  #timeoutS;
  #fetch;
  #WebSocket;

  constructor(url, { key, exchange = "coinbase", timeout = 30, fetch, WebSocket } = {}) {
    const environ = globalThis.process?.env ?? {};
    const base = url ?? globalThis.location?.origin ?? environ.ZEROCOPY_URL;
    if (!base) throw new TypeError("url: must be given where there is no page's origin");
    this.#base = new URL(String(base).replace(/\/*$/, "/"));
    this.#key = key ?? environ.ZEROCOPY_KEY;
    this.#exchange = exchange;
    this.#timeoutS = timeout;
    this.#fetch = fetch ?? ((...all) => globalThis.fetch(...all));
    this.#WebSocket = WebSocket === undefined ? globalThis.WebSocket : WebSocket;
  }

  symbols({ exchange, signal } = {}) {
    return this.#document("symbols", { exchange }, signal);
  }

  catalog(symbol, { type, exchange = this.#exchange, signal } = {}) {
    return this.#document("catalog", { symbol, type, exchange }, signal);
  }

  data(symbol, columns, options = {}) {
    const { start, end, last } = options;
    const range = rangeOf(start, end);
    return this.#frame("data", { ...this.#series(symbol, columns, options), ...range, last }, options);
  }

  bars(symbol, columns, options = {}) {
    const { start, end, interval, maxPoints } = options;
    const range = { ...rangeOf(start, end), interval, max_points: maxPoints };
    return this.#frame("bars", { ...this.#series(symbol, columns, options), ...range }, options);
  }

  async *live(symbol, columns, options = {}) {
    const { start, signal, onState } = options;
    const series = this.#series(symbol, columns, options);
    let from = options.cursor;
    const begin = start == null ? undefined : secondsOf("start", start);
    for (let failures = 0; !signal?.aborted; ) {
      try {
        const target = { ...series, from, start: from ? undefined : begin };
        for await (const frame of this.#stream(target, signal)) {
          [from, failures] = [frame.cursor, 0];
          if (frame.length) yield frame;
          else onState?.({ state: "open", cursor: from });
          if (signal?.aborted) return;
        }
      } catch (error) {
        if (signal?.aborted) return;
        if (!mayPass(error)) throw error;
        const waitS = Math.max(error.retryAfterS ?? 0, backoffS(failures++));
        onState?.({ state: "waiting", error, waitS });
        await pause(waitS, signal);
      }
    }
  }

  #series(symbol, columns, { type, exchange = this.#exchange }) {
    return { symbol, type, exchange, columns: [columns].flat().join(",") };
  }

  #url(endpoint, parameters) {
    const url = new URL(`api/${endpoint}`, this.#base);
    for (const [name, value] of Object.entries(parameters)) {
      if (value != null) url.searchParams.set(name, String(value));
    }
    return url;
  }

  /** One GET: a response with content to read, or an error of ours. */
  async #get(url, watch, fields = {}, init = {}) {
    const headers = this.#key ? { Authorization: `Bearer ${this.#key}`, ...fields } : fields;
    const asked = this.#fetch(url.href, { ...init, headers, signal: watch.signal });
    const response = await watch.wait(asked);
    if (!response.ok) throw await problemOf(response, watch);
    return response;
  }

  /** Runs `attempt` until it succeeds, or fails in a way that does not pass, or too often. */
  async #retry(signal, attempt) {
    for (let failures = 0; ; ) {
      const watch = new Watch(signal, this.#timeoutS);
      const progress = { made: false };
      try {
        return await attempt(watch, progress);
      } catch (error) {
        failures = progress.made ? 1 : failures + 1;
        const isLong = error?.retryAfterS > RETRY_AFTER_MAX_S;
        if (!mayPass(error) || isLong || failures >= TRIES) throw error;
        await pause(error.retryAfterS ?? backoffS(failures), signal);
      } finally {
        watch.stop();
      }
    }
  }

  #document(endpoint, parameters, signal) {
    const url = this.#url(endpoint, parameters);
    return this.#retry(signal, (watch) => this.#json(url, watch));
  }

  async #json(url, watch) {
    const response = await this.#get(url, watch);
    const text = await watch.wait(response.text());
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new InvalidResponse("the server sent no JSON", { cause });
    }
  }

  #frame(endpoint, parameters, { signal, onProgress }) {
    const url = this.#url(endpoint, parameters);
    let body = new Assembly();
    return this.#retry(signal, async (watch, progress) => {
      const isRest = body.received > 0 && body.etag !== null;
      const fields = isRest ? { Range: `bytes=${body.received}-`, "If-Range": body.etag } : {};
      const response = await this.#get(url, watch, fields, isRest ? { cache: "no-store" } : {});
      const goesOn = isRest && continues(response, body);
      if (!goesOn) body = new Assembly();
      body.etag = strongTag(response);
      if (isRest && !goesOn && response.status === 206) {
        await response.body.cancel();
        throw new ConnectionFailed("the server sent another part of the body than was asked for");
      }
      for (const reader = response.body.getReader(); ; ) {
        const { done, value } = await watch.wait(reader.read());
        if (done) break;
        body.take(value);
        progress.made = goesOn;
        onProgress?.({ received: body.received, total: body.total });
      }
      if (!body.isWhole) throw new ConnectionFailed("the body ended early");
      return body.frame();
    });
  }

  /** The frames of one connection, the opening one without records among them. */
  async *#stream(target, signal) {
    if (this.#WebSocket && !this.#key) {
      const url = this.#url("live", target);
      url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
      const silenceS = SOCKET_TIMEOUTS * this.#timeoutS;
      const socket = new Socket(this.#WebSocket, url.href, silenceS, signal);
      try {
        for await (const message of socket.messages()) yield frameOfMessage(message);
      } finally {
        socket.close();
      }
      if (socket.wasOpen) return;
      // It tells of no status; what follows does, and also passes where WebSockets are blocked.
    }
    yield* this.#events(target, signal);
  }

  async *#events(target, signal) {
    const watch = new Watch(signal, this.#timeoutS);
    try {
      const { symbol, exchange, type } = target;
      const { types } = await this.#json(this.#url("catalog", { symbol, exchange, type }), watch);
      const dtypes = new Map(types[type]?.columns.map(({ name, dtype }) => [name, dtype]));
      const names = target.columns.split(",");
      const fields = { Accept: "text/event-stream" };
      const response = await this.#get(this.#url("live", target), watch, fields, { cache: "no-store" });
      for await (const { event, id, data } of eventsOf(response.body, watch)) {
        if (event === "reset") {
          const { reason, cursor } = JSON.parse(data);
          throw new Reset(reason, cursor);
        }
        yield frameOfEvent(data || '{"columns":{},"num_records":0}', names, dtypes, id);
      }
      throw new ConnectionFailed("the live stream ended");
    } finally {
      watch.stop();
    }
  }
}

/** Whether a response is the rest of `body`: RFC 9110 sections 13.1.5 and 14.4. */
function continues(response, body) {
  const told = /^bytes (\d+)-/.exec(response.headers.get("Content-Range") ?? "");
  const begins = response.status === 206 && Number(told?.[1]) === body.received;
  return begins && strongTag(response) === body.etag;
}

function strongTag(response) {
  const tag = response.headers.get("ETag");
  return tag?.startsWith('"') ? tag : null;
}

// ---- live streams

/** A WebSocket as messages that are pulled. It cannot be paused, so a slow consumer closes it. */
class Socket {
  wasOpen = false;
  #socket;
  #queue = [];
  #queued = 0;
  #ended = null;
  #wake = () => {};
  #silenceS;
  #signal;

  constructor(WebSocket, url, silenceS, signal) {
    this.#silenceS = silenceS;
    this.#signal = signal;
    const socket = (this.#socket = new WebSocket(url));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => (this.wasOpen = true);
    socket.onmessage = ({ data }) => {
      this.#queue.push(data);
      this.#queued += data.byteLength;
      if (this.#queued > QUEUE_BYTES_MAX) this.#end({ reason: "the consumer is slower than the stream" });
      this.#wake();
    };
    socket.onerror = () => {}; // `close` follows
    socket.onclose = (event) => this.#end(event);
  }

  async *messages() {
    for (;;) {
      while (this.#queue.length) {
        const data = this.#queue.shift();
        this.#queued -= data.byteLength;
        yield data;
      }
      if (this.#signal?.aborted) return;
      if (this.#ended) break;
      if (!(await this.#event())) throw new Timeout(`no message for ${this.#silenceS} s`);
    }
    const { code, reason } = this.#ended;
    if (code === RESET_CODE) throw new Reset(reason, /\d{8}\.\d+$/.exec(reason)?.[0] ?? null);
    if (this.wasOpen) throw new ConnectionFailed(`the live stream ended: ${reason || code}`);
  }

  close() {
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #end(event) {
    this.#ended ??= event;
    this.close();
    this.#wake();
  }

  /** Waits for whatever comes; false where nothing does. */
  async #event() {
    const { promise, resolve } = deferred();
    this.#wake = () => resolve(true);
    const timer = setTimeout(resolve, this.#silenceS * 1000, false);
    this.#signal?.addEventListener("abort", this.#wake);
    const came = await promise;
    clearTimeout(timer);
    this.#signal?.removeEventListener("abort", this.#wake);
    return came;
  }
}

function deferred() {
  let resolve;
  const promise = new Promise((each) => (resolve = each));
  return { promise, resolve };
}

/** Server-sent events of a byte stream: WHATWG HTML, section 9.2.6. An id alone is one too. */
async function* eventsOf(stream, watch) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let [rest, event, id, data, isTold] = ["", "", "", [], false];
  try {
    for (;;) {
      const { done, value } = await watch.wait(reader.read());
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        const [, field, told] = /^([^:]*):? ?(.*)$/.exec(line);
        if (field === "event") event = told;
        else if (field === "data") data.push(told);
        else if (field === "id") [id, isTold] = [told, true];
        else if (line === "") {
          if (isTold) yield { event, id, data: data.join("\n") };
          [event, data, isTold] = ["", [], false];
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => {}); // it has failed already
  }
}

/** The format `json` as typed arrays; what is null there is NaN. */
function frameOfEvent(text, names, dtypes, cursor) {
  const told = JSON.parse(text);
  const columns = names.map((name) => {
    const dtype = dtypes.get(name);
    const isLong = dtype === "<u8" || dtype === "<i8";
    const values = isLong ? integersOf(text, name) : (told.columns[name] ?? []);
    return [name, [dtype, columnOf(dtype, values)]];
  });
  return new Frame(new Map(columns), told.num_records, { cursor });
}

/** Integers of 8 bytes do not fit a number, so they are taken from the text. */
function integersOf(text, name) {
  const key = `"${name}":[`; // which no text of another column holds: its quotes are escaped
  const begin = text.indexOf(key) + key.length;
  const inner = begin < key.length ? "" : text.slice(begin, text.indexOf("]", begin));
  return inner ? inner.split(",").map(BigInt) : [];
}

function columnOf(dtype, values) {
  if (ARRAYS[dtype]) return ARRAYS[dtype].from(values, (value) => value ?? NaN);
  const width = widthOf(dtype);
  const bytes = new Uint8Array(values.length * width);
  const encoder = new TextEncoder();
  values.forEach((value, index) => bytes.set(encoder.encode(value).subarray(0, width), index * width));
  return new TextColumn(bytes, width);
}
