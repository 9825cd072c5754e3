"""From `PORTICO_APP` to the app: what is found, and in which words the rest is refused."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import empty, settings

from service.own_app.loading import OwnAppError, load

Write = Callable[[str], str]

ASGI = "async def app(scope, receive, send):\n    pass\n"
WSGI = "def app(environ, start_response):\n    return []\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Write]:
    """Writes a module of a name of its own into the working directory, and gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    written: list[str] = []

    def module(source: str) -> str:
        name = f"own_{abs(hash((request.node.name, source))):x}"
        (tmp_path / f"{name}.py").write_text(source)
        written.append(name)
        return name

    yield module
    # And nothing that they import: a framework of which a part is imported twice isn't one.
    for name in written:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("source", "name", "kind"),
    [
        (ASGI, ":app", "asgi"),
        (ASGI, "", "asgi"),
        (WSGI, ":app", "wsgi"),
        (WSGI.replace("app", "application"), "", "wsgi"),
        (f"class shop:\n    @staticmethod\n    {ASGI.replace('    ', '        ')}", ":shop.app", "asgi"),
        (f"def make():\n    {ASGI.replace('    ', '        ')}    return app\n", ":make()", "asgi"),
        ("class A:\n    async def __call__(self, scope, receive, send):\n        pass\napp = A()\n", ":app", "asgi"),
        ("class A:\n    def __call__(self, scope, receive, send):\n        pass\napp = A()\n", ":app", "asgi"),
        ("class A:\n    def __call__(self, environ, start, more=1):\n        pass\napp = A()\n", ":app", "wsgi"),
        (f"import functools\n{ASGI}app = functools.partial(app)\n", ":app", "asgi"),
        ("import flask\napp = flask.Flask(__name__)\n", ":app", "wsgi"),
        ("import fastapi\napp = fastapi.FastAPI()\n", ":app", "asgi"),
        ("import quart_trio\napp = quart_trio.QuartTrio(__name__)\n", ":app", "asgi"),
    ],
)
def test_what_is_found_in_the_working_directory(write: Write, source: str, name: str, kind: str) -> None:
    module = write(source)
    loaded = load(module + name)
    assert loaded.kind == kind
    assert loaded.name == module + (name or (":application" if "application" in source else ":app"))


@pytest.mark.parametrize(
    ("source", "name", "sentence"),
    [
        (ASGI, ":shop", "has no 'shop'"),
        (ASGI, ":app.shop", "has no 'app.shop'"),
        ("import flask\nshop = flask.Flask(__name__)\n", ":app", r"has no 'app'; perhaps own_\w+:shop is meant"),
        ("app = 5\n", ":app", "is of type int and no app; name an ASGI app that runs on trio, or a WSGI app"),
        ("app = 5\n", ":app()", "calls what is no function: leave the brackets out"),
        ("def app():\n    pass\n", ":app", r"takes no parameters; if it makes the app, write own_\w+:app\(\)"),
        ("def app():\n    pass\n", ":app()", "is of type NoneType and no app"),
        ("async def app():\n    pass\n", ":app()", "let the factory be a plain function"),
        ("def app(scope):\n    pass\n", ":app", "as apps of ASGI 2 did"),
        ("class app:\n    pass\n", ":app", "is a class and no app: name an instance of it"),
        ("def app():\n    1 / 0\n", ":app()", r"could not make the app: ZeroDivisionError: .* \(line 2 of .*\)"),
        ("def app():\n    raise SystemExit\n", ":app()", "could not make the app: SystemExit"),
        (
            "import asyncio\ndef app():\n    asyncio.get_running_loop()\n",
            ":app()",
            "needs asyncio, and Portico runs on",
        ),
        ("import asyncio\nasyncio.get_running_loop()\n", ":app", "needs asyncio, and Portico runs on trio"),
        ("1 / 0\n", ":app", r"cannot be imported: ZeroDivisionError: .* \(line 1 of .*\)"),
        ("import os\nos.environ['NO_SUCH']\n", ":app", r"KeyError: 'NO_SUCH' \(line 2 of .*own_\w+\.py\)\."),
        ("import json\njson.loads('{')\n", ":app", r"JSONDecodeError: .* \(line 2 of .*own_\w+\.py\)\."),
        ("def app(\n", ":app", r"cannot be imported: SyntaxError: .* \(own_\w+\.py, line 1\)\."),
        ("import sys\nsys.exit(3)\n", ":app", "cannot be imported: SystemExit: 3"),
        ("import no_such_module_at_all\n", ":app", "cannot be imported: ModuleNotFoundError: .*no_such_module_at_all"),
        ("from os import no_such_name\n", ":app", "cannot be imported: ImportError"),
        ("import quart\napp = quart.Quart(__name__)\n", ":app", "needs asyncio, .*: make it a QuartTrio"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(write: Write, source: str, name: str, sentence: str) -> None:
    module = write(source)
    with pytest.raises(OwnAppError, match=sentence) as caught:
        load(module + name)
    told = str(caught.value)
    assert told.startswith("PORTICO_APP")
    assert told.endswith(".")
    assert "\n" not in told
    assert module in told


@pytest.mark.parametrize("name", ["no_such_module_at_all:app", "no_such.module:app", "json.shop:app"])
def test_a_module_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(OwnAppError, match=r"and there is none .* working directory \(/.*\) and on PYTHONPATH\.$"):
        load(name)


@pytest.mark.parametrize("text", ["", "shop app", ":app", "shop:", "shop:app:b", "shop:app(1)"])
def test_what_is_no_name_of_an_app(text: str) -> None:
    with pytest.raises(OwnAppError, match=r"write it as module:app, such as myshop.web:app\.$"):
        load(text)


def test_frameworks_that_need_asyncio_are_known_without_being_imported(write: Write) -> None:
    """By where their classes are defined, since not all of them are installed here."""
    source = "class Application:\n    pass\nApplication.__module__ = 'aiohttp.web_app'\napp = Application()\n"
    with pytest.raises(OwnAppError, match=r"needs asyncio, .* push with portico.AsyncPublisher"):
        load(f"{write(source)}:app")
    source = "class ASGIHandler:\n    pass\nASGIHandler.__module__ = 'django.core.handlers.asgi'\napp = ASGIHandler()\n"
    with pytest.raises(OwnAppError, match=r"needs asyncio, .* name its WSGI application instead"):
        load(f"{write(source)}:app")


def test_its_paths_are_seen_through_what_is_around_it(write: Write) -> None:
    flask = (
        "import flask\nfrom werkzeug.middleware.proxy_fix import ProxyFix\napp = flask.Flask('x', static_folder=None)\n"
        "app.route('/a')(lambda: '')\napp = ProxyFix(app)\n"
    )
    assert load(f"{write(flask)}:app").paths == {"/a"}
    starlette = (
        "from starlette.applications import Starlette\nfrom starlette.middleware.gzip import GZipMiddleware\n"
        "from starlette.routing import Route, WebSocketRoute\n"
        "app = GZipMiddleware(Starlette(routes=[Route('/a', print), WebSocketRoute('/w', print)]))\n"
    )
    loaded = load(f"{write(starlette)}:app")
    assert (set(loaded.paths), set(loaded.socket_paths)) == ({"/a"}, {"/w"})
    itself = "class A:\n    async def __call__(self, scope, receive, send):\n        pass\napp = A()\napp.app = app\n"
    assert load(f"{write(itself)}:app").paths == set()


def test_its_paths_are_seen(write: Write) -> None:
    flask = "import flask\napp = flask.Flask(__name__, static_folder=None)\napp.route('/a/<b>')(lambda b: b)\n"
    assert load(f"{write(flask)}:app").paths == {"/a/<b>"}
    fastapi = (
        "import fastapi\napp = fastapi.FastAPI(docs_url=None, redoc_url=None)\napp.get('/a')(lambda: 1)\n"
        "app.websocket('/ws')(lambda websocket: 1)\n"
    )
    loaded = load(f"{write(fastapi)}:app")
    assert (set(loaded.paths), set(loaded.socket_paths)) == ({"/openapi.json", "/a"}, {"/ws"})
    quart = "import quart_trio\napp = quart_trio.QuartTrio(__name__, static_folder=None)\napp.websocket('/w')(print)\n"
    loaded = load(f"{write(quart)}:app")
    assert (set(loaded.paths), set(loaded.socket_paths)) == (set(), {"/w"})


DJANGO = """
from django.conf import settings
settings.configure(ROOT_URLCONF=__name__, MIDDLEWARE=[])
from django.core.handlers.wsgi import WSGIHandler
from django.urls import include, path, re_path
view = print
urlpatterns = [
    path("", view),
    path("api/", include([path("health", view), path("clients/<int:number>", view)])),
    re_path(r"^metrics$", view),
    re_path(r"^(a|b)/(?P<c>.)$", view),
]
app = WSGIHandler()
"""


@pytest.fixture
def unset() -> Iterator[None]:
    """Django's settings, of which a process has one, as if nobody had set them."""
    kept = dict(vars(settings))
    vars(settings).clear()
    vars(settings)["_wrapped"] = empty
    yield
    vars(settings).clear()
    vars(settings).update(kept)


# As WhiteNoise does, and most of what is put around a WSGI app.
WRAPPED = """
class Wrapper:
    def __init__(self, application):
        self.application = application
    def __call__(self, environ, start_response):
        return self.application(environ, start_response)
app = Wrapper(app)
"""


@pytest.mark.usefixtures("unset")
@pytest.mark.parametrize("wrapped", ["", WRAPPED])
def test_django_s_paths_are_seen_too(write: Write, wrapped: str) -> None:
    loaded = load(f"{write(DJANGO + wrapped)}:app")
    # A regular expression that is no plain path is no path.
    assert (loaded.kind, set(loaded.paths)) == ("wsgi", {"/", "/api/health", "/api/clients/<int:number>", "/metrics"})


@pytest.mark.usefixtures("unset")
@pytest.mark.parametrize("line", ["1 / 0", "raise SystemExit(3)"])
def test_django_s_routes_that_cannot_be_read_are_none(write: Write, line: str) -> None:
    """They are its own affair, which the first request tells."""
    source = DJANGO.replace("__name__", repr(write(line))).partition("view =")[0]
    loaded = load(f"{write(source + 'app = WSGIHandler()')}:app")
    assert (loaded.kind, len(loaded.paths)) == ("wsgi", 0)
