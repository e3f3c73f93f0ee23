/** The JavaScript client against answers that a test writes: times, frames, retries, resumed bodies. */

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";
import { test } from "node:test";

import * as zerocopy from "../../zerocopy/web/zerocopy.js";
import { bodyOf, problem, reply, scripted, ticks } from "./fakes.mjs";

const { Client, Frame, TextColumn } = zerocopy;
const BASE = "http://server.test/below/";
const TAG = { ETag: '"one"' };

Math.random = () => 0; // pauses between two tries last no time

function client(script, options = {}) {
  return new Client(BASE, { fetch: script.fetch, WebSocket: null, ...options });
}

async function rangeAsked(start, end) {
  const script = scripted(() => reply(ticks(0).body));
  await client(script).data("X", "time", { type: "MD", start, end });
  const { query } = script.asked[0];
  return [Number(query.start), Number(query.end)];
}

test("start is inclusive and end exclusive, whatever they are written as", async () => {
  const whole = [1_738_281_600, 1_738_367_999];
  const next = "2025-02-01T00:00:00Z";
  for (const [start, end] of [
    [1_738_281_600, 1_738_368_000],
    [1_738_281_599.2, 1_738_367_999.01],
    ["2025-01-31", "2025-02-01"],
    ["2025-01-31T00:00", "2025-02-01 00:00:00"],
    ["2025-01-30T23:59:59.000001Z", "2025-01-31T23:59:59.9999999"],
    ["2025-01-31T01:30:00+01:30", "2025-01-31T19:00:00-0500"],
    [new Date("2025-01-30T23:59:59.001Z"), new Date(next)],
  ]) {
    assert.deepEqual(await rangeAsked(start, end), whole, `${start} ${end}`);
  }
});

test("a side that is left out is open, and dates beyond any record are the outermost", async () => {
  assert.deepEqual(await rangeAsked(), [0, 4_294_967_295]);
  assert.deepEqual(await rangeAsked(null, null), [0, 4_294_967_295]);
  assert.deepEqual(await rangeAsked("1960-01-01", "2200-01-01"), [0, 4_294_967_295]);
  assert.deepEqual(await rangeAsked("0099-01-01", new Date(8.64e15)), [0, 4_294_967_295]);
});

test("an empty range asks for a second that no day can have", async () => {
  for (const [start, end] of [[7, 7], [0, 0], [2 ** 32, null]]) {
    assert.deepEqual(await rangeAsked(start, end), [4_294_967_295, 4_294_967_295]);
  }
});

test("what is no time is refused before anything is sent", async () => {
  const script = scripted(() => reply(ticks(0).body));
  for (const bad of [
    "yesterday", "2025-02-30", "2025-13-01", "2025-01-31T24:00", "2025-01-31T10:60", "", NaN,
    Infinity, -1, 1_738_281_600_000, true, {}, new Date(NaN), 10n, "2025-01-31T10", "2025-01-31x",
    "2025-01-31T10:00+24:00", "2025-01-31T10:00:61", "2025-1-31", "2025-01-31T10:00 Z", "2025-01-00",
  ]) {
    for (const name of ["start", "end"]) {
      const asked = client(script).data("X", "time", { type: "MD", [name]: bad });
      await assert.rejects(asked, (error) => {
        assert.ok(error instanceof zerocopy.BadRequest, String(bad));
        assert.ok(error.detail.startsWith(`${name}: `), error.detail);
        return error.status === null;
      });
    }
  }
  const backwards = client(script).data("X", "time", { type: "MD", start: 2, end: 1 });
  await assert.rejects(backwards, zerocopy.BadRequest);
  assert.equal(script.asked.length, 0);
});

test("each method asks for what it is told, below the path of the server's URL", async () => {
  const script = scripted(({ path }) => reply(/data|bars/.test(path) ? ticks(1).body : "{}"));
  const asking = client(script, { exchange: "kraken", key: "secret" });
  const options = { type: "MD", start: 1, end: 2 };
  await asking.symbols();
  await asking.symbols({ exchange: "bitfinex" });
  await asking.catalog("tAAVE:USD", { type: "MD" });
  await asking.data("A&B", ["time", "price"], { ...options, last: 3, exchange: "coinbase" });
  await asking.bars("X", "price:open+close", { ...options, interval: "5m" });
  await asking.bars("X", ["price", "size:sum"], { ...options, maxPoints: 10 });
  const range = { start: "1", end: "1", type: "MD" };
  assert.deepEqual(
    script.asked.map(({ path, query }) => [path.replace("/below/api/", ""), query]),
    [
      ["symbols", {}],
      ["symbols", { exchange: "bitfinex" }],
      ["catalog", { symbol: "tAAVE:USD", exchange: "kraken", type: "MD" }],
      ["data", { symbol: "A&B", columns: "time,price", exchange: "coinbase", last: "3", ...range }],
      ["bars", { symbol: "X", columns: "price:open+close", exchange: "kraken", interval: "5m", ...range }],
      ["bars", { symbol: "X", columns: "price,size:sum", exchange: "kraken", max_points: "10", ...range }],
    ],
  );
  assert.ok(script.asked.every(({ headers }) => headers.Authorization === "Bearer secret"));
});

test("columns of every dtype are aligned views of one buffer, in pieces of any size", async () => {
  const columns = {
    time: Uint32Array.of(1, 2, 3), a: Float32Array.of(0.5, NaN, -Infinity), b: Int8Array.of(-1, 2, 3),
    id: BigUint64Array.of(2n ** 64n - 1n, 0n, 1n), c: Uint8Array.of(255, 0, 1),
    d: Float64Array.of(0.1, 2, 3), e: Uint16Array.of(65_535, 0, 1), f: Int16Array.of(-1, 0, 1),
    order: Buffer.from("abé\0x\0\0\0\0\0\0"), g: Int32Array.of(-1, 0, 1),
    h: BigInt64Array.of(-1n, 0n, 1n),
  };
  for (let pad = 0; pad < 8; pad++) {
    const body = bodyOf(columns, { skipped: ["x".repeat(pad)] }, { order: 4 });
    for (const piece of [1, 7, 4_096]) {
      const frame = await client(scripted(() => reply(body, { piece }))).data("X", Object.keys(columns));
      assert.ok(frame instanceof Frame);
      assert.deepEqual(frame.columns, Object.keys(columns));
      assert.equal(frame.length, 3);
      assert.deepEqual(frame.skipped, ["x".repeat(pad)]);
      const buffers = new Set();
      for (const [name, values] of frame) {
        const bytes = name === "order" ? values.bytes : values;
        buffers.add(bytes.buffer);
        if (name !== "order") assert.deepEqual(values, columns[name], name);
      }
      assert.equal(buffers.size, 1);
    }
  }
});

test("a frame gives columns, rows, dates and texts", async () => {
  const columns = {
    time: Uint32Array.of(1_738_281_600, 1_738_281_601), nanos: Uint32Array.of(0, 999_999_999),
    order: Buffer.from("\ufeffbc\0d\0"),
  };
  const body = bodyOf(columns, { interval_s: 60, cursor: "20250131.2" }, { order: 4 });
  const frame = await client(scripted(() => reply(body))).data("X", "time,nanos,order");
  assert.equal(frame.time, frame.get("time"));
  assert.equal(frame.date(0).toISOString(), "2025-01-31T00:00:00.000Z");
  assert.equal(frame.date(-1).toISOString(), "2025-01-31T00:00:01.999Z");
  assert.deepEqual(frame.row(-1), { time: 1_738_281_601, nanos: 999_999_999, order: "c\0d" });
  assert.deepEqual([frame.intervalS, frame.cursor], [60, "20250131.2"]);
  assert.deepEqual([frame.dtype("order"), frame.has("order"), frame.has("x")], ["|S4", true, false]);
  const texts = frame.get("order");
  assert.ok(texts instanceof TextColumn);
  assert.deepEqual([...texts], ["\ufeffb", "c\0d"]);
  assert.deepEqual([texts.at(2), texts.at(-3), texts.bytesAt(0).length], [undefined, undefined, 4]);
  assert.throws(() => frame.get("x"), /no column x: there are time, nanos, order/);
});

test("an answer without records has its columns", async () => {
  const frame = await client(scripted(() => reply(ticks(0).body))).data("X", "time,price");
  assert.deepEqual([frame.length, frame.get("price")], [0, new Float32Array(0)]);
});

test("a body that broke off is resumed, by its tag, where it was", async () => {
  const { body, price } = ticks(5_000);
  const rest = ({ headers }) => {
    const begin = Number(/^bytes=(\d+)-$/.exec(headers.Range)[1]);
    const fields = { ...TAG, "Content-Range": `bytes ${begin}-${body.length - 1}/${body.length}` };
    const cut = begin < 35_000 ? 3_000 : null;
    return reply(body.subarray(begin), { status: 206, fields, cut });
  };
  const script = scripted(() => reply(body, { fields: TAG, cut: 10_001 }), rest);
  const told = [];
  const frame = await client(script).data("X", "time,price", { onProgress: (each) => told.push(each) });
  assert.deepEqual(frame.get("price"), price);
  const asked = script.asked.map(({ headers }) => [headers.Range, headers["If-Range"]]);
  assert.deepEqual(asked.slice(0, 2), [[undefined, undefined], ["bytes=10001-", '"one"']]);
  assert.ok(asked.length > 9, "more than the tries of one that makes no progress");
  assert.deepEqual(script.asked.slice(0, 2).map(({ cache }) => cache), [undefined, "no-store"]);
  assert.deepEqual(told.at(-1), { received: body.length, total: body.length });
});

test("progress counts once: a body that then gives nothing more fails", async () => {
  const { body } = ticks(5_000);
  const part = (begin, cut) => {
    const fields = { ...TAG, "Content-Range": `bytes ${begin}-${body.length - 1}/${body.length}` };
    return () => reply(body.subarray(begin), { status: 206, fields, cut });
  };
  const script = scripted(() => reply(body, { fields: TAG, cut: 9_000 }), part(9_000, 3_000), part(12_000, 0));
  await assert.rejects(client(script).data("X", "time,price"), zerocopy.Interrupted);
  assert.equal(script.asked.length, 8);
});

test("data that changed meanwhile is fetched anew, and never joined", async () => {
  const [old, fresh] = [ticks(5_000), ticks(5_001)];
  const script = scripted(
    () => reply(old.body, { fields: TAG, cut: 9_000 }),
    () => reply(fresh.body, { fields: { ETag: '"two"' } }),
  );
  const frame = await client(script).data("X", "time,price");
  assert.deepEqual(frame.get("price"), fresh.price);
});

test("data that changes each time is an error of its own", async () => {
  let count = 0;
  const { body } = ticks(5_000);
  const script = scripted(() => reply(body, { fields: { ETag: `"${count++}"` }, cut: 9_000 }));
  await assert.rejects(client(script).data("X", "time"), zerocopy.ChangedData);
});

test("a part that is not the one asked for is never taken", async () => {
  const { body, price } = ticks(5_000);
  for (const fields of [
    { ...TAG, "Content-Range": `bytes 8999-${body.length - 1}/${body.length}` },
    { ETag: '"two"', "Content-Range": `bytes 9000-${body.length - 1}/${body.length}` },
    TAG,
  ]) {
    const script = scripted(
      () => reply(body, { fields: TAG, cut: 9_000 }),
      () => reply(body.subarray(9_000), { status: 206, fields }),
      () => reply(body, { fields: TAG }),
    );
    const frame = await client(script).data("X", "time,price");
    assert.deepEqual(frame.get("price"), price);
    assert.equal(script.asked[2].headers.Range, undefined);
  }
});

test("without a strong tag a body is fetched anew", async () => {
  const { body, price } = ticks(5_000);
  for (const fields of [{}, { ETag: 'W/"one"' }]) {
    const script = scripted(() => reply(body, { fields, cut: 9_000 }), () => reply(body, { fields }));
    assert.deepEqual((await client(script).data("X", "time,price")).get("price"), price);
    assert.equal(script.asked[1].headers.Range, undefined);
  }
});

test("a body that always breaks off at the same byte fails after seven tries", async () => {
  const script = scripted(() => reply(ticks(5_000).body, { cut: 9_000 }));
  await assert.rejects(client(script).data("X", "time"), zerocopy.Interrupted);
  assert.equal(script.asked.length, 7);
  const short = scripted(() => reply(ticks(5_000).body.subarray(0, 9_000)));
  await assert.rejects(client(short).data("X", "time"), { name: "Interrupted", status: null });
});

test("a body that is none is an UnexpectedAnswer, at once", async () => {
  const { body } = ticks(3);
  const header = body.subarray(0, body.indexOf(10) + 1).toString();
  for (const bad of [
    "<html>a portal</html>\n", "{}\n", `{"columns":[]}\n`, "null\n",
    header.replace("12", "13"), header.replace("<f4", "<c8"), header.replace("<f4", "|S0"),
    Buffer.concat([body, Buffer.from("x")]), Buffer.alloc(2_000_000, "x"),
  ]) {
    const script = scripted(() => reply(bad, { piece: 100_000 }));
    await assert.rejects(client(script).data("X", "time"), zerocopy.UnexpectedAnswer, String(bad).slice(0, 99));
    assert.equal(script.asked.length, 1);
  }
  const portal = scripted(() => reply("<html>"));
  await assert.rejects(client(portal).symbols(), zerocopy.UnexpectedAnswer);
});

test("each status is an error of its class, with the server's own words", async () => {
  const kinds = {
    400: "BadRequest", 401: "Unauthorized", 403: "Unauthorized", 404: "NotFound", 414: "BadRequest",
    429: "TooManyRequests", 500: "UnexpectedAnswer", 501: "NotInstalled", 502: "Unavailable",
    503: "Unavailable", 504: "Unavailable",
  };
  for (const [status, name] of Object.entries(kinds)) {
    const script = scripted(() => problem(Number(status), `told ${status}`));
    await assert.rejects(client(script, { key: "secret" }).symbols(), (error) => {
      assert.ok(error instanceof zerocopy[name] && error instanceof zerocopy.ZerocopyError);
      assert.ok(!JSON.stringify(error).includes("secret"));
      assert.deepEqual([error.name, error.status], [name, Number(status)]);
      assert.equal(error.detail, `told ${status}`);
      return error.message === error.detail;
    });
    const tries = ["TooManyRequests", "Unavailable"].includes(name) ? 7 : 1;
    assert.equal(script.asked.length, tries, status);
  }
});

test("a proxy's error page is told by its status", async () => {
  for (const page of ["<html>", "null", "[]", '{"detail":7}', ""]) {
    const script = scripted(() => reply(page, { status: 404 }));
    await assert.rejects(client(script).symbols(), { name: "NotFound", detail: /answered 404/ });
  }
});

test("Retry-After is honoured in both forms, and told where it is long", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_738_281_600_000 });
  for (const value of ["7", "Fri, 31 Jan 2025 00:00:07 GMT"]) {
    context.mock.timers.setTime(1_738_281_600_000);
    const script = scripted(() => problem(503, "busy", { "Retry-After": value }), () => reply("{}"));
    const asked = client(script).symbols();
    let isDone = false;
    asked.then(() => (isDone = true));
    while (script.asked.length < 1) await new Promise(setImmediate);
    for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
    context.mock.timers.tick(6_999);
    for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
    assert.deepEqual([script.asked.length, isDone], [1, false]);
    context.mock.timers.tick(1);
    await asked;
  }
  const script = scripted(() => problem(429, "tomorrow", { "Retry-After": "86400" }));
  await assert.rejects(client(script).symbols(), { retryAfterS: 86_400 });
  assert.equal(script.asked.length, 1);
});

test("a server that is not there, or silent, is tried seven times", async () => {
  const gone = scripted(() => new TypeError("fetch failed"));
  await assert.rejects(client(gone).symbols(), { name: "ConnectionFailed", detail: /http:\/\/server.test/ });
  assert.equal(gone.asked.length, 7);
  const silent = scripted(() => new Promise(() => {}));
  await assert.rejects(client(silent, { timeout: 0.01 }).symbols(), zerocopy.Timeout);
  assert.equal(silent.asked.length, 7);
  const stuck = scripted(() => reply(ticks(9).body.subarray(0, 150), { ends: false }));
  await assert.rejects(client(stuck, { timeout: 0.01 }).data("X", "time"), zerocopy.Timeout);
  const back = scripted(() => new TypeError("fetch failed"), () => reply("{}"));
  assert.deepEqual(await client(back, { timeout: Infinity }).symbols(), {});
});

test("a slow body is no silent one", async () => {
  const { body, price } = ticks(20);
  const slow = new ReadableStream({
    async start(controller) {
      for (const byte of [...body.subarray(0, 40), body.subarray(40)]) {
        controller.enqueue(typeof byte === "number" ? Uint8Array.of(byte) : new Uint8Array(byte));
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      controller.close();
    },
  });
  const script = scripted(() => new Response(slow));
  const frame = await client(script, { timeout: 0.15 }).data("X", "time,price");
  assert.deepEqual(frame.get("price"), price);
  assert.equal(script.asked.length, 1);
});

test("an abort fails with the caller's reason: before, amid a body, in a pause", async () => {
  const reason = new Error("no longer wanted");
  const ask = (script, signal) => client(script).data("X", "time", { signal });
  const { body } = ticks(5_000);
  const unused = scripted(() => reply(body));
  await assert.rejects(ask(unused, AbortSignal.abort(reason)), reason);
  assert.equal(unused.asked.length, 0);
  const amid = new AbortController();
  const stuck = scripted(() => reply(body.subarray(0, 9_000), { ends: false }));
  const received = client(stuck).data("X", "time", {
    signal: amid.signal,
    onProgress: () => amid.abort(reason),
  });
  await assert.rejects(received, reason);
  assert.ok(stuck.asked[0].signal.aborted);
  const paused = new AbortController();
  const busy = scripted(() => {
    setTimeout(() => paused.abort(reason), 5);
    return problem(503, "busy", { "Retry-After": "30" });
  });
  await assert.rejects(ask(busy, paused.signal), reason);
});

test("an error of the caller's own function is the caller's", async () => {
  const script = scripted(() => reply(ticks(5_000).body));
  const failing = () => {
    throw new RangeError("mine");
  };
  await assert.rejects(client(script).data("X", "time", { onProgress: failing }), /^RangeError: mine$/);
  assert.equal(script.asked.length, 1);
  assert.ok(script.asked[0].signal.aborted);
});

test("Node's own fetch resumes over sockets that are cut", async () => {
  const { body, price } = ticks(200_000);
  const ranges = [];
  const server = createServer((request, response) => {
    const begin = Number(/\d+/.exec(request.headers.range)?.[0] ?? 0);
    ranges.push(begin);
    const told = `bytes ${begin}-${body.length - 1}/${body.length}`;
    const fields = { ...TAG, "Content-Length": body.length - begin };
    response.writeHead(begin ? 206 : 200, begin ? { ...fields, "Content-Range": told } : fields);
    const stop = begin + 600_000;
    response.write(body.subarray(begin, stop), () => {
      if (stop >= body.length) response.end();
      else setTimeout(() => request.socket.destroy(), 20); // behind what has left
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const asking = new Client(`http://127.0.0.1:${server.address().port}`);
    const frame = await asking.data("X", "time,price", { type: "MD" });
    assert.deepEqual(frame.get("price"), price);
    assert.ok(ranges.length >= 3 && ranges.every((begin, at) => !at || begin > ranges[at - 1]), ranges);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test("a download that has lasted for long is resumed; one without progress is not for ever", async (context) => {
  const { body, price } = ticks(5_000);
  let nowMs = 0;
  context.mock.method(performance, "now", () => nowMs);
  const script = scripted(
    () => reply(body, { fields: TAG, cut: 9_000 }),
    ({ headers }) => {
      const begin = Number(/\d+/.exec(headers.Range)[0]);
      const told = `bytes ${begin}-${body.length - 1}/${body.length}`;
      return reply(body.subarray(begin), { status: 206, fields: { ...TAG, "Content-Range": told } });
    },
  );
  const onProgress = () => (nowMs += 50_000);
  const frame = await client(script).data("X", "time,price", { onProgress });
  assert.deepEqual(frame.get("price"), price);
  const gone = scripted(() => {
    nowMs += 25_000;
    return new TypeError("fetch failed");
  });
  await assert.rejects(client(gone).symbols(), zerocopy.ConnectionFailed);
  assert.equal(gone.asked.length, 3);
});

test("the variables of Node say where the server is and who asks", async () => {
  assert.throws(() => new Client(), { name: "BadRequest", detail: /^url: / });
  for (const bad of ["127.0.0.1:8080", "ftp://x.test", "http://me:secret@x.test", "", "null"]) {
    assert.throws(() => new Client(bad), (error) => error.detail.startsWith("url: must") && !/secret/.test(error));
  }
  assert.throws(() => new Client(BASE, { key: "a\nsecret" }), (error) => !/secret/.test(error.stack));
  for (const timeout of [0, -1, NaN, "soon"]) {
    assert.throws(() => new Client(BASE, { timeout }), { name: "BadRequest", detail: /^timeout: / });
  }
  process.env.ZEROCOPY_URL = "http://elsewhere.test";
  process.env.ZEROCOPY_KEY = "k";
  try {
    const script = scripted(() => reply("{}"));
    await new Client(undefined, { fetch: script.fetch }).symbols();
    assert.equal(script.asked[0].url.href, "http://elsewhere.test/api/symbols");
    assert.equal(script.asked[0].headers.Authorization, "Bearer k");
  } finally {
    delete process.env.ZEROCOPY_URL;
    delete process.env.ZEROCOPY_KEY;
  }
});
