// Token panel: the client's token, until when the gateway takes it, and a newer one in its place while the client is
// connected. Where tokens aren't looked at it isn't there.

import { at, visible } from "./text.js";
import { counts, flaw } from "./tokens.js";

const SOON = 60_000; // milliseconds before its end at which another one is asked for
const LONGEST_TIMER = 2 ** 31 - 1;
const clock = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** `isRefreshable()`: whether a newer token can be shown now. `onRefresh(token)`: it is to be. */
export class TokenPanel {
  #isRefreshable;
  #timer = 0;
  /** Whether the gateway looks at tokens. */
  counts = false;

  constructor(isRefreshable, onRefresh) {
    this.#isRefreshable = isRefreshable;
    at("token").addEventListener("input", () => this.look());
    at("token-refresh").addEventListener("click", () => {
      if (this.check()) onRefresh(this.token);
      this.look();
    });
  }

  /** What the gateway wants of clients: "open", "optional" or "token". */
  set access(access) {
    this.counts = counts(access);
    at("token-part").hidden = !this.counts;
    if (access === "token") at("token-part").open = true;
  }

  get token() {
    return at("token").value.trim();
  }

  /** Whether it may be shown; if not, that is said. */
  check() {
    const why = flaw(this.token);
    if (why === "") return true;
    this.say("bad", why);
    this.ask();
    return false;
  }

  /** The client may have come, gone or waited: whether the button can be used. */
  look() {
    at("token-refresh").disabled = this.token === "" || !this.#isRefreshable();
  }

  /** The gateway takes it until then (Unix seconds), or for good. */
  holds(ends) {
    clearTimeout(this.#timer);
    if (ends === undefined) {
      this.say("quiet", "");
      return;
    }
    const left = ends * 1000 - Date.now();
    const until = `It holds until ${clock.format(ends * 1000)}.`;
    if (left > SOON) {
      this.say("quiet", until);
      this.#timer = setTimeout(() => this.holds(ends), Math.min(left - SOON, LONGEST_TIMER));
    } else {
      this.say("busy", `${until} Enter a newer one and refresh it, or the connection is closed soon after.`);
    }
  }

  /** The newer one is not taken. */
  refused(why) {
    this.say("bad", `Not taken: ${why} The connection keeps the one that it has.`);
  }

  /** Nothing is said of a token on a connection any more. */
  over() {
    clearTimeout(this.#timer);
    this.say("quiet", "");
  }

  /** Have one entered. */
  ask() {
    at("token-part").open = true;
    at("token").focus();
  }

  say(tone, sentence) {
    const place = at("token-state");
    place.dataset.tone = tone;
    place.hidden = sentence === "";
    if (place.textContent !== visible(sentence)) place.textContent = visible(sentence);
  }
}
