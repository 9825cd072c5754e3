// Push panel: an event for POST /api/notifications, its receipt, and the same as a line for a shell. The API key is
// read from its field when it is needed, and is nowhere else.

import { address, checked, push } from "./gateway.js";
import { at, count, element, quoted, show, visible } from "./text.js";

/** Ask for the API key, since the gateway wants one. */
export function needKey() {
  at("key-field").hidden = false;
  at("push-form").dispatchEvent(new Event("input"));
}

/** Bring the panel to life. */
export function openPushPanel() {
  const form = at("push-form");
  const value = at("push-value");
  let followed = true; // the value is the client's own, until another one is typed

  function follow() {
    const kind = at("push-kind").value;
    value.disabled = kind === "all";
    if (followed && kind !== "all") value.value = at(kind.replace("_", "-")).value;
    write();
  }

  function body() {
    const kind = at("push-kind").value;
    const target = kind === "all" ? { all: true } : { [kind]: value.value };
    const [head, type] = [JSON.stringify(target), JSON.stringify(at("push-type").value)];
    // The data goes out as it was typed: a number that is too large for JavaScript stays what it is.
    return `{"target": ${head}, "type": ${type}, "data": ${checked(at("push-data").value, { object: true })}}`;
  }

  function write() {
    let line;
    try {
      const lines = [`curl -X POST ${quoted(address("api/notifications"))}`];
      if (!at("key-field").hidden) lines.push('-H "Authorization: Bearer $PORTICO_API_KEY"');
      lines.push("-H 'Content-Type: application/json'", `-d ${quoted(body())}`);
      line = lines.join(" \\\n  ");
    } catch (error) {
      line = `# ${error.message}`;
    }
    at("curl").textContent = line;
  }

  async function send() {
    const button = at("push");
    button.disabled = true;
    try {
      const receipt = await push(body(), at("api-key").value);
      const sentence =
        receipt.matched === 0
          ? "Accepted, but nobody who is connected belongs to this target."
          : `Accepted: ${count(receipt.matched, "connection")} matched, ${receipt.queued.toLocaleString("en")} queued.`;
      show(
        at("push-result"),
        receipt.matched === 0 ? "busy" : "good",
        element("p", "", sentence),
        element("pre", "", visible(JSON.stringify(receipt, null, 1).replaceAll(/\n */g, " "))),
      );
    } catch (error) {
      show(at("push-result"), "bad", element("p", "", visible(error.message)));
      if (error.status === 401) {
        needKey();
        at("api-key").focus();
      }
    } finally {
      button.disabled = false;
    }
  }

  value.addEventListener("input", () => (followed = false));
  at("push-kind").addEventListener("change", () => {
    followed = true;
    follow();
  });
  form.addEventListener("input", write);
  at("client-form").addEventListener("input", follow);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  at("curl-copy").addEventListener("click", copy);
  follow();
}

async function copy() {
  const button = at("curl-copy");
  const line = at("curl");
  getSelection().selectAllChildren(line);
  try {
    await navigator.clipboard.writeText(line.textContent);
    button.textContent = "Copied";
  } catch {
    // Browsers give the clipboard to secure pages only; the line is selected for Ctrl-C.
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}
