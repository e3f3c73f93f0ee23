/** Live streams of the JavaScript client: sockets and event streams that a test plays. */

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";

import * as zerocopy from "../../zerocopy/web/zerocopy.js";
import { problem, reply, scripted, settled, sockets, withClock } from "./fakes.mjs";

const { Client, Reset } = zerocopy;

const CATALOG = JSON.stringify({
  types: {
    MD: {
      columns: [
        { name: "time", dtype: "<u4" },
        { name: "price", dtype: "<f4" },
        { name: "id", dtype: "<u8" },
        { name: "order", dtype: "|S16" },
        { name: "7", dtype: "<f8" },
      ],
    },
  },
});

const never = () => new TypeError("nothing is to be fetched");

function client(played, script = scripted(never), options = {}) {
  return new Client("https://server.test", {
    fetch: script.fetch,
    WebSocket: played?.WebSocket ?? null,
    ...options,
  });
}

/** A `fetch` of event streams: `streams` are texts, the last of which stays open. */
function events(...streams) {
  const answers = streams.map(
    (text, index) => () => reply(text, { ends: index < streams.length - 1, piece: 7 }),
  );
  return scripted(({ path }) => (path.endsWith("catalog") ? reply(CATALOG) : answers.shift()()));
}

/** The records of `price` of a stream, until there are `count`. */
async function prices(stream, count) {
  const found = [];
  for await (const frame of stream) {
    found.push(...frame.get("price"));
    if (found.length >= count) break;
  }
  return found;
}

const upTo = (count) => Array.from({ length: count }, (_, index) => index);

test("a socket gives frames with their cursor, and is closed when nobody reads on", async () => {
  const played = sockets((socket) => {
    socket.open("20250131.0");
    socket.send(3, "20250131.3");
    socket.send(2, "20250131.5");
  });
  const states = [];
  const options = { type: "MD", start: "2025-01-31", onState: (state) => states.push(state) };
  const stream = client(played).live("X", ["time", "price"], options);
  const first = (await stream.next()).value;
  assert.deepEqual([first.cursor, first.length], ["20250131.3", 3]);
  assert.deepEqual(await prices(stream, 2), [3, 4]);
  const [{ url, isClosed }] = played.opened;
  assert.equal(url.origin + url.pathname, "wss://server.test/api/live");
  const query = {
    symbol: "X",
    type: "MD",
    exchange: "coinbase",
    columns: "time,price",
    start: "1738281600",
  };
  assert.deepEqual(Object.fromEntries(url.searchParams), query);
  assert.deepEqual(states, [{ state: "open", cursor: "20250131.0" }]);
  assert.ok(isClosed);
});

test("a connection that ends goes on with the cursor of what was read", async () => {
  const played = sockets(
    (socket) => {
      socket.open("20250131.0");
      socket.send(3, "20250131.3");
      socket.end(1001, "the server stops");
    },
    (socket) => {
      socket.open("20250131.3");
      socket.end(1006);
    },
    (socket) => {
      socket.open("20250131.3");
      socket.send(2, "20250131.5");
    },
  );
  const states = [];
  const onState = ({ state, error }) => states.push([state, error?.name ?? ""]);
  const stream = client(played).live("X", "time,price", { type: "MD", start: 0, onState });
  assert.deepEqual(await prices(stream, 5), upTo(5));
  const asked = played.opened.map(({ url: { searchParams } }) => [
    searchParams.get("from"),
    searchParams.get("start"),
  ]);
  assert.deepEqual(asked, [
    [null, "0"],
    ["20250131.3", null],
    ["20250131.3", null],
  ]);
  const waiting = ["waiting", "Interrupted"];
  assert.deepEqual(states, [["open", ""], waiting, ["open", ""], waiting, ["open", ""]]);
});

test("a slow reader's socket is closed; it reads what came, and then asks for the rest", async () => {
  const [many, rounds] = [1 << 19, 8];
  const played = sockets(
    (socket) => {
      socket.open("20250131.0");
      for (let round = 1; round <= rounds && socket.onmessage; round++) {
        socket.send(many, `20250131.${round * many}`);
      }
    },
    (socket) => {
      const from = Number(socket.url.searchParams.get("from").split(".")[1]);
      socket.open(`20250131.${from}`);
      socket.send(1, `20250131.${from + 1}`);
    },
  );
  let count = 0;
  for await (const frame of client(played).live("X", "time,price", { type: "MD" })) {
    assert.equal(frame.get("price")[0], count);
    count += frame.length;
    if (played.opened.length > 1) break;
    assert.ok(played.opened[0].isClosed);
  }
  assert.ok(count > 2 * many && count < rounds * many, `${count}`);
});

test("a reset is an error that cannot be missed, and the stream goes on behind it", async () => {
  const played = sockets(
    (socket) => {
      socket.open("20250131.9");
      socket.end(4001, "the day was replaced; it begins at 20250131.0");
    },
    (socket) => {
      socket.open("20250131.0");
      socket.send(2, "20250131.2");
    },
  );
  const stream = client(played).live("X", "time,price", { type: "MD", cursor: "20250131.9" });
  await assert.rejects(stream.next(), (error) => {
    assert.ok(error instanceof Reset && error instanceof zerocopy.ZerocopyError);
    assert.deepEqual([error.reason, error.cursor], ["the day was replaced", "20250131.0"]);
    return true;
  });
  assert.deepEqual(await prices(stream, 2), [0, 1]);
  assert.equal(played.opened[1].url.searchParams.get("from"), "20250131.0");
});

test("a stream that lasts leaves nothing behind on its caller's signal", async () => {
  let count = 0;
  const played = sockets(async (socket) => {
    socket.open(`20250131.${count}`);
    for (let number = 0; number < 10; number++) {
      await new Promise(setImmediate);
      socket.send(1, `20250131.${++count}`);
    }
    socket.end(1001);
  });
  const { signal } = new AbortController();
  const stream = client(played).live("X", "time,price", { type: "MD", signal });
  assert.deepEqual(await prices(stream, 20), upTo(20));
  assert.equal(getEventListeners(signal, "abort").length, 0);
});

test("an abort ends a stream quietly: before, while it waits, in a pause", async () => {
  const read = async (played, signal, script) => {
    const options = { type: "MD", signal };
    for await (const frame of client(played, script).live("X", "time,price", options))
      assert.fail(frame);
  };
  await read(sockets(assert.fail), AbortSignal.abort());
  const waiting = new AbortController();
  const played = sockets((socket) => {
    socket.open("20250131.0");
    setTimeout(() => waiting.abort(), 5);
  });
  await read(played, waiting.signal);
  assert.ok(played.opened[0].isClosed);
  const opening = new AbortController();
  await read(
    sockets(() => setTimeout(() => opening.abort(), 5)),
    opening.signal,
  );
  const paused = new AbortController();
  const busy = scripted(() => {
    setTimeout(() => paused.abort(), 5);
    return problem(503, "full", { "Retry-After": "60" });
  });
  await read(null, paused.signal, busy);
  const events = new AbortController();
  const silent = scripted(({ path }) => {
    setTimeout(() => events.abort(), 5);
    return path.endsWith("catalog") ? reply(CATALOG) : reply(": \n\n", { ends: false });
  });
  await read(null, events.signal, silent);
});

test("where a socket does not open, the event stream says why, or takes its place", async () => {
  const refused = sockets((socket) => socket.fail());
  const missing = scripted(() => problem(404, "symbol X: does not exist"));
  const stream = client(refused, missing).live("X", "time,price", { type: "MD" });
  await assert.rejects(stream.next(), zerocopy.NotFound);
  const script = events(
    'id: 20250131.0\n\nevent: records\nid: 20250131.2\ndata: {"columns":{"time":[1,1],"price":[0,1]},"num_records":2}\n\n',
  );
  const blocked = client(refused, script).live("X", "time,price", { type: "MD" });
  assert.deepEqual(await prices(blocked, 2), [0, 1]);
});

test("a silent socket is opened anew", async () => {
  const played = sockets(
    (socket) => socket.open("20250131.4"),
    (socket) => {
      socket.open("20250131.4");
      socket.send(1, "20250131.5");
    },
  );
  const stream = client(played, undefined, { timeout: 0.002 }).live("X", "time,price", {
    type: "MD",
  });
  assert.deepEqual(await prices(stream, 1), [4]);
  assert.equal(played.opened[1].url.searchParams.get("from"), "20250131.4");
});

test("an event stream gives the same frames, of every dtype, and goes on with its cursor", async () => {
  const data =
    '{"columns":{"7":[0.1,null],"time":[1,4294967295],"price":[0.1,null],' +
    '"id":[18446744073709551615,0],"order":["é\\"id\\":[7]"," x"]},"num_records":2}';
  const script = events(
    `retry: 1000\r\nid: 20250131.0\r\n\r\n:\n\nevent: records\nid: 20250131.2\ndata: ${data}\n\n`,
    'retry: 1000\nid: 20250131.2\n\nevent: records\nid: 20250131.3\ndata: {"columns":{"7":[1],"time":[1],' +
      '"price":[2],"id":[],"order":[""]},"num_records":1}\n\n',
  );
  let opened = 0;
  const options = { type: "MD", start: 5, onState: ({ state }) => (opened += state === "open") };
  const stream = client(null, script, { key: "secret" }).live(
    "X",
    "order,id,time,price,7",
    options,
  );
  const frame = (await stream.next()).value;
  assert.deepEqual(frame.columns, ["order", "id", "time", "price", "7"]);
  assert.deepEqual([frame.length, frame.cursor], [2, "20250131.2"]);
  assert.deepEqual(frame.get("id"), BigUint64Array.of(2n ** 64n - 1n, 0n));
  assert.deepEqual(frame.get("time"), Uint32Array.of(1, 2 ** 32 - 1));
  assert.deepEqual(frame.get("price"), Float32Array.of(0.1, NaN));
  assert.deepEqual(frame.get("7"), Float64Array.of(0.1, NaN));
  assert.deepEqual([...frame.get("order")], ['é"id":[7]', " x"]);
  const next = (await stream.next()).value;
  assert.deepEqual([next.cursor, next.get("id").length], ["20250131.3", 0]);
  assert.equal(opened, 2);
  await stream.return();
  const live = script.asked.filter(({ path }) => path.endsWith("live"));
  assert.deepEqual(
    live.map(({ query }) => [query.from, query.start]),
    [
      [undefined, "5"],
      ["20250131.2", undefined],
    ],
  );
  assert.ok(script.asked.every(({ headers }) => headers.Authorization === "Bearer secret"));
  assert.ok(live.every(({ signal }) => signal.aborted)); // no connection is left behind
});

test("an event stream tells of a reset too", async () => {
  const script = events(
    'id: 20250131.9\n\nevent: reset\nid: 20250131.0\ndata: {"reason":"the day was replaced","cursor":"20250131.0"}\n\n',
    'id: 20250131.0\n\nevent: records\nid: 20250131.1\ndata: {"columns":{"time":[1],"price":[0]},"num_records":1}\n\n',
  );
  const stream = client(null, script).live("X", "time,price", { type: "MD" });
  await assert.rejects(stream.next(), {
    name: "Reset",
    reason: "the day was replaced",
    cursor: "20250131.0",
  });
  assert.deepEqual(await prices(stream, 1), [0]);
});

test("an event stream that falls silent is opened anew; a slow reader is not silence", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const opening = "id: 20250131.0\n\n";
  const record = (cursor, price) =>
    `event: records\nid: 20250131.${cursor}\ndata: {"columns":{"time":[1],"price":[${price}]},"num_records":1}\n\n`;
  const script = scripted(({ path, query }) => {
    if (path.endsWith("catalog")) return reply(CATALOG);
    if (!query.from) return reply(opening + record(1, 0) + record(2, 1), { ends: false });
    return reply(`id: ${query.from}\n\n${record(3, 2)}`, { ends: false });
  });
  const opened = () => script.asked.filter(({ path }) => path.endsWith("live")).length;
  const stream = client(null, script, { timeout: 30 }).live("X", "time,price", { type: "MD" });
  assert.equal((await stream.next()).value.get("price")[0], 0);
  context.mock.timers.tick(90_000); // of the reader's own
  assert.equal((await stream.next()).value.get("price")[0], 1);
  const last = stream.next();
  await settled();
  context.mock.timers.tick(29_999);
  await settled();
  assert.equal(opened(), 1);
  context.mock.timers.tick(1);
  await settled();
  context.mock.timers.tick(100); // the pause
  assert.equal((await last).value.get("price")[0], 2);
  assert.equal(opened(), 2);
  await stream.return();
});

test(
  "a server that was never there fails a stream; one that was is waited for",
  withClock(async () => {
    const gone = scripted(() => new TypeError("fetch failed"));
    const stream = client(
      sockets((socket) => socket.fail()),
      gone,
    ).live("X", "time", { type: "MD" });
    await assert.rejects(stream.next(), zerocopy.ConnectionFailed);
    assert.equal(gone.asked.length, 3);
    let count = 0;
    const played = sockets((socket) => {
      if (++count > 1 && count < 99) return socket.fail();
      socket.open("20250131.0");
      if (count > 1) socket.send(1, "20250131.1");
      else socket.end(1006);
    });
    assert.deepEqual(
      await prices(client(played, gone).live("X", "time,price", { type: "MD" }), 1),
      [0],
    );
  }),
);

test("a stream that fails for good says so", async () => {
  for (const [status, kind] of [
    [400, "BadRequest"],
    [401, "Unauthorized"],
    [500, "UnexpectedAnswer"],
  ]) {
    const stream = client(
      null,
      scripted(() => problem(status, "told")),
    ).live("X", "time", { type: "MD" });
    await assert.rejects(stream.next(), { name: kind, detail: /^told/ });
    assert.deepEqual(await stream.next(), { value: undefined, done: true });
  }
  assert.throws(
    () => client(null).live("X", "time", { type: "MD", start: "soon" }),
    zerocopy.BadRequest,
  );
});
