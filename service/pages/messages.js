// Messages: the conversation as it is seen. One article for each message; only the last one changes. Follows the end of
// the conversation as long as the reader is there, and stays where the reader has scrolled to.

import { CUT, DONE, FAILED, STOPPED, WRITING } from "./conversation.js";
import { copyButton } from "./copying.js";
import { MarkdownStream } from "./markdown.js";
import { at, element } from "./text.js";

const NEAR = 48; // pixels from the end that count as being there
const TONES = { [FAILED]: "bad", [CUT]: "busy", [STOPPED]: "quiet", [DONE]: "quiet" };

/** `onAgain()`: the last answer is wanted once more. */
export class Messages {
  #place = at("conversation");
  #scroller = at("scroller");
  #onAgain;
  #follows = true;
  #last = null; // {article, stream, foot, state}

  constructor(onAgain) {
    this.#onAgain = onAgain;
    this.#scroller.addEventListener("scroll", () => this.#look(), { passive: true });
    new ResizeObserver(() => this.#keepUp()).observe(this.#place);
    new ResizeObserver(() => this.#keepUp()).observe(this.#scroller);
    at("latest").addEventListener("click", () => this.toEnd());
  }

  /** Show all of these instead of what is there. */
  show(messages) {
    this.#place.replaceChildren();
    this.#last = null;
    at("welcome").hidden = messages.length > 0;
    for (const message of messages) this.add(message);
    this.toEnd();
  }

  /** One more, at the end. */
  add(message) {
    at("welcome").hidden = true;
    this.#last?.again?.remove(); // only the last answer can be asked for again
    if (message.role === "user") this.#addQuestion(message);
    else this.#addAnswer(message);
    this.#place.append(this.#last.article);
    this.toEnd();
  }

  /** The last answer goes, since another one comes in its place. */
  removeLast() {
    this.#last.article.remove();
  }

  /** More of the last answer. */
  append(text) {
    this.#last.hint.hidden = true;
    this.#last.stream.push(text);
  }

  /** What is said while nothing of the last answer has come. */
  hint(text) {
    if (this.#last?.hint) this.#last.hint.lastElementChild.textContent = text;
  }

  /** The last answer is over. Resolves once all of it is shown. */
  async end(message) {
    const shown = this.#last;
    shown.hint.hidden = true;
    await shown.stream.finish();
    shown.article.removeAttribute("aria-busy");
    shown.article.classList.remove("writing");
    this.#finish(shown, message);
    this.#keepUp();
  }

  toEnd() {
    this.#follows = true;
    this.#keepUp();
  }

  #addQuestion(message) {
    const article = element("article", "message question");
    article.setAttribute("aria-label", "You");
    const text = element("p", "", message.content);
    text.dir = "auto";
    article.append(text);
    this.#last = { article };
  }

  #addAnswer(message) {
    const article = element("article", "message answer");
    article.setAttribute("aria-label", "Answer");
    const body = element("div", "markdown");
    const hint = element("p", "hint quiet");
    const dots = element("span", "dots");
    dots.setAttribute("aria-hidden", "true");
    dots.append(element("i"), element("i"), element("i"));
    hint.append(dots, element("span"));
    const foot = element("div", "foot-of-answer");
    article.append(body, hint, foot);
    const shown = { article, hint, foot, body, stream: new MarkdownStream(body, () => this.#keepUp()) };
    this.#last = shown;
    if (message.content) shown.stream.push(message.content);
    if (message.state === WRITING) {
      // What is busy is read out once it is whole.
      article.setAttribute("aria-busy", "true");
      article.classList.add("writing");
      return;
    }
    hint.hidden = true;
    shown.stream.finish();
    this.#finish(shown, message);
  }

  #finish(shown, message) {
    const { foot } = shown;
    if (message.note) {
      const note = element("p", "note-of-answer", message.note);
      note.dataset.tone = TONES[message.state];
      foot.append(note);
    }
    const row = element("div", "row");
    if (message.content) row.append(copyButton("Copy the answer", () => message.content));
    if (shown === this.#last) {
      shown.again = element("button", "small", message.state === DONE ? "Ask again" : "Try again");
      shown.again.type = "button";
      shown.again.addEventListener("click", () => this.#onAgain());
      row.append(shown.again);
    }
    if (message.details) row.append(element("span", "details quiet", message.details));
    foot.append(row);
  }

  #look() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    this.#follows = scrollHeight - clientHeight - scrollTop < NEAR;
    at("latest").hidden = this.#follows;
  }

  #keepUp() {
    if (this.#follows) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    at("latest").hidden = this.#follows || this.#scroller.scrollHeight <= this.#scroller.clientHeight;
  }
}
