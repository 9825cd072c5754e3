// Page: joins the panels. The one module that the page names.

import { openAskPanel } from "./ask-panel.js";
import { openClientPanel } from "./client-panel.js";
import { notice, watch } from "./overview.js";
import { needKey, openPushPanel } from "./push-panel.js";

document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => {
  // The page may connect only to where the gateway said its WebSocket was when the page was loaded.
  if (effectiveDirective === "connect-src") notice("The gateway’s WebSocket address has changed: reload this page.");
});
openClientPanel();
openPushPanel();
openAskPanel();
watch((environment) => {
  if (environment === "production") needKey();
});
