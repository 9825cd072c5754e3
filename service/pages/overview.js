// Overview: where the gateway listens, whether it is ready, and who is connected; looked at only while it is seen.

import { address, call } from "./gateway.js";
import { at, element, tell, visible } from "./text.js";

const EVERY = 2000; // milliseconds
const DIALECTS = { c_client: "C-Client", envelope: "Envelope", requester: "Requester", user: "User", undecided: "Undecided" };

const FIGURES = ["total", "registered", "workers"];
const ORDER = Object.keys(DIALECTS);

let timer = 0;
let looking = false;
let known = false;

/** Keep the overview up to date. `onEnvironment` is told the environment's name. */
export function watch(onEnvironment) {
  const look = async () => {
    clearTimeout(timer);
    if (looking || document.hidden) return;
    looking = true;
    try {
      if (!known) onEnvironment(await places());
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

/** Say what concerns the whole page, or nothing any more. */
export function notice(sentence) {
  const place = at("notice");
  if (place.textContent !== sentence) place.textContent = sentence;
  place.hidden = sentence === "";
}

async function places() {
  const [{ body: info }, { body: socket }] = await Promise.all([
    call("api/b-client/info"),
    call("api/b-client/websocket-info"),
  ]);
  if (!info.success) throw new Error(visible(String(info.error)));
  const { environment, hostname, local_ip: ip } = info.b_client_info;
  at("http-address").textContent = address("").replace(/\/$/, "");
  at("websocket-address").textContent = visible(socket.websocket_url);
  at("machine").textContent = visible(hostname === ip ? hostname : `${hostname}, ${ip}`);
  at("environment").textContent = visible(environment);
  at("environment").hidden = false;
  return environment;
}

async function figures() {
  const [{ status, body: probe }, { body: who }] = await Promise.all([call("readyz"), call("api/c-client/status")]);
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
