"""The documentation against the code: links, names of settings and routes, tables, and examples that are JSON.

The programs in it are run by `test_docs_tutorial`, `test_docs_nginx` and `portico/test_samples`.
"""

import json
import re
import tomllib
from pathlib import Path

import pytest

from portico.wire.codes import CloseCode, ErrorCode
from service.http.answers import STATUS
from service.http.table import ROUTES
from service.settings import Settings
from service.settings.sources import env_name
from service.transports import front_door

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
PROTOCOL = DOCS / "reference" / "protocol.md"
SETTINGS = {env_name(name) for name in Settings.model_fields}

# What a cluster sets by itself, and what other programs than the gateway read.
NOT_SETTINGS = {"PORTICO_SERVICE_HOST", "PORTICO_PORT", "PORTICO_API_KEY", "PORTICO_TOKEN", "FORKED_GATEWAYS"}
OTHERS_VARIABLES = re.compile(
    r"COMPAT_|GATEWAY_|LOADTEST_|NODE_|SSL_|TCP_|SO_|PYTHON|WEB_CONCURRENCY|HTTPS?_PROXY|(ALL|NO)_PROXY"
)
# What a reader of the pages is told to write.
READERS_FILES = {
    "cart.mjs",
    "cart.py",
    "counting_worker.py",
    "first.mjs",
    "mymodule.py",
    "price.py",
    "receiver.py",
}
FILES = {
    path.relative_to(ROOT).as_posix() + ("/" if path.is_dir() else "")
    for folder in ("portico", "service", "compat", "loadtest", "tests", "docs")
    for path in [ROOT / folder, *(ROOT / folder).rglob("*")]
} | {path.name for path in ROOT.iterdir()}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What links to a page's headings end in."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(anchor)
    return found


def table(page: Path, heading: str) -> list[list[str]]:
    """The first table below a heading, cell by cell, without its head."""
    below = page.read_text().split(f"# {heading}\n", 1)[1]
    lines = below[below.index("\n|") + 1 :].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{link} is no file"
        assert not anchor or anchor in anchors(target), f"{link} is no heading"


def test_every_page_is_in_the_index() -> None:
    index = DOCS / "README.md"
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in re.findall(r"\]\(([^)\s]+)\)", prose(index))}
    assert {page for page in DOCS.rglob("*.md") if page != index} <= linked


def test_the_readme_opens_with_the_two_commands_and_the_page_and_leads_to_every_how_to() -> None:
    text = (ROOT / "README.md").read_text()
    title, commands, page, *_ = text.split("\n\n")
    assert title == "# Portico"
    assert re.findall(r"^make \w+", commands, re.MULTILINE) == ["make run", "make test"]
    assert "`http://localhost:8000`" in page
    assert set(re.findall(r"\]\(docs/how-to/([^)#]+)\)", text)) == {found.name for found in DOCS.glob("how-to/*.md")}


@each_page
def test_every_file_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|lua|toml|lock|mjs|txt))`", text)) - READERS_FILES
    named |= set(re.findall(r"`((?:portico|service|compat|loadtest|tests|docs)/(?:[\w-]+/)*)`", text))
    assert [name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in FILES)] == []


@each_page
def test_every_setting_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"\bPORTICO_[A-Z_]*[A-Z]\b", text))
    named |= {name for name in re.findall(r"`([A-Z]+_[A-Z_]+)(?:=[^`]*)?`", text) if not OTHERS_VARIABLES.match(name)}
    assert named - NOT_SETTINGS <= SETTINGS


@each_page
def test_every_route_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    there = {(route.method, route.path) for route in ROUTES}
    for method, path in re.findall(r"`(GET|POST|PUT|DELETE|PATCH) (/[^`\s?]*)", text):
        assert (method, path) in there, f"{method} {path}"
    paths = {route.path for route in ROUTES} | {"/api/websocket"}
    for path in re.findall(r"(?<![\w}])(/api/[\w\-/{}]*[\w}])", text):
        assert path in paths or re.sub(r"/api/clients/\w+", "/api/clients/{client_id}", path) in paths, path


@each_page
def test_nothing_is_said_of_the_place_where_it_was_made(page: Path) -> None:
    text = page.read_text()
    # A clone right below the root has no path that says anything.
    for place in (ROOT.parent, Path.home()):
        assert len(place.parts) < 2 or not re.search(re.escape(str(place)) + r"(?![\w-])", text)
    for registry in (".".join(("pypi", "org")), "python" + "hosted", "npm" + "js"):  # none of them named in the tree
        assert registry not in text.lower()
    assert not re.search(r"\bissues? #?\d", text, re.IGNORECASE)
    everything = {found.name for found in PAGES}
    assert set(re.findall(r"[\w\-]+\.md\b", text)) <= everything


def test_the_table_of_close_codes() -> None:
    rows = table(PROTOCOL, "Close codes")
    assert rows == [[str(int(code)), code.meaning, code.advice.value] for code in CloseCode]


def test_the_page_of_the_tutorial_heeds_the_close_codes() -> None:
    page = (DOCS / "tutorial.md").read_text()
    listed = re.findall(r"dontComeBack = (\[.*?\])", page)[0]
    assert json.loads(listed) == [int(code) for code in CloseCode if code.advice.value == "no"]


def test_the_table_of_error_codes() -> None:
    rows = table(PROTOCOL, "Error codes")
    assert [(row[0].strip("`"), int(row[2])) for row in rows] == [(code.value, STATUS[code]) for code in ErrorCode]


def test_what_docstrings_refer_to_is_there() -> None:
    headings = set(re.findall(r"^#+ (.*)$", prose(PROTOCOL), re.MULTILINE))
    headings.add("Who gets in")  # for short
    referred: set[str] = set()
    for source in (ROOT / "service").rglob("*.py"):
        for sentence in re.findall(r"(?i)protocol reference(?:'s)?, (?:sections? )?([^.]*?)[.\n]", source.read_text()):
            referred |= set(re.findall(r'"([^"]+)"', sentence))
    assert "C-Client dialect" in referred
    assert referred - {"POST /api/notifications"} <= headings


def test_what_docstrings_refer_to_in_the_http_api_is_there() -> None:
    headings = set(re.findall(r"^#+ (.*)$", prose(DOCS / "reference" / "http-api.md"), re.MULTILINE))
    referred: set[str] = set()
    for folder in ("portico", "service"):
        for source in (ROOT / folder).rglob("*.py"):
            referred |= set(re.findall(r'HTTP API reference, "([^"]+)"', source.read_text()))
    assert "Pushes" in referred
    assert referred <= headings


def test_the_examples_of_the_protocol_are_json() -> None:
    examples = re.findall(r"^```json\n(.*?)^```", PROTOCOL.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for example in examples for line in example.splitlines()]
    assert len(lines) > 30
    for line in lines:
        assert isinstance(json.loads(line), dict)


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked_for = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    page = (DOCS / "discussion" / "dependencies.md").read_text().lower()
    for requirement in asked_for:
        name = re.split(r"[^\w-]", requirement)[0]
        assert re.search(rf"\b{re.escape(name)}\b", page), name


def test_the_names_that_hang_on_hypercorn_are_all_told() -> None:
    page = (DOCS / "discussion" / "dependencies.md").read_text()
    for module, name in (front_door._CONNECTION, *front_door._WEBSOCKETS, front_door._WORKER):
        assert f"`{name}` in `hypercorn." in page
        assert module.rpartition(".")[2] in page
