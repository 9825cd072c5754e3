"""Loading extensions: modules of the operator's own that add actions, message types and dialects to the gateway.

What an extension may use is in `service/extend.py`; this module only imports those that a setting names and calls them.
Promises that whatever is wrong with one is a sentence for the operator that names the module.
"""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from service.core.gateway import Gateway
from service.extend import ExtensionContext
from service.namesake import hidden
from service.own_app.loading import where


class ExtensionError(Exception):
    """An extension cannot be used; the text is a sentence for the operator."""


def extend(gateway: Gateway, modules: Sequence[str]) -> None:
    """Import each module and call its `extend(context)`, in this order. Raises ExtensionError."""
    context = ExtensionContext(gateway)
    for name in modules:
        function = getattr(_imported(name), "extend", None)
        if not callable(function):
            raise ExtensionError(f"PORTICO_EXTENSIONS names {name!r}, which has no function extend(context); add one.")
        try:
            function(context)
        except ValueError as error:
            raise ExtensionError(f"The extension {name!r} could not be added: {error}.") from error
        except Exception as error:
            raise ExtensionError(f"The extension {name!r} could not be added: {where(error)}.") from error


def _imported(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise ExtensionError(
            f"PORTICO_EXTENSIONS names {name!r}, which cannot be imported ({error}); "
            f"{hidden(error) or 'name a module on the Python path (PYTHONPATH).'}"
        ) from error
    except Exception as error:
        raise ExtensionError(f"PORTICO_EXTENSIONS names {name!r}, which cannot be imported: {where(error)}.") from error
