/** Keys of the JavaScript client: where one comes from, where it goes, and what stands in for it. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";

import * as zerocopy from "../../zerocopy/web/zerocopy.js";
import { problem, reply, scripted, settled, sockets } from "./fakes.mjs";

const { Client } = zerocopy;
const HERE = "https://data.example";
const LIVE = ["X", "time,price", { type: "MD" }];
const CATALOG = JSON.stringify({
  types: { MD: { columns: [{ name: "time", dtype: "<u4" }, { name: "price", dtype: "<f4" }] } },
});
const RECORD = "id: 20250131.0\n\nevent: records\nid: 20250131.1\n" +
  'data: {"columns":{"time":[1],"price":[0]},"num_records":1}\n\n';

/** A server that makes tickets `t1`, `t2` …, and has events for who asks for them. */
function ticketing(answer) {
  let made = 0;
  return scripted(({ path }) => {
    if (path.endsWith("ticket")) {
      made += 1;
      return answer?.(made) ?? reply(`{"ticket":"t${made}","expires_s":60}`);
    }
    return path.endsWith("catalog") ? reply(CATALOG) : reply(RECORD, { ends: false });
  });
}

const client = (played, script, more) =>
  new Client(HERE, { key: "s3cret", fetch: script.fetch, WebSocket: played.WebSocket, ...more });

test("a key of the environment goes to the server it is for, and not in the clear", async () => {
  const cases = [
    [HERE, undefined, "Bearer env", ""],
    [HERE, `${HERE}:443/below`, "Bearer env", ""],
    [HERE, "https://data.example:8443", undefined, "is for the server of ZEROCOPY_URL"],
    [HERE, "http://data.example", undefined, "is for the server of ZEROCOPY_URL"],
    [HERE, "none", undefined, "is for the server of ZEROCOPY_URL"],
    ["http://data.example", undefined, undefined, "was not sent over plain HTTP"],
    ["http://data.example", "http://data.example", "Bearer env", ""],
    ["http://127.0.0.1:8080", undefined, "Bearer env", ""],
    ["http://[::1]:8080", undefined, "Bearer env", ""],
    ["http://localhost", undefined, "Bearer env", ""],
    ["http://localhost.example", undefined, undefined, "was not sent over plain HTTP"],
    ["http://127.0.0.1.example", undefined, undefined, "was not sent over plain HTTP"],
  ];
  try {
    process.env.ZEROCOPY_KEY = "env";
    for (const [url, told, sent, hint] of cases) {
      if (told) process.env.ZEROCOPY_URL = told;
      else delete process.env.ZEROCOPY_URL;
      for (const [options, wanted] of [[{}, sent], [{ key: "given" }, "Bearer given"]]) {
        const script = scripted(() => problem(401, "say who asks"));
        const asked = new Client(url, { fetch: script.fetch, ...options }).symbols();
        await assert.rejects(asked, (error) => {
          assert.ok(error instanceof zerocopy.Unauthorized);
          assert.equal(error.detail === "say who asks", wanted !== undefined, url);
          return wanted !== undefined || error.detail.includes(hint);
        });
        assert.equal(script.asked[0].headers.Authorization, wanted, url);
      }
    }
  } finally {
    delete process.env.ZEROCOPY_KEY;
    delete process.env.ZEROCOPY_URL;
  }
  const script = scripted(() => problem(401, "say who asks"));
  const asked = new Client(HERE, { fetch: script.fetch }).symbols();
  await assert.rejects(asked, { detail: "say who asks; give a key as { key }" });
});

test("a key is not sent to where a redirect points", async () => {
  const heads = [];
  const server = createServer((request, response) => {
    heads.push(request.url);
    response.writeHead(302, { Location: "/elsewhere" }).end();
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const asking = new Client(`http://127.0.0.1:${server.address().port}`, { key: "k" });
    await assert.rejects(asking.symbols(), { name: "UnexpectedAnswer", detail: /redirects/ });
    assert.deepEqual(heads, ["/api/symbols"]);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test("each connection of a stream has a ticket of its own, and goes on with its cursor", async () => {
  const script = ticketing();
  const played = sockets(
    (socket) => {
      socket.open("20250131.0");
      socket.send(2, "20250131.2");
      socket.end(1001);
    },
    (socket) => {
      socket.open("20250131.2");
      socket.send(1, "20250131.3");
    },
  );
  const found = [];
  for await (const frame of client(played, script).live(...LIVE)) {
    found.push(...frame.get("price"));
    if (found.length === 3) break;
  }
  assert.deepEqual(found, [0, 1, 2]);
  assert.deepEqual(
    played.opened.map(({ url }) => ["ticket", "from"].map((name) => url.searchParams.get(name))),
    [["t1", null], ["t2", "20250131.2"]],
  );
  assert.deepEqual(
    script.asked.map(({ method, path, headers }) => [method, path, headers.Authorization]),
    Array(2).fill(["POST", "/api/ticket", "Bearer s3cret"]),
  );
  assert.ok(played.opened.every(({ url }) => !url.href.includes("s3cret")));
});

test("where there are no tickets, events come with the key", async () => {
  const none = [404, 405, 501].map((status) => () => problem(status, "no"));
  for (const answer of [...none, () => new TypeError("the preflight was refused")]) {
    const script = ticketing(answer);
    const stream = client(sockets(assert.fail), script).live(...LIVE);
    assert.equal((await stream.next()).value.cursor, "20250131.1");
    await stream.return();
    assert.ok(script.asked.every(({ headers }) => headers.Authorization === "Bearer s3cret"));
  }
});

test("a stream whose key was revoked ends with a typed error", async () => {
  const revoked = () => problem(401, "revoked");
  const script = ticketing((made) => (made > 1 ? revoked() : undefined));
  const played = sockets((socket) => {
    socket.open("20250131.0");
    socket.send(1, "20250131.1");
    socket.end(1008, "the key or token holds no longer");
  });
  const stream = client(played, script).live(...LIVE);
  assert.equal((await stream.next()).value.length, 1);
  await assert.rejects(stream.next(), { name: "Unauthorized", detail: "revoked" });
  assert.equal(played.opened.length, 1);
});

test("a ticket can be had for a link, and its refusal is told", async () => {
  assert.equal(await client({}, ticketing()).ticket(), "t1");
  await assert.rejects(client({}, ticketing(() => problem(401, "no"))).ticket(), zerocopy.Unauthorized);
  const nonsense = ticketing(() => reply("{}"));
  await assert.rejects(client({}, nonsense).ticket(), zerocopy.UnexpectedAnswer);
});

test("a limit is waited for as long as the timeout; else it is told", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const fields = {
    "Retry-After": "7",
    RateLimit: '"bytes";r=5;t=9, "requests";r=0;t=7',
    "RateLimit-Policy": '"requests";q=100;w=10, "bytes";q=9;qu="bytes";w=86400',
  };
  const limited = () => problem(429, "no more", fields);
  const script = scripted(limited, () => reply("{}"));
  const asked = new Client(HERE, { fetch: script.fetch }).symbols();
  await settled();
  context.mock.timers.tick(6_999);
  await settled();
  assert.equal(script.asked.length, 1);
  context.mock.timers.tick(200);
  await asked;
  for (const ask of [(each) => each.symbols(), (each) => each.live(...LIVE).next()]) {
    const again = scripted(limited);
    const impatient = new Client(HERE, { fetch: again.fetch, WebSocket: null, timeout: 5 });
    await assert.rejects(ask(impatient), (error) => {
      assert.ok(error instanceof zerocopy.TooManyRequests);
      assert.equal(error.retryAfterS, 7);
      const wanted = { policy: "requests", quota: 100, remaining: 0, resetS: 7, windowS: 10 };
      assert.deepEqual(error.rateLimit, wanted);
      return true;
    });
    assert.equal(again.asked.length, 1);
  }
  for (const told of [undefined, "nonsense", '"a"', '"a";t=1', '"a;r=0', "a;r=0", '"a";r=-1']) {
    const odd = scripted(() => problem(429, "no", { "Retry-After": "99", ...(told && { RateLimit: told }) }));
    await assert.rejects(new Client(HERE, { fetch: odd.fetch }).symbols(), { rateLimit: null });
  }
});
