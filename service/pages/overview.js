// Overview: where the gateway listens, whether it is ready, and who is connected; looked at only while it is seen.

import { about, address, call } from "./gateway.js";
import { at, element, tell, visible } from "./text.js";

const EVERY = 2000; // milliseconds
const DIALECTS = { c_client: "C-Client", envelope: "Envelope", requester: "Requester", user: "User", undecided: "Undecided" };

const FIGURES = ["total", "registered", "workers"];
const ORDER = Object.keys(DIALECTS);

let timer = 0;
let looking = false;
let known = false;

/** Keep the overview up to date. `onFound` is told the environment's name, and what the pages can do and must show. */
export function watch(onFound) {
  const look = async () => {
    clearTimeout(timer);
    if (looking || document.hidden) return;
    looking = true;
    try {
      if (!known) onFound(...(await places()));
      await figures();
      known = true;
    } catch (error) {
      known = false; // whoever answers next may be configured otherwise
      tell(at("readiness"), "bad", "Not reachable");
      notice(error.message);
      for (const name of FIGURES) at(`figure-${name}`).textContent = "–"; // what was true before may not be now
      at("dialects").replaceChildren(element("li", "quiet", "–"));
    } finally {
      looking = false;
    }
    if (!document.hidden) timer = setTimeout(look, EVERY);
  };
  document.addEventListener("visibilitychange", look);
  look();
}

const noticed = { gateway: "", page: "" };

/** Say what concerns the whole page, or nothing any more. `from`: what the gateway says of itself is looked at all the
 * time, what the page has met stays until it is over. */
export function notice(sentence, from = "gateway") {
  noticed[from] = sentence;
  const place = at("notice");
  const all = Object.values(noticed).filter(Boolean).join(" ");
  if (place.textContent !== all) place.textContent = all;
  place.hidden = all === "";
}

async function places() {
  const [{ body: info }, found] = await Promise.all([call("api/b-client/info"), about()]);
  if (!info.success) throw new Error(visible(String(info.error)));
  const { environment, hostname, local_ip: ip } = info.b_client_info;
  at("http-address").textContent = address("").replace(/\/$/, "");
  at("machine").textContent = visible(hostname === ip ? hostname : `${hostname}, ${ip}`);
  at("environment").textContent = visible(environment);
  at("environment").hidden = false;
  return [environment, found];
}

async function figures() {
  const asked = ["readyz", "api/c-client/status", "api/b-client/websocket-info"];
  const [{ status, body: probe }, { body: who }, { body: socket }] = await Promise.all(asked.map((path) => call(path)));
  // It may move, from one process to several for example; while nobody knows where it is the last one stands.
  if (typeof socket.websocket_url === "string") at("websocket-address").textContent = visible(socket.websocket_url);
  tell(at("readiness"), status === 200 ? "good" : "busy", status === 200 ? "Ready" : `Not ready: ${visible(String(probe.reason))}`);
  const advised = who.advice ? [who.advice.reason] : [];
  notice([...(probe.warnings ?? []), ...advised].map((sentence) => visible(String(sentence))).join(" "));
  for (const name of FIGURES) at(`figure-${name}`).textContent = who[name].toLocaleString("en");
  const rows = Object.entries(who.by_dialect)
    .sort(([a], [b]) => ORDER.indexOf(a) - ORDER.indexOf(b)) // so that no row jumps from look to look
    .map(([name, number]) => {
      const row = element("li");
      const meter = element("meter");
      meter.max = Math.max(1, who.total);
      meter.value = number;
      meter.setAttribute("aria-hidden", "true");
      row.append(element("span", "", DIALECTS[name] ?? visible(name)), meter, element("b", "", number.toLocaleString("en")));
      return row;
    });
  at("dialects").replaceChildren(...(rows.length ? rows : [element("li", "quiet", "Nobody is connected.")]));
}
