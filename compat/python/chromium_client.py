"""A page in Chromium: the browser's own `fetch` and `WebSocket`, with nothing between them and the network.

The page is of the origin of a little server of this program's, so what it asks for is of another origin, as with most
pages. Playwright only hands the page its commands. Shares no code with the gateway.
"""

import asyncio
import json
import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from playwright.async_api import async_playwright

from compat.python.program import Json, commands, report

FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
PAGE: Final = b"""<!doctype html><title>A page</title><script>
const sockets = new Map();
const say = (event, on, fields = {}) => report(JSON.stringify({ event, on, ...fields }));
function address({ form, way, base }, answer) {
  const info = form === "info" ? answer.b_client_info : null;
  const host = info ? info.websocket.host : answer.websocket_host;
  const port = info ? info.websocket_port : answer.websocket_port;
  if (way === "host-port") return `ws://${host}:${port}`;
  if (way === "base-url") return `ws://${base.replace(/^https?:\\/\\//, "")}:${port}`;
  return answer.websocket_url;
}
async function live(command) {
  const { on } = command;
  try {
    let url = command.url;
    if (!url) {
      const response = await fetch(`${command.base}/api/b-client/${command.form}`);
      const text = await response.text();
      const content_type = response.headers.get("content-type") ?? "";
      say("found", on, { status: response.status, content_type, text });
      if (command.do === "discover" || !response.ok) return;
      url = address(command, JSON.parse(text));
    }
    say("address", on, { url });
    const socket = new WebSocket(url, command.protocols ?? []);
    sockets.set(on, socket);
    socket.binaryType = "arraybuffer";
    let opened = false;
    socket.onopen = () => { opened = true; say("open", on, { protocol: socket.protocol }); };
    socket.onmessage = ({ data }) =>
      typeof data === "string" ? say("text", on, { text: data }) : say("binary", on, { size: data.byteLength });
    socket.onclose = ({ code, reason }) =>
      opened ? say("closed", on, { code, reason }) : say("refused", on, { status: null, why: `closed with ${code}` });
  } catch (error) {
    say("refused", on, { status: null, why: String(error) });
  }
}
function obey(text) {
  const command = JSON.parse(text);
  const socket = sockets.get(command.on);
  if (["discover", "arrive", "connect"].includes(command.do)) live(command);
  else if (!socket) return;
  else if (command.do === "close") socket.close(command.code ?? 1000);
  else socket.send(command.do === "send" ? command.text : new TextEncoder().encode(command.text));
}
</script>"""


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


async def main() -> None:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise SystemExit("there is no chromium on the PATH (CHROMIUM names one)")
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[Json | None] = asyncio.Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        page = await browser.new_page(ignore_https_errors=bool(os.environ.get("SSL_CERT_FILE")))
        await page.expose_function("report", lambda text: print(text, flush=True))
        await page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        commands(lambda command: loop.call_soon_threadsafe(told.put_nowait, command))
        report("started", runtime=f"Chromium {browser.version}")
        while (command := await told.get()) is not None:
            await page.evaluate("obey", json.dumps(command))
        await browser.close()
    server.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
