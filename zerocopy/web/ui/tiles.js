/**
 * Frames by their key, as many bytes as are allowed, the least recently used dropped first.
 *
 * Pure but for the promises it is given. A load that nobody wants any more is aborted.
 */

const BYTES_PER_VALUE = 8;

export class Tiles {
  #ready = new Map(); // in the order of their last use
  #loading = new Map();
  #failed = new Map();
  #bytes = 0;
  #bytesMax;
  #onChange;

  /** `onChange(key, error)` is called when a tile has come, or when its load failed. */
  constructor({ bytesMax, onChange }) {
    this.#bytesMax = bytesMax;
    this.#onChange = onChange;
  }

  get bytes() {
    return this.#bytes;
  }
  get count() {
    return this.#ready.size;
  }
  get loading() {
    return this.#loading.size;
  }
  has(key) {
    return this.#ready.has(key);
  }

  /** The frame, if it is there; it was used now. */
  get(key) {
    const frame = this.#ready.get(key);
    if (frame) {
      this.#ready.delete(key);
      this.#ready.set(key, frame);
    }
    return frame;
  }

  /** Starts `fetch(signal)`, a promise of a frame, unless the tile is there, on its way or failed. */
  load(key, fetch) {
    if (this.#ready.has(key) || this.#loading.has(key) || this.#failed.has(key)) return;
    const controller = new AbortController();
    this.#loading.set(key, controller);
    fetch(controller.signal).then(
      (frame) => this.#finish(key, controller, () => this.#keep(key, frame)),
      (error) => this.#finish(key, controller, () => this.#failed.set(key, error), error),
    );
  }

  /** Aborts the loads of all other keys. */
  retain(keys) {
    const wanted = new Set(keys);
    for (const [key, controller] of this.#loading) {
      if (!wanted.has(key)) {
        this.#loading.delete(key);
        controller.abort();
      }
    }
  }

  /** What failed may be tried again. */
  retry() {
    this.#failed.clear();
  }

  /** Forgets the tiles whose key fulfils `condition`. */
  drop(condition) {
    for (const [key, frame] of this.#ready) {
      if (condition(key)) {
        this.#ready.delete(key);
        this.#bytes -= bytesOf(frame);
      }
    }
  }

  /** Forgets everything, and aborts what is on its way. */
  clear() {
    this.retain([]);
    this.#failed.clear();
    this.drop(() => true);
  }

  #finish(key, controller, keep, error) {
    if (this.#loading.get(key) !== controller) return; // aborted, and perhaps begun anew
    this.#loading.delete(key);
    keep();
    this.#onChange(key, error);
  }

  #keep(key, frame) {
    this.#ready.set(key, frame);
    this.#bytes += bytesOf(frame);
    for (const [oldest, dropped] of this.#ready) {
      if (this.#bytes <= this.#bytesMax || oldest === key) break;
      this.#ready.delete(oldest);
      this.#bytes -= bytesOf(dropped);
    }
  }
}

const bytesOf = (frame) => (frame.length * frame.columns.length + 64) * BYTES_PER_VALUE;
