// Masking: tokens and other secrets in what is shown of frames, so that a log can be shown to others. All the rest of a text
// stays as it came, character for character. Secrets are known by the name of their field, wherever in the frame it is,
// and tokens by their look, in text that is no JSON too. Takes a text's beginning as well, cut off anywhere.

const HIDDEN = "••••••";
const NAME = /(?:token|secret|password|passwd|api[_-]?key|handshake[_-]?key|authorization|cookie|jwt)s?$/i;
const PARTS = /"[^"\\]*(?:\\[^][^"\\]*)*\\?"?|[{}[\],]|[^"{}[\],]+/g;
const COLON = /\s*:/y;
const LOOKS = [
  [/(?<![\w-])eyJ[\w-]{8,}(?:(?:\.[\w-]*)+|(?=\W?$))/g, HIDDEN], // a JWT
  [/\b(bearer(?:\s{1,8}|\.))[\w.~+/=-]{16,}/gi, `$1${HIDDEN}`],
  [/([?&](?:access_)?token=)[^&#\s"]+/gi, `$1${HIDDEN}`],
  [/(token\\*"\s*:\s*\\+")[^"\\]+/gi, `$1${HIDDEN}`], // JSON as a text in JSON
];

/** The text without its secrets. */
export function masked(text) {
  let depth = 0;
  let within = 0; // the depth of the object or list, all of whose texts are secret; 0 outside
  let secret = false; // whether the next value is
  return text.replace(PARTS, (part, at) => {
    const first = part[0];
    if (first === '"') {
      if (isKey(text, at + part.length)) {
        secret = NAME.test(unescaped(part));
        return part;
      }
      const hide = (secret || within > 0) && part !== '""';
      secret = false;
      return hide ? `"${HIDDEN}"` : scrubbed(part);
    }
    if (first === "{" || first === "[") {
      depth += 1;
      if (secret && within === 0) within = depth;
      secret = false;
    } else if (first === "}" || first === "]") {
      if (depth === within) within = 0;
      depth -= 1;
      secret = false;
    } else if (first === ",") {
      secret = false;
    } else {
      return scrubbed(part);
    }
    return part;
  });
}

function isKey(text, from) {
  COLON.lastIndex = from;
  return COLON.test(text);
}

function unescaped(literal) {
  try {
    return JSON.parse(literal);
  } catch {
    return literal.slice(1, -1); // no JSON, or cut off
  }
}

const scrubbed = (part) => LOOKS.reduce((text, [look, instead]) => text.replace(look, instead), part);
