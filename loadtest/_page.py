"""The load test on locust's web page: the verdict after each test, in its report too, and a wrong host as a sentence.

Knows locust's web application (Flask) and the verdict's text. Locust's page is a script of its own; what is added here
is a panel over it, below its dialogs (which have 1300), which asks for the verdict once a second.
"""

from __future__ import annotations

import contextlib
import html
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from flask import Response, jsonify, request

from loadtest._result import Result

_COLOURS: Final = {"met": "#1a7f37", "not met": "#cf222e", "invalid": "#9a6700"}
_SCRIPT: Final = """
<div id="portico-verdict" style="display:none;position:fixed;right:12px;bottom:12px;max-width:min(760px,94vw);
max-height:85vh;overflow:auto;background:#fff;color:#1f2328;border:2px solid #888;border-radius:6px;padding:8px 12px;
font:12px/1.4 ui-monospace,monospace;z-index:1000"></div>
<script>
(() => {
  const panel = document.getElementById("portico-verdict");
  let last = "";
  const ask = async () => {
    try {
      const answer = await (await fetch("BASE/loadtest/verdict")).json();
      if (answer.html !== last) {
        last = answer.html;
        panel.innerHTML = last;
        panel.style.display = last ? "block" : "none";
        panel.style.borderColor = answer.colour;
      }
    } catch { /* Locust is gone: so be it. */ }
    setTimeout(ask, 1000);
  };
  ask();
})();
</script>
"""


class Judge(Protocol):
    """Who has the verdict on the last test."""

    result: Result | None
    text: str

    @property
    def host(self) -> str | None:
        """The gateway's base URL, if there is one."""


def add(web_ui: Any, judge: Judge, wrong_with: Callable[[str | None], str | None]) -> None:
    """Add them; before the page is served.

    Args:
        web_ui: locust's.
        judge: who has the verdict.
        wrong_with: what is wrong with a host, as a sentence.
    """
    app = web_ui.app
    base = (web_ui.web_base_path or "").rstrip("/") if hasattr(web_ui, "web_base_path") else ""

    @app.get(f"{base}/loadtest/verdict")  # type: ignore[untyped-decorator]  # locust's application is Any
    def verdict() -> Response:
        colour = _COLOURS[judge.result.verdict] if judge.result is not None else "#888"
        return jsonify({"html": _block(judge), "colour": colour, "verdict": judge.result and judge.result.verdict})

    @app.before_request  # type: ignore[untyped-decorator]  # likewise
    def check() -> Response | None:
        if request.method == "POST" and request.path == f"{base}/swarm":
            host = request.form.get("host") or judge.host
            if sentence := wrong_with(host):
                return jsonify({"success": False, "message": sentence, "host": host})
        return None

    @app.after_request  # type: ignore[untyped-decorator]  # likewise
    def show(response: Response) -> Response:
        if response.mimetype == "text/html" and response.status_code == 200 and not response.direct_passthrough:
            text = response.get_data(as_text=True)
            if request.path == f"{base}/":
                response.set_data(text.replace("</body>", _SCRIPT.replace("BASE", base) + "</body>"))
            elif request.path == f"{base}/stats/report":
                response.set_data(report(text, judge))
        return response


def report(text: str, judge: Judge) -> str:
    """Locust's HTML report with the verdict at its top."""
    return text.replace('<div id="root">', f'<div style="padding:12px 24px">{_block(judge)}</div><div id="root">', 1)


def complete(path: Path, judge: Judge) -> None:
    """Put the verdict into the HTML file that locust wrote, if it did."""
    with contextlib.suppress(OSError):
        path.write_text(report(path.read_text(encoding="utf-8"), judge), encoding="utf-8")


def _block(judge: Judge) -> str:
    if judge.result is None:
        return ""
    colour = _COLOURS[judge.result.verdict]
    return (
        # It lies over locust's table: a click on its title folds it away.
        '<details open><summary style="cursor:pointer"><h2 style="display:inline;'
        f'font:600 16px system-ui;color:{colour}">Load test: {judge.result.verdict}</h2></summary>'
        f'<pre style="margin:6px 0 0;white-space:pre-wrap">{html.escape(judge.text)}</pre></details>'
    )
