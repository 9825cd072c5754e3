// Conversation: what was said, and how each answer stands. Kept for this tab over a reload; knows no page and no socket.
// What was received is text of strangers and stays text.

const MESSAGES = "portico.streaming.messages";
const ANSWER = "portico.streaming.answer";
const SETTINGS = "portico.streaming.settings";
const DRAFT = "portico.streaming.draft";
const MOVED = "portico.streaming.moved";
const EVERY = 2000; // milliseconds between two times that an answer is kept which is being written
// What goes with a question at most, the newest of the conversation: less than `chat` takes unless it is set otherwise.
const CONTEXT = 150_000; // characters
const MESSAGES_TOLD = 150;
const ROLES = ["user", "assistant"];

export const WRITING = "writing";
export const DONE = "done";
export const STOPPED = "stopped";
export const CUT = "cut";
export const FAILED = "failed";
const STATES = [WRITING, DONE, STOPPED, CUT, FAILED];

/** The most characters that an answer may have. */
export const LONGEST = 2_000_000;

/** `onFull()`: the browser keeps no more, so that a reload will have the newest part only. */
export class Conversation {
  #onFull;
  #keptAt = 0;

  constructor(onFull) {
    this.#onFull = onFull;
    /** In order: {role, content, state, note, details}. */
    this.messages = restored();
  }

  get last() {
    return this.messages.at(-1);
  }

  /** The answer that is being written, or undefined. */
  get writing() {
    return this.last?.state === WRITING ? this.last : undefined;
  }

  ask(content) {
    this.messages.push({ role: "user", content, state: DONE, note: "", details: "" });
    return this.answer();
  }

  /** A new answer to what was asked last, in the place of the one that there is. */
  answer() {
    if (this.last?.role === "assistant") this.messages.pop();
    const message = { role: "assistant", content: "", state: WRITING, note: "", details: "" };
    this.messages.push(message);
    this.keep();
    return message;
  }

  /** More of the answer. Returns what of it there was room for. */
  append(text) {
    const taken = text.slice(0, LONGEST - this.last.content.length);
    this.last.content += taken;
    if (performance.now() - this.#keptAt > EVERY) this.#keepAnswer();
    return taken;
  }

  /** The answer is over. */
  end(state, note = "", details = "") {
    Object.assign(this.last, { state, note, details });
    this.keep();
  }

  clear() {
    this.messages = [];
    this.keep();
  }

  /** What a model is told: the newest part of the conversation, without answers that never came. */
  context(system) {
    const told = [];
    let room = CONTEXT;
    for (const { role, content, state } of this.messages.toReversed()) {
      if (state === WRITING || content === "") continue;
      room -= content.length;
      if (told.length > 0 && (room < 0 || told.length === MESSAGES_TOLD)) break;
      told.unshift({ role, content });
    }
    return system === "" ? told : [{ role: "system", content: system }, ...told];
  }

  /** Write everything down, for a reload. */
  keep() {
    remove(ANSWER);
    for (let from = 0; from <= this.messages.length; from += 1 + (this.messages.length >> 1)) {
      if (put(MESSAGES, this.messages.slice(from))) {
        if (from > 0) this.#onFull();
        return;
      }
    }
    remove(MESSAGES);
    this.#onFull();
  }

  #keepAnswer() {
    this.#keptAt = performance.now();
    if (!put(ANSWER, this.last.content)) this.#onFull();
  }
}

/** What was set on this page, or typed and not sent, in this tab. */
export const settings = () => ({ kind: "", system: "", model: "", temperature: "", maxTokens: "", ...get(SETTINGS) });
export const keepSettings = (values) => put(SETTINGS, values);
export const draft = () => String(get(DRAFT) ?? "");
export const keepDraft = (text) => put(DRAFT, text);

/** Whether this address is another one than the last time: the page is loaded anew for it once. */
export const once = (address) => get(MOVED) !== address && put(MOVED, address);

function restored() {
  const kept = get(MESSAGES);
  if (!Array.isArray(kept)) return [];
  const messages = kept.filter(isMessage);
  const last = messages.at(-1);
  if (last?.state === WRITING) {
    const content = get(ANSWER);
    if (typeof content === "string" && content.length > last.content.length) last.content = content;
    Object.assign(last, { state: CUT, note: "The page was left while this was written." });
  }
  return messages;
}

const isMessage = (found) =>
  ROLES.includes(found?.role) &&
  STATES.includes(found.state) &&
  ["content", "note", "details"].every((name) => typeof found[name] === "string");

// A browser may keep nothing at all, and say so by throwing at any of these.
function get(name) {
  try {
    return JSON.parse(sessionStorage.getItem(name));
  } catch {
    return null;
  }
}

function put(name, value) {
  try {
    sessionStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

function remove(name) {
  try {
    sessionStorage.removeItem(name);
  } catch {
    // then nothing was kept
  }
}
