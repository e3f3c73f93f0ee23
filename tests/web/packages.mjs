/**
 * npm's `ws` and `eventsource`, as their users have them, on /api/live: prints the rows of both.
 *
 * Each goes on where it was once its connection ends: `ws` by a new one with `from`, `eventsource` by
 * itself, with `Last-Event-ID`.
 */

import { createRequire } from "node:module";

const [from, target, count] = process.argv.slice(2);
const require = createRequire(from);
const WebSocket = require("ws");
const { EventSource } = require("eventsource");

/** By messages in the format `columns`: a header line, then u32 and f32. */
function bySocket(cursor, rows) {
  return new Promise((resolve) => {
    const socket = new WebSocket(`${target.replace("http", "ws")}&from=${cursor}`);
    socket.binaryType = "arraybuffer";
    socket.on("message", (data) => {
      const begin = new Uint8Array(data).indexOf(10) + 1;
      const header = JSON.parse(new TextDecoder().decode(data.slice(0, begin)));
      const middle = begin + header.columns[0].data_length;
      const times = new Uint32Array(data.slice(begin, middle));
      const prices = new Float32Array(data.slice(middle));
      times.forEach((time, index) => rows.push([time, prices[index]]));
      cursor = header.cursor;
      tell("ws", rows);
      if (rows.length >= count) socket.close(1000);
    });
    socket.on("error", () => {}); // `close` follows
    socket.on("close", (code) => {
      if (rows.length >= count) resolve({ rows, code });
      else setTimeout(() => resolve(bySocket(cursor, rows)), 20);
    });
  });
}

function byEvents(cursor, rows) {
  return new Promise((resolve) => {
    const source = new EventSource(`${target}&from=${cursor}`);
    source.addEventListener("records", ({ data }) => {
      const { time, price } = JSON.parse(data).columns;
      time.forEach((each, index) => rows.push([each, price[index]]));
      tell("eventsource", rows);
      if (rows.length < count) return;
      source.close();
      resolve({ rows });
    });
  });
}

const say = (told) => process.stdout.write(`${JSON.stringify(told)}\n`);
const tell = (name, rows) => say([name, rows.length]);
say(await Promise.all([bySocket("20250131.0", []), byEvents("20250131.0", [])]));
