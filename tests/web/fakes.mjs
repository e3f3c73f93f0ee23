/** What the tests of the JavaScript client share: bodies, servers that follow a script, sockets. */

const DTYPES = {
  Uint32Array: "<u4",
  Float32Array: "<f4",
  BigUint64Array: "<u8",
  Float64Array: "<f8",
  Int32Array: "<i4",
  BigInt64Array: "<i8",
  Uint16Array: "<u2",
  Int16Array: "<i2",
  Uint8Array: "|u1",
  Int8Array: "|i1",
};

/** A body in the format `columns`; `texts` are columns of bytes, with their width. */
export function bodyOf(columns, more = {}, texts = {}) {
  const parts = Object.entries(columns).map(([name, values]) => {
    const size = texts[name] ?? values.BYTES_PER_ELEMENT;
    const dtype = texts[name] ? `|S${size}` : DTYPES[values.constructor.name];
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const told = {
      name,
      record_size: size,
      num_records: bytes.length / size,
      data_length: bytes.length,
      dtype,
    };
    return { told, bytes };
  });
  const header = JSON.stringify({ columns: parts.map(({ told }) => told), ...more }) + "\n";
  return Buffer.concat([Buffer.from(header), ...parts.map(({ bytes }) => bytes)]);
}

/** `count` ticks, and their body. */
export function ticks(count, more = {}) {
  const time = Uint32Array.from({ length: count }, (_, index) => 1_738_281_600 + index);
  const price = Float32Array.from({ length: count }, (_, index) => index / 4);
  return { time, price, body: bodyOf({ time, price }, more) };
}

/** A response in pieces; after `cut` bytes the connection breaks. */
export function reply(
  body,
  { status = 200, fields = {}, cut = null, piece = 1_000, ends = true } = {},
) {
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  const pieces = [];
  const stop = cut ?? bytes.length;
  for (let at = 0; at < stop; at += piece) {
    pieces.push(new Uint8Array(bytes.subarray(at, Math.min(at + piece, stop))));
  }
  const stream = new ReadableStream({
    pull(controller) {
      if (pieces.length) controller.enqueue(pieces.shift());
      else if (cut !== null) controller.error(new TypeError("terminated"));
      else if (ends) controller.close();
      else return new Promise(() => {});
    },
  });
  return new Response(stream, { status, headers: fields });
}

export function problem(status, detail, fields = {}) {
  const body = JSON.stringify({ type: "about:blank", title: "t", status, detail });
  return reply(body, { status, fields: { "Content-Type": "application/problem+json", ...fields } });
}

/** A `fetch` that answers by `steps`, the last one again and again; `asked` tells of each request. */
export function scripted(...steps) {
  const asked = [];
  const fetch = async (href, init = {}) => {
    init.signal?.throwIfAborted();
    const url = new URL(href);
    const request = {
      url,
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      ...init,
    };
    asked.push(request);
    const step = steps.length > 1 ? steps.shift() : steps[0];
    const answer = await Promise.race([step(request), aborted(init.signal)]);
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return { fetch, asked };
}

function aborted(signal) {
  return new Promise((_, reject) => {
    signal?.addEventListener("abort", () => reject(signal.reason));
  });
}

/** A class of WebSockets that the test plays the server of: `opened` holds them as they come. */
export function sockets(...scripts) {
  const opened = [];
  class Socket {
    constructor(url) {
      this.url = new URL(url);
      this.isClosed = false;
      opened.push(this);
      const script = scripts.length > 1 ? scripts.shift() : scripts[0];
      queueMicrotask(() => script(this));
    }
    open(cursor) {
      this.onopen?.({});
      this.send(0, cursor);
    }
    /** `count` records, the last of which is the one before `cursor`. */
    send(count, cursor) {
      const last = Number(cursor.split(".")[1]);
      const price = Float32Array.from({ length: count }, (_, index) => last - count + index);
      const body = bodyOf({ time: new Uint32Array(count), price }, { cursor });
      this.onmessage?.({ data: new Uint8Array(body).buffer });
    }
    end(code, reason = "") {
      this.onclose?.({ code, reason });
    }
    fail() {
      this.onerror?.({});
      this.end(1006);
    }
    close() {
      this.isClosed = true;
    }
  }
  return { WebSocket: Socket, opened };
}

/** Resolves when everything that waits for no timer has happened; only `setTimeout` may be mocked. */
export async function settled() {
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
}

/** A case whose time passes as fast as it does nothing: timers and `performance.now` are the test's. */
export function withClock(run) {
  return async (context) => {
    let nowMs = 0;
    context.mock.timers.enable({ apis: ["setTimeout"] });
    context.mock.method(performance, "now", () => nowMs);
    let isDone = false;
    const running = run(context).finally(() => (isDone = true));
    while (!isDone) {
      for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
      context.mock.timers.tick(TICK_MS);
      nowMs += TICK_MS;
    }
    return running;
  };
}

const TICK_MS = 20;
