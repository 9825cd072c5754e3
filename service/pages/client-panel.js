// Client panel: the form, the state and the log of one C-Client.

import { Client } from "./client.js";
import { consequence, meaning } from "./closing.js";
import { copyButton } from "./copying.js";
import { add } from "./log.js";
import { at, tell, visible } from "./text.js";
import { TokenPanel } from "./token-panel.js";
import { clientCommand, clientRemedy, isRefusal } from "./tokens.js";

const FIELDS = ["client-id", "user-id", "username", "node-id", "domain-id", "cluster-id", "channel-id"];

/** The identity as the form has it; what is empty is absent. */
export function identity() {
  const filled = FIELDS.map((id) => [id.replace("-", "_"), at(id).value]).filter(([, value]) => value !== "");
  return Object.fromEntries(filled);
}

/** Bring the panel to life. `onRegistered()`: a client is. Returns what is to be told what the gateway wants of clients. */
export function openClientPanel(onRegistered) {
  const client = new Client({
    state: stateIs,
    sent: (text) => add("out", text),
    received: (text) => add("in", text),
    closed,
    refreshed: (ends) => {
      tokens.holds(ends);
      tokens.look();
    },
    notRefreshed: (why) => {
      tokens.refused(why);
      tokens.look();
    },
  });
  const tokens = new TokenPanel(
    () => client.refreshable,
    (token) => client.refresh(token),
  );
  at("client-id").value = `browser-${crypto.getRandomValues(new Uint32Array(1))[0].toString(16).padStart(8, "0")}`;
  at("client-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (tokens.check()) client.register(identity(), tokens.token);
  });
  at("heartbeat").addEventListener("click", () => client.heartbeat());
  at("disconnect").addEventListener("click", () => {
    client.disconnect();
    at("connect").focus();
  });
  // A page that is put aside and taken out again would show a socket that isn't there any more.
  addEventListener("pagehide", () => client.disconnect());
  at("remedy").append(copyButton("Copy what makes a token", () => at("remedy-command").textContent));

  let ticking = 0;

  function stateIs(name, details) {
    clearInterval(ticking);
    at("connect").textContent = client.open ? "Register again" : name === "waiting" ? "Connect now" : "Connect";
    at("heartbeat").disabled = !client.open;
    at("disconnect").disabled = name === "stopped";
    if (name === "registering") at("closing").hidden = true;
    if (name === "registered") {
      onRegistered();
      tokens.holds(details.expires_at);
    } else if (name !== "registering" && name !== "rejected") {
      tokens.over();
    }
    tokens.look();
    at("countdown").textContent = "";
    const state = at("client-state");
    switch (name) {
      case "finding":
        return tell(state, "busy", "Asking where to connect…");
      case "connecting":
        add("note", `connecting to ${details.url}`);
        return tell(state, "busy", "Connecting…");
      case "registering":
        return tell(state, "busy", "Registering…");
      case "registered":
        return tell(state, "good", `Registered as ${visible(String(details.client_id))}`);
      case "rejected":
        return tell(state, "bad", `Rejected: ${visible(String(details.message))}`);
      case "waiting": {
        if (details.why) add("note", details.why);
        // Beside the words, which are read out: nobody wants to hear a countdown.
        const countDown = () => {
          const left = Math.max(0, details.until - performance.now());
          at("countdown").textContent = `in ${(left / 1000).toFixed(left < 10_000 ? 1 : 0)} s`;
        };
        countDown();
        ticking = setInterval(countDown, 100);
        return tell(state, "busy", "Reconnecting");
      }
      default:
        if (details.refused) return tell(state, "bad", `Not let in: ${visible(details.refused)}`);
        return tell(state, "quiet", details.why ? visible(details.why) : "Not connected");
    }
  }

  function closed(code, reason, { opened, again, shown }) {
    const words = visible(reason);
    add("note", `${opened ? "closed" : "not opened, closed"} with ${code}: ${meaning(code)}${reason ? ` (${reason})` : ""}`);
    // Why the connection ended says more than that there is no new one yet.
    if (!opened && !at("closing").hidden) return;
    at("close-code").textContent = String(code);
    at("close-meaning").textContent = `${meaning(code)}${words ? ` (${words})` : ""}.`;
    at("close-advice").textContent = consequence(code, reason, again);
    // Who was taken back, where nobody looks at tokens, can show none.
    const helps = isRefusal(code) && tokens.counts;
    at("remedy").hidden = !helps;
    if (helps) {
      at("remedy-text").textContent = `${clientRemedy(code, shown)} Whoever runs the gateway makes one:`;
      at("remedy-command").textContent = visible(clientCommand(at("user-id").value));
      // Who has just pressed the button goes on there; who is elsewhere is not taken away.
      if (document.activeElement === at("connect")) tokens.ask();
      else at("token-part").open = true;
    }
    at("closing").hidden = false;
  }

  return (access) => (tokens.access = access);
}
