/* A client with the npm package ws; where that is, the command line says. */

import { createRequire } from "node:module";
import { run } from "./program.mjs";

const folder = process.argv[2];
const require = createRequire(import.meta.url);
const WebSocket = require(folder);
const { version } = require(`${folder}/package.json`);

run(`node ${process.versions.node}, ws ${version}`, (url, protocols, headers) => {
  const socket = new WebSocket(url, protocols, { headers, maxPayload: 64 * 1024 * 1024 });
  socket.on("unexpected-response", (request, response) => {
    socket.refusedWith = `${response.statusCode}`;
    response.resume();
    socket.emit("error", new Error(`Unexpected server response: ${response.statusCode}`));
  });
  return socket;
});
