// Log: the frames of a connection, the newest first, at most ROWS of them, whatever comes how fast. Tokens are masked, so
// that a row may be shown to others.

import { masked } from "./masking.js";
import { at, clipped, count, element, visible } from "./text.js";

const ROWS = 200;
const LONGEST = 16_384; // characters of a frame that are shown
const WORDS = { in: ["←", "received"], out: ["→", "sent"], note: ["•", "note"] };

const list = at("log");
const clock = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
});

let waiting = [];
let frames = 0;
let drawing = false;

/** Add a frame (`in` or `out`), or a `note` of our own. */
export function add(direction, text) {
  if (direction !== "note") frames += 1;
  waiting.push({ direction, text, when: new Date() });
  if (waiting.length > ROWS) waiting.shift();
  if (!drawing) {
    drawing = true;
    // Not requestAnimationFrame: that sleeps while the page is hidden.
    setTimeout(draw, 16);
  }
}

function draw() {
  drawing = false;
  const rows = waiting.map(row).reverse();
  waiting = [];
  list.prepend(...rows);
  while (list.childElementCount > ROWS) list.lastElementChild.remove();
  at("log-empty").hidden = true;
  at("log-clear").disabled = false;
  at("log-count").textContent = count(frames, "frame") + (frames > ROWS ? `, the last ${ROWS} rows shown` : "");
}

function row({ direction, text, when }) {
  const made = element("li", direction);
  const [sign, word] = WORDS[direction];
  const time = element("time", "", clock.format(when));
  time.dateTime = when.toISOString();
  const arrow = element("span", "arrow", sign);
  arrow.setAttribute("role", "img");
  arrow.setAttribute("aria-label", word);
  if (direction === "note") {
    made.append(time, arrow, element("p", "", visible(masked(text))));
    return made;
  }
  const frame = element("pre", "", clipped(text, LONGEST, masked));
  if (text.length > 400) {
    // What scrolls must be reachable by keyboard.
    frame.tabIndex = 0;
    frame.setAttribute("aria-label", `frame of ${count(text.length, "character")}`);
    frame.setAttribute("role", "group");
  }
  made.append(time, arrow, element("strong", "", typeOf(text)), frame);
  return made;
}

function typeOf(text) {
  try {
    const type = JSON.parse(text)?.type;
    return typeof type === "string" ? visible(type.slice(0, 128)) : "no type";
  } catch {
    return "not JSON";
  }
}

at("log-clear").addEventListener("click", () => {
  list.replaceChildren();
  waiting = [];
  frames = 0;
  at("log-count").textContent = "none yet";
  at("log-empty").hidden = false;
  at("log-clear").disabled = true;
  list.focus();
});
