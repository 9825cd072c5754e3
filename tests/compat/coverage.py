"""Which rows of the compatibility suite show which section of the protocol: for `docs/reference/compatibility.md`.

`python -m tests.compat.coverage` writes that part of the page anew; a test sees that it is up to date, and that each
section either has rows or is named with the reason why not.
"""

import re
from typing import Final

from compat.script import read
from tests.gateways import ROOT

PROTOCOL: Final = ROOT / "docs" / "reference" / "protocol.md"
PAGE: Final = ROOT / "docs" / "reference" / "compatibility.md"
BEGIN, END = "<!-- sections -->", "<!-- end of sections -->"

NOT_COVERED: Final = {
    "who-gets-in-and-in-which-dialect": "its parts are below",
    "c-client-dialect": "its parts are below",
    "redis": "needs a connection to the deployment's Redis, which who runs the suite need not have",
    "guessing": "twenty wrong keys would have whoever runs the suite answered as a guesser",
    "over-all-nodes": "quotas are off by default, and to reach one is noisy",
    "to-back-ends": "needs a back end of the deployment's own",
}
"""Sections without a row, and why."""


def sections() -> dict[str, str]:
    """The headings of the protocol by their anchors."""
    headings = re.findall(r"^##+ (.*)$", PROTOCOL.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-"): heading for heading in headings}


def rows() -> dict[str, list[str]]:
    """The scenarios of each section that has some."""
    found: dict[str, list[str]] = {}
    for scenario in read():
        for section in scenario.protocol:
            found.setdefault(section, []).append(scenario.name)
    return found


def written() -> str:
    """The table, between its marks."""
    shown = rows()
    lines = [BEGIN, "", "| section | rows |", "|---|---|"]
    for anchor, heading in sections().items():
        names = ", ".join(f"`{name}`" for name in shown.get(anchor, ()))
        lines.append(f"| [{heading}](protocol.md#{anchor}) | {names or f'none: {NOT_COVERED[anchor]}'} |")
    return "\n".join([*lines, "", END])


def main() -> None:
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + written() + rest.split(END)[1])


if __name__ == "__main__":
    main()
