// Closing: what each close code means, and when to come back after it. Knows no network and no page.

export const NO = "no";
export const YES = "yes";
export const SPREAD = "spread";

/** Every code of the gateway's: its meaning, and whether to come back. */
export const CLOSE_CODES = {
  1000: ["normal", YES],
  1001: ["going away", YES],
  1002: ["not the WebSocket protocol", NO],
  1003: ["not a dialect", NO],
  1007: ["not UTF-8", NO],
  1008: ["policy", NO],
  1009: ["message too large", NO],
  1011: ["internal error", YES],
  1012: ["the node is restarting", SPREAD],
  1013: ["at its limit of connections", YES],
  4000: ["said nothing in time", YES],
  4001: ["not authenticated", NO],
  4003: ["not allowed", NO],
  4008: ["reads too slowly", YES],
  4009: ["replaced by a newer connection of the same client", NO],
  4010: ["kicked", NO],
  4029: ["over the message rate limit", YES],
};

const FIRST = 500; // milliseconds, as all below
const LONGEST = 30_000;
const LONGEST_WINDOW = 600_000;

/** What a code means, in words. */
export function meaning(code) {
  if (code === 1006) return "the connection was lost, or never came about";
  return CLOSE_CODES[code]?.[0] ?? "not a code of the gateway’s";
}

/** Whether to come back; a code that is not the gateway's means that the network decided: yes. */
export const advice = (code) => CLOSE_CODES[code]?.[1] ?? YES;

/** The window that a restarting node asks for (`retry_within_ms=…`), or null. */
export function windowIn(reason) {
  const found = /\bretry_within_ms=(\d{1,12})(?!\d)/.exec(reason);
  return found && Math.min(Number(found[1]), LONGEST_WINDOW);
}

/** How long to wait before coming back, after so many failures in a row; null: don't. */
export function delay(code, reason, failures, random = Math.random) {
  if (advice(code) === NO) return null;
  const window = advice(code) === SPREAD ? windowIn(reason) : null;
  return random() * (window ?? Math.min(LONGEST, FIRST * 2 ** Math.min(failures - 1, 16)));
}

/** What is done about a close, as a sentence. */
export function consequence(code, reason, again) {
  if (!again) return "";
  if (advice(code) === NO) return "A client should not come back by itself after this code.";
  const window = advice(code) === SPREAD ? windowIn(reason) : null;
  if (window !== null) return `It comes back at a random moment within ${window / 1000} s, as the gateway asks.`;
  return "It comes back, after a random delay that grows with every failure.";
}
