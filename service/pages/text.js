// Text: how what strangers wrote is shown. Everything received goes through here and then into textContent.

const UNSEEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb]|\p{Surrogate}|[\u{e0000}-\u{e01ef}]/gu;

/** The text with all that is invisible or turns the order of other text written out, as JSON would escape it. */
export function visible(text) {
  return text.replace(UNSEEN, (found) =>
    [...Array(found.length).keys()].map((at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, "0")}`).join(""),
  );
}

/** At most `limit` characters of a text, changed by `change` if need be, and how many were left out. */
export function clipped(text, limit, change = (part) => part) {
  if (text.length <= limit) return visible(change(text));
  return `${visible(change(text.slice(0, limit)))}\n… and ${(text.length - limit).toLocaleString("en")} characters more`;
}

/** The text as one word for a shell. */
export const quoted = (text) => (/^[\w.@%+:,/-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

/** A new element with a class and text. */
export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

/** The element with this id. */
export const at = (id) => document.getElementById(id);

/** Say a state beside its dot. `tone`: good, busy, bad or quiet. */
export function tell(place, tone, text) {
  place.dataset.tone = tone;
  const words = place.firstElementChild ?? place;
  // A live region is read out again whenever it is written to.
  if (words.textContent !== text) words.textContent = text;
}

/** Write a sentence, in which what stands between backticks is for a terminal or a file. */
export function write(place, sentence) {
  const parts = visible(sentence).split("`");
  if (place.textContent === parts.join("")) return; // a live region is read out again whenever it is written to
  place.replaceChildren(...parts.map((part, number) => (number % 2 === 1 ? element("code", "", part) : part)));
}

/** "1 connection", "2 connections". */
export const count = (number, thing) => `${number.toLocaleString("en")} ${thing}${number === 1 ? "" : "s"}`;

/** Show elements in a result's place, instead of what was there. */
export function show(place, tone, ...elements) {
  place.dataset.tone = tone;
  place.replaceChildren(...elements);
  place.hidden = false;
}
