"""The map of the modules in the design page, a line each, written from the first sentence of their docstrings.

`make docs` runs this as a program; `tests/test_module_map.py` sees that the page holds what it would write.
"""

import ast
import re
from itertools import chain
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("portico", "service", "compat", "loadtest")
PAGE: Final = ROOT / "docs" / "discussion" / "design.md"
BEGIN: Final = "<!-- The map of the modules: written by `make docs` from their docstrings, not by hand. -->\n"
END: Final = "<!-- The end of the map. -->\n"


class NoFirstLineError(Exception):
    """A module does not say what it is."""


def first_sentence(path: Path) -> str:
    """Of a module's docstring; "" for an empty `__init__.py`. Raises NoFirstLineError."""
    source = path.read_text(encoding="utf-8")
    if path.name == "__init__.py" and not source.strip():
        return ""
    docstring = ast.get_docstring(ast.parse(source))
    if not docstring:
        raise NoFirstLineError(f"{path} has no docstring: say in its first line what it is")
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z`])", paragraph, maxsplit=1)[0]


def module_map(root: Path = ROOT) -> str:
    """The map of the modules below `root`, as Markdown: a list for each folder. Raises NoFirstLineError."""
    folders = [sorted({path.parent for path in (root / package).rglob("*.py")}) for package in PACKAGES]
    return "\n".join(_folder(folder, root) for folder in chain.from_iterable(folders))


def _folder(folder: Path, root: Path) -> str:
    about = first_sentence(folder / "__init__.py") if (folder / "__init__.py").exists() else ""
    modules = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    head = f"**`{folder.relative_to(root).as_posix()}/`**{f' {about}' if about else ''}"
    lines = [head, "", *(f"- `{path.name}` {first_sentence(path)}" for path in modules)]
    return "\n".join(lines).rstrip() + "\n"


def with_map(page: str, drawn: str) -> str:
    """The page with this map between its two marks. Raises ValueError if they aren't there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks its marks: {BEGIN.strip()} and {END.strip()}")
    return f"{before}{begin}\n{drawn}\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_map(PAGE.read_text(encoding="utf-8"), module_map()), encoding="utf-8")
