/**
 * The live stream of what is shown: new records into the loader's tail, and how the stream fares.
 *
 * The client reconnects by itself, with its cursor. Here is only what follows from its ends: after a
 * reset everything is asked for anew, and where live cannot be had, tiles go on to the newest record.
 */

import { Reset } from "../zerocopy.js";
import { Tail } from "./tail.js";

export class Follow {
  #client;
  #loader;
  #series;
  #on;
  #controller = null;

  /** `on` has `state("open" | "waiting" | "off", error)`, `records(frame)` and `reset()`. */
  constructor(client, loader, series, on) {
    this.#client = client;
    this.#loader = loader;
    this.#series = series;
    this.#on = on;
  }

  get isRunning() {
    return this.#controller !== null;
  }

  /** Begins, or begins again with other columns. Records from `edge` on come by the stream. */
  start(columns, edge = this.#loader.tail?.edge ?? this.#loader.bounds.last) {
    this.stop();
    const controller = (this.#controller = new AbortController());
    const tail = new Tail(columns, edge);
    if (!this.#loader.tail) this.#loader.setTail(tail);
    this.#run(tail, controller.signal).catch((error) => this.#fail(error, controller));
  }

  stop() {
    this.#controller?.abort();
    this.#controller = null;
  }

  async #run(tail, signal) {
    const { symbol, type, exchange } = this.#series;
    const takeOver = () => {
      if (!signal.aborted && this.#loader.tail !== tail && !tail.isTaken) this.#loader.setTail(tail);
      tail.isTaken = true;
    };
    const onState = ({ state, error }) => signal.aborted || this.#on.state(state, error);
    const options = { type, exchange, start: tail.edge, signal, onState };
    for await (const frame of this.#client.live(symbol, tail.columns, options)) {
      if (signal.aborted) return;
      takeOver();
      this.#loader.append(tail, frame);
      this.#on.records(frame);
    }
  }

  #fail(error, controller) {
    if (controller.signal.aborted) return;
    this.#controller = null;
    if (error instanceof Reset) {
      this.#on.reset();
      return;
    }
    this.#loader.setTail(null);
    this.#on.state("off", error);
  }
}
