/* A client with the npm package reconnecting-websocket over Node's own WebSocket, told to try once. */

import { createRequire } from "node:module";
import { run } from "./program.mjs";

const folder = process.argv[2];
const require = createRequire(import.meta.url);
const loaded = require(folder);
const ReconnectingWebSocket = loaded.default ?? loaded;
const { version } = require(`${folder}/package.json`);

run(`node ${process.versions.node}, reconnecting-websocket ${version}`, (url, protocols) => {
  const options = { WebSocket: globalThis.WebSocket, maxRetries: 0, connectionTimeout: 15000 };
  return new ReconnectingWebSocket(url, protocols, options);
});
