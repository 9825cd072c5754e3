"""The programs that the tutorial and the how-tos tell a reader to save, as they stand there."""

import re
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
_SAVED = re.compile(r"<!-- tested: (?:file )?(\S+) -->\n```python\n(.*?)```", re.DOTALL)


def samples(page: str) -> dict[str, str]:
    """The programs of a page, by the name that the page gives them."""
    return dict(_SAVED.findall(PAGES[page].read_text(encoding="utf-8")))


def sample(page: str, name: str, base_url: str) -> str:
    """One program, made to ask the gateway at `base_url`."""
    source = samples(page)[name]
    assert "http://localhost:8000" in source
    return source.replace("http://localhost:8000", base_url)
