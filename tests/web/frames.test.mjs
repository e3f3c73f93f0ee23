/** Times and frames of the JavaScript client, from bodies that a test writes. */

import assert from "node:assert/strict";
import { test } from "node:test";

import * as zerocopy from "../../zerocopy/web/zerocopy.js";
import { bodyOf, reply, scripted, ticks, withClock } from "./fakes.mjs";

const { Client, Frame, TextColumn } = zerocopy;

function client(script) {
  return new Client("http://server.test", { fetch: script.fetch, WebSocket: null });
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
  for (const [start, end] of [
    [7, 7],
    [0, 0],
    [2 ** 32, null],
  ]) {
    assert.deepEqual(await rangeAsked(start, end), [4_294_967_295, 4_294_967_295]);
  }
});

test("what is no time is refused before anything is sent", async () => {
  const script = scripted(() => reply(ticks(0).body));
  for (const bad of [
    "yesterday",
    "2025-02-30",
    "2025-13-01",
    "2025-01-31T24:00",
    "2025-01-31T10:60",
    "",
    NaN,
    Infinity,
    -1,
    1_738_281_600_000,
    true,
    {},
    new Date(NaN),
    10n,
    "2025-01-31T10",
    "2025-01-31x",
    "2025-01-31T10:00+24:00",
    "2025-01-31T10:00:61",
    "2025-1-31",
    "2025-01-31T10:00 Z",
    "2025-01-00",
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

test("columns of every dtype are aligned views of one buffer, in pieces of any size", async () => {
  const columns = {
    time: Uint32Array.of(1, 2, 3),
    a: Float32Array.of(0.5, NaN, -Infinity),
    b: Int8Array.of(-1, 2, 3),
    id: BigUint64Array.of(2n ** 64n - 1n, 0n, 1n),
    c: Uint8Array.of(255, 0, 1),
    d: Float64Array.of(0.1, 2, 3),
    e: Uint16Array.of(65_535, 0, 1),
    f: Int16Array.of(-1, 0, 1),
    order: Buffer.from("abé\0x\0\0\0\0\0\0"),
    g: Int32Array.of(-1, 0, 1),
    h: BigInt64Array.of(-1n, 0n, 1n),
  };
  for (let pad = 0; pad < 8; pad++) {
    const body = bodyOf(columns, { skipped: ["x".repeat(pad)] }, { order: 4 });
    for (const piece of [1, 7, 4_096]) {
      const frame = await client(scripted(() => reply(body, { piece }))).data(
        "X",
        Object.keys(columns),
      );
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
    time: Uint32Array.of(1_738_281_600, 1_738_281_601),
    nanos: Uint32Array.of(0, 999_999_999),
    order: Buffer.from("\ufeffbc\0d\0"),
  };
  const body = bodyOf(columns, { interval_s: 60, cursor: "20250131.2" }, { order: 4 });
  const frame = await client(scripted(() => reply(body))).data("X", "time,nanos,order");
  assert.equal(frame.time, frame.get("time"));
  assert.equal(frame.date(0).toISOString(), "2025-01-31T00:00:00.000Z");
  assert.equal(frame.date(-1).toISOString(), "2025-01-31T00:00:01.999Z");
  assert.deepEqual(frame.row(-1), { time: 1_738_281_601, nanos: 999_999_999, order: "c\0d" });
  assert.deepEqual([frame.intervalS, frame.cursor], [60, "20250131.2"]);
  assert.deepEqual(
    [frame.dtype("order"), frame.has("order"), frame.has("x")],
    ["|S4", true, false],
  );
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

test("an answer that no engine can hold says so, and is not asked for again", async () => {
  const count = 2 ** 51; // 9 PB
  const column = { name: "time", record_size: 4, num_records: count, data_length: 4 * count, dtype: "<u4" };
  const script = scripted(() => reply(`${JSON.stringify({ columns: [column] })}\n`));
  await assert.rejects(client(script).data("X", "time"), ({ name, detail }) => {
    assert.equal(name, "BadRequest");
    assert.match(detail, /^9007199254\d+ bytes .* shorter range$/);
    return true;
  });
  assert.equal(script.asked.length, 1);
});

test("a body that is none is an UnexpectedAnswer, at once", async () => {
  const { body } = ticks(3);
  const header = body.subarray(0, body.indexOf(10) + 1).toString();
  for (const bad of [
    "<html>a portal</html>\n",
    "{}\n",
    `{"columns":[]}\n`,
    "null\n",
    header.replace("12", "13"),
    header.replace("<f4", "<c8"),
    header.replace("<f4", "|S0"),
    Buffer.concat([body, Buffer.from("x")]),
    Buffer.alloc(2_000_000, "x"),
  ]) {
    const script = scripted(() => reply(bad, { piece: 100_000 }));
    await assert.rejects(
      client(script).data("X", "time"),
      zerocopy.UnexpectedAnswer,
      String(bad).slice(0, 99),
    );
    assert.equal(script.asked.length, 1);
  }
  const portal = scripted(() => reply("<html>"));
  await assert.rejects(client(portal).symbols(), zerocopy.UnexpectedAnswer);
});

test(
  "a body that breaks off at any byte, the header line's included, is made whole",
  withClock(async () => {
    const { body, price } = ticks(100);
    const header = body.indexOf(10) + 1;
    for (const cut of [1, 20, header - 1, header, header + 1, header + 401, body.length - 1]) {
      const rest = ({ headers }) => {
        assert.equal(headers.Range, `bytes=${cut}-`);
        const told = `bytes ${cut}-${body.length - 1}/${body.length}`;
        const fields = { ETag: '"one"', "Content-Range": told };
        return reply(body.subarray(cut), { status: 206, fields });
      };
      const script = scripted(() => reply(body, { fields: { ETag: '"one"' }, cut }), rest);
      const frame = await client(script).data("X", "time,price");
      assert.deepEqual(frame.get("price"), price, String(cut));
    }
    const late = scripted(() => reply(body, { fields: { ETag: '"one"' }, cut: body.length }));
    assert.deepEqual((await client(late).data("X", "time,price")).get("price"), price);
    assert.equal(late.asked.length, 1);
  }),
);
