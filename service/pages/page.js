// Page: joins the panels. The one module that the page names.

import { openAskPanel } from "./ask-panel.js";
import { openClientPanel } from "./client-panel.js";
import { notice, watch } from "./overview.js";
import { needKey, openPushPanel } from "./push-panel.js";

document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => {
  // The page may connect only to the host that it came from, and to where the gateway said its WebSocket was then.
  if (effectiveDirective !== "connect-src") return;
  notice("The gateway’s WebSocket is at another host now: reload this page.", "page");
});
const clientsNeed = openClientPanel(() => notice("", "page"));
openPushPanel();
const requestersNeed = openAskPanel();
watch((environment, found) => {
  if (environment === "production") needKey();
  clientsNeed(found.client_access);
  requestersNeed(found);
});
