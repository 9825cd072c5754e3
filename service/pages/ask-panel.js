// Ask panel: one request to the workers over a requester WebSocket, kept open for the next one.

import { meaning } from "./closing.js";
import { checked, discover } from "./gateway.js";
import { at, clipped, element, show, visible } from "./text.js";

const LONGEST = 65_536; // characters of an answer that are shown
const SAMPLES = {
  echo: '{"message": "Hello World"}',
  get_time: "null",
  calculate: '{"a": 10, "b": 20, "op": "+"}',
  get_system_info: "null",
};

let socket = null;
const asked = new Map();

async function connection() {
  if (socket?.readyState === WebSocket.OPEN) return socket;
  const opened = new WebSocket(await discover());
  await new Promise((resolve, reject) => {
    opened.onopen = resolve;
    opened.onclose = ({ code }) => reject(new Error(`The WebSocket did not open (${code}: ${meaning(code)}).`));
  });
  opened.onmessage = ({ data }) => {
    const answer = JSON.parse(data);
    asked.get(answer.request_id)?.resolve(answer);
  };
  opened.onclose = ({ code }) => {
    for (const { reject } of asked.values()) {
      reject(new Error(`The connection closed before the answer came (${code}: ${meaning(code)}).`));
    }
  };
  socket = opened;
  return opened;
}

async function ask(command, data) {
  const link = await connection();
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

/** Bring the panel to life. */
export function openAskPanel() {
  const place = at("ask-result");
  const command = at("ask-command");
  const data = at("ask-data");

  async function run() {
    const button = at("ask");
    button.disabled = true;
    const started = performance.now();
    try {
      const json = checked(data.value || "null");
      show(place, "busy", element("p", "", "Waiting for a worker…"));
      const answer = await ask(command.value, json);
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
      show(place, "bad", element("p", "", visible(error.message)));
    } finally {
      button.disabled = false;
    }
  }

  command.addEventListener("input", () => {
    const untouched = Object.values(SAMPLES).includes(data.value);
    if (untouched && command.value in SAMPLES) data.value = SAMPLES[command.value];
  });
  at("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
}

function hint() {
  const sentence = element("p", "quiet", "No worker serves this command. Start one: ");
  sentence.append(element("code", "", `portico worker --base-url ${new URL(document.baseURI).origin}`));
  return sentence;
}
