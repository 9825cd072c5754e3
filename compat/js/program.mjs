/*
 * What the JavaScript client programs share: they take one JSON object per line on stdin, report one per line on stdout,
 * and end when stdin does. `connect(url, protocols, headers)` makes a WebSocket with the browser's interface. It shares
 * no code with the gateway.
 */

import { createInterface } from "node:readline";

export const report = (event, on, fields = {}) => process.stdout.write(JSON.stringify({ event, on, ...fields }) + "\n");

/** The WebSocket address, built from what discovery answered in the way that the command names. */
export function address({ form, way, base }, answer) {
  const info = form === "info" ? answer.b_client_info : null;
  const host = info ? info.websocket.host : answer.websocket_host;
  const port = info ? info.websocket_port : answer.websocket_port;
  if (way === "host-port") return `ws://${host}:${port}`;
  if (way === "base-url") return `ws://${base.replace(/^https?:\/\//, "")}:${port}`;
  return answer.websocket_url;
}

async function discover(command) {
  // Node's WebSocket takes connections from the same pool as fetch, and would send its handshake on this one, which the
  // server may close at that very moment.
  const headers = { connection: "close" };
  const signal = AbortSignal.timeout(10000);
  const response = await fetch(`${command.base}/api/b-client/${command.form}`, { headers, signal });
  const text = await response.text();
  const content_type = response.headers.get("content-type") ?? "";
  report("found", command.on, { status: response.status, content_type, text });
  return command.do === "discover" || !response.ok ? null : address(command, JSON.parse(text));
}

export function run(runtime, connect) {
  const sockets = new Map();

  async function live(command) {
    const { on } = command;
    try {
      const url = command.url ?? (await discover(command));
      if (url === null) return;
      report("address", on, { url });
      const socket = connect(url, command.protocols ?? [], command.headers ?? {});
      sockets.set(on, socket);
      socket.binaryType = "arraybuffer";
      let opened = false;
      let over = false;
      let why = "";
      const end = (event, fields) => {
        if (!over) report(event, on, fields);
        over = true;
      };
      socket.onopen = () => {
        opened = true;
        report("open", on, { protocol: socket.protocol ?? "" });
      };
      socket.onmessage = ({ data }) => {
        if (typeof data === "string") report("text", on, { text: data });
        else report("binary", on, { size: data.byteLength ?? data.length });
      };
      socket.onerror = (event) => {
        why = event.message || event.error?.message || "no reason given";
        if (!opened) end("refused", { status: Number(/\b(\d{3})\b/.exec(socket.refusedWith ?? "")?.[1]) || null, why });
      };
      socket.onclose = (event) => {
        if (opened) end("closed", { code: event.code, reason: event.reason });
        else end("refused", { status: null, why: why || `closed with ${event.code}` });
      };
    } catch (error) {
      report("refused", on, { status: null, why: error.cause?.message || error.message });
    }
  }

  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    const command = JSON.parse(line);
    const socket = sockets.get(command.on);
    if (["discover", "arrive", "connect"].includes(command.do)) live(command);
    else if (!socket) return;
    else if (command.do === "close") socket.close(command.code ?? 1000);
    else if (command.do === "send") socket.send(command.text);
    else socket.send(new TextEncoder().encode(command.text));
  });
  lines.on("close", () => process.exit(0));
  report("started", "", { runtime });
}
