/** The JavaScript client against answers that a test writes: retries, resumed bodies, aborts. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";

import * as zerocopy from "../../zerocopy/web/zerocopy.js";
import { problem, reply, scripted, settled, ticks, withClock } from "./fakes.mjs";

const BASE = "http://server.test/below/";
const TAG = { ETag: '"one"' };

function client(script, options = {}) {
  return new zerocopy.Client(BASE, { fetch: script.fetch, WebSocket: null, ...options });
}

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
      [
        "bars",
        { symbol: "X", columns: "price:open+close", exchange: "kraken", interval: "5m", ...range },
      ],
      [
        "bars",
        { symbol: "X", columns: "price,size:sum", exchange: "kraken", max_points: "10", ...range },
      ],
    ],
  );
  assert.ok(script.asked.every(({ headers }) => headers.Authorization === "Bearer secret"));
});

test(
  "a body that broke off is resumed, by its tag, where it was",
  withClock(async () => {
    const { body, price } = ticks(5_000);
    const rest = ({ headers }) => {
      const begin = Number(/^bytes=(\d+)-$/.exec(headers.Range)[1]);
      const fields = {
        ...TAG,
        "Content-Range": `bytes ${begin}-${body.length - 1}/${body.length}`,
      };
      const cut = begin < 35_000 ? 3_000 : null;
      return reply(body.subarray(begin), { status: 206, fields, cut });
    };
    const script = scripted(() => reply(body, { fields: TAG, cut: 10_001 }), rest);
    const told = [];
    const frame = await client(script).data("X", "time,price", {
      onProgress: (each) => told.push(each),
    });
    assert.deepEqual(frame.get("price"), price);
    const asked = script.asked.map(({ headers }) => [headers.Range, headers["If-Range"]]);
    assert.deepEqual(asked.slice(0, 2), [
      [undefined, undefined],
      ["bytes=10001-", '"one"'],
    ]);
    assert.ok(asked.length > 9, "each with progress");
    assert.deepEqual(
      script.asked.slice(0, 2).map(({ cache }) => cache),
      [undefined, "no-store"],
    );
    assert.deepEqual(told.at(-1), { received: body.length, total: body.length });
  }),
);

test(
  "progress counts once: a body that then gives nothing more fails",
  withClock(async () => {
    const { body } = ticks(5_000);
    const part = (begin, cut) => {
      const fields = {
        ...TAG,
        "Content-Range": `bytes ${begin}-${body.length - 1}/${body.length}`,
      };
      return () => reply(body.subarray(begin), { status: 206, fields, cut });
    };
    const script = scripted(
      () => reply(body, { fields: TAG, cut: 9_000 }),
      part(9_000, 3_000),
      part(12_000, 0),
    );
    await assert.rejects(client(script).data("X", "time,price"), zerocopy.Interrupted);
    assert.equal(script.asked.length, 21);
  }),
);

test(
  "data that changed meanwhile is fetched anew, and never joined",
  withClock(async () => {
    const [old, fresh] = [ticks(5_000), ticks(5_001)];
    const script = scripted(
      () => reply(old.body, { fields: TAG, cut: 9_000 }),
      () => reply(fresh.body, { fields: { ETag: '"two"' } }),
    );
    const frame = await client(script).data("X", "time,price");
    assert.deepEqual(frame.get("price"), fresh.price);
  }),
);

test(
  "data that changes each time is an error of its own",
  withClock(async () => {
    let count = 0;
    const { body } = ticks(5_000);
    const script = scripted(() => reply(body, { fields: { ETag: `"${count++}"` }, cut: 9_000 }));
    await assert.rejects(client(script).data("X", "time"), zerocopy.ChangedData);
  }),
);

test(
  "a part that is not the one asked for is never taken",
  withClock(async () => {
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
  }),
);

test(
  "without a strong tag a body is fetched anew",
  withClock(async () => {
    const { body, price } = ticks(5_000);
    for (const fields of [{}, { ETag: 'W/"one"' }]) {
      const script = scripted(
        () => reply(body, { fields, cut: 9_000 }),
        () => reply(body, { fields }),
      );
      assert.deepEqual((await client(script).data("X", "time,price")).get("price"), price);
      assert.equal(script.asked[1].headers.Range, undefined);
    }
  }),
);

test(
  "a body that always breaks off at the same byte fails after twenty tries",
  withClock(async () => {
    const script = scripted(() => reply(ticks(5_000).body, { cut: 9_000 }));
    await assert.rejects(client(script).data("X", "time"), zerocopy.Interrupted);
    assert.equal(script.asked.length, 20);
    const short = scripted(() => reply(ticks(5_000).body.subarray(0, 9_000)));
    await assert.rejects(client(short).data("X", "time"), { name: "Interrupted", status: null });
  }),
);

test(
  "each status is an error of its class, with the server's own words",
  withClock(async () => {
    const kinds = {
      400: "BadRequest",
      401: "Unauthorized",
      403: "Unauthorized",
      404: "NotFound",
      414: "BadRequest",
      429: "TooManyRequests",
      500: "UnexpectedAnswer",
      501: "NotInstalled",
      502: "Unavailable",
      503: "Unavailable",
      504: "Unavailable",
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
      const tries = ["TooManyRequests", "Unavailable"].includes(name) ? 20 : 1;
      assert.equal(script.asked.length, tries, status);
    }
  }),
);

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
    const script = scripted(
      () => problem(503, "busy", { "Retry-After": value }),
      () => reply("{}"),
    );
    const asked = client(script).symbols();
    await settled();
    context.mock.timers.tick(6_999);
    await settled();
    assert.equal(script.asked.length, 1);
    context.mock.timers.tick(101); // and a jitter
    await asked;
  }
  const script = scripted(() => problem(429, "tomorrow", { "Retry-After": "86400" }));
  await assert.rejects(client(script).symbols(), { retryAfterS: 86_400 });
  assert.equal(script.asked.length, 1);
});

test(
  "a server that is not there, or silent, is tried three times",
  withClock(async () => {
    const gone = scripted(() => new TypeError("fetch failed"));
    await assert.rejects(client(gone).symbols(), {
      name: "ConnectionFailed",
      detail: /http:\/\/server.test/,
    });
    assert.equal(gone.asked.length, 3);
    const silent = scripted(() => new Promise(() => {}));
    await assert.rejects(client(silent, { timeout: 10 }).symbols(), zerocopy.Timeout);
    assert.equal(silent.asked.length, 3);
    const stuck = scripted(() => reply(ticks(9).body.subarray(0, 150), { ends: false }));
    await assert.rejects(client(stuck, { timeout: 10 }).data("X", "time"), zerocopy.Timeout);
    const back = scripted(
      () => new TypeError("fetch failed"),
      () => reply("{}"),
    );
    assert.deepEqual(await client(back, { timeout: Infinity }).symbols(), {});
  }),
);

test("a slow body is no silent one", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { body, price } = ticks(20);
  let sending;
  const slow = new ReadableStream({ start: (controller) => (sending = controller) });
  const script = scripted(() => new Response(slow));
  const asked = client(script, { timeout: 30 }).data("X", "time,price");
  for (let at = 0; at < body.length; at += 50) {
    await settled();
    context.mock.timers.tick(29_000);
    sending.enqueue(new Uint8Array(body.subarray(at, at + 50)));
  }
  sending.close();
  assert.deepEqual((await asked).get("price"), price);
  assert.equal(script.asked.length, 1);
});

test(
  "an abort fails with the caller's reason: before, amid a body, in a pause",
  withClock(async () => {
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
  }),
);

test("an error of the caller's own function is the caller's", async () => {
  const script = scripted(() => reply(ticks(5_000).body));
  const failing = () => {
    throw new RangeError("mine");
  };
  await assert.rejects(
    client(script).data("X", "time", { onProgress: failing }),
    /^RangeError: mine$/,
  );
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
    const asking = new zerocopy.Client(`http://127.0.0.1:${server.address().port}`);
    const frame = await asking.data("X", "time,price", { type: "MD" });
    assert.deepEqual(frame.get("price"), price);
    assert.ok(
      ranges.length >= 3 && ranges.every((begin, at) => !at || begin > ranges[at - 1]),
      ranges,
    );
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
      return reply(body.subarray(begin), {
        status: 206,
        fields: { ...TAG, "Content-Range": told },
      });
    },
  );
  const onProgress = () => (nowMs += 50_000);
  const frame = await client(script).data("X", "time,price", { onProgress });
  assert.deepEqual(frame.get("price"), price);
  const gone = scripted(
    () => reply("{}"),
    () => {
      nowMs += 25_000;
      return new TypeError("fetch failed");
    },
  );
  const known = client(gone);
  await known.symbols();
  await assert.rejects(known.symbols(), zerocopy.ConnectionFailed);
  assert.equal(gone.asked.length, 1 + 3);
});

test("the variables of Node say where the server is and who asks", async () => {
  assert.throws(() => new zerocopy.Client(), { name: "BadRequest", detail: /^url: / });
  for (const bad of ["127.0.0.1:8080", "ftp://x.test", "http://me:secret@x.test", "", "null"]) {
    assert.throws(
      () => new zerocopy.Client(bad),
      (error) => error.detail.startsWith("url: must") && !/secret/.test(error),
    );
  }
  assert.throws(
    () => new zerocopy.Client(BASE, { key: "a\nsecret" }),
    (error) => !/secret/.test(error.stack),
  );
  for (const timeout of [0, -1, NaN, "soon"]) {
    assert.throws(() => new zerocopy.Client(BASE, { timeout }), {
      name: "BadRequest",
      detail: /^timeout: /,
    });
  }
  process.env.ZEROCOPY_URL = "http://elsewhere.test";
  process.env.ZEROCOPY_KEY = "k";
  try {
    const script = scripted(() => reply("{}"));
    await new zerocopy.Client(undefined, { fetch: script.fetch }).symbols();
    assert.equal(script.asked[0].url.href, "http://elsewhere.test/api/symbols");
    assert.equal(script.asked[0].headers.Authorization, "Bearer k");
  } finally {
    delete process.env.ZEROCOPY_URL;
    delete process.env.ZEROCOPY_KEY;
  }
});
