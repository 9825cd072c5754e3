"""What the sentences of answers say, and the words that a dialect may take."""

import re
from pathlib import Path
from typing import Final

_PROTOCOL: Final = Path(__file__).parents[3] / "docs" / "reference" / "protocol.md"
WORDS: Final = frozenset(re.findall(r'"(?:type|event)": ?"(\w+)"', _PROTOCOL.read_text()))
"""Every type and event of every dialect that the protocol reference shows, in either direction."""
_NAMED: Final = re.compile(r"This (type|custom event) is not known here; the \1s are: (.+)\.")


def types_named_in(sentence: str) -> list[str]:
    """Those that the answer to an unknown one names."""
    found = _NAMED.fullmatch(sentence)
    assert found, sentence
    return found[2].split(", ")
