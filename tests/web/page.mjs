/** The client on a page of another origin: run by Chromium, told what to do by the test. */

import { Client } from "./zerocopy.js";
import { answers, followed, reported } from "./report.mjs";

const violations = [];
document.addEventListener("securitypolicyviolation", ({ blockedURI }) =>
  violations.push(blockedURI),
);

/** A `fetch` whose first body breaks off after a third, so that the client asks for the rest. */
function cutting(statuses) {
  return async (...request) => {
    const response = await fetch(...request);
    statuses.push(response.status);
    if (statuses.length > 1) return response;
    let left = response.headers.get("Content-Length") / 3;
    const cut = new TransformStream({
      transform(chunk, controller) {
        controller.enqueue(chunk);
        if ((left -= chunk.length) < 0) controller.error(new TypeError("cut"));
      },
    });
    const { headers } = response;
    return new Response(response.body.pipeThrough(cut), { headers });
  };
}

async function resumed(url, [symbol, columns, options]) {
  const statuses = [];
  const client = new Client(url, { fetch: cutting(statuses) });
  return { ...(await reported(await client.data(symbol, columns, options))), statuses };
}

async function abortedBy(client, [symbol, columns, options]) {
  const controller = new AbortController();
  const asked = client.data(symbol, columns, {
    ...options,
    signal: controller.signal,
    onProgress: () => controller.abort(),
  });
  return asked.then(
    () => "done",
    ({ name }) => name,
  );
}

globalThis.run = async (url, { calls, download, follow }) => {
  const client = new Client(url);
  const [symbol, columns, options, count] = follow;
  const sockets = [];
  const Tapped = class extends WebSocket {
    constructor(target) {
      sockets.push(new URL(target).pathname);
      super(target);
    }
  };
  const tapped = new Client(url, { WebSocket: Tapped });
  const result = {
    answers: await answers(client, calls),
    resumed: await resumed(url, download),
    aborted: await abortedBy(client, download),
    live: await followed(tapped, symbol, columns, options, count),
    events: await followed(new Client(url, { WebSocket: null }), symbol, columns, options, count),
  };
  return { ...result, sockets, violations, origin: location.origin };
};

/** The rows that the browser's own EventSource gets with a ticket. */
function byEventSource(url, ticket, [symbol, columns, options, count]) {
  const target = new URL("api/live", url);
  const { start, type } = options;
  target.search = new URLSearchParams({ symbol, columns, type, start, ticket });
  return new Promise((resolve, reject) => {
    const [source, rows] = [new EventSource(target), []];
    source.addEventListener("records", ({ data }) => {
      const { time, price } = JSON.parse(data).columns;
      rows.push(...time.map((each, index) => [each, price[index]]));
      if (rows.length < count) return;
      source.close();
      resolve(rows);
    });
    source.onerror = () => reject(new Error("the EventSource was refused"));
  });
}

globalThis.runKeyed = async (url, key, follow) => {
  const sockets = [];
  const Tapped = class extends WebSocket {
    constructor(target) {
      const { searchParams } = new URL(target);
      sockets.push([searchParams.get("ticket"), searchParams.get("from")]);
      super(target);
    }
  };
  const client = new Client(url, { key, WebSocket: Tapped });
  return {
    answers: await answers(client, [["symbols"], ["catalog", "NONE"]]),
    refused: (await answers(new Client(url, { key: "zc_wrong" }), [["symbols"]]))[0].name,
    moved: (await answers(new Client(`${location.origin}/moved`, { key }), [["symbols"]]))[0].detail,
    missing: (await answers(new Client(url), [["symbols"]]))[0].name,
    live: await followed(client, ...follow),
    rows: await byEventSource(url, await client.ticket(), follow),
    sockets,
    violations,
  };
};
globalThis.isReady = true;
