"""The settings in force, as rows for people. A secret is never shown, only whether it is set."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .forms import quoted
from .problems import is_secret
from .sources import Origin, env_name

if TYPE_CHECKING:
    from .model import Settings

NOT_SET: Final = "(not set)"
_MASK: Final = "******** (set)"
_WORDS_FOR_NONE: Final = {"websocket_port": "same", "worker_port": "off"}


@dataclass(frozen=True, slots=True)
class Row:
    """One setting in force: its variable, its value as one would write it, and where that comes from."""

    name: str
    value: str
    origin: Origin


def rows(settings: "Settings") -> Iterator[Row]:
    """A row for every setting, in the order of the reference."""
    for field, info in type(settings).model_fields.items():
        value = getattr(settings, field)
        if is_secret(info):
            text = _MASK if value else NOT_SET
        elif value is None:
            text = _WORDS_FOR_NONE.get(field, NOT_SET)
        else:
            text = in_text(value)
        yield Row(env_name(field), text, settings.origin(field))


def in_text(value: object) -> str:
    """A value as one would write it in the environment."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value) or NOT_SET
    text = str(value)
    return text if text.isprintable() else quoted(text)
