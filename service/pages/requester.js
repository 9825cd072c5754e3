// Requester: the page's WebSocket to the workers. It asks the gateway where the socket is before each connection, so it
// follows when a deployment moves, and comes back as the close code advises. Knows no page and no conversation.

import { advice, delay, meaning, NO } from "./closing.js";
import { about, discover, socketHere } from "./gateway.js";
import { visible } from "./text.js";
import { bar, isRefusal, offers, REQUESTER_COMMAND } from "./tokens.js";

const STABLE_AFTER = 10_000; // milliseconds after which failures are counted anew
const MOST_FAILURES = 5; // that make it wait longer: somebody is looking at this page
const OPENING = 15_000; // milliseconds that a connection may take to open

/**
 * `on.state(name, details)`: connecting, open, waiting {until, why, token}, barred {why, token}: it stays away until it is
 * told otherwise; `token`: whether another one may help. `on.info(info)`: what the gateway said before a connection. `on.answer(message)`: an object that came.
 * `on.lost(why)`: an open connection is over, and whatever was asked on it.
 */
export class Requester {
  #on;
  #socket = null;
  #token = "";
  #timer = 0;
  #attempt = 0;
  #failures = 0;
  #opened = 0;

  constructor(on) {
    this.#on = on;
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => document.hidden || this.now());
  }

  get open() {
    return this.#opened > 0 && this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Begin anew with this token; "" for none. */
  start(token) {
    this.#token = token;
    this.#failures = 0;
    const wasOpen = this.open;
    this.#leave();
    if (wasOpen) this.#on.lost("The connection was made anew.");
    this.#connect();
  }

  /** Don't wait any longer, if it waits. */
  now() {
    if (this.#timer !== 0) this.#connect();
  }

  /** The page's policy forbids where it connects to, of which the socket says nothing. */
  blocked() {
    if (this.#socket === null || this.open) return;
    this.#leave();
    this.#wait(1006, "", { why: "The WebSockets are at a host to which this page may not connect." });
  }

  send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #leave() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#attempt += 1;
    const socket = this.#socket;
    this.#socket = null;
    this.#opened = 0;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  async #connect() {
    this.#leave();
    const attempt = this.#attempt;
    this.#on.state("connecting", {});
    let info;
    let url;
    try {
      info = await about();
      if (attempt !== this.#attempt) return;
      this.#on.info(info);
      const barred = bar(info, this.#token);
      if (barred !== null) {
        this.#on.state("barred", barred);
        return;
      }
      // Where a proxy keeps WebSockets out of this port, every second attempt goes where discovery says.
      url = info.socket === "here" && this.#failures % 2 === 0 ? socketHere() : await discover();
      if (attempt === this.#attempt) this.#dial(url, attempt, info);
    } catch (error) {
      if (attempt === this.#attempt) this.#wait(1006, "", { why: error.message });
    }
  }

  #dial(url, attempt, info) {
    const socket = new WebSocket(url, offers(this.#token));
    this.#socket = socket;
    const patience = setTimeout(() => socket.close(), OPENING);
    socket.onopen = () => {
      clearTimeout(patience);
      this.#opened = performance.now();
      this.#on.state("open", { url });
    };
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => {
      clearTimeout(patience);
      if (attempt === this.#attempt) this.#closed(code, reason, info);
    };
  }

  #receive(data) {
    let message = null;
    try {
      message = JSON.parse(data);
    } catch {
      return; // the gateway sends JSON only
    }
    if (message !== null && typeof message === "object") this.#on.answer(message);
  }

  #closed(code, reason, info) {
    const opened = this.#opened;
    this.#socket = null;
    // Why, where the gateway has said it; else what the code means.
    const words = `${isRefusal(code) ? visible(reason) || meaning(code) : meaning(code)} (${code})`;
    if (opened > 0) this.#on.lost(`The connection was closed: ${words}.`);
    if (isRefusal(code)) {
      this.#opened = 0;
      const why = `The gateway closed the connection: ${words}. Enter another token to go on. ${REQUESTER_COMMAND}`;
      this.#on.state("barred", { why, token: true });
    } else if (opened > 0) {
      this.#wait(code, reason);
    } else if (this.#token !== "" || info.access === "optional") {
      // A browser isn't told why an upgrade was refused.
      const may = this.#token === "" ? "it may want a token." : "the token may be wrong, over, or for another role.";
      const why = `The gateway answers, but lets no connection come about: ${may} ${REQUESTER_COMMAND}`;
      this.#wait(code, reason, { why, token: true });
    } else {
      this.#wait(code, reason, { why: "The gateway answers, but no WebSocket comes about." });
    }
  }

  #wait(code, reason, { why = "", token = false } = {}) {
    const lived = this.#opened === 0 ? 0 : performance.now() - this.#opened;
    this.#opened = 0;
    this.#failures = lived >= STABLE_AFTER ? 0 : this.#failures + 1;
    if (advice(code) === NO) {
      this.#on.state("barred", { why: `The gateway closed the connection: ${meaning(code)} (${code}).`, token: false });
      return;
    }
    const milliseconds = delay(code, reason, Math.min(Math.max(1, this.#failures), MOST_FAILURES));
    this.#on.state("waiting", { until: performance.now() + milliseconds, why, token });
    this.#timer = setTimeout(() => this.#connect(), milliseconds);
  }
}
