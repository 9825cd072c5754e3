// Tokens: how a page shows who it is, and what is to be done where that doesn't let it in. Knows no page and no socket, and
// keeps nothing: a token is in its field, in the memory of who connects, and in what is sent; never in an address.

import { quoted } from "./text.js";

const REQUESTER = "portico.requester.v1";
const LONGEST = 6000; // characters
// What can be in a subprotocol's name (RFC 9110, section 5.6.2). A JWT has no other characters.
const CHARACTERS = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const NOT_AUTHENTICATED = 4001;
const NOT_ALLOWED = 4003;

/** Whether tokens are looked at where the way in is this: "open", "optional", "token" or "closed". */
export const counts = (access) => access === "optional" || access === "token";

/** Why this can't be a token, as a sentence; "" where it can, and for none. */
export function flaw(token) {
  if (token.length > LONGEST) return `The token is longer than ${LONGEST.toLocaleString("en")} characters.`;
  return token === "" || CHARACTERS.test(token) ? "" : "The token has characters that no token has.";
}

/** Why nobody with this token need try, {why, token}, where `token` is whether another one helps; or null. */
export function bar({ access, access_hint: hint }, token) {
  if (access === "closed") return { why: hint, token: false };
  if (access === "token" && token === "") return { why: hint, token: true };
  const why = flaw(token);
  return why === "" ? null : { why, token: true };
}

/** The subprotocols that a requester offers. A token among them is in no address, which proxies log. */
export const offers = (token) => [REQUESTER, ...(token === "" ? [] : [`bearer.${token}`])];

/** Whether a connection was closed for who it is, or isn't. */
export const isRefusal = (code) => code === NOT_AUTHENTICATED || code === NOT_ALLOWED;

/** The command that makes a token for a client of this user's. */
export const clientCommand = (user) => `portico token make --user ${quoted(user || "u1")}`;

/** The sentence that says how a token for asking workers is made. */
export const REQUESTER_COMMAND = "Whoever runs the gateway makes one: `portico token make --role requester`.";

/** What to do after a client was refused, as a sentence. `shown`: whether it showed a token. */
export function clientRemedy(code, shown) {
  if (!shown) return "Enter a token that names this client’s user, and connect again.";
  if (code === NOT_ALLOWED) return "The token is for another user or role: register as what it names, or enter one for this user.";
  return "The token doesn’t hold, or has ended: enter another one, and connect again.";
}
