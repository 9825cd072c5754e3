// Gateway: the HTTP side of it. What goes wrong comes out as an Error whose message is a sentence for people.

const PATIENCE = 10_000; // milliseconds

/** An absolute URL of the gateway that this page came from, also behind a proxy that serves it below a path. */
export const address = (path) => new URL(`../${path}`, import.meta.url).href;

/** A refusal by the gateway, with the HTTP status. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** One call. Resolves to the answer and its JSON, whatever the status. */
export async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(address(path), {
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(PATIENCE),
      ...options,
    });
  } catch (error) {
    throw new Error(
      error.name === "TimeoutError"
        ? `The gateway did not answer within ${PATIENCE / 1000} seconds.`
        : `The gateway cannot be reached at ${new URL(document.baseURI).host}; is it running?`,
    );
  }
  try {
    return { status: answer.status, body: await answer.json() };
  } catch {
    throw new Error(`The answer (HTTP ${answer.status}) is no JSON, so it came from something else than the gateway.`);
  }
}

/** The WebSocket address at the place that this page came from. */
export const socketHere = () => address("api/websocket").replace(/^http/, "ws");

/** What the pages can do here, and what they must show, from the gateway. */
export async function about() {
  const { status, body } = await call("streaming/info");
  if (status !== 200 || typeof body?.socket !== "string") throw new Error(`The gateway answered HTTP ${status}.`);
  return body;
}

/** Where to connect by WebSocket: discovery, as every client does it before it connects. */
export async function discover() {
  const { status, body } = await call("api/b-client/websocket-info");
  if (status !== 200 || typeof body?.websocket_url !== "string") {
    throw new Error(body?.error ? `Discovery failed: ${String(body.error)}` : `Discovery answered HTTP ${status}.`);
  }
  return body.websocket_url;
}

/** Push an event; `body` is JSON text. Resolves to the receipt. */
export async function push(body, key) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const { status, body: answer } = await call("api/notifications", { method: "POST", body, headers });
  if (status !== 202) throw new Refused(status, answer?.error?.message ?? `The gateway answered HTTP ${status}.`);
  return answer;
}

/** The JSON text as it was typed, after a check that it is JSON, and an object if it must be one. */
export function checked(text, { object = false } = {}) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`The data is no JSON: ${error.message}.`);
  }
  if (object && (value === null || typeof value !== "object" || Array.isArray(value))) {
    throw new Error('The data must be a JSON object, such as {"items": 3}.');
  }
  return text.trim();
}
