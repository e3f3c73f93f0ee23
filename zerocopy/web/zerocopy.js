/**
 * The zerocopy client for browsers and Node 20: market data as typed arrays, without parsing.
 *
 * Owns one request after another and what comes of it: retries, resumed bodies, live streams that
 * reconnect with their cursor. Everything public is described in zerocopy.d.ts beside this file.
 *
 * A body is read into one ArrayBuffer in which each column begins at a multiple of 8 bytes, so that
 * every column is a view.
 */

/** The first second that no record can have: times are u32. */
const SECONDS_MAX = 2 ** 32;
/** Seconds since the last byte, and tries, after which there is no other try. */
const PATIENCE_S = 60;
const TRIES = 20;
/** Of a server that has never answered: its address is likely wrong. */
const FIRST_TRIES = 3;
/** How often the data may change while a body is fetched. */
const CHANGES_MAX = 4;
/** Between two tries: the first pause and the longest, before the jitter. */
const PAUSE_S = 0.1;
const PAUSE_MAX_S = 2;
/** No header line is longer: 32 columns of 64 characters, and every day of a century skipped. */
const HEADER_BYTES_MAX = 1 << 20;
/** Live messages that wait for the consumer; beyond it the file is the queue. */
const QUEUE_BYTES_MAX = 16 << 20;
/** A script sees no pings: a WebSocket is opened anew after so many timeouts without a message. */
const SOCKET_TIMEOUTS = 4;
/** Timers that are longer fire at once: HTML, "timer initialization steps". */
const TIMER_MAX_MS = 2 ** 31 - 1;
const REDIRECTS = [301, 302, 303, 307, 308];
/** What a server says that knows keys and no tickets, such as a proxy that asks for them. */
const NO_TICKETS = [404, 405, 501];
const EVENT_STREAM = "text/event-stream";
const NO_RECORDS = '{"columns":{},"num_records":0}';
/** What is sent there stays on the machine: RFC 6761 section 6.3, RFC 1122. */
const LOOPBACK = /^(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;
const RESET_CODE = 4001;
/** What the close frame says: why, and the cursor at which the day begins. */
const RESET_REASON = /^(.*); it begins at (\d{8}\.\d+)$/s;

// ---- errors

export class ZerocopyError extends Error {
  constructor(detail, { status = null, retryAfterS = null, rateLimit = null, cause } = {}) {
    super(detail, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.detail = detail;
    this.status = status;
    this.retryAfterS = retryAfterS;
    this.rateLimit = rateLimit;
  }
}
export class BadRequest extends ZerocopyError {}
export class Unauthorized extends ZerocopyError {}
export class NotFound extends ZerocopyError {}
export class TooManyRequests extends ZerocopyError {}
export class NotInstalled extends ZerocopyError {}
export class Unavailable extends ZerocopyError {}
export class UnexpectedAnswer extends ZerocopyError {}
export class ConnectionFailed extends ZerocopyError {}
export class Timeout extends ConnectionFailed {}
export class Interrupted extends ConnectionFailed {}
export class ChangedData extends ZerocopyError {}
export class Reset extends ZerocopyError {
  constructor(reason, cursor) {
    super(`${reason}; it begins at ${cursor}`);
    this.reason = reason;
    this.cursor = cursor;
  }
}

const KINDS = new Map([
  [401, Unauthorized],
  [403, Unauthorized],
  [404, NotFound],
  [429, TooManyRequests],
  [501, NotInstalled],
  [502, Unavailable],
  [503, Unavailable],
  [504, Unavailable],
]);

/** Whether the same request may succeed a little later. */
const mayPass = (error) =>
  [ConnectionFailed, TooManyRequests, Unavailable].some((kind) => error instanceof kind);

/** Whether a limit asks to wait for longer than that: who asked is to decide. */
const asksForMore = (error, seconds) =>
  error instanceof TooManyRequests && error.retryAfterS > seconds;

/** RFC 9110 section 10.2.3: seconds or a date. */
function retryAfter(value) {
  if (!value) return null;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? null : Math.max(0, seconds);
}

/** The lists that RateLimit and RateLimit-Policy are: name → { parameter: number } (RFC 9651). */
function limitsOf(value) {
  const limits = new Map();
  for (const [, name, rest] of (value ?? "").matchAll(/"([^"\\]*)"((?: *; *[a-z]+=[^;,]*)*)/g)) {
    const parameters = [...rest.matchAll(/([a-z]+)=(\d{1,15})/g)];
    limits.set(name, Object.fromEntries(parameters.map(([, key, told]) => [key, Number(told)])));
  }
  return limits;
}

/** The limit that is reached, of draft-ietf-httpapi-ratelimit-headers-10; null if none is told. */
function rateLimitOf(headers) {
  const told = [...limitsOf(headers.get("RateLimit"))].filter(([, { r }]) => r !== undefined);
  if (!told.length) return null;
  const [policy, limit] = told.reduce((least, each) => (each[1].r < least[1].r ? each : least));
  const { r: remaining, t: resetS = null } = limit;
  const policies = limitsOf(headers.get("RateLimit-Policy"));
  const { q: quota = null, w: windowS = null } = policies.get(policy) ?? {};
  return { policy, quota, remaining, resetS, windowS };
}

/** The error of a response that is neither 200 nor 206; RFC 9457. `hint`: why no key was sent. */
async function problemOf(response, watch, hint) {
  const { status, headers } = response;
  const text = await watch.wait(response.text());
  let detail = `the server answered ${status} ${response.statusText}`.trim();
  try {
    const problem = JSON.parse(text);
    if (typeof problem.detail === "string") detail = problem.detail;
  } catch {
    // A proxy's page: the status says enough.
  }
  if (status === 401 && hint) detail += `; ${hint}`;
  const others = status >= 400 && status < 500 ? BadRequest : UnexpectedAnswer;
  const kind = KINDS.get(status) ?? others;
  const retryAfterS = retryAfter(headers.get("Retry-After"));
  const rateLimit = status === 429 ? rateLimitOf(headers) : null;
  return new kind(detail, { status, retryAfterS, rateLimit });
}

// ---- frames

const ARRAYS = {
  "<u4": Uint32Array,
  "<f4": Float32Array,
  "<u8": BigUint64Array,
  "<f8": Float64Array,
  "<i4": Int32Array,
  "<i8": BigInt64Array,
  "<u2": Uint16Array,
  "<i2": Int16Array,
  "|u1": Uint8Array,
  "|i1": Int8Array,
};
const TEXT = new TextDecoder("utf-8", { ignoreBOM: true });

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
  /** `columns`: name → [dtype, typed array or TextColumn]; `told`: the body's header line. */
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
    const nanos = this.has("nanos") ? this.get("nanos").at(index) : 0;
    return new Date(this.time.at(index) * 1000 + Math.floor(nanos / 1e6));
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
  if (!width) throw new UnexpectedAnswer(`the server sent a dtype that is none: ${dtype}`);
  return width;
}

/** A body in the format `columns` as it comes in: header line, one allocation, bytes into place. */
class Assembly {
  etag = null;
  received = 0;
  total = null;
  #line = new Uint8Array(0);
  #header = null;
  #slots = [];
  #size = 0;
  #bytes;

  take(chunk) {
    let at = this.#header ? 0 : this.#begin(chunk);
    this.received += chunk.length;
    while (at < chunk.length) {
      const slot = this.#slots[0];
      if (!slot) throw new UnexpectedAnswer("the body is longer than its header line says");
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
    const { buffer } = this.#bytes;
    const views = columns.map(({ name, dtype, offset, num_records: count }) => {
      return [name, [dtype, viewOf(dtype, buffer, offset, count)]];
    });
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
    if (line.length > HEADER_BYTES_MAX) throw new UnexpectedAnswer("the header line has no end");
    if (!end) return chunk.length;
    try {
      this.#header = JSON.parse(TEXT.decode(line));
      this.#place(this.#header.columns);
    } catch (cause) {
      if (cause instanceof ZerocopyError) throw cause;
      throw new UnexpectedAnswer("the body has no header line of this format", { cause });
    }
    this.#allocate();
    return end;
  }

  #place(columns) {
    let size = 0;
    this.total = this.#line.length;
    const count = columns[0].num_records;
    for (const column of columns) {
      const { num_records: said, data_length: nbytes, dtype } = column;
      if (said !== count || nbytes !== count * widthOf(dtype)) {
        throw new UnexpectedAnswer(`the header line contradicts itself: column ${column.name}`);
      }
      column.offset = size;
      if (column.data_length) this.#slots.push({ offset: size, left: column.data_length });
      size += Math.ceil(column.data_length / 8) * 8;
      this.total += column.data_length;
    }
    this.#size = size;
  }

  #allocate() {
    try {
      this.#bytes = new Uint8Array(this.#size);
    } catch (cause) {
      const told = `${this.total} bytes are more than can be allocated here: ask for a shorter range`;
      throw new BadRequest(told, { cause });
    }
  }
}

function frameOfMessage(data) {
  const assembly = new Assembly();
  assembly.take(new Uint8Array(data));
  if (!assembly.isWhole) throw new UnexpectedAnswer("a live message ends before its records do");
  return assembly.frame();
}

// ---- times

const ISO_DATE = /^\d{4}-(\d\d)-\d\d(.*)$/;
const ISO_TIME = /^[T ]([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?(.*)$/;
const ISO_ZONE = /^([+-])([01]\d|2[0-3]):?([0-5]\d)$/;

/** Whole unix seconds, rounded up: [a, b) and [b, c) never share a record, nor lose one. */
function secondsOf(name, value) {
  if (typeof value === "number" && Number.isFinite(value)) {
    if (value >= 0 && value <= SECONDS_MAX) return Math.ceil(value);
    const hint = value / 1000 <= SECONDS_MAX && value > 0 ? "; milliseconds would be a Date" : "";
    throw new BadRequest(`${name}: ${value} must be unix seconds, 0 to ${SECONDS_MAX}${hint}`);
  }
  let seconds = NaN;
  if (value instanceof Date) seconds = value.getTime() / 1000;
  else if (typeof value === "string") seconds = secondsOfIso(value);
  if (Number.isNaN(seconds)) {
    const rule = "unix seconds, a Date, or ISO 8601 such as 2025-01-31 or 2025-01-31T09:30:00Z";
    throw new BadRequest(`${name}: ${String(value)} must be ${rule}`);
  }
  return Math.min(Math.max(Math.ceil(seconds), 0), SECONDS_MAX); // no record lies beyond
}

function secondsOfIso(text) {
  const [, month, rest] = ISO_DATE.exec(text) ?? [];
  const midnight = new Date(text.slice(0, 10)); // 30 February is a day of March to some engines
  if (midnight.getUTCMonth() + 1 !== Number(month)) return NaN;
  if (!rest) return midnight.getTime() / 1000;
  const [, hour, minute, second, zone] = ISO_TIME.exec(rest) ?? [];
  const [, sign, hours, minutes] = ISO_ZONE.exec(/^Z?$/.test(zone) ? "+00:00" : zone) ?? [];
  const aheadS = Number(hours) * 3600 + Number(minutes) * 60;
  const ofDayS = Number(hour) * 3600 + Number(minute) * 60 + Number(second ?? 0);
  return midnight.getTime() / 1000 + ofDayS - (sign === "-" ? -aheadS : aheadS);
}

/** The wire's range, both ends inclusive. An empty one is a second of a year that no file has. */
function rangeOf(start, end) {
  const first = start == null ? 0 : secondsOf("start", start);
  const stop = end == null ? SECONDS_MAX : secondsOf("end", end);
  if (first > stop) throw new BadRequest("start and end: start must not be after end");
  const nowhere = { start: SECONDS_MAX - 1, end: SECONDS_MAX - 1 };
  return first === stop ? nowhere : { start: first, end: stop - 1 };
}

// ---- waiting

const milliseconds = (seconds) => Math.min(seconds * 1000, TIMER_MAX_MS);

function pause(seconds, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds(seconds));
    signal?.addEventListener("abort", done);
    if (signal?.aborted) done();
  });
}

/** What the server asked for; else half to all of a time that doubles. Clients return apart. */
function pauseS(failures, { retryAfterS }) {
  if (retryAfterS !== null) return retryAfterS + PAUSE_S * Math.random();
  return (Math.min(PAUSE_S * 2 ** (failures - 1), PAUSE_MAX_S) * (1 + Math.random())) / 2;
}

/** One request's signal: it aborts when the caller does, or after so long without a byte. */
class Watch {
  #controller = new AbortController();
  #caller;
  #timeoutS;
  #onAbort = () => this.#controller.abort(this.#caller.reason);
  #giveUp = () => {};

  constructor(caller, timeoutS) {
    caller?.throwIfAborted();
    this.#caller = caller;
    this.#timeoutS = timeoutS;
    caller?.addEventListener("abort", this.#onAbort);
    // At once, even if what was injected as `fetch` is deaf.
    this.signal.addEventListener("abort", () => this.#giveUp());
  }

  get signal() {
    return this.#controller.signal;
  }

  /** What the network gives; a failure as an error of ours, an abort with the caller's reason. */
  async wait(promise, kind = Interrupted, told = "the connection broke amid a body") {
    const expire = () => this.#controller.abort(new Timeout(`silent for ${this.#timeoutS} s`));
    const timer = setTimeout(expire, milliseconds(this.#timeoutS));
    try {
      return await new Promise((resolve, reject) => {
        promise.then(resolve, reject);
        this.#giveUp = reject;
        if (this.signal.aborted) reject();
      });
    } catch (cause) {
      if (this.signal.aborted) throw this.signal.reason;
      throw new kind(told, { cause });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Gives back what the request still holds, such as the connection of an unread body. */
  stop() {
    this.#caller?.removeEventListener("abort", this.#onAbort);
    this.#controller.abort();
  }
}

// ---- the client

export class Client {
  #base;
  #key;
  #hint;
  #exchange;
  #timeoutS;
  #fetch;
  #WebSocket;
  #hasMet = false;

  constructor(url, { key, exchange = "coinbase", timeout = 30, fetch, WebSocket } = {}) {
    const environ = globalThis.process?.env ?? {};
    this.#base = baseOf(url ?? globalThis.location?.origin ?? environ.ZEROCOPY_URL);
    ({ key: this.#key, hint: this.#hint } = keyOf(key, this.#base, environ));
    this.#exchange = exchange;
    this.#timeoutS = timeout;
    if (!(timeout > 0)) throw new BadRequest(`timeout: ${timeout} must be seconds above 0`);
    this.#fetch = fetch ?? ((...request) => globalThis.fetch(...request));
    this.#WebSocket = WebSocket === undefined ? globalThis.WebSocket : WebSocket;
  }

  async symbols({ exchange, signal } = {}) {
    return this.#document("symbols", { exchange }, signal);
  }

  async catalog(symbol, { type, exchange = this.#exchange, signal } = {}) {
    return this.#document("catalog", { symbol, type, exchange }, signal);
  }

  async data(symbol, columns, options = {}) {
    const { start, end, last } = options;
    const series = this.#series(symbol, columns, options);
    return this.#frame("data", { ...series, ...rangeOf(start, end), last }, options);
  }

  async bars(symbol, columns, options = {}) {
    const { start, end, interval, maxPoints } = options;
    const series = this.#series(symbol, columns, options);
    const range = { ...rangeOf(start, end), interval, max_points: maxPoints };
    return this.#frame("bars", { ...series, ...range }, options);
  }

  live(symbol, columns, options = {}) {
    const series = this.#series(symbol, columns, options);
    const begin = options.start == null ? undefined : secondsOf("start", options.start);
    const place = { from: options.cursor ?? undefined, start: begin };
    let frames = this.#frames(series, place, options);
    return {
      next: async () => {
        try {
          return await frames.next();
        } catch (error) {
          // A generator that has thrown is over; the stream goes on if its reader does.
          if (error instanceof Reset) frames = this.#frames(series, place, options);
          throw error;
        }
      },
      return: (value) => frames.return(value),
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  async ticket({ signal } = {}) {
    return this.#retry(signal, (watch) => this.#ticket(watch));
  }

  async #ticket(watch) {
    const { ticket } = await this.#json(this.#url("ticket", {}), watch, "POST");
    if (typeof ticket !== "string") throw new UnexpectedAnswer("the server made no ticket");
    return ticket;
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

  /** One request: a response with a body to read, or an error of ours. */
  async #get(url, watch, fields = {}, method = "GET") {
    const init = { method, headers: { ...fields }, signal: watch.signal };
    if (this.#key) {
      init.headers.Authorization = `Bearer ${this.#key}`;
      init.redirect = "manual"; // the key would go along
    }
    if (fields.Range || fields.Accept) init.cache = "no-store"; // parts and streams are not kept
    const told = `no connection to ${url.origin}`;
    const response = await watch.wait(this.#fetch(url.href, init), ConnectionFailed, told);
    this.#hasMet = true;
    if (response.type === "opaqueredirect" || REDIRECTS.includes(response.status)) {
      throw new UnexpectedAnswer(`${url.origin} redirects, and a key is not sent elsewhere`);
    }
    if (!response.ok) throw await problemOf(response, watch, this.#hint);
    return response;
  }

  /** Runs `attempt` until it succeeds, or fails in a way that does not pass, or too often. */
  async #retry(signal, attempt) {
    const progress = { atMs: performance.now(), isMade: false };
    for (let failures = 0; ;) {
      const watch = new Watch(signal, this.#timeoutS);
      try {
        return await attempt(watch, progress);
      } catch (error) {
        failures = progress.isMade ? 1 : failures + 1;
        progress.isMade = false;
        if (!mayPass(error) || asksForMore(error, this.#timeoutS)) throw error;
        if (failures >= (this.#hasMet ? TRIES : FIRST_TRIES)) throw error;
        const waitS = pauseS(failures, error);
        if (performance.now() - progress.atMs + waitS * 1000 > PATIENCE_S * 1000) throw error;
        await pause(waitS, signal);
      } finally {
        watch.stop();
      }
    }
  }

  #document(endpoint, parameters, signal) {
    const url = this.#url(endpoint, parameters);
    return this.#retry(signal, (watch) => this.#json(url, watch));
  }

  async #json(url, watch, method = "GET") {
    const response = await this.#get(url, watch, {}, method);
    const text = await watch.wait(response.text());
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new UnexpectedAnswer("the server sent no JSON", { cause });
    }
  }

  #frame(endpoint, parameters, { signal, onProgress }) {
    const url = this.#url(endpoint, parameters);
    let body = new Assembly();
    let changes = 0;
    return this.#retry(signal, async (watch, progress) => {
      if (body.isWhole) return body.frame(); // the connection broke behind its last byte
      const isRest = body.received > 0 && body.etag !== null;
      const fields = isRest ? { Range: `bytes=${body.received}-`, "If-Range": body.etag } : {};
      const response = await this.#get(url, watch, fields);
      const goesOn = isRest && continues(response, body);
      if (isRest && !goesOn && ++changes >= CHANGES_MAX) {
        throw new ChangedData("the data changed each time while it was fetched");
      }
      if (!goesOn) body = new Assembly();
      if (!goesOn && response.status === 206) throw new Interrupted("another part came");
      body.etag = strongTag(response);
      // No BYOB reader: a read that fails takes its buffer along, and nothing could be resumed.
      for (const reader = response.body.getReader(); ;) {
        const { done, value } = await watch.wait(reader.read());
        if (done) break;
        body.take(value);
        [progress.atMs, progress.isMade] = [performance.now(), goesOn];
        onProgress?.({ received: body.received, total: body.total });
      }
      if (!body.isWhole) throw new Interrupted("the body ended early");
      return body.frame();
    });
  }

  /** Frames with records, over as many connections as it takes; `place` is where to begin. */
  async *#frames(series, place, { signal, onState }) {
    for (let failures = 0; !signal?.aborted;) {
      try {
        const target = { ...series, from: place.from, start: place.from ? undefined : place.start };
        for await (const frame of this.#connection(target, signal)) {
          place.from = frame.cursor;
          this.#hasMet = true;
          failures = 0;
          if (frame.length) yield frame;
          else onState?.({ state: "open", cursor: frame.cursor });
          if (signal?.aborted) return;
        }
      } catch (error) {
        if (signal?.aborted) return;
        if (error instanceof Reset) place.from = error.cursor;
        if (!mayPass(error) || asksForMore(error, this.#timeoutS)) throw error;
        if (++failures >= FIRST_TRIES && !this.#hasMet) throw error;
        const waitS = Math.min(pauseS(failures, error), PATIENCE_S);
        onState?.({ state: "waiting", error, waitS });
        await pause(waitS, signal);
      }
    }
  }

  /** The frames of one connection; the first has a cursor and no records. */
  async *#connection(target, signal) {
    const ticket = this.#WebSocket ? await this.#ticketOf(signal) : null;
    if (ticket !== null) {
      const url = this.#url("live", { ...target, ticket: ticket || null });
      url.protocol = url.protocol.replace("http", "ws");
      const silenceS = SOCKET_TIMEOUTS * this.#timeoutS;
      const socket = new Socket(this.#WebSocket, url.href, silenceS, signal);
      try {
        for await (const message of socket.messages()) yield frameOfMessage(message);
      } finally {
        socket.close();
      }
      // It did not open and tells no status. What follows does, and passes where it is blocked.
    }
    const watch = new Watch(signal, this.#timeoutS);
    try {
      yield* this.#events(target, watch);
    } finally {
      watch.stop();
    }
  }

  /** What a WebSocket has instead of a key: "" without a key; null where there is no ticket. */
  async #ticketOf(signal) {
    if (!this.#key) return "";
    const watch = new Watch(signal, this.#timeoutS);
    try {
      return await this.#ticket(watch);
    } catch (error) {
      if (error instanceof ConnectionFailed || NO_TICKETS.includes(error.status)) return null;
      throw error;
    } finally {
      watch.stop();
    }
  }

  async *#events(target, watch) {
    const { symbol, exchange, type, columns } = target;
    const { types } = await this.#json(this.#url("catalog", { symbol, exchange, type }), watch);
    const known = new Map(types[type].columns.map(({ name, dtype }) => [name, dtype]));
    const dtypes = columns.split(",").map((name) => [name, known.get(name)]);
    const response = await this.#get(this.#url("live", target), watch, { Accept: EVENT_STREAM });
    for await (const { event, id, data } of eventsOf(response.body, watch)) {
      if (event === "reset") throw new Reset(JSON.parse(data).reason, id);
      yield frameOfEvent(data || NO_RECORDS, dtypes, id);
    }
    throw new Interrupted("the live stream ended");
  }
}

/** The URL that `api/` lies below. */
function baseOf(url) {
  try {
    const base = new URL(String(url).replace(/\/*$/, "/"));
    if (/^https?:$/.test(base.protocol) && !base.username && !base.password) return base;
  } catch {
    // It is none.
  }
  throw new BadRequest("url: must be the server's, such as http://127.0.0.1:8080, without a user");
}

/** The key for a server, or none and why: ZEROCOPY_KEY is for the server of ZEROCOPY_URL. */
function keyOf(given, base, { ZEROCOPY_URL: told, ZEROCOPY_KEY: ours }) {
  const isPlain = base.protocol === "http:" && !LOOPBACK.test(base.hostname);
  let hint = "give a key as { key }";
  if (!given && ours && told && originOf(told) !== base.origin) {
    hint = "ZEROCOPY_KEY was not sent: it is for the server of ZEROCOPY_URL";
  } else if (!given && ours && !told && isPlain) {
    hint = "ZEROCOPY_KEY was not sent over plain HTTP: use https, or give it as { key }";
  } else given ||= ours;
  if (given && !/^[!-~]+$/.test(given)) throw new BadRequest("key: must be one word");
  return { key: given, hint: given ? "" : hint };
}

function originOf(url) {
  try {
    return new URL(url).origin;
  } catch {
    return null;
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

/** A WebSocket as messages that are pulled. It cannot be paused: a slow consumer closes it. */
class Socket {
  #wasOpen = false;
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
    this.#socket = new WebSocket(url);
    Object.assign(this.#socket, {
      binaryType: "arraybuffer",
      onopen: () => (this.#wasOpen = true),
      onmessage: ({ data }) => this.#take(data),
      onerror: () => {}, // `close` follows
      onclose: (event) => this.#end(event),
    });
  }

  /** Messages until the connection ends, an error; none, and no error, if it never opened. */
  async *messages() {
    do {
      while (this.#queue.length) {
        const data = this.#queue.shift();
        this.#queued -= data.byteLength;
        yield data;
      }
      if (this.#signal?.aborted) return;
    } while (!this.#ended && (await this.#event()));
    const { code, reason } = this.#ended ?? { reason: `no message for ${this.#silenceS} s` };
    if (code === RESET_CODE) throw resetOf(reason);
    if (this.#wasOpen) throw new Interrupted(`the live stream ended: ${reason || code}`);
  }

  close() {
    Object.assign(this.#socket, { onopen: null, onmessage: null, onclose: null });
    this.#socket.close();
  }

  #take(data) {
    this.#queue.push(data);
    this.#queued += data.byteLength;
    if (this.#queued > QUEUE_BYTES_MAX) this.#end({ reason: "its consumer is too slow" });
    this.#wake();
  }

  #end(event) {
    this.#ended = event;
    this.close();
    this.#wake();
  }

  /** Waits for whatever comes; false where nothing does for too long. */
  #event() {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake(false), milliseconds(this.#silenceS));
      this.#wake = (came = true) => {
        clearTimeout(timer);
        this.#signal?.removeEventListener("abort", onAbort);
        this.#wake = () => {};
        resolve(came);
      };
      const onAbort = () => this.#wake();
      this.#signal?.addEventListener("abort", onAbort);
    });
  }
}

function resetOf(told) {
  const match = RESET_REASON.exec(told);
  return match ? new Reset(match[1], match[2]) : new UnexpectedAnswer(`a reset that says: ${told}`);
}

/** Server-sent events of a byte stream: WHATWG HTML, section 9.2.6. An id alone is one too. */
async function* eventsOf(stream, watch) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let [rest, event, id, data, isTold] = ["", "", "", [], false];
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
}

/** The format `json` as typed arrays; what is null there is NaN. */
function frameOfEvent(text, dtypes, cursor) {
  const told = JSON.parse(text);
  const columns = dtypes.map(([name, dtype]) => {
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
  const column = new TextColumn(new Uint8Array(values.length * width), width);
  const encoder = new TextEncoder();
  values.forEach((text, index) => encoder.encodeInto(text, column.bytesAt(index)));
  return column;
}
