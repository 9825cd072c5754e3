"""Loading: from `myshop.web:app` to the app itself, and of which kind it is.

Promises that whatever is wrong is one sentence for the operator, which says what would be right; the traceback is the
error's cause. Knows by name the frameworks that need asyncio, and imports none of them.
"""

import inspect
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Final, Literal

from service.namesake import hidden

SETTING: Final = "PORTICO_APP"
SPECIFIER: Final = re.compile(r"(?P<module>\w+(?:\.\w+)*)(?::(?P<name>\w+(?:\.\w+)*)(?P<call>\(\))?)?")
_USUAL: Final = ("app", "application")

_WSGI_INSTEAD: Final = "name its WSGI application instead (such as myshop.wsgi:application), which runs in threads"
_NEED_ASYNCIO: Final = {
    ("quart.app", "Quart"): "make it a QuartTrio, of the package quart-trio",
    ("django.core.handlers.asgi", "ASGIHandler"): _WSGI_INSTEAD,
    ("asgiref.wsgi", "WsgiToAsgi"): "name the WSGI app that is inside it",
    ("channels.routing", "ProtocolTypeRouter"): _WSGI_INSTEAD,
    ("aiohttp.web_app", "Application"): "serve it by itself, and push with portico.AsyncPublisher",
    ("sanic.app", "Sanic"): "serve it by itself, and push with portico.AsyncPublisher",
    ("tornado.web", "Application"): "serve it by itself, and push with portico.AsyncPublisher",
    ("falcon.asgi.app", "App"): "make it a falcon.App, which is WSGI and runs in threads",
    ("engineio.async_drivers.asgi", "ASGIApp"): "serve it by itself, and push with portico.AsyncPublisher",
}
_DJANGO: Final = ("django.core.handlers.wsgi", "WSGIHandler")
_PLAIN: Final = re.compile(r"[\w/-]*")
_INSIDE: Final = ("application", "app", "wsgi_app")
"""Where what is put around an app has it: WhiteNoise, Werkzeug's and Starlette's middlewares."""
_MOST_AROUND: Final = 16
_OURS: Final = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_PYTHON: Final = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_PACKAGES: Final = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})
_ASYNCIO_WORDS: Final = ("no running event loop", "no current event loop", "trio.run received unrecognized yield")


class OwnAppError(Exception):
    """The app cannot be used; the text is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An app: its kind, what is called for each request, how the operator named it, and the paths of its routes and of
    its WebSockets, as far as they can be seen."""

    kind: Literal["asgi", "wsgi"]
    app: Callable[..., Any]
    name: str
    paths: frozenset[str] = frozenset()
    socket_paths: frozenset[str] = frozenset()


def load(specifier: str) -> Loaded:
    """Import and find the app, calling a factory if it is one. The working directory is put on `sys.path`, as ASGI and
    WSGI servers do. Raises OwnAppError."""
    match = SPECIFIER.fullmatch(specifier)
    if match is None:
        raise OwnAppError(f"{SETTING} is {specifier!r}; write it as module:app, such as myshop.web:app.")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    module = _imported(match["module"], here)
    app, name = _found(module, match["name"])
    named = f"{match['module']}:{name}"
    if match["call"]:
        app = _made(app, named)
    return _judged(app, named + (match["call"] or ""))


def needs_asyncio(error: BaseException) -> bool:
    """Whether this is how something that was written for asyncio fails on trio."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return isinstance(error, RuntimeError | TypeError) and any(words in str(error) for words in _ASYNCIO_WORDS)


def asyncio_sentence(named: str) -> str:
    """What is said of an app of which that was seen."""
    return (
        f"{SETTING}={named} needs asyncio, and Portico runs on trio: use what runs on both (anyio, httpx, Starlette, "
        "FastAPI, Quart-trio), make it a WSGI app, or serve it by itself and push with portico.AsyncPublisher."
    )


def where(error: BaseException) -> str:
    """The exception, and the last line of the operator's own that led to it: not of Python, of a package or of ours,
    unless the error is a package's alone."""
    frames = traceback.extract_tb(error.__traceback__)
    files = [frame for frame in frames if not frame.filename.startswith(("<", _OURS))]
    theirs = [frame for frame in files if not frame.filename.startswith((*_PYTHON, *_PACKAGES))]
    packages = [frame for frame in files if frame.filename.startswith(_PACKAGES)]
    at = "".join(f" (line {frame.lineno} of {frame.filename})" for frame in (theirs or packages)[-1:])
    return f"{type(error).__name__}: {error}{at}"


def _imported(name: str, here: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise OwnAppError(
                f"{SETTING} names the module {name!r}, and there is none ({error}); it is looked for in the working "
                f"directory ({here}) and on PYTHONPATH."
            ) from error
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> OwnAppError:
    if needs_asyncio(error):
        return OwnAppError(asyncio_sentence(name))
    why = hidden(error)
    more = "" if why is None else f" {why}"
    return OwnAppError(f"{SETTING} names the module {name!r}, which cannot be imported: {where(error)}.{more}")


def _found(module: ModuleType, name: str | None) -> tuple[Any, str]:
    if name is None:
        for usual in _USUAL:
            if hasattr(module, usual):
                return getattr(module, usual), usual
        name = _USUAL[0]
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise OwnAppError(_no_such(module, name))
        found = getattr(found, part)
    return found, name


def _no_such(module: ModuleType, name: str) -> str:
    others = [f"{module.__name__}:{other}" for other, value in vars(module).items() if _looks_like_app(value)]
    hint = f"; perhaps {' or '.join(others[:3])} is meant" if others else ""
    return f"{SETTING} names {module.__name__}:{name}, but {module.__name__} has no {name!r}{hint}."


def _looks_like_app(value: object) -> bool:
    if inspect.isclass(value) or inspect.isfunction(value) or not callable(value):
        return False
    return next(_paths(value), None) is not None


def _made(factory: Any, named: str) -> Any:
    if not callable(factory):
        raise OwnAppError(f"{SETTING}={named}() calls what is no function: leave the brackets out.")
    try:
        return factory()
    except (Exception, SystemExit) as error:
        if needs_asyncio(error):
            raise OwnAppError(asyncio_sentence(f"{named}()")) from error
        raise OwnAppError(f"{SETTING}={named}() could not make the app: {where(error)}.") from error


def _judged(app: Any, named: str) -> Loaded:
    for kind in type(app).__mro__:
        remedy = _NEED_ASYNCIO.get((kind.__module__, kind.__qualname__))
        if remedy is not None and not any(base.__module__.startswith("quart_trio.") for base in type(app).__mro__):
            raise OwnAppError(f"{SETTING}={named} needs asyncio, and Portico runs on trio: {remedy}.")
    if inspect.iscoroutine(app):
        app.close()
        raise OwnAppError(f"{SETTING}={named} is an async function's result; let the factory be a plain function.")
    if inspect.isclass(app):
        raise OwnAppError(f"{SETTING}={named} is a class and no app: name an instance of it.")
    if not callable(app):
        raise OwnAppError(
            f"{SETTING}={named} is of type {type(app).__name__} and no app; name an ASGI app that runs on trio, or a "
            "WSGI app."
        )
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None)):  # noqa: B004 - its method is asked
        return Loaded("asgi", app, named, frozenset(_paths(app)), frozenset(_paths(app, sockets=True)))
    wanted = _parameters(app)
    if wanted == 0:
        raise OwnAppError(f"{SETTING}={named} takes no parameters; if it makes the app, write {named}().")
    if wanted == 1:
        raise OwnAppError(f"{SETTING}={named} takes one parameter, as apps of ASGI 2 did; ASGI 3 or WSGI is served.")
    return Loaded("asgi" if wanted == 3 else "wsgi", app, named, frozenset(_paths(app)))


def _parameters(app: Any) -> int | None:
    """How many positional parameters a call must have; None where that can't be known."""
    try:
        parameters = list(inspect.signature(app).parameters.values())
    except (TypeError, ValueError):
        return None
    kinds = inspect.Parameter
    if any(one.kind is kinds.VAR_POSITIONAL for one in parameters):
        return None
    positional = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    return sum(1 for one in parameters if one.kind in positional and one.default is one.empty)


def _paths(app: object, *, sockets: bool = False) -> Iterator[str]:
    """The paths of an app's routes, where its framework shows them: Flask's and Quart's, Starlette's and FastAPI's,
    Django's; also through what is put around an app."""
    for _ in range(_MOST_AROUND):
        with suppress(Exception):  # another framework has something else by this name
            rules: Callable[[], Iterable[Any]] | None = getattr(getattr(app, "url_map", None), "iter_rules", None)
            if rules is not None:
                yield from [str(rule.rule) for rule in rules() if bool(rule.websocket) is sockets]
                return
            routes = getattr(app, "routes", None)
            if isinstance(routes, list):
                for route in routes:
                    if hasattr(route, "path") and ("WebSocket" in type(route).__name__) is sockets:
                        yield str(route.path)
                return
        if any((kind.__module__, kind.__qualname__) == _DJANGO for kind in type(app).__mro__):
            if not sockets:
                yield from _django_paths()
            return
        app = next((inside for name in _INSIDE if callable(inside := getattr(app, name, None))), None)


def _django_paths() -> list[str]:
    """Those of the one URL configuration of the process. What it can't be read for, the first request tells."""
    found: list[str] = []
    with suppress(Exception, SystemExit):
        _walk(sys.modules["django.urls"].get_resolver().url_patterns, "/", found)
    return found


def _walk(patterns: Iterable[Any], prefix: str, found: list[str]) -> None:
    for one in patterns:
        # A path's text, or a regular expression: of those, one that is a plain path but for its ends.
        text = str(one.pattern)
        if not hasattr(one.pattern, "_route"):
            text = text.removeprefix("^").removesuffix("$")
            if not _PLAIN.fullmatch(text):
                continue
        if hasattr(one, "url_patterns"):
            _walk(one.url_patterns, prefix + text, found)
        else:
            found.append(prefix + text)
