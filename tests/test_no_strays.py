"""No tracked file holds a path of the machine that it was written on, nor the name of a package registry.

Both get in unseen: a path with the output of a command that is pasted into a page, a registry with a lock file that a
tool writes. Neither helps anybody elsewhere, and a registry in a lock file overrules the one that whoever installs has
chosen. There are no exceptions: nothing here has to name either.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.gateways import ROOT

# In pieces, since this file is tracked too.
PATHS: Final = tuple("/" + path for path in ("work/", "tmp/wt", "root/", "opt/wheels", "opt/pypi"))
REGISTRIES: Final = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("golang", "org"),
        ("rubygems", "org"),
        ("anaconda", "org"),
        ("jsdelivr", "net"),
        ("unpkg", "com"),
        ("docker", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
        ("deb", "debian", "org"),
    )
)
_STRAY: Final = re.compile("|".join(map(re.escape, PATHS + REGISTRIES)).encode(), re.IGNORECASE)


def strays(folder: Path) -> Iterator[str]:
    """Where in a repository's tracked files one is, as `file:line: what`."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=folder, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        file = folder / name
        found = [(0, name.encode())]
        if file.is_symlink():
            found.append((0, str(file.readlink()).encode()))
        elif file.is_file():  # it may be gone, and not committed so
            found += enumerate(file.read_bytes().splitlines(), start=1)
        for number, line in found:
            for stray in _STRAY.finditer(line):
                yield f"{name}:{number}: {stray[0].decode()}"


def test_there_is_none() -> None:
    assert list(strays(ROOT)) == []


def test_each_is_found_wherever_it_is(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)

    expected = []
    for number, what in enumerate(PATHS + REGISTRIES):
        (tmp_path / f"page-{number}.md").write_text(f"# A page\n\nRun `{what}x`.\n")
        (tmp_path / f"lock-{number}.json").write_text(f'{{\n  "resolved": "https://registry.{what}/ws.tgz"\n}}\n')
        (tmp_path / f"picture-{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff" + what.upper().encode())
        (tmp_path / f"link-{number}").symlink_to(f"{what}x")
        places = (f"page-{number}.md:3", f"lock-{number}.json:2", f"picture-{number}.png:3", f"link-{number}:0")
        expected += [f"{place}: {what}" for place in places]
    git("init", "-q", ".")
    git("add", ".")
    (tmp_path / "untracked").write_text(PATHS[0])
    assert sorted(map(str.lower, strays(tmp_path))) == sorted(expected)
