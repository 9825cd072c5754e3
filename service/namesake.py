"""A user's package of the name `service`, which the gateway's own hides in a process of the gateway's.

Knows import errors and folders. Promises a sentence only where there is such a package of the user's: an import that
fails for another reason is its author's affair.
"""

import sys
from pathlib import Path
from typing import Final

_OURS: Final = Path(__file__).parent
NAME: Final = _OURS.name


def hidden(error: BaseException) -> str | None:
    """Why this import failed, and what to do, where it wanted the user's own `service`; None where it didn't."""
    if not isinstance(error, ImportError) or (error.name or "").partition(".")[0] != NAME:
        return None
    for entry in sys.path:
        for own in (Path(entry, NAME), Path(entry, f"{NAME}.py")):
            if own.exists() and own.resolve() != _OURS.resolve():
                return (
                    f"In this process {NAME!r} is the gateway's own package and hides yours ({own}): give yours "
                    "another name, or run what needs it in a program of its own."
                )
    return None
