// Client: one C-Client as a real one behaves: it asks where to connect, connects, registers, and comes back as the
// close code advises. Knows no page. Of its socket it keeps the newest only; what an older one says is ignored.

import { advice, delay, meaning, NO } from "./closing.js";
import { discover } from "./gateway.js";
import { isRefusal } from "./tokens.js";

const STABLE_AFTER = 10_000; // milliseconds after which failures are counted anew

/**
 * `on.state(name, details)`: finding, connecting, registering, registered, rejected, waiting, stopped {why, refused}.
 * `on.sent(text)`, `on.received(text)`: frames. `on.closed(code, reason, {opened, again, shown})`: whether it had
 * ever been open, whether it comes back if the code allows it, and whether it had shown a token.
 * `on.refreshed(ends)`: the newer token was taken, and ends then (Unix seconds), if ever; `on.notRefreshed(why)`.
 */
export class Client {
  #on;
  #identity = {};
  #token = "";
  #newer = null; // the token that is shown in place of the one before, until that is answered
  #refusal = ""; // why the gateway did not register it, in its words
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

  /** Whether a newer token can take the place of one. */
  get refreshable() {
    return this.open && this.#token !== "" && this.#newer === null;
  }

  /** Connect and register, or register anew on the connection that there is. `token`: "" for none. */
  register(identity, token = "") {
    this.#identity = identity;
    this.#token = token;
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

  /** Show a newer token of the same user's. */
  refresh(token) {
    this.#newer = token;
    this.#send({ type: "token_refresh", token });
  }

  /** Close, and stay away. */
  disconnect() {
    const closing = this.#socket;
    this.#leave();
    this.#on.state("stopped", { why: "", refused: "" });
    if (closing === null) return;
    closing.onclose = ({ code, reason }) => this.#on.closed(code, reason, { opened: true, again: false, shown: false });
    closing.close(1000);
  }

  #leave() {
    clearTimeout(this.#timer);
    this.#attempt += 1;
    this.#newer = null;
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    if (socket.readyState === WebSocket.CONNECTING) socket.close();
  }

  async #connect() {
    const attempt = ++this.#attempt;
    this.#opened = 0;
    this.#refusal = "";
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
    // In the first message, as a program does it, and so in no address.
    const proof = this.#token === "" ? {} : { token: this.#token };
    this.#send({ type: "c_client_register", ...this.#identity, ...proof });
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
    if (message?.type === "registration_rejected") {
      this.#refusal = String(message.message);
      this.#on.state("rejected", message);
    }
    if (this.#newer !== null) this.#answered(message);
  }

  // Answers come in order, and nothing else that the page sends is answered by an error of these codes.
  #answered(message) {
    if (message?.type === "token_refresh") {
      this.#token = this.#newer;
      this.#newer = null;
      this.#on.refreshed(message.expires_at ?? undefined);
    } else if (message?.type === "error" && ["unauthorized", "forbidden", "bad_field"].includes(message.code)) {
      this.#newer = null;
      this.#on.notRefreshed(String(message.message));
    }
  }

  #lost(code, reason) {
    this.#socket = null;
    this.#newer = null;
    this.#on.closed(code, reason, { opened: this.#opened > 0, again: true, shown: this.#token !== "" });
    this.#wait(code, reason, "");
  }

  #wait(code, reason, why) {
    const lived = this.#opened === 0 ? 0 : performance.now() - this.#opened;
    this.#failures = lived >= STABLE_AFTER ? 0 : this.#failures + 1;
    if (advice(code) === NO) {
      this.#on.state("stopped", { why, refused: isRefusal(code) ? this.#refusal || reason || meaning(code) : "" });
      return;
    }
    const milliseconds = delay(code, reason, Math.max(1, this.#failures));
    this.#on.state("waiting", { until: performance.now() + milliseconds, why });
    this.#timer = setTimeout(() => this.#connect(), milliseconds);
  }
}
