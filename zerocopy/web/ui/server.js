/**
 * The server as the page sees it: the client, the key, and whether the server is there.
 *
 * The first request that finds nobody tells so at once; from then on /healthz is asked until it
 * answers. The key is kept for this tab only.
 */

import { Client } from "../zerocopy.js";

const KEY = "zerocopy.key";
const PAUSES_S = [0.5, 1, 2, 3, 5];

export class Server {
  base = new URL(".", document.baseURI).href.replace(/index\.html$/, "");
  isGone = false;
  #on;
  #timer = 0;

  /** `on` has `gone()` and `back()`. */
  constructor(on) {
    this.#on = on;
    this.#make();
    addEventListener("online", () => this.isGone && this.#probe(0));
  }

  get key() {
    return sessionStorage.getItem(KEY);
  }
  set key(value) {
    sessionStorage.setItem(KEY, value);
    this.#make();
  }

  #make() {
    this.client = new Client(this.base, { key: this.key ?? undefined, fetch: (...all) => this.#fetch(...all) });
  }

  async #fetch(target, init) {
    try {
      const response = await fetch(target, init);
      if (![502, 503, 504].includes(response.status)) this.#found();
      return response;
    } catch (error) {
      if (!init?.signal?.aborted) this.lost();
      throw error;
    }
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
