"""docs/discussion/promises.md, read: which tests are to show what, and what the tests say that they show.

A *claim* is a table's row, or a paragraph, that names tests (`` `test_x.py`: `test_y` ``). Its words are all of it but
for its title (the first cell; what is bold at the start) and the names of the tests. A test says which of the words it
shows, as they stand there: `@pytest.mark.shows("stay", "503 after 2 s")`. Together the tests of a claim have to show
all of its words, and no test may say that it shows what is not there.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REFERENCE: Final = re.compile(r"`(test_\w+\.py)`:\s+(`test_\w+`(?:,\s+`test_\w+`)*)")

Test = tuple[str, str]
"""The name of a file, and that of a function in it."""


@dataclass(frozen=True)
class Claim:
    """Some words of the page, and the tests that show them."""

    title: str
    words: str
    tests: tuple[Test, ...]


def claims(page: str) -> list[Claim]:
    """All that name tests."""
    found = []
    for block in re.split(r"\n\s*\n", page):
        pieces = block.splitlines() if block.startswith("|") else [block]
        for piece in pieces:
            tests = tuple(
                (file, test) for file, names in REFERENCE.findall(piece) for test in re.findall(r"`(\w+)`", names)
            )
            if not tests:
                continue
            if piece.startswith("|"):
                title, *cells = [cell.strip() for cell in piece.strip("|").split("|")]
                words = " | ".join(cells)
            else:
                bold = re.match(r"(?:- )?\*\*(.*?)\*\*", piece, re.DOTALL)
                title, words = (bold[1], piece[bold.end() :]) if bold else ("", piece)
            found.append(Claim(title, " ".join(REFERENCE.sub("", words).split()), tests))
    return found


def markers(folder: Path) -> dict[Test, tuple[str, ...]]:
    """What the tests in a folder say that they show."""
    return {
        (path.name, function.name): shown
        for path in sorted(folder.rglob("test_*.py"))
        if "mark.shows" in (text := path.read_text(encoding="utf-8"))
        for function in ast.walk(ast.parse(text))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        if (shown := tuple(_shown(function)))
    }


def _shown(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.shows":
            for argument in decorator.args:
                yield " ".join(str(ast.literal_eval(argument)).split())


def functions(folder: Path) -> set[Test]:
    """Every test function in a folder."""
    return {
        (path.name, name)
        for path in folder.rglob("test_*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def problems(page: str, folder: Path) -> list[str]:
    """What does not fit together, a sentence each."""
    said, there, made = markers(folder), functions(folder), claims(page)
    found = []
    for claim in made:
        rest = claim.words
        for test in claim.tests:
            name = "::".join(test)
            if test not in there:
                found.append(f"{claim.title!r} names {name}, which is no test")
            elif test not in said:
                found.append(f"{name} does not say what it shows: @pytest.mark.shows(…), words of {claim.title!r}")
            for words in sorted(said.get(test, ()), key=len, reverse=True):
                rest = rest.replace(words, "")
        if re.search(r"\w", rest) and not any(problem.startswith(repr(claim.title)) for problem in found):
            found.append(f"no test says that it shows this of {claim.title!r}: {' '.join(rest.split())!r}")
    for test, shown in said.items():
        mine = [claim.words for claim in made if test in claim.tests]
        found += [
            f"{'::'.join(test)} says that it shows {words!r}: the page says no such thing of it"
            for words in shown
            if not any(words in claim for claim in mine)
        ]
    return found
