// Markdown as it arrives. A block that another one follows can't change any more, so it is built once and left alone; only
// the last block is built anew as it grows, and no more than LIMIT characters are ever looked at twice. So an answer
// costs the same per character, however long it is, and a frame never takes much longer than BUDGET.

import { blocks, codeBlock, elements } from "./markdown-dom.js";

const LIMIT = 8192; // characters of a block that is still open; a longer one is closed and goes on as another
const SLICE = 4096; // characters that are looked at between two looks at the clock
const BUDGET = 10; // milliseconds of a frame
const HIDDEN = 250; // milliseconds between two looks while nobody looks
const REST = 3; // times as long as a look took that the next one waits, if it took long
const CHUNK = 4096; // characters of code that the browser lays out together
const PART = 64; // elements that it lays out together
const FENCE = /^( {0,3})(`{3,}|~{3,})([^\n]*)\n/;

/** Builds what is pushed into `place`. `onChange()` is told after each change that can be seen. */
export class MarkdownStream {
  #place;
  #onChange;
  #tail = document.createElement("div");
  #part = null;
  #references = {};
  #waiting = ""; // came, and was not looked at
  #open = ""; // the text of the last block
  #code = null; // the code block that is open
  #scheduled = false;
  #took = 0;
  #finished = null;

  constructor(place, onChange = () => {}) {
    this.#place = place;
    this.#onChange = onChange;
    this.#tail.className = "tail";
    place.append(this.#tail);
  }

  push(text) {
    this.#waiting += text.replaceAll("\r", "");
    this.#schedule();
  }

  /** Nothing more will come. Resolves once everything is built. */
  finish() {
    return new Promise((resolve) => {
      this.#finished = resolve;
      this.#schedule();
    });
  }

  #schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    // Nothing is drawn in a tab that nobody looks at, and so there are no frames.
    if (document.hidden) setTimeout(() => this.#work(), HIDDEN);
    else if (this.#took > BUDGET) setTimeout(() => this.#work(), REST * this.#took);
    else requestAnimationFrame(() => this.#work());
  }

  #work() {
    this.#scheduled = false;
    const began = performance.now();
    do {
      const slice = this.#waiting.slice(0, SLICE);
      this.#waiting = this.#waiting.slice(slice.length);
      this.#take(slice);
    } while (this.#waiting !== "" && performance.now() < began + BUDGET);
    this.#took = performance.now() - began;
    if (this.#waiting !== "") this.#schedule();
    else if (this.#finished !== null) {
      this.#close();
      this.#finished();
      this.#finished = null;
    }
    this.#onChange();
  }

  #take(text) {
    let more = text;
    while (true) {
      if (this.#code !== null) {
        more = this.#code.take(more);
        if (more === null) return;
        this.#code = null;
      }
      this.#open += more;
      more = "";
      const info = this.#settle();
      if (info === null) return;
      more = this.#openCode(info);
    }
  }

  /** Build all blocks but the last for good, and that as it is now. Returns the fence that the last one begins with, if
   * it is one that is open. */
  #settle() {
    const found = blocks(this.#open, this.#references);
    const whole = count(this.#open, "\n"); // lines that can't change any more
    let first = found.findLastIndex(({ line }) => line < whole);
    if (first > 0) {
      this.#add(elements(found.slice(0, first)));
      this.#open = this.#open.slice(start(this.#open, found[first].line));
    } else first = 0;
    const rest = found.slice(first);
    const fence = rest.length === 1 && rest[0].tokens[0].type === "fence" ? opening(this.#open) : null;
    if (fence === null && this.#open.length > LIMIT) {
      const end = this.#open.lastIndexOf("\n") + 1 || this.#open.length;
      const before = blocks(this.#open.slice(0, end), this.#references);
      this.#add(elements(before));
      // Rows are nothing without their head.
      const { line, tokens } = before.at(-1);
      const head = tokens[0].type === "table_open" ? lines(this.#open, line, 2) : "";
      this.#open = head + this.#open.slice(end);
      this.#tail.replaceChildren(elements(blocks(this.#open, this.#references)));
      return null;
    }
    this.#tail.replaceChildren(...(fence === null ? [elements(rest)] : []));
    return fence;
  }

  #openCode([head, indent, marker, info]) {
    const { figure, code } = codeBlock(info);
    this.#add(figure);
    this.#code = new CodeStream(code, marker, indent.length);
    const text = this.#open.slice(this.#open.indexOf(head) + head.length);
    this.#open = "";
    return text;
  }

  #close() {
    if (this.#code !== null) this.#code.finish();
    this.#code = null;
    this.#add(...this.#tail.childNodes);
    this.#open = "";
  }

  /** What won't change any more, in parts: an element that grows is laid out anew with all that is right below it. */
  #add(...built) {
    if (this.#part === null || this.#part.childElementCount >= PART) {
      this.#part = document.createElement("div");
      this.#part.className = "part";
      this.#tail.before(this.#part);
    }
    this.#part.append(...built);
  }
}

/** The lines of one code block, until the fence that closes it. */
class CodeStream {
  #code;
  #closing;
  #maybe;
  #indent;
  #line = ""; // the last line, as far as it has come
  #last = document.createTextNode("");
  #chunk = null;

  constructor(code, marker, indent) {
    this.#code = code;
    this.#closing = new RegExp(`^ {0,3}${marker[0]}{${marker.length},}[ \\t]*$`);
    this.#maybe = new RegExp(`^ {0,3}${marker[0]}*[ \\t]*$`);
    this.#indent = new RegExp(`^ {0,${indent}}`);
    code.append(this.#last);
  }

  /** Take the text, and return what follows the block; null while it is open. */
  take(text) {
    const lines = (this.#line + text).split("\n");
    this.#line = "";
    let settled = "";
    for (let at = 0; at < lines.length - 1; at += 1) {
      if (this.#closing.test(lines[at])) {
        this.#add(settled);
        this.#last.remove();
        return lines.slice(at + 1).join("\n");
      }
      settled += `${lines[at].replace(this.#indent, "")}\n`;
    }
    this.#add(settled);
    this.#line = lines.at(-1);
    if (this.#line.length > CHUNK) {
      this.#add(this.#line);
      this.#line = "";
    }
    // What may become the closing fence is not shown.
    this.#last.data = this.#maybe.test(this.#line) ? "" : this.#line.replace(this.#indent, "");
    return null;
  }

  finish() {
    this.#last.remove();
    if (!this.#closing.test(this.#line)) this.#add(this.#line.replace(this.#indent, ""));
  }

  // Code that is added to one node would be laid out anew as a whole each time.
  #add(text) {
    if (text === "") return;
    if (this.#chunk === null || this.#chunk.data.length > CHUNK) {
      const part = document.createElement("span");
      this.#chunk = document.createTextNode("");
      part.append(this.#chunk);
      if (this.#last.parentNode === this.#code) this.#last.before(part);
      else this.#code.append(part);
    }
    this.#chunk.appendData(text);
  }
}

/** The fence that a text begins with and doesn't close: [all of its line, indentation, marker, info], or null. */
function opening(text) {
  const found = FENCE.exec(text.replace(/^\n+/, ""));
  if (found === null) return null;
  const closing = new RegExp(`\\n {0,3}${found[2][0]}{${found[2].length},}[ \\t]*(\\n|$)`);
  return closing.test(text.slice(text.indexOf(found[0]))) ? null : found;
}

function count(text, part) {
  let found = 0;
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + part.length)) found += 1;
  return found;
}

/** So many lines of a text, from one on. */
const lines = (text, first, many) => text.slice(start(text, first), start(text, first + many));

/** Where a line begins. */
function start(text, line) {
  let at = 0;
  for (let passed = 0; passed < line; passed += 1) at = text.indexOf("\n", at) + 1;
  return at;
}
