"""Operation: something that an operator asks of a gateway by HTTP, once as a command of its own, once as a console's.

`portico push user:u1 greeting` and the line `push user:u1 greeting` in a console are one function, with the same
arguments, the same help and the same answers. The function gets a Call (the gateway's API, and where answers go) and
its arguments, and returns an exit code; what it raises on purpose is a ClientError or a click.UsageError.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import click
import msgspec

from portico.client.errors import printable
from portico.publisher.calls import Target

from .addressing import api_key_option, default_base_url, http_address_options, key_of, trusted
from .api import Api
from .outcomes import run
from .screen import Screen

KINDS: Final = ("user", "client", "channel", "node", "domain", "cluster")


@dataclass(frozen=True, slots=True)
class Asked:
    """What an operation works with. `interactive`: a person at a prompt, who may stop it and goes on afterwards."""

    api: Api
    screen: Screen
    interactive: bool = False


Work = Callable[..., Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, as a command of the shell's and as a command of the console's.

    `line` parses a console's arguments; its callback returns them, for `work`.
    """

    name: str
    work: Work
    script: click.Command
    line: click.Command


def operation(name: str) -> Callable[[Work], Operation]:
    """Make an Operation of an async function, whose arguments are given by click's decorators below this one."""

    def make(work: Work) -> Operation:
        own: list[click.Parameter] = list(reversed(getattr(work, "__click_params__", [])))
        as_json = click.Option(["--json", "as_json"], is_flag=True, help="Answer in JSON, a line for each answer.")

        def call_from_shell(
            base_url: str | None, ca_file: str | None, api_key: str | None, as_json: bool, **arguments: Any
        ) -> None:
            ssl_context = trusted(ca_file)
            key = key_of(api_key)

            async def program() -> int:
                async with Api(base_url or default_base_url(), api_key=key, ssl_context=ssl_context) as api:
                    return await work(Asked(api, Screen(as_json=as_json)), **arguments)

            run(program)

        shell = http_address_options(api_key_option(call_from_shell))
        around: list[click.Parameter] = list(reversed(getattr(shell, "__click_params__", [])))
        return Operation(
            name,
            work,
            click.Command(name, params=[*own, *around, as_json], callback=shell, help=work.__doc__),
            click.Command(
                name,
                params=[*own, as_json],
                callback=lambda **arguments: arguments,
                help=work.__doc__,
                context_settings={"help_option_names": ["-h", "--help"]},
            ),
        )

    return make


class JsonText(click.ParamType[Any]):
    """An argument that is JSON; `form` says what may be in it, in words, where not anything may."""

    name = "JSON"

    def __init__(self, *, needs_object: bool = False) -> None:
        self._needs_object = needs_object

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value that the text stands for."""
        if not isinstance(value, str):
            return value
        try:
            found = msgspec.json.decode(value.encode())
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
            text = "" if self._needs_object else ", or '\"a text\"' with both pairs of quotes"
            self.fail(f'must be JSON, such as {{"items": 3}}{text}: {printable(str(error))}.', param, ctx)
        if self._needs_object and not isinstance(found, dict):
            self.fail('must be a JSON object, such as {"items": 3}.', param, ctx)
        return found


class TargetText(click.ParamType[Target]):
    """Whom a push is for: `user:u1`, `client:c1`, …, or `all`."""

    name = "TARGET"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        """The target that the text stands for."""
        if isinstance(value, Target):
            return value
        if value == "all":
            return Target(all=True)
        kind, colon, name = str(value).partition(":")
        if not colon or not name or kind not in KINDS:
            self.fail(
                f"{printable(str(value))!r} is no target: give all, or one of "
                + ", ".join(f"{known}:ID" for known in KINDS)
                + ".",
                param,
                ctx,
            )
        address: dict[str, Any] = {f"{kind}_id": name}
        return Target(**address)


class ClientId(click.ParamType[str]):
    """The id of a client that is connected; a console completes it."""

    name = "CLIENT_ID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it is, unless it is empty."""
        if not value:
            self.fail("must not be empty.", param, ctx)
        return str(value)


class UserId(ClientId):
    """The id of a user; a console completes it."""

    name = "USER_ID"
