// Client: one C-Client as a real one behaves: it asks where to connect, connects, registers, and comes back as the
// close code advises. Knows no page. Of its socket it keeps the newest only; what an older one says is ignored.

import { advice, delay, NO } from "./closing.js";
import { discover } from "./gateway.js";

const STABLE_AFTER = 10_000; // milliseconds after which failures are counted anew

/**
 * `on.state(name, details)`: finding, connecting, registering, registered, rejected, waiting, stopped.
 * `on.sent(text)`, `on.received(text)`: frames. `on.closed(code, reason, {opened, again})`: whether it had
 * ever been open, and whether it comes back if the code allows it.
 */
export class Client {
  #on;
  #identity = {};
  #socket = null;
  #timer = 0;
  #attempt = 0;
  #failures = 0;
  #opened = 0;

  constructor(on) {
    this.#on = on;
  }

  /** Whether frames can be sent. */
  get open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Connect and register, or register anew on the connection that there is. */
  register(identity) {
    this.#identity = identity;
    if (this.open) {
      this.#introduce();
      return;
    }
    this.#leave();
    this.#failures = 0;
    this.#connect();
  }

  heartbeat() {
    this.#send({ type: "heartbeat" });
  }

  /** Close, and stay away. */
  disconnect() {
    const closing = this.#socket;
    this.#leave();
    this.#on.state("stopped", {});
    if (closing === null) return;
    closing.onclose = ({ code, reason }) => this.#on.closed(code, reason, { opened: true, again: false });
    closing.close(1000);
  }

  #leave() {
    clearTimeout(this.#timer);
    this.#attempt += 1;
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    if (socket.readyState === WebSocket.CONNECTING) socket.close();
  }

  async #connect() {
    const attempt = ++this.#attempt;
    this.#opened = 0;
    this.#on.state("finding", {});
    try {
      const url = await discover();
      if (attempt !== this.#attempt) return;
      this.#on.state("connecting", { url });
      const socket = new WebSocket(url);
      this.#socket = socket;
      socket.onopen = () => {
        this.#opened = performance.now();
        this.#introduce();
      };
      socket.onmessage = ({ data }) => this.#receive(data);
      socket.onclose = ({ code, reason }) => this.#lost(code, reason);
    } catch (error) {
      if (attempt === this.#attempt) this.#wait(1006, "", error.message);
    }
  }

  #introduce() {
    this.#on.state("registering", {});
    this.#send({ type: "c_client_register", ...this.#identity });
  }

  #send(message) {
    const text = JSON.stringify(message);
    this.#socket.send(text);
    this.#on.sent(text);
  }

  #receive(data) {
    if (typeof data !== "string") return; // the gateway sends text only
    this.#on.received(data);
    let message = null;
    try {
      message = JSON.parse(data);
    } catch {
      return; // what was published elsewhere arrives as it is
    }
    if (message?.type === "registration_success") this.#on.state("registered", message);
    if (message?.type === "registration_rejected") this.#on.state("rejected", message);
  }

  #lost(code, reason) {
    this.#socket = null;
    this.#on.closed(code, reason, { opened: this.#opened > 0, again: true });
    this.#wait(code, reason, "");
  }

  #wait(code, reason, why) {
    const lived = this.#opened === 0 ? 0 : performance.now() - this.#opened;
    this.#failures = lived >= STABLE_AFTER ? 0 : this.#failures + 1;
    if (advice(code) === NO) {
      this.#on.state("stopped", { why });
      return;
    }
    const milliseconds = delay(code, reason, Math.max(1, this.#failures));
    this.#on.state("waiting", { until: performance.now() + milliseconds, why });
    this.#timer = setTimeout(() => this.#connect(), milliseconds);
  }
}
