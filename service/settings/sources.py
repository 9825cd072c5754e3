"""Where the values of settings come from: the process environment and a `.env` file.

Knows how the two are read and merged, and which names are Portico's. Knows nothing of what the values mean.
Promises that what it cannot read becomes a sentence, never an exception, and that no sentence quotes a value.
"""

import difflib
import io
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from dotenv.parser import parse_stream

from .forms import quoted

Source = Literal["command line", "environment", ".env", "default", "derived"]

PREFIX: Final = "PORTICO_"

# The names that had a meaning before Portico, or that platforms set; all others begin with the prefix.
BARE: Final = frozenset(
    {
        "host", "port", "websocket_port", "worker_port", "debug", "environment", "service_role", "api_type",
        "redis_url", "redis_host", "redis_port", "websocket_handshake_key", "open_api_key",
        "open_api_base_url", "dyno",
    }
)  # fmt: skip

# What only the platform can know: in a file it would be somebody's guess about where the gateway runs.
PLATFORM_ONLY: Final = frozenset({"DYNO"})

# Kubernetes tells every container of the services beside it. For a service called `portico` those names
# look like settings (PORTICO_PORT=tcp://10.0.0.1:8000), and for one called `redis` REDIS_PORT is overlaid.
SERVICE_LINK: Final = re.compile(
    r"(REDIS|PORTICO(_[A-Z0-9_]+)?)"
    r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)

# What commands read that speak to a gateway, each with the setting that it may be a typo of: alone it is taken for that
# typo, beside the setting it is ignored.
OF_COMMANDS: Final = {"PORTICO_API_KEY": "PORTICO_API_KEYS", "PORTICO_TOKEN": None}


def env_name(field: str) -> str:
    """The environment variable of a field: `port` → `PORT`, `queue_limit` → `PORTICO_QUEUE_LIMIT`."""
    return field.upper() if field in BARE else PREFIX + field.upper()


class SettingsError(Exception):
    """The settings cannot be used. `problems` holds one sentence for everything that is wrong with them."""

    def __init__(self, problems: Collection[str]) -> None:
        self.problems: Final[list[str]] = list(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Found:
    """What the sources hold: the values by name, where each came from, and what could not be understood."""

    values: dict[str, str] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def collect(environ: Mapping[str, str] | None, dotenv: Path | None, known: Collection[str]) -> Found:
    """Read and merge the sources; a real variable wins over the file, even when it is empty.

    `environ` None: the process environment, and `.env` in the working directory if there is one. With a
    mapping given, neither is looked at, and a file only if `dotenv` names it. Empty values are left out.
    """
    found = Found()
    in_process = os.environ if environ is None else environ
    file = dotenv
    if file is None and environ is None and os.path.isfile(".env"):
        file = Path(".env")
    in_file = {} if file is None else _read_file(file, known, found.problems)

    in_kubernetes = "KUBERNETES_SERVICE_HOST" in in_process
    real = {n: v for n, v in in_process.items() if not (in_kubernetes and _is_service_link(n, v, known))}
    for name in sorted({*real, *in_file}):
        if name not in known:
            meant = OF_COMMANDS.get(name)
            if name in OF_COMMANDS and name in real and (meant is None or meant in real or meant in in_file):
                continue
            if name.upper().startswith(PREFIX):
                found.problems.append(_unknown(name, ".env" if name not in real else "the environment", known))
            continue
        if name in PLATFORM_ONLY and name not in real:
            continue
        value = (real[name] if name in real else in_file[name]).strip()
        if value:
            found.values[name] = value
            found.sources[name] = "environment" if name in real else ".env"
        elif name == "WORKER_PORT":
            # An empty worker port is the one empty value that says something: no such port.
            found.values[name] = "off"
            found.sources[name] = "environment" if name in real else ".env"
    return found


def _is_service_link(name: str, value: str, known: Collection[str]) -> bool:
    if not SERVICE_LINK.fullmatch(name):
        return False
    return name not in known or value.startswith(("tcp://", "udp://", "sctp://"))


def _unknown(name: str, where: str, known: Collection[str]) -> str:
    shown = name if re.fullmatch(r"[A-Za-z0-9_]{1,100}", name) else quoted(name)
    near = _like(name.upper().removeprefix(PREFIX), known)
    if near:
        hint = f": did you mean {' or '.join(filter(None, (', '.join(near[:-1]), near[-1])))}?"
    else:
        hint = ", and none is named like it: `python -m service.settings` prints what there is."
    return f"{shown} in {where} is not a setting of Portico{hint}"


_LIKE: Final = 0.55
"""How much of a name a setting has to share: half is common to names that mean nothing like it."""
_AS_LIKE: Final = 0.1


def _like(bare: str, known: Collection[str]) -> list[str]:
    """The settings whose names are like this one, best first: those that are about as much like it as the best is. The
    prefix, which all have, counts for nothing."""
    settings = {name.removeprefix(PREFIX): name for name in sorted(known)}
    if bare in settings:
        return [settings[bare]]
    near = difflib.get_close_matches(bare, settings, cutoff=_LIKE)
    shares = [difflib.SequenceMatcher(None, one, bare).ratio() for one in near]
    return [settings[one] for one, share in zip(near, shares, strict=True) if share >= shares[0] - _AS_LIKE]


def _read_file(file: Path, known: Collection[str], problems: list[str]) -> dict[str, str]:
    shown = quoted(str(file))
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        problems.append(f"The file {shown} is not UTF-8 text: save it as UTF-8.")
        return {}
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a usable path"
        problems.append(f"The file {shown} cannot be read ({reason}): make it readable, or remove it.")
        return {}
    values: dict[str, str] = {}
    # The parser alone, not the library's loader: that one fills in ${NAME} from the process environment,
    # which would let a mapping given by a test depend on the machine, and would break secrets holding "${".
    for binding in parse_stream(io.StringIO(text)):
        line = f"Line {binding.original.line} of {shown}"
        if binding.error:
            problems.append(f"{line} cannot be understood: write NAME=value, or begin the line with #.")
        elif binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
        elif binding.key in known:
            problems.append(f"{line} gives {binding.key} no value: write {binding.key}=value, or remove the line.")
    return values
