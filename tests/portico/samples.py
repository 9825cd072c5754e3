"""The programs that the tutorial and the how-tos tell a reader to save, as they stand there."""

import re
import textwrap
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGES: Final = {
    "tutorial": DOCS / "tutorial.md",
    "client": DOCS / "how-to" / "write-a-client.md",
    "requester": DOCS / "how-to" / "write-a-requester.md",
    "worker": DOCS / "how-to" / "write-a-worker.md",
    "extend": DOCS / "how-to" / "extend.md",
}
UNTYPED: Final = ("celery", "django", "socketio")
"""Libraries without types, so that no program which uses them can be checked strictly."""
_SAVED = re.compile(r"<!-- tested: (?:file )?(\S+) -->\n```python\n(.*?)```", re.DOTALL)


def samples(page: str) -> dict[str, str]:
    """The programs of a page, by the name that the page gives them."""
    return dict(_SAVED.findall(PAGES[page].read_text(encoding="utf-8")))


def programs() -> list[str]:
    """Every Python program of every page that a user follows, but for what rests on a library without types. A block
    that imports nothing is a part of one."""
    found: list[str] = []
    for page in [DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]:
        blocks = re.findall(r"^( *)```python\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        found += [textwrap.dedent(block) for _, block in blocks]
    untyped = re.compile(rf"^(import|from) ({'|'.join(UNTYPED)})\b", re.MULTILINE)
    return [
        block for block in found if re.search(r"^(import|from) ", block, re.MULTILINE) and not untyped.search(block)
    ]


def sample(page: str, name: str, base_url: str) -> str:
    """One program, made to ask the gateway at `base_url`."""
    source = samples(page)[name]
    assert "http://localhost:8000" in source
    return source.replace("http://localhost:8000", base_url)
