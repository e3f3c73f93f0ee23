/**
 * The client in Node against a running server, told what to do by one line of JSON.
 *
 * `calls`: their answers are printed. `download`: parameters of `data`; amid it a line is printed and
 * nothing is read until there is another line of input. `follow`: parameters of `followed`; each row
 * is printed as it comes, with `ws` by the WebSocket of that package. `key` is the client's.
 */

import { readSync } from "node:fs";
import { createRequire } from "node:module";

import { Client } from "../../zerocopy/web/zerocopy.js";
import { answers, followed, reported } from "./report.mjs";

const say = (told) => process.stdout.write(`${JSON.stringify(told)}\n`);
const { url, key, calls, download, follow, ws } = JSON.parse(process.argv[2]);
const WebSocket = ws && createRequire(ws)("ws");
const client = new Client(url, { key, WebSocket });

if (calls) say(await answers(client, calls));
if (download) {
  let isHeld = false;
  const onProgress = ({ received, total }) => {
    if (isHeld || received < total / 3) return;
    isHeld = true;
    say({ received, total });
    readSync(0, Buffer.alloc(1)); // holds the event loop, and with it the connection
  };
  const [symbol, columns, options] = download;
  const frame = await client.data(symbol, columns, { ...options, onProgress });
  say(await reported(frame));
}
if (follow) {
  const refused = ({ name, status, detail }) => ({ name, status, detail });
  say(await followed(client, ...follow, say).catch(refused));
}
