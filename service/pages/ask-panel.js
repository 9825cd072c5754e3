// Ask panel: one request to the workers over a requester WebSocket, kept open for the next one.

import { meaning } from "./closing.js";
import { checked, discover } from "./gateway.js";
import { at, clipped, element, show, visible, write } from "./text.js";
import { bar, counts, isRefusal, offers, REQUESTER_COMMAND } from "./tokens.js";

const LONGEST = 65_536; // characters of an answer that are shown
const SAMPLES = {
  echo: '{"message": "Hello World"}',
  get_time: "null",
  calculate: '{"a": 10, "b": 20, "op": "+"}',
  get_system_info: "null",
};

let socket = null;
let shown = ""; // the token that was shown on it
const asked = new Map();

async function connection(token) {
  if (socket?.readyState === WebSocket.OPEN && shown === token) return socket;
  socket?.close();
  // Without a token the first message says what this is: where that is refused, its answer says why.
  const opened = new WebSocket(await discover(), token === "" ? [] : offers(token));
  await new Promise((resolve, reject) => {
    opened.onopen = resolve;
    opened.onclose = ({ code }) => reject(new Error(unopened(code, token)));
  });
  shown = token;
  opened.onmessage = ({ data }) => {
    const answer = JSON.parse(data);
    asked.get(answer.request_id)?.resolve(answer);
  };
  opened.onclose = ({ code, reason }) => {
    const words = isRefusal(code) && reason ? reason : meaning(code);
    const remedy = isRefusal(code) ? ` ${REQUESTER_COMMAND}` : "";
    for (const { reject } of asked.values()) {
      reject(new Error(`The connection closed before the answer came (${code}: ${words}).${remedy}`));
    }
  };
  socket = opened;
  return opened;
}

// A browser isn't told why an upgrade was refused.
function unopened(code, token) {
  const said = `The WebSocket did not open (${code}: ${meaning(code)}).`;
  return token === "" ? said : `${said} The token may be wrong, over, or for another role. ${REQUESTER_COMMAND}`;
}

async function ask(command, data, token) {
  const link = await connection(token);
  const id = `page-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
  try {
    return await new Promise((resolve, reject) => {
      asked.set(id, { resolve, reject });
      // The first message, with its `command`, makes the connection a requester's.
      link.send(`{"request_id": "${id}", "command": ${JSON.stringify(command)}, "data": ${data}}`);
    });
  } finally {
    asked.delete(id);
  }
}

/** Bring the panel to life. Returns what is to be told what the gateway wants of requesters. */
export function openAskPanel() {
  let way = { access: "open", access_hint: null };
  const place = at("ask-result");
  const command = at("ask-command");
  const data = at("ask-data");

  async function run() {
    const token = at("ask-token").value.trim();
    const barred = bar(way, token);
    if (barred !== null) {
      if (barred.token) at("ask-token").focus();
      return; // the note says what is missing
    }
    at("ask").disabled = true;
    const started = performance.now();
    try {
      const json = checked(data.value || "null");
      show(place, "busy", element("p", "", "Waiting for a worker…"));
      const answer = await ask(command.value, json, token);
      const took = Math.round(performance.now() - started);
      const by = answer.processed_by === null ? "" : ` by ${visible(String(answer.processed_by))}`;
      if (answer.success) {
        const text = JSON.stringify(answer.data, null, 2);
        show(place, "good", element("p", "", `Answered${by} in ${took} ms.`), element("pre", "", clipped(text, LONGEST)));
      } else {
        const sentences = [element("p", "", `Failed${by}: ${visible(String(answer.error))}`)];
        if (answer.error === "No available workers") sentences.push(hint());
        show(place, "bad", ...sentences);
      }
    } catch (error) {
      const sentence = element("p");
      write(sentence, error.message);
      show(place, "bad", sentence);
    } finally {
      look();
    }
  }

  function look() {
    const barred = bar(way, at("ask-token").value.trim());
    at("ask-note").hidden = barred === null;
    write(at("ask-note"), barred?.why ?? "");
    at("ask").disabled = barred !== null && !barred.token;
  }

  at("ask-token").addEventListener("input", look);

  command.addEventListener("input", () => {
    const untouched = Object.values(SAMPLES).includes(data.value);
    if (untouched && command.value in SAMPLES) data.value = SAMPLES[command.value];
  });
  at("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  return (found) => {
    way = found;
    at("ask-token-part").hidden = !counts(way.access);
    if (way.access === "token") at("ask-token-part").open = true;
    look();
  };
}

function hint() {
  const sentence = element("p", "quiet", "No worker serves this command. Start one: ");
  sentence.append(element("code", "", `portico worker --base-url ${new URL(document.baseURI).origin}`));
  return sentence;
}
