"""The page's files as HTTP: which there are, and the headers that confine them."""

import hashlib
import re
from pathlib import Path

import httpx
import pytest

from service.http.pages import PAGES, content_security_policy, socket_source

from .stage import LOCAL, OUTSIDE, behind_proxy, house, problem

HTML = ("index.html", "streaming.html")
OTHERS = ("markdown-it.js", "markdown-it-licences.txt")
"""Not of this project: they may name addresses, and nothing in them is changed."""
OURS = sorted(set(PAGES) - set(OTHERS))
FOLDER = Path(__file__).parents[2] / "service" / "pages"


def policy(answer: httpx.Response) -> dict[str, list[str]]:
    """The policy of an answer: the sources by directive."""
    parts = [part.split() for part in answer.headers["content-security-policy"].split(";")]
    assert len({part[0] for part in parts}) == len(parts)
    return {part[0]: part[1:] for part in parts}


def test_every_file_of_the_folder_is_served_and_no_other() -> None:
    assert set(PAGES) == {path.name for path in FOLDER.iterdir()}
    assert all(page.body == (FOLDER / name).read_bytes() for name, page in PAGES.items())


@pytest.mark.parametrize("name", sorted(PAGES))
async def test_each_is_open_typed_and_confined(name: str) -> None:
    at = house(production=True)
    answer = await at.call("GET", PAGES[name].path, peer=OUTSIDE)
    assert answer.status_code == 200
    assert answer.content == PAGES[name].body
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    kinds[".txt"] = "text/plain"
    assert answer.headers["content-type"].partition(";")[0] == kinds[Path(name).suffix]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    assert "set-cookie" not in answer.headers
    found = policy(answer)
    assert found["default-src"] == ["'self'"]
    assert found["connect-src"] == ["'self'", "ws://127.0.0.1:8766", "ws://127.0.0.1:*", "wss://127.0.0.1:*"]
    assert found["frame-ancestors"] == found["form-action"] == found["base-uri"] == ["'none'"]
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("name", OURS)
def test_nothing_is_inline_and_nothing_comes_from_elsewhere(name: str) -> None:
    text = PAGES[name].body.decode().replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?://|(src|href|url\()=?[\"']?//", text)
    assert not re.search(
        r"\sstyle=|\son[a-z]+=\"|<style|javascript:|<script(?! type=\"module\" src=\"(?:\.\./)?pages/)", text
    )
    # What was received becomes text, never markup or code.
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    # The conversation is kept for its tab, in one place; nothing else is, and no key or token ever.
    kept = "localStorage|document\\.cookie|indexedDB" + ("" if name == "conversation.js" else "|sessionStorage")
    assert not re.search(kept, text)


def imported(name: str) -> set[str]:
    """The modules that a module needs, and those that these need."""
    found = set(re.findall(r"from \"\./([^\"]+)\"", PAGES[name].body.decode()))
    return found.union(*map(imported, found))


def test_all_that_the_files_name_is_there() -> None:
    everything = {"markdown-it-licences.txt"}
    for name in HTML:
        html = PAGES[name].body.decode()
        above = "../" * (PAGES[name].path.count("/") - 1)
        named = set(re.findall(rf"(?:src|href)=\"{re.escape(above)}pages/([^\"]+)\"", html))
        modules = {module for module in named if module.endswith(".js")}
        modules = modules.union(*map(imported, modules))
        # All are named, so that on a slow network none is asked for only when the one that needs it has come.
        assert modules <= named
        everything |= {name} | named | modules
        ids = re.findall(r"\bid=\"([^\"]+)\"", html)
        assert len(ids) == len(set(ids))
        for module in modules:
            assert set(re.findall(r"\bat\(\"([^\"]+)\"\)", PAGES[module].body.decode())) <= set(ids), module
    assert everything == set(PAGES)


def test_the_library_is_the_one_that_was_published() -> None:
    hashed = hashlib.sha256(PAGES["markdown-it.js"].body).hexdigest()
    assert f"`{hashed}`" in (FOLDER.parents[1] / "docs" / "discussion" / "dependencies.md").read_text()


async def test_a_page_that_is_known_is_not_sent_again() -> None:
    at = house()
    first = await at.call("GET", "/")
    tag = first.headers["etag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        answer = await at.call("GET", "/", headers={"if-none-match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
        assert answer.headers["cache-control"] == "no-cache"
        # The policy that is in force is that of this answer.
        assert policy(answer) == policy(first)
    for other in ('"other"', tag.strip('"'), ""):
        assert (await at.call("GET", "/", headers={"if-none-match": other})).status_code == 200
    assert len({page.etag for page in PAGES.values()}) == len(PAGES)


async def test_only_get_and_head_by_real_http() -> None:
    at = house()
    async with at.serving() as base, httpx.AsyncClient(base_url=base) as caller:
        get, head = await caller.get("/"), await caller.head("/")
        assert get.content == PAGES["index.html"].body
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["etag"] == get.headers["etag"]
        assert (await caller.get("/", headers={"if-none-match": get.headers["etag"]})).status_code == 304
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            answer = await caller.request(method, "/", content=b"x")
            assert problem(answer) == (405, "not_found", None)
            assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize(
    "path",
    [
        "/pages",
        "/pages/",
        "/pages/index.html",
        "/index.html",
        "/pages/streaming.html",
        "/streaming",
        "/streaming/",
        "/streaming/socket/",
        "/pages/../app.py",
        "/pages/%2e%2e/app.py",
        "/pages/..%2fapp.py",
        "/pages/..%5capp.py",
        "/pages//page.js",
        "/pages/page.js/",
        "/pages/page.js%00",
        "/pages/PAGE.JS",
        "/pages/.page.js",
        "/pages/%2fetc%2fpasswd",
    ],
)
async def test_no_path_leads_anywhere_else(path: str) -> None:
    at = house()
    async with at.serving() as base, httpx.AsyncClient() as caller:
        request = caller.build_request("GET", base)
        request.url = request.url.copy_with(raw_path=path.encode())
        answer = await caller.send(request)
    assert problem(answer) == (404, "not_found", None)


@pytest.mark.parametrize("page", ["/", "/streaming/socket"])
@pytest.mark.parametrize(
    ("host", "proto", "source", "ports"),
    [
        ("localhost:8000", "http", "ws://localhost:8766", ["ws://localhost:*", "wss://localhost:*"]),
        ("127.0.0.1:8000", "http", "ws://127.0.0.1:8766", ["ws://127.0.0.1:*", "wss://127.0.0.1:*"]),
        ("[::1]:8000", "http", "ws:", []),
        ("gw.example.com", "https", "wss://gw.example.com", ["wss://gw.example.com:*"]),
        ("gw.example.com:8443", "https", "wss://gw.example.com:8443", ["wss://gw.example.com:*"]),
        ("[2001:db8::1]", "https", "wss:", []),
        # A host that is none is not repeated: nobody writes into the policy.
        ("x; script-src *", "http", "ws://10.0.0.5:8766", []),
        ("x, *", "http", "ws://10.0.0.5:8766", []),
        ("*", "http", "ws://10.0.0.5:8766", []),
        ("'unsafe-inline'", "http", "ws://10.0.0.5:8766", []),
        ("", "http", "ws://10.0.0.5:8766", []),
    ],
)
async def test_a_page_may_connect_to_where_discovery_says_and_follow_to_other_ports_of_its_host(
    page: str, host: str, proto: str, source: str, ports: list[str]
) -> None:
    at = house(resolver=behind_proxy)
    headers = {"x-forwarded-host": host, "x-forwarded-proto": proto, "x-forwarded-for": "127.0.0.1"}
    answer = await at.call("GET", page, peer=LOCAL, headers=headers)
    assert policy(answer)["connect-src"] == ["'self'", source, *ports]
    told = await at.call("GET", "/api/b-client/websocket-info", peer=LOCAL, headers=headers)
    assert socket_source(told.json()["websocket_url"]) == source


async def test_a_public_address_is_what_the_policy_names() -> None:
    at = house()
    ports = ["ws://127.0.0.1:*", "wss://127.0.0.1:*"]
    at.places.public_url = "wss://sockets.example.com/live?x=;default-src%20*"
    assert policy(await at.call("GET", "/"))["connect-src"] == ["'self'", "wss://sockets.example.com", *ports]
    at.places.public_url, at.places.websocket_port = None, None
    assert policy(await at.call("GET", "/"))["connect-src"] == ["'self'", "ws://127.0.0.1:8000", *ports]


def test_a_url_that_csp_cannot_name_opens_its_scheme_only() -> None:
    assert socket_source("ws://[::1]:8766") == "ws:"
    assert "connect-src 'self' wss:;" in content_security_policy(socket_source("wss://ex;ample/"))
