"""Untrusted text as it may be shown: in a log line, in a terminal, in an exception.

Control characters, line breaks and marks that change the direction of text are escaped; what can be printed, in any
language, stays as it is. Knows nothing of where the text goes.
"""

import codecs
from typing import Final

LONGEST: Final = 256
"""Characters of the text that are shown unless the caller says otherwise."""

# Loaded now, not on first use: by then there may be no descriptor left to read the codec with.
codecs.lookup("unicode_escape")


def safe_text(text: str, limit: int = LONGEST) -> str:
    """`text` on one line, printable: the first `limit` characters, `…` where there were more, the rest escaped.

    For example `a\\nb` is shown as the four characters `a`, backslash, `n`, `b`. The result may be longer than
    `limit`, since an escape is: up to ten times.
    """
    if len(text) > limit:
        text = text[:limit] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
