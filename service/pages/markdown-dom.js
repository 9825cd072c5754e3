// Markdown as DOM: what the parser found, built element by element from a fixed list. Text becomes text nodes and nothing
// else, so whatever a model writes is shown and never run; links lead to http, https and mailto only, and images are
// links. Knows no page. Source: CommonMark, and GFM's tables and strikethrough.

import { copyButton } from "./copying.js";
import MarkdownIt from "./markdown-it.js";
import { visible } from "./text.js";

const NESTED = 24; // blocks within blocks; deeper ones are shown as text
const NAME = 24; // characters of a code block's language
const BLOCKS = {
  paragraph: "p", blockquote: "blockquote", bullet_list: "ul", ordered_list: "ol", list_item: "li", table: "table",
  thead: "thead", tbody: "tbody", tr: "tr", th: "th", td: "td",
};
const INLINES = { strong: "strong", em: "em", s: "s" };
const SCHEMES = ["http:", "https:", "mailto:"];

const parser = new MarkdownIt("default", { html: false, linkify: true, typographer: false, maxNesting: NESTED });
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
parser.validateLink = (url) => target(url) !== null;

/** The top-level blocks of a text, as [{line, tokens}]. `references` are the links that were defined so far. */
export function blocks(text, references) {
  const found = [];
  for (const token of parser.parse(text, references)) {
    if (token.level === 0 && token.nesting >= 0) found.push({ line: token.map?.[0] ?? 0, tokens: [] });
    found.at(-1).tokens.push(token);
  }
  return found;
}

/** The elements of these blocks. */
export function elements(found) {
  const root = document.createDocumentFragment();
  const open = [root];
  for (const token of found.flatMap(({ tokens }) => tokens)) {
    if (token.nesting > 0) open.push(opened(open.at(-1), token));
    else if (token.nesting < 0) open.pop();
    else leaf(open.at(-1), token);
  }
  return root;
}

/** A code block without its text yet: {figure, code}. `info` is what stands behind the fence. */
export function codeBlock(info) {
  const figure = made("figure", "code");
  const head = made("figcaption");
  const name = visible(info.trim().split(/\s/)[0].slice(0, NAME));
  const pre = made("pre");
  const code = made("code");
  pre.tabIndex = 0;
  pre.setAttribute("aria-label", name ? `Code: ${name}` : "Code");
  head.append(made("span", "", name || "code"), copyButton("Copy the code", () => code.textContent));
  pre.append(code);
  figure.append(head, pre);
  return { figure, code };
}

/** The address, if a link may lead there, else null. It has to be whole: nothing leads into this gateway. */
export function target(url) {
  try {
    const found = new URL(url);
    return SCHEMES.includes(found.protocol) ? found.href : null;
  } catch {
    return null;
  }
}

function made(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.append(text);
  return element;
}

function opened(parent, token) {
  const kind = token.type.replace(/_open$/, "");
  if (token.hidden) return parent; // a paragraph of a list whose items stand close together
  if (kind === "heading") {
    // The page has the first two levels for itself.
    return added(parent, made(`h${Math.min(6, Number(token.tag.slice(1)) + 2)}`));
  }
  const element = made(BLOCKS[kind] ?? "div");
  if (kind === "ordered_list") {
    const start = Number(token.attrGet("start") ?? 1);
    if (start !== 1) element.setAttribute("start", String(start));
  }
  if (kind === "th" || kind === "td") {
    const aligned = /text-align:(right|center)/.exec(token.attrGet("style") ?? "");
    if (aligned) element.className = aligned[1];
  }
  if (kind === "table") {
    const frame = made("div", "table");
    frame.tabIndex = 0;
    frame.setAttribute("role", "region");
    frame.setAttribute("aria-label", "Table");
    frame.append(element);
    parent.append(frame);
    return element;
  }
  if (["paragraph", "blockquote", "list_item"].includes(kind)) element.dir = "auto";
  return added(parent, element);
}

function added(parent, element) {
  parent.append(element);
  return element;
}

function leaf(parent, token) {
  if (token.type === "inline") inline(parent, token.children);
  else if (token.type === "hr") parent.append(made("hr"));
  else if (token.type === "fence" || token.type === "code_block") {
    const { figure, code } = codeBlock(token.info);
    code.append(token.content);
    parent.append(figure);
  } else parent.append(token.content);
}

function inline(parent, tokens) {
  const open = [parent];
  for (const token of tokens) {
    const into = open.at(-1);
    if (token.type === "link_open") open.push(added(into, link(token.attrGet("href") ?? "")));
    else if (token.nesting > 0) open.push(added(into, made(INLINES[token.type.replace(/_open$/, "")] ?? "span")));
    else if (token.nesting < 0) open.pop();
    else if (token.type === "code_inline") into.append(made("code", "", token.content));
    else if (token.type === "softbreak" || token.type === "hardbreak") into.append(made("br"));
    else if (token.type === "image") {
      // An image would be asked for from elsewhere, which tells that it was looked at.
      const found = link(token.attrGet("src") ?? "");
      found.append(token.content || "image");
      into.append(found);
    } else into.append(token.content);
  }
}

function link(url) {
  const href = target(url);
  if (href === null) return made("span");
  const element = made("a");
  element.href = href;
  element.target = "_blank";
  element.rel = "noopener noreferrer";
  element.title = visible(href.slice(0, 300)); // where it leads, whatever it says
  return element;
}
