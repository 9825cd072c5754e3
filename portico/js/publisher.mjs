/**
 * Publisher: push to the people and devices that are connected to a Portico gateway, from Node 18 and later.
 * One file, no dependencies: copy it into your project, or import it from where Portico is installed.
 *
 *     import { Publisher } from "./publisher.mjs";
 *     const portico = new Publisher("http://localhost:8000", { apiKey: process.env.GATEWAY_API_KEY });
 *     await portico.push({ userId: "u1" }, "cart_updated", { items: 3 }, { durable: true });
 *
 * A push has an id (one is made where none is given), and the gateway delivers an id once within 5 minutes. So a push
 * is sent again after a broken connection or a 503, within `patience`, and nothing is doubled. A proxy that answers in
 * the gateway's place (502, 503 or 504, and no JSON) counts as a broken connection. Reading, logging out and
 * kicking are repeated likewise; a request only if it is `idempotent`, and a login only if it never got there.
 */

const TARGETS = {
  clientId: "client_id",
  userId: "user_id",
  nodeId: "node_id",
  domainId: "domain_id",
  clusterId: "cluster_id",
  channelId: "channel_id",
};
const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5000;
const LONGEST_PATIENCE_MS = 240_000;
/** What a proxy answers where the gateway behind it did not. */
const FOR_ANOTHER = [502, 503, 504];

/** What goes wrong with a call. `code` is the protocol's error code, `status` the HTTP status; 0 where no answer came. */
export class PorticoError extends Error {
  /** @param {string} message @param {{status?: number, code?: string, field?: string | null, cause?: unknown}} details */
  constructor(message, { status = 0, code = "unreachable", field = null, cause } = {}) {
    super(message, { cause });
    this.name = "PorticoError";
    this.status = status;
    this.code = code;
    this.field = field;
  }
}

/**
 * @typedef {{clientId?: string, userId?: string, nodeId?: string, domainId?: string, clusterId?: string,
 *   channelId?: string, all?: boolean}} Target Exactly one of these.
 * @typedef {{id?: string, durable?: boolean, ttl?: number}} PushOptions `ttl` in seconds.
 * @typedef {{id: string, stream: string | null, offset: number | null, matched: number, queued: number}} Receipt
 */

export class Publisher {
  #base;
  #headers;
  #timeout;
  #patience;

  /**
   * @param {string} baseUrl the gateway's HTTP address
   * @param {{apiKey?: string, timeoutMs?: number, patienceMs?: number}} options `timeoutMs`: for one answer, beyond
   *   what a call itself waits for; `patienceMs`: from the first try, within which a call is tried again
   */
  constructor(baseUrl = "http://localhost:8000", { apiKey, timeoutMs = 10_000, patienceMs = 30_000 } = {}) {
    const url = URL.canParse(baseUrl) ? new URL(baseUrl) : null;
    if (!url || !/^https?:$/.test(url.protocol) || url.search || url.hash) {
      throw new TypeError("baseUrl must be an address like http://localhost:8000");
    }
    if (url.username || url.password) throw new TypeError("baseUrl must not contain a password; give an apiKey instead");
    if (!(patienceMs >= 0 && patienceMs <= LONGEST_PATIENCE_MS)) {
      throw new RangeError(`patienceMs must be 0 to ${LONGEST_PATIENCE_MS}: the gateway knows a push again for 5 minutes`);
    }
    if (apiKey !== undefined && !/^[\x21-\x7e]+$/.test(apiKey)) {
      throw new TypeError("apiKey must have only visible ASCII characters");
    }
    this.#base = baseUrl.replace(/\/+$/, "");
    this.#headers = { "content-type": "application/json", accept: "application/json" };
    if (apiKey !== undefined) this.#headers.authorization = `Bearer ${apiKey}`;
    this.#timeout = timeoutMs;
    this.#patience = patienceMs;
  }

  /**
   * Push one event. @param {Target} target @param {string} type @param {object} [data] @param {PushOptions} [options]
   * @returns {Promise<Receipt>}
   */
  push(target, type, data, options) {
    return this.#call("POST", "/api/notifications", { body: aPush({ target, type, data, ...options }) });
  }

  /**
   * Push up to 10,000 events at once: a receipt, or a PorticoError, for each, in their order.
   * @param {({target: Target, type: string, data?: object} & PushOptions)[]} pushes
   * @returns {Promise<(Receipt | PorticoError)[]>}
   */
  async pushMany(pushes) {
    if (pushes.length > 10_000) throw new RangeError("a batch has at most 10,000 pushes; send several");
    const rows = await this.#call("POST", "/api/notifications", { body: pushes.map(aPush) });
    if (!Array.isArray(rows) || rows.length !== pushes.length) {
      throw new PorticoError("the answer to a batch has another number of receipts than it had pushes");
    }
    return rows.map((row) =>
      row.error ? new PorticoError(row.error.message, { ...row.error, status: row.error.code === "unavailable" ? 503 : 400 }) : row,
    );
  }

  /** Start a login: the user's clients get `auto_login`, with all other `fields` in it. */
  login(userId, fields = {}) {
    return this.#call("POST", "/api/logins", { body: { ...fields, user_id: userId }, repeat: false, patient: false });
  }

  /** End a login. @param {"logout" | "revoked"} [reason] @returns {Promise<boolean>} whether there was one */
  async logout(sessionId, reason = "logout") {
    const path = `/api/logins/${part(sessionId)}${reason === "revoked" ? "?reason=revoked" : ""}`;
    return (await this.#call("DELETE", path, { absent: null })) !== null;
  }

  /** A user's active logins, oldest first. */
  async logins(userId) {
    return (await this.#call("GET", `/api/logins?user_id=${encodeURIComponent(userId)}`)).logins;
  }

  /**
   * Ask a worker, and return its answer. @param {{timeout?: number, affinity?: string, idempotent?: boolean}} [options]
   * `timeout` in seconds; `idempotent` (default): may be done twice.
   */
  async request(command, data, { timeout, affinity, idempotent = true } = {}) {
    const body = { command, data, timeout, affinity, idempotent };
    const wait = (timeout ?? 30) * 1000;
    return answered(await this.#call("POST", "/api/requests", { body, repeat: idempotent, patient: false, wait, raw: true }));
  }

  /** Ask one connected client, and return its answer. */
  async askClient(clientId, action, params, { timeout } = {}) {
    const path = `/api/clients/${part(clientId)}/requests`;
    const wait = (timeout ?? 30) * 1000;
    const body = { action, params, timeout };
    return answered(await this.#call("POST", path, { body, repeat: false, patient: false, wait, raw: true }));
  }

  /** Close all of a client's connections (4010: it stays away). @returns {Promise<number>} how many there were */
  async kick(clientId) {
    return (await this.#call("DELETE", `/api/clients/${part(clientId)}`, { absent: { kicked: 0 } })).kicked;
  }

  /** Who is connected, page by page; `filters` are the API's: `user_id`, `channel_id`, `role`, … */
  async *clients(filters = {}) {
    for (let offset = 0; offset !== null; ) {
      const query = new URLSearchParams({ ...filters, limit: "1000", offset: String(offset) });
      const page = await this.#call("GET", `/api/clients?${query}`);
      yield* page.clients;
      offset = page.next_offset;
    }
  }

  /** The workers, and how they are doing. */
  async workers() {
    return (await this.#call("GET", "/api/workers")).workers;
  }

  async #call(method, path, { body, repeat = true, patient = true, wait = 0, absent, raw = false } = {}) {
    const began = Date.now();
    const sent = body === undefined ? undefined : JSON.stringify(body);
    for (let attempt = 1; ; attempt++) {
      let answer, text, failure, delay;
      try {
        const signal = AbortSignal.timeout(this.#timeout + wait);
        answer = await fetch(this.#base + path, { method, headers: this.#headers, body: sent, signal, redirect: "error" });
        text = await answer.text();
        if (FOR_ANOTHER.includes(answer.status) && !isObject(text)) {
          throw new Error(`a proxy before it answered with HTTP ${answer.status}`);
        }
      } catch (error) {
        failure = error;
      }
      const after = Number(answer?.headers.get("retry-after")) * 1000 || 0;
      if (failure) {
        if (repeat || neverSent(failure)) delay = backOff(attempt, after);
      } else if (answer.status === 429 || (answer.status === 503 && patient)) {
        delay = backOff(attempt, after);
      }
      if (delay === undefined || Date.now() - began + delay > this.#patience) {
        if (failure) {
          const why = failure.cause?.message || failure.message;
          throw new PorticoError(`no answer from ${this.#base}: ${why}`, { cause: failure });
        }
        return this.#read(answer.status, text, absent, raw);
      }
      await new Promise((wake) => setTimeout(wake, delay));
    }
  }

  #read(status, text, absent, raw) {
    let found;
    try {
      found = JSON.parse(text);
    } catch {
      found = null;
    }
    if (status === 404 && absent !== undefined) return absent;
    if (raw && typeof found?.success === "boolean") return { ...found, status };
    if (status >= 200 && status < 300 && found !== null && typeof found === "object") return found;
    const said = found?.error ?? { code: "internal", message: `${this.#base} answered as no gateway does; is it its HTTP address?` };
    throw new PorticoError(`${said.message} (${said.code}, HTTP ${status})`, { status, code: said.code, field: said.field });
  }
}

function aPush({ target, type, data, id = crypto.randomUUID(), durable, ttl }) {
  const named = Object.entries(target ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== false);
  const [name, value] = named[0] ?? [];
  if (named.length !== 1 || !(name in TARGETS || name === "all")) {
    throw new TypeError(`a push has exactly one target: ${Object.keys(TARGETS).join(", ")} or all`);
  }
  return { target: name === "all" ? { all: true } : { [TARGETS[name]]: value }, type, data, id, durable, ttl };
}

function part(id) {
  if (typeof id !== "string" || id === "") throw new TypeError("an id must be a text that is not empty");
  return encodeURIComponent(id);
}

function answered({ success, result, data, error, status }) {
  if (!success) throw new PorticoError(error ?? "unknown error", { status, code: "request_failed" });
  return result ?? data;
}

function isObject(text) {
  try {
    const found = JSON.parse(text);
    return found !== null && typeof found === "object" && !Array.isArray(found);
  } catch {
    return false;
  }
}

function neverSent(failure) {
  return ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"].includes(failure.cause?.code);
}

function backOff(attempt, atLeast) {
  return atLeast + Math.random() * Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(attempt - 1, 16));
}
