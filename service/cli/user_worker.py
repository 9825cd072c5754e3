"""What `portico worker module:name` serves: a worker, a table of commands, or one function, out of the user's module.

Knows how to find it and what may be there. An exception of the module's own is shown with its traceback, from the first
line of the user's code on: that is what its author needs. Everything else is a sentence.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final, NoReturn

import click

from portico.client.handlers import Handler, check_handlers
from portico.client.program import left_out
from portico.client.worker import Worker
from portico.wire.safe_text import safe_text
from service.namesake import hidden

from .outcomes import WRONG, fail

LONGEST_LINE: Final = 1000
USUAL_NAMES: Final = ("worker", "commands")
"""What is looked for where only a module is named."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What is to be served. `like`: the user's worker, whose other values count where the command line is silent."""

    commands: Mapping[str, Handler]
    like: Worker | None = None


def load(place: str) -> Offer:
    """What `place` names: `module:name`, `module`, or `folder/file.py:name`. Ends with exit code 2 where that fails."""
    named, _, attribute = place.partition(":")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    with left_out():  # a program that ends in `run(worker.run)` is imported for its worker
        module = _module(named)
    found = _attribute(module, named, attribute)
    try:
        return _offer(found)
    except (TypeError, ValueError) as error:
        fail(WRONG, f"{_quoted(place)} can't be served: {safe_text(str(error), 500)}")


def _offer(found: object) -> Offer:
    """Raises TypeError or ValueError."""
    if isinstance(found, Worker):
        check_handlers(found.commands)
        return Offer(dict(found.commands), found)
    if isinstance(found, Mapping):
        commands = {str(name): handler for name, handler in found.items()}
    elif callable(found) and not isinstance(found, type) and hasattr(found, "__name__"):
        commands = {found.__name__: found}
    else:
        raise TypeError(
            f"it is of the type {type(found).__name__}; a portico.Worker, a dict of names and functions, or a function "
            "is what can be."
        )
    check_handlers(commands)
    return Offer(commands)


def _module(named: str) -> ModuleType:
    try:
        if named.endswith(".py"):
            return _from_file(Path(named))
        return importlib.import_module(named)
    except ModuleNotFoundError as error:
        # Of the module itself, or of a package that it is in: a module that it imports is its author's affair.
        if error.name and (named == error.name or named.startswith(f"{error.name}.")):
            fail(WRONG, f"There is no module {_quoted(named)}, neither in this folder nor installed.")
        _show(named, error)
    except (ValueError, OSError, TypeError) as error:
        fail(WRONG, f"{_quoted(named)} can't be imported: {safe_text(str(error), 500)}")
    except Exception as error:
        _show(named, error)


def _from_file(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        fail(WRONG, f"There is no file {_quoted(str(path))}.")
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _attribute(module: ModuleType, named: str, attribute: str) -> object:
    found: object = module
    if not attribute:
        for usual in USUAL_NAMES:
            if hasattr(module, usual):
                return getattr(module, usual)
        fail(WRONG, f"{_quoted(named)} has neither worker nor commands: name what to serve, as in {named}:NAME.")
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            fail(WRONG, f"The module {_quoted(named)} has no {_quoted(attribute)}.")
    return found


def _show(named: str, error: Exception) -> NoReturn:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith("<frozen") and frame.filename != __file__]
    own = [frame for frame in own if Path(frame.filename).parent.name != "importlib"]
    shown = "".join([*traceback.format_list(own), *traceback.format_exception_only(error)])
    for line in shown.splitlines():
        click.echo(safe_text(line, LONGEST_LINE), err=True)
    why = hidden(error)
    fail(
        WRONG,
        f"The module {_quoted(named)} raises this when it is imported.",
        *([] if why is None else [safe_text(why, LONGEST_LINE)]),
    )


def _quoted(text: str) -> str:
    return f"'{safe_text(text)}'"
