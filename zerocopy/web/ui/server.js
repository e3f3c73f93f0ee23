/**
 * The server as the page sees it: the client, the key, and whether the server is there.
 *
 * The first request that finds nobody tells so at once; from then on /healthz is asked until it
 * answers. A limit (429) is told as well, and when it has passed; the client waits for short ones.
 * The key is kept in this tab's sessionStorage, and nowhere else.
 */

import { Client } from "../zerocopy.js";

const KEY = "zerocopy.key";
const PAUSES_S = [0.5, 1, 2, 3, 5];
/** How long a limit lasts that does not say. */
const LIMIT_S = 10;
/** Requests of the same moment meet the same limit: it is told once. */
const SAME_LIMIT_S = 1;
const TIMER_MAX_S = 86_400;
/** Their limit is one of streams; the foot of the chart tells of it. */
const OF_LIVE = /\/api\/(live|ticket)$/;

export class Server {
  base = new URL(".", document.baseURI).href.replace(/index\.html$/, "");
  isGone = false;
  #on;
  #timer = 0;
  #limitTimer = 0;
  #limitEndsS = 0;

  /** `on` has `gone()`, `back()`, `limited(waitS, detail)` and `unlimited()`. */
  constructor(on) {
    this.#on = on;
    this.client = this.#make(this.key);
    addEventListener("online", () => this.isGone && this.#probe(0));
  }

  get key() {
    return sessionStorage.getItem(KEY);
  }

  /** Seconds that a limit still lasts. */
  get limitS() {
    return Math.max(0, this.#limitEndsS - performance.now() / 1000);
  }

  /** Keeps a key, if the server accepts it; else throws what it says. */
  async take(key) {
    const client = this.#make(key);
    await client.symbols();
    sessionStorage.setItem(KEY, key);
    this.client = client;
  }

  forget() {
    sessionStorage.removeItem(KEY);
    this.client = this.#make(null);
    this.#limitEndsS = 0;
    clearTimeout(this.#limitTimer);
  }

  #make(key) {
    return new Client(this.base, { key: key ?? undefined, fetch: (...all) => this.#fetch(...all) });
  }

  async #fetch(target, init) {
    try {
      const response = await fetch(target, init);
      if (![502, 503, 504].includes(response.status)) this.#found();
      if (response.status !== 429 || OF_LIVE.test(new URL(target).pathname)) return response;
      const text = await response.text();
      this.#limited(response.headers.get("Retry-After"), text);
      return new Response(text, response);
    } catch (error) {
      if (!init?.signal?.aborted) this.lost();
      throw error;
    }
  }

  #limited(told, text) {
    const waitS = Number(told) > 0 ? Number(told) : LIMIT_S;
    const endsS = performance.now() / 1000 + waitS;
    if (endsS < this.#limitEndsS + SAME_LIMIT_S) return;
    this.#limitEndsS = endsS;
    clearTimeout(this.#limitTimer);
    this.#limitTimer = setTimeout(() => this.#on.unlimited(), Math.min(waitS, TIMER_MAX_S) * 1000);
    this.#on.limited(waitS, detailOf(text));
  }

  /** Somebody found that it does not answer. */
  lost() {
    if (this.isGone) return;
    this.isGone = true;
    this.#on.gone();
    this.#probe(0);
  }

  #probe(count) {
    clearTimeout(this.#timer);
    const pauseS = PAUSES_S[Math.min(count, PAUSES_S.length - 1)];
    this.#timer = setTimeout(async () => {
      try {
        const response = await fetch(new URL("healthz", this.base), { cache: "no-store" });
        if (response.ok) this.#found();
        else this.#probe(count + 1);
      } catch {
        this.#probe(count + 1);
      }
    }, pauseS * 1000);
  }

  #found() {
    if (!this.isGone) return;
    clearTimeout(this.#timer);
    this.isGone = false;
    this.#on.back();
  }
}

/** Of a problem document; a proxy's page has none. */
function detailOf(text) {
  try {
    return JSON.parse(text).detail;
  } catch {
    return undefined;
  }
}
