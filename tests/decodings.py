"""How often messages are decoded: counted while a test runs, whoever decodes them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import BuiltinMethodType, ModuleType
from typing import Any

import msgspec
import pytest

from portico.wire import outline, strict_json


@contextmanager
def counted_decodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sizes of all that is given to JSON decoders while this is open: those that the modules of the gateway and of
    the protocol hold, and those that are made meanwhile."""
    sizes: list[int] = []
    real = msgspec.json.Decoder

    class Counting:
        """A decoder that says what it was given."""

        def __init__(self, *arguments: Any, **more: Any) -> None:
            decoder = arguments[0] if arguments and isinstance(arguments[0], real) else real(*arguments, **more)
            self._decoder = decoder
            self.type = decoder.type

        def decode(self, payload: Any) -> Any:
            sizes.append(len(memoryview(payload)))
            return self._decoder.decode(payload)

    caches = (outline._loose, strict_json._which)
    with monkeypatch.context() as patch:
        for module in _modules():
            for name, value in vars(module).copy().items():
                if type(value) is real:
                    patch.setattr(module, name, Counting(value))
                elif type(value) is BuiltinMethodType and type(value.__self__) is real:
                    patch.setattr(module, name, Counting(value.__self__).decode)
        patch.setattr(msgspec.json, "Decoder", Counting)
        for cache in caches:
            cache.cache_clear()
        yield sizes
    for cache in caches:
        cache.cache_clear()


def _modules() -> list[ModuleType]:
    return [module for name, module in sys.modules.items() if name.startswith(("portico.", "service."))]
