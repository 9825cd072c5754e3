// Settings: who answers, what goes with each question, and the token, which nothing keeps.

import { keepSettings, settings } from "./conversation.js";
import { at } from "./text.js";
import { counts } from "./tokens.js";

const ECHO = "echo";
const CHAT = "chat";

/** `onToken(token)`: another one is to be shown. `onChange()`: something else was changed. */
export class SettingsPanel {
  #values = settings();
  #dialog = at("settings");
  #onChange;
  #onToken;
  #info = null;
  #hadChat = false;
  #tokenWanted = false;

  constructor(onChange, onToken) {
    this.#onChange = onChange;
    this.#onToken = onToken;
    this.token = "";
    at("settings-open").addEventListener("click", () => this.open());
    at("settings-close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("click", ({ target }) => target === this.#dialog && this.#dialog.close());
    at("settings-form").addEventListener("submit", () => this.#save());
  }

  /** What the gateway says it can do. */
  set info(info) {
    this.#info = info;
    this.#hadChat ||= info.chat;
    at("kind-chat").disabled = !info.chat;
    at("kind-echo").disabled = info.echo === null;
    at("kind-chat-note").textContent = info.chat ? (info.model ? `(${info.model})` : "") : "(none is set up)";
    at("kind-echo-note").textContent = info.echo === null ? "(no worker does it)" : "";
    at("model").placeholder = info.model ?? "the gateway’s";
    at("token-field").hidden = !counts(info.access);
  }

  /** Who answers: "chat", "echo", or null where nobody does. */
  get kind() {
    if (this.#info === null) return null;
    // A model that is away for a moment is waited for: an echo is no answer in its place.
    if (this.#hadChat && this.#values.kind !== ECHO) return CHAT;
    const able = [...(this.#info.chat ? [CHAT] : []), ...(this.#info.echo === null ? [] : [ECHO])];
    return able.includes(this.#values.kind) ? this.#values.kind : (able[0] ?? null);
  }

  get system() {
    return this.#values.system;
  }

  /** What goes with a question to a model, but for the messages. */
  get options() {
    const { model, temperature, maxTokens } = this.#values;
    return {
      ...(model === "" ? {} : { model }),
      ...(temperature === "" ? {} : { temperature: Number(temperature) }),
      ...(maxTokens === "" ? {} : { max_tokens: Number(maxTokens) }),
    };
  }

  /** Open it, at the token if that is what is wanted. */
  open(atToken = false) {
    const kind = this.kind;
    this.#tokenWanted = atToken;
    at("kind-chat").checked = kind === CHAT;
    at("kind-echo").checked = kind === ECHO;
    at("system").value = this.#values.system;
    at("model").value = this.#values.model;
    at("temperature").value = this.#values.temperature;
    at("max-tokens").value = this.#values.maxTokens;
    at("token").value = this.token;
    if (!this.#dialog.open) this.#dialog.showModal();
    if (atToken) at("token").focus();
  }

  #save() {
    this.#values = {
      kind: at("kind-echo").checked ? ECHO : at("kind-chat").checked ? CHAT : this.#values.kind,
      system: at("system").value.trim(),
      model: at("model").value.trim(),
      temperature: at("temperature").value,
      maxTokens: at("max-tokens").value,
    };
    keepSettings(this.#values);
    const token = at("token").value.trim();
    // One that was asked for is tried, even if it is the same: that is an answer too.
    const other = token !== this.token || this.#tokenWanted;
    this.token = token;
    this.#onChange();
    if (other) this.#onToken(token);
  }
}
