"""The settings as people read them: the rows of `portico check`, and the page of the reference.

Both are made from the model, so what they say is what the code does. A secret is never shown, only whether it is set.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic.fields import FieldInfo

from .forms import Form, is_secret, quoted
from .model import Values
from .sources import Source, env_name

NOT_SET: Final = "(not set)"
_MASK: Final = "******** (set)"
_WORDS_FOR_NONE: Final = {"websocket_port": "same", "worker_port": "off"}
_INTRODUCTION: Final = """\
<!-- Made by `python -m service.settings > docs/reference/settings.md`; changes belong in service/settings. -->

# Settings

Portico is set up by environment variables. `portico check` shows the values in force, where each comes from, and
what is wrong with them.

- A file `.env` in the working directory is read too: lines of `NAME=value`, quotes allowed, `#` for comments.
  `${NAME}` is not replaced in it. Variables of the process win over the file, even empty ones.
- An empty variable counts as unset (an empty `WORKER_PORT` as off). Spaces around a value are dropped.
- A variable that begins with `PORTICO_` and is not in the tables below is an error, so typos are caught. The
  exception is what Kubernetes sets by itself for a service called `portico` or `redis` (`PORTICO_SERVICE_HOST`,
  `PORTICO_PORT=tcp://…`, …): inside a cluster that is ignored.
- The environment is production with `ENVIRONMENT=production`, or with `ENVIRONMENT` unset and `PORT` in the process
  environment, where a platform puts it. A `PORT` in `.env` doesn't make production.
- `PORT`, `WEBSOCKET_PORT` and `WORKER_PORT` must differ, except that each may be 0: the system then picks a free
  port.
- Sizes are in bytes, times in seconds. Where 0 switches something off, the table says so.
- A gateway can be several processes that share a Redis (`REDIS_URL`): alike, by `PORTICO_WORKERS`, or split in parts,
  by `SERVICE_ROLE`.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One setting in force: its variable, its value as one would write it, and where that comes from."""

    name: str
    value: str
    source: Source


def rows(settings: Values) -> Iterator[Row]:
    """A row for every setting, in the order of the reference."""
    for field, info in type(settings).model_fields.items():
        value = getattr(settings, field)
        if is_secret(info):
            text = _MASK if value else NOT_SET
        elif value is None:
            text = _WORDS_FOR_NONE.get(field, NOT_SET)
        else:
            text = in_text(value)
        yield Row(env_name(field), text, settings.source(field))


def in_text(value: object) -> str:
    """A value as one would write it in the environment."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, tuple):
        return ",".join(_item(item) for item in value) or NOT_SET
    text = str(value)
    return text if text.isprintable() else quoted(text)


def _item(item: object) -> str:
    match item:
        case (kind, holder, amount):  # a quota
            return f"{kind}/{holder}={amount}"
    return str(item)


def reference_markdown() -> str:
    """The whole page, as Markdown. It depends on the code alone: not on the machine, not on the environment."""
    sections: dict[str, list[str]] = {}
    for field, info in Values.model_fields.items():
        extra = _extra(info)
        form = next(item.words for item in info.metadata if isinstance(item, Form))
        cells = (f"`{env_name(field)}`", form, _default(info, extra), info.description or "")
        row = " | ".join(cell.replace("|", "\\|") for cell in cells)
        sections.setdefault(str(extra["section"]), []).append(f"| {row} |")
    return "\n".join([_INTRODUCTION, *_tables(sections)])


def _tables(sections: dict[str, list[str]]) -> Iterator[str]:
    for heading, lines in sections.items():
        yield f"## {heading}\n"
        yield "| Variable | Value | Default | What it does |"
        yield "|---|---|---|---|"
        yield from lines
        yield ""


def _default(info: FieldInfo, extra: dict[str, Any]) -> str:
    if extra["default"] is not None:
        return str(extra["default"])
    return "none" if info.default in (None, ()) else in_text(info.default)


def _extra(info: FieldInfo) -> dict[str, Any]:
    extra = info.json_schema_extra
    if not isinstance(extra, dict):
        raise TypeError("every field of Settings is made by `setting`")
    return extra
