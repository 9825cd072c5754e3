"""A report put into the documentation: its files, its plots as pictures, and its figures between two marks of a page.

Pictures are made by Chromium, light; where there is none, there are none.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from html import unescape
from pathlib import Path
from typing import Final

from ._comparison import Comparison, Measured
from ._page import STYLE, render

BEGIN: Final = "<!-- Made by `make capacity` with --docs: from here -->"
END: Final = "<!-- to here -->"
_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
_SIZE: Final = "640,424"
_SECONDS: Final = 60


def put(comparison: Comparison, out: Path, docs: Path) -> str:
    """Copy the report from `out` to `docs/capacity`, and write its figures into `docs/discussion/capacity.md`.

    Returns what was done, as a sentence. Raises OSError, and ValueError where the page has no marks.
    """
    page, text = check(docs)
    folder = docs / "capacity"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(out / "report.html", folder / "report.html")
    # Without its line breaks it is half as long.
    whole = json.loads((out / "report.json").read_bytes())
    (folder / "report.json").write_text(json.dumps(whole, separators=(",", ":")) + "\n", encoding="utf-8")
    pictures = _pictures(render(comparison), folder)
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    page.write_text(f"{before}{BEGIN}\n\n{_figures(comparison, pictures)}\n{after}", encoding="utf-8")
    return f"The report is in {folder}, with {len(pictures)} pictures, and its figures are in {page}."


def check(docs: Path) -> tuple[Path, str]:
    """The page for the figures, and its text. Raises OSError, and ValueError where it has no marks."""
    page = docs / "discussion" / "capacity.md"
    text = page.read_text(encoding="utf-8")
    if not 0 <= text.find(BEGIN) < text.find(END):
        raise ValueError(f"{page} has no {BEGIN!r} before a {END!r}: the figures go between them.")
    return page, text


def _pictures(html: str, folder: Path) -> dict[str, str]:
    """The plots that compare modes, by file name, with their titles."""
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        return {}
    figures = re.findall(r"<figure><figcaption>([^<]*)</figcaption>.*?</figure>", html.partition("<h2>By number")[2])
    drawn = re.findall(r"<figure>.*?</figure>", html.partition("<h2>By number")[2].partition("</section>")[0])
    made: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="capacity-pictures-") as scratch:
        for title, figure in zip(figures, drawn, strict=False):
            name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") + ".png"
            page = Path(scratch, "figure.html")
            page.write_text(f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style>{figure}', encoding="utf-8")
            command = [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={_SIZE}",
                f"--user-data-dir={scratch}/profile", f"--screenshot={folder / name}", page.as_uri(),
            ]  # fmt: skip
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
            except (subprocess.SubprocessError, OSError):
                continue
            if (folder / name).is_file():
                made[name] = unescape(title)
    return made


def _figures(comparison: Comparison, pictures: dict[str, str]) -> str:
    on = comparison.machine
    first, *others = comparison.advice.sentences
    lines = [
        f"**{first}**",
        "",
        *(f"- {sentence}" for sentence in others),
        "",
        f"On {on.processor}, {on.cores} cores, {on.memory / 1e9:.0f} GB, {on.system}, CPython {on.python}.",
        "",
        "| mode | held | broke at | knee | heartbeat p99, ms | push to all p99, ms | lost / doubled |",
        "|---|--:|---|---|--:|--:|--:|",
        *(_row(mode) for mode in comparison.modes),
        "",
        *(f"![{title}, by connections](../capacity/{name})" for name, title in pictures.items()),
        "",
        "Everything, with each stair: [report.html](../capacity/report.html), [report.json](../capacity/report.json).",
        "",
    ]
    return "\n".join(lines)


def _row(mode: Measured) -> str:
    best = next((stair for stair in mode.stairs if stair.users == mode.held), None)
    p99 = {name: times[1] for name, times in best.latencies.items()} if best is not None else {}
    broke = f"{mode.broke_at:,}: {', '.join(mode.broke[:3])}" if mode.broke_at is not None else mode.failed or "–"
    cells = [
        mode.title,
        f"{mode.held:,}" if mode.result is not None else "not measured",
        broke,
        "none seen" if mode.knee is None else f"{mode.knee:,}",
        *("–" if (value := p99.get(name)) is None else f"{value:.3g}" for name in ("heartbeat", "broadcast")),
        "–" if best is None else f"{best.lost:,} / {best.doubled:,}",
    ]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
