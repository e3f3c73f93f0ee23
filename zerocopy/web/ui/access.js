/**
 * Who asks: the key of this tab, its dialog, and a page that is locked for want of one.
 *
 * Owns whether the page is locked, and what is said then. A locked page asks the server nothing and
 * shows nothing of before: not even the same key's, for the next one may be somebody else's.
 */

import { BadRequest, Unauthorized } from "../zerocopy.js";
import { $ } from "./dom.js";
import { showNotice } from "./notice.js";

const WORDS = {
  none: ["This server asks for a key", "Paste the key that you were given. Until then nothing is shown."],
  ended: ["Your key holds no longer", "It has expired or was revoked. Paste another one to go on."],
  forgotten: ["The key is forgotten", "Nothing that it showed is kept in this tab. Paste a key to go on."],
};
const NOT_ACCEPTED = "This key is not accepted: it is unknown, has expired or was revoked.";

export class Access {
  isLocked = false;
  #server;
  #on;
  #dialog = $("key");
  #input = $("key-value");

  /** `on` has `lock(isForgotten)`: take away all that is shown; and `unlock()`: begin anew. */
  constructor(server, on) {
    this.#server = server;
    this.#on = on;
    $("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#try(this.#input.value.trim());
    });
    this.#dialog.addEventListener("close", () => this.#say(""));
    $("forget").addEventListener("click", () => this.forget());
    $("key-plain").hidden = isSecureContext; // loopback is one, too
    this.#show();
  }

  /** A request was refused: 401. */
  refused() {
    if (this.isLocked) return;
    const why = this.#server.key ? "ended" : "none";
    this.#server.forget();
    this.#lock(why);
    this.ask();
  }

  /** By hand: the next who sits here has to bring a key. */
  forget() {
    this.#server.forget();
    this.#lock("forgotten");
    $("notice").querySelector("button").focus();
  }

  ask() {
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  #lock(why) {
    this.isLocked = true;
    const [title, text] = WORDS[why];
    [$("key-title").textContent, $("key-told").textContent] = [title, text];
    this.#on.lock(why === "forgotten");
    showNotice(title, [text], [["Enter a key", () => this.ask()]]);
    this.#show();
  }

  async #try(key) {
    if (!key || $("key-use").disabled) return;
    $("key-use").disabled = true;
    this.#say("");
    try {
      await this.#server.take(key);
    } catch (error) {
      const isNone = error instanceof Unauthorized || error instanceof BadRequest;
      this.#say(isNone ? NOT_ACCEPTED : (error.detail ?? String(error)));
      this.#input.select();
      return;
    } finally {
      $("key-use").disabled = false;
    }
    this.isLocked = false;
    this.#dialog.close();
    this.#show();
    this.#on.unlock();
  }

  /** What is wrong with what was typed; nothing takes it away, and what was typed if it is over. */
  #say(text) {
    $("key-wrong").textContent = text;
    this.#input.setAttribute("aria-invalid", String(Boolean(text)));
    if (!this.#dialog.open) this.#input.value = "";
  }

  #show() {
    $("who").hidden = !this.#server.key;
  }
}
