/*
 * A C-Client as existing programs have it: plain JavaScript for Node >= 20, with Node's own fetch and WebSocket and no
 * package. It shares no code with the gateway. It makes three attempts in all to discover, connect and register; after
 * that it stays until it is told to go or is closed.
 *
 * As a program it writes one JSON object per line on stdout, takes one per line on stdin, and ends when stdin does.
 * On Node 20 start it with --experimental-websocket.
 */

import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

/** No further attempt will do better: a rejection, or a connection that the gateway ended. */
export class FinalError extends Error {}

/** Why this way can't give a valid address for this base URL, or null. */
export function whyNot(way, baseUrl) {
  if (way === "url") return null;
  const [scheme, rest] = baseUrl.split("://");
  if (scheme === "https") return "over https only the url way is valid: the others build ws://";
  if (way === "base-url" && /:\d+$/.test(rest)) return "the base URL names a port already, a second one makes no URL";
  if (way === "base-url" && rest.includes("/")) return "the base URL has a path, a port after it makes no URL";
  return null;
}

export class CClient {
  constructor({ baseUrl, discovery, address, identity, waits = [1, 2], report = () => {} }) {
    this.baseUrl = baseUrl.replace(/\/+$/, "");
    this.discovery = discovery;
    this.address = address;
    this.identity = identity;
    this.waits = waits;
    this.report = report;
    this.ws = null;
    this.sessionId = null;
    this.heartbeatTimer = null;
    this.leaving = false;
    // The handlers that an application would fill in.
    this.handlers = {
      auto_login: (message) => {
        this.sessionId = message.session_id;
      },
      logout_notification: (message) => {
        if (message.session_id === this.sessionId) this.sessionId = null;
      },
      session_feedback: () => {},
      heartbeat: () => {},
    };
  }

  /** Ask the gateway where its WebSocket is. */
  async discover() {
    const url = `${this.baseUrl}/api/b-client/${this.discovery}`;
    let response, answer;
    try {
      response = await fetch(url, { signal: AbortSignal.timeout(5000) });
      answer = await response.json();
    } catch (error) {
      throw new Error(`GET ${url} failed: ${error.cause?.message || error.cause?.code || error.message}`);
    }
    this.report("discovered", {
      form: this.discovery,
      status: response.status,
      content_type: response.headers.get("content-type") ?? "",
      answer,
    });
    if (!response.ok) throw new Error(`GET ${url} answered ${response.status}`);
    return answer;
  }

  /** Build the address in this client's own way from what discovery answered. */
  buildAddress(answer) {
    const info = this.discovery === "info" ? answer.b_client_info : null;
    const host = info ? info.websocket.host : answer.websocket_host;
    const port = info ? info.websocket_port : answer.websocket_port;
    if (this.address === "host-port") return `ws://${host}:${port}`;
    if (this.address === "base-url") return `ws://${this.baseUrl.replace(/^https?:\/\//, "")}:${port}`;
    if (info) throw new FinalError("The info form names no URL: use --address host-port or base-url.");
    return answer.websocket_url;
  }

  /** Connect and register; resolves with the gateway's answer. */
  connect(address) {
    return new Promise((resolve, reject) => {
      const ws = new WebSocket(address);
      this.ws = ws;
      const giveUp = setTimeout(() => {
        reject(new Error("the gateway didn't answer the registration within 10 s"));
        ws.close();
      }, 10000);
      let registered = false;
      ws.onopen = () => {
        this.report("open");
        this.register();
      };
      ws.onerror = (event) => {
        reject(new Error(`connecting to ${address} failed: ${event.message || event.error?.message || "no reason given"}`));
      };
      ws.onmessage = (event) => {
        const message = this.receive(event.data);
        if (message?.type === "registration_success" && !registered) {
          registered = true;
          clearTimeout(giveUp);
          this.startHeartbeat(message.heartbeat_interval);
          resolve(message);
        } else if (message?.type === "registration_rejected") {
          clearTimeout(giveUp);
          reject(new FinalError(`The gateway rejected the registration: ${message.message} (${message.reason}).`));
          ws.close();
        }
      };
      this.closed = new Promise((ended) => {
        ws.onclose = (event) => {
          clearTimeout(giveUp);
          clearInterval(this.heartbeatTimer);
          if (registered) this.report("closed", { code: event.code, reason: event.reason });
          reject(new Error(`the gateway closed the connection before registration (${event.code})`));
          ended(event);
        };
      });
    });
  }

  receive(data) {
    if (typeof data !== "string") {
      this.report("binary", {});
      return null;
    }
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      this.report("text", { text: data });
      return null;
    }
    this.report("message", { message });
    this.handlers[message?.type]?.(message);
    return message;
  }

  send(message) {
    this.ws.send(JSON.stringify(message));
  }

  register(identity = {}) {
    Object.assign(this.identity, identity);
    this.send({ type: "c_client_register", ...this.identity });
  }

  heartbeat() {
    this.send({ type: "heartbeat" });
  }

  startHeartbeat(seconds) {
    this.heartbeatTimer = setInterval(() => this.heartbeat(), (seconds || 25) * 1000);
  }

  sendSessionFeedback(success, message, withSessionId = true) {
    const feedback = { type: "session_feedback", success, message };
    if (withSessionId) feedback.session_id = this.sessionId;
    this.send(feedback);
  }

  /** Discover, connect and register, in one attempt more than there are waits. */
  async start() {
    for (let attempt = 1; ; attempt++) {
      try {
        const address = this.buildAddress(await this.discover());
        this.report("address", { way: this.address, url: address });
        return await this.connect(address);
      } catch (error) {
        if (error instanceof FinalError) throw error;
        const wait = this.waits[attempt - 1] ?? null;
        this.report("attempt_failed", { attempt, why: error.message, wait_s: wait });
        if (wait === null) throw new FinalError(`Gave up after ${attempt} attempts: ${error.message}.`);
        await sleep(wait * 1000);
      }
    }
  }

  /** Resolves when this client left; rejects when the gateway ended the connection. */
  async stay() {
    if (this.leaving) this.ws.close(1000);
    const { code, reason } = await this.closed;
    if (!this.leaving) throw new FinalError(`The gateway closed the connection with ${code} (${reason}).`);
  }

  leave() {
    this.leaving = true;
    this.ws?.close(1000);
  }
}

const FORMS = ["websocket-info", "info"];
const WAYS = ["url", "host-port", "base-url"];
const IDENTITY = ["client_id", "user_id", "username", "node_id", "domain_id", "cluster_id", "channel_id"];

function readOptions() {
  const text = (fallback) => ({ type: "string", default: fallback });
  const { values } = parseArgs({
    options: {
      "base-url": { type: "string" },
      discovery: text(FORMS[0]),
      address: text(WAYS[0]),
      waits: text("1,2"),
      "discover-only": { type: "boolean", default: false },
      ...Object.fromEntries(IDENTITY.map((name) => [name.replaceAll("_", "-"), { type: "string" }])),
    },
  });
  if (!values["base-url"]) throw new Error("Say where the gateway is: --base-url http://localhost:8000.");
  if (!FORMS.includes(values.discovery)) throw new Error(`--discovery is one of ${FORMS.join(", ")}.`);
  if (!WAYS.includes(values.address)) throw new Error(`--address is one of ${WAYS.join(", ")}.`);
  const baseUrl = values["base-url"].replace(/\/+$/, "");
  if (!values["discover-only"]) {
    if (values.discovery === "info" && values.address === "url") {
      throw new Error("The info form names no URL: use --address host-port or base-url.");
    }
    const reason = whyNot(values.address, baseUrl);
    if (reason) throw new Error(`--address ${values.address} can't work here: ${reason}.`);
  }
  return {
    baseUrl,
    discovery: values.discovery,
    address: values.address,
    waits: values.waits.split(",").map(Number),
    discoverOnly: values["discover-only"],
    identity: Object.fromEntries(IDENTITY.map((name) => [name, values[name.replaceAll("_", "-")] ?? null])),
  };
}

function obey(client, line) {
  const command = JSON.parse(line);
  if (command.do === "register") client.register(command.identity);
  else if (command.do === "heartbeat") client.heartbeat();
  else if (command.do === "feedback") {
    client.sendSessionFeedback(command.success, command.message, command.with_session_id ?? true);
  } else if (command.do === "send") client.ws.send(command.text);
  else client.leave();
}

async function main() {
  let options;
  try {
    options = readOptions();
    if (typeof WebSocket === "undefined") {
      throw new Error("This Node has no WebSocket: start it with --experimental-websocket, or use Node 22.");
    }
  } catch (error) {
    console.error(error.message);
    return 2;
  }
  const report = (event, fields = {}) => process.stdout.write(JSON.stringify({ event, ...fields }) + "\n");
  const client = new CClient({ ...options, report });
  report("started", { runtime: `node ${process.versions.node}` });
  const input = createInterface({ input: process.stdin });
  const early = []; // commands that came before there was a connection
  let obeys = (line) => early.push(line);
  input.on("line", (line) => obeys(line));
  input.on("close", () => client.leave());
  try {
    if (options.discoverOnly) await client.discover();
    else {
      await client.start();
      obeys = (line) => obey(client, line);
      early.forEach(obeys);
      await client.stay();
    }
    return 0;
  } catch (error) {
    report("failed", { sentence: error.message });
    console.error(error.message);
    return 1;
  } finally {
    input.close();
    process.stdin.unref?.();
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  process.exitCode = await main();
}
