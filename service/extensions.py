"""Extensions: modules of the operator's own that add actions, message types and dialects to the gateway."""

from collections.abc import Sequence
from importlib import import_module

from service.core.gateway import Gateway


class ExtensionError(Exception):
    """An extension cannot be used; the text is a sentence for the operator."""


def extend(gateway: Gateway, modules: Sequence[str]) -> None:
    """Import each module and call its `extend(gateway)`. Raises ExtensionError."""
    for name in modules:
        try:
            module = import_module(name)
        except ImportError as error:
            raise ExtensionError(
                f"PORTICO_EXTENSIONS names {name!r}, which cannot be imported ({error}); "
                "name a module on the Python path (PYTHONPATH)."
            ) from error
        function = getattr(module, "extend", None)
        if not callable(function):
            raise ExtensionError(f"PORTICO_EXTENSIONS names {name!r}, which has no function extend(gateway); add one.")
        try:
            function(gateway)
        except ValueError as error:
            raise ExtensionError(f"The extension {name!r} could not be added: {error}.") from error
