// Streaming: joins the conversation, its look, the settings and the WebSocket. The one module that the page names.

import { CUT, Conversation, DONE, draft, FAILED, keepDraft, LONGEST, once, STOPPED } from "./conversation.js";
import { Messages } from "./messages.js";
import { about } from "./gateway.js";
import { Requester } from "./requester.js";
import { SettingsPanel } from "./settings-panel.js";
import { at, tell, visible, write } from "./text.js";

const SOON = 2000; // milliseconds until the gateway is asked again whether somebody answers now
const LATER = 30_000; // the same, if it has said no for long
const WELCOME = {
  open: ["What would you like to ask?", "Answers arrive word by word, over the gateway’s WebSocket."],
  token: ["Asking needs a token here", "With one whose role is requester this page asks as usual."],
  closed: ["Asking is closed here", "This page finds out by itself when the gateway has been opened."],
};
const ENDS = {
  length: "The answer ended here since it reached the most tokens that it may have.",
  content_filter: "The model’s API held the rest back.",
};

const conversation = new Conversation(() => say("The browser keeps no more: a reload will show the newest part only."));
const messages = new Messages(askAgain);
const panel = new SettingsPanel(show, (token) => requester.start(token));
const requester = new Requester({ state, info: informed, answer, lost });

let info = null;
let barred = null;
let asked = null; // {id, kind, sent, began, first, ended}: the request whose answer is being written
let numbers = 0;
let counting = 0;
let looking = 0;
let pause = SOON;

// What is asked

function submit() {
  const text = at("message").value.trim();
  if (text === "" || asked !== null) return;
  if (barred !== null) {
    if (barred.token) panel.open(true);
    return; // the notice says what is missing, and what was typed stays
  }
  at("message").value = "";
  keepDraft("");
  fit();
  conversation.ask(text);
  messages.add(conversation.messages.at(-2));
  begin();
}

function askAgain() {
  if (asked !== null) return;
  messages.removeLast();
  conversation.answer();
  begin();
  at("stop").focus(); // the button that was pressed is gone
}

function begin() {
  messages.add(conversation.last);
  const id = `s-${(numbers += 1)}-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
  asked = { id, kind: panel.kind, sent: false, began: 0, first: 0, ended: null };
  if (barred !== null) end(FAILED, plain(barred.why));
  else send();
  show();
}

/** Send the question, unless that has to wait: after a restart the gateway may be back before the one who answers. */
function send() {
  if (asked === null || asked.sent) return;
  asked.kind ??= panel.kind;
  const chat = asked.kind === "chat";
  if (!requester.open || asked.kind === null || !(chat ? info.chat : info.echo)) {
    messages.hint(requester.open ? "Waiting for somebody who answers…" : "Waiting for the connection…");
    return;
  }
  const question = conversation.messages.at(-2).content;
  asked.sent = true;
  asked.began = performance.now();
  messages.hint("");
  requester.send({
    request_id: asked.id,
    command: chat ? "chat" : info.echo,
    data: chat ? { messages: conversation.context(panel.system), ...panel.options } : { message: question },
    stream: true,
    timeout: info.timeout,
  });
}

// What comes of it

function answer(message) {
  if (asked === null || !(message.request_id === asked.id || isRefusal(message))) return;
  const { data } = message;
  if (message.partial === true && message.success === false) {
    // What comes after it would look like an answer without a gap.
    stop(failure(String(message.error)), FAILED);
  } else if (message.partial === true) {
    if (typeof data?.delta === "string") append(data.delta);
    // Some workers can say how it ended in a part only.
    else if (typeof data?.finish_reason === "string") asked.ended = data;
  } else if (message.success === true) {
    // From a worker that doesn't stream, all of it comes at once.
    if (conversation.last.content === "") append(typeof data === "string" ? data : String(data?.content ?? ""));
    const ended = data?.finish_reason ? data : (asked.ended ?? {});
    end(DONE, ENDS[ended.finish_reason] ?? "", details(ended));
  } else if (message.success === false) {
    end(FAILED, failure(String(message.error)));
  }
}

// What can't be read can't be answered by its name; there is one question at a time.
const isRefusal = (message) => asked.sent && message.request_id === null && message.success === false;

function append(text) {
  if (text === "") return;
  if (asked.first === 0) asked.first = performance.now();
  const taken = conversation.append(text);
  messages.append(taken);
  if (taken.length < text.length) stop(`The answer is longer than ${LONGEST.toLocaleString("en")} characters.`);
}

function failure(error) {
  const sentence = visible(error.slice(0, 2000));
  if (error !== "No available workers") return sentence;
  look();
  return `${sentence}: nobody answers any more.`;
}

function details(data) {
  const found = [];
  if (typeof data.model === "string") found.push(visible(data.model.slice(0, 100)));
  const tokens = data.usage?.completion_tokens;
  if (Number.isFinite(tokens)) found.push(`${tokens.toLocaleString("en")} tokens`);
  if (asked.first > 0) found.push(`first word after ${seconds(asked.first - asked.began)}`);
  found.push(`${seconds(performance.now() - asked.began)} in all`);
  return found.join(" · ");
}

const seconds = (milliseconds) =>
  milliseconds < 950 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(milliseconds < 9950 ? 1 : 0)} s`;

function stop(why = "Stopped.", how = STOPPED) {
  if (asked === null) return;
  if (asked.sent && requester.open) requester.send({ request_id: asked.id, cancel: true });
  end(how, why);
}

function lost(why) {
  if (asked?.sent) end(CUT, `${why} The answer was cut off.`);
}

async function end(how, note = "", figures = "") {
  asked = null;
  conversation.end(how, note, figures);
  const over = conversation.last;
  show();
  await messages.end(over);
  at("spoken").textContent = how === DONE ? "The answer is complete." : note;
}

// The gateway

function informed(found) {
  info = found;
  panel.info = found;
  send();
  show();
  clearTimeout(looking);
  // Somebody may begin to answer at any time, and then the page needs no reload.
  const soon = barred === null && (found.chat || (asked !== null && !asked.sent));
  pause = soon ? SOON : Math.min(LATER, pause * 1.2);
  if (!found.chat || barred !== null) looking = setTimeout(look, pause);
}

async function look() {
  clearTimeout(looking);
  if (document.hidden) return;
  try {
    const before = info?.access;
    informed(await about());
    // What kept it away may be no more.
    if (barred !== null && info.access !== before) requester.start(panel.token);
  } catch {
    looking = setTimeout(look, pause); // the connection says what is wrong
  }
}

function state(name, details) {
  clearInterval(counting);
  barred = name === "barred" ? details : null;
  waits = name === "waiting" ? details : null;
  at("link-countdown").textContent = "";
  const place = at("link-state");
  place.title = details.url ?? "";
  if (name === "connecting") tell(place, "busy", "Connecting…");
  else if (name === "open") {
    tell(place, "good", "Connected");
    send();
  } else if (name === "barred") {
    tell(place, "bad", details.token ? "Needs a token" : "Not connected");
    if (asked !== null) end(FAILED, plain(details.why));
    clearTimeout(looking);
    looking = setTimeout(look, pause);
  } else {
    tell(place, "busy", "Reconnecting");
    say(details.why || "The connection was lost.");
    const count = () => {
      const left = Math.max(0, Math.ceil((details.until - performance.now()) / 1000));
      at("link-countdown").textContent = `in ${left} s`;
    };
    count();
    counting = setInterval(count, 500);
  }
  if (name !== "waiting") say("");
  show();
}

// How it looks

let said = "";
let waits = null; // {token}: it comes back by itself, and whether another token may help

function say(sentence) {
  said = sentence;
  show();
}

function show() {
  const kind = panel.kind;
  const badge = at("answerer");
  badge.hidden = kind === null || barred !== null;
  const named = panel.options.model ?? info?.model;
  badge.textContent = kind === "chat" ? visible(named ?? "Model") : "Echo";
  at("message").placeholder = kind === "echo" && barred === null ? "Write something to be echoed" : "Ask something";
  if (asked === null && document.activeElement === at("stop")) at("message").focus();
  at("stop").hidden = asked === null;
  at("send").hidden = asked !== null;
  at("send").disabled = barred !== null || at("message").value.trim() === "";
  at("renew").disabled = conversation.messages.length === 0;
  // Nothing is offered that would be refused.
  at("ideas").hidden = kind === null || barred !== null;
  const [title, text] = WELCOME[barred === null ? "open" : barred.token ? "token" : info?.access === "closed" ? "closed" : "open"];
  at("welcome-title").textContent = title;
  at("welcome-text").textContent = text;
  const [tone, sentence, act] = notice(kind);
  at("notice").hidden = sentence === "";
  at("notice").dataset.tone = tone;
  write(at("notice-text"), sentence);
  at("notice-act").hidden = act === "";
  at("notice-act").textContent = act;
}

function notice(kind) {
  if (barred !== null) return ["bad", barred.why, barred.token ? "Enter a token" : "Connect now"];
  if (said !== "") return ["busy", said, waits === null ? "" : waits.token ? "Enter a token" : "Connect now"];
  if (info === null || info.chat) return ["quiet", "", ""];
  if (kind === "chat") return ["busy", `No model answers just now: what you ask waits for one. ${info.hint}`, ""];
  if (kind === null) return ["bad", `Nobody answers here yet. ${info.hint}`, ""];
  return ["quiet", `No model answers here, so this page echoes what you write. ${info.hint}`, ""];
}

/** A sentence without the marks around what is for a terminal. */
const plain = (sentence) => sentence.replaceAll("`", "");

/** As high as what is typed, up to a bound that the look sets. */
function fit() {
  const place = at("message");
  place.style.height = "auto";
  place.style.height = `${place.scrollHeight + 2}px`;
}

at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
at("message").addEventListener("input", () => {
  fit();
  show();
});
at("message").addEventListener("keydown", (event) => {
  // Enter also ends a word that is composed of several keys.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
document.addEventListener("keydown", ({ key }) => {
  if (key === "Escape" && !at("settings").open) stop();
});
at("stop").addEventListener("click", () => {
  stop();
  at("message").focus();
});
at("renew").addEventListener("click", () => {
  stop();
  conversation.clear();
  messages.show([]);
  show();
  at("message").focus();
});
at("ideas").addEventListener("click", ({ target }) => {
  if (target.tagName !== "BUTTON") return;
  at("message").value = target.textContent;
  submit();
});
at("notice-act").addEventListener("click", () => {
  if ((barred ?? waits)?.token) panel.open(true);
  else requester.start(panel.token);
});
document.addEventListener("visibilitychange", () => document.hidden || info?.chat || look());
addEventListener("pagehide", () => {
  conversation.keep();
  keepDraft(at("message").value);
});
document.addEventListener("securitypolicyviolation", ({ effectiveDirective, blockedURI }) => {
  // The WebSocket is at another host now, which this page may connect to once it is loaded anew: nothing is lost by it.
  if (effectiveDirective !== "connect-src") return;
  if (once(blockedURI)) location.reload();
  else requester.blocked();
});

at("message").value = draft();
messages.show(conversation.messages);
fit();
show();
requester.start("");
at("message").focus({ preventScroll: true });
