/* A client with nothing but what Node has: its own fetch and WebSocket. */

import { run } from "./program.mjs";

run(`node ${process.versions.node}, its own WebSocket`, (url, protocols) => new WebSocket(url, protocols));
