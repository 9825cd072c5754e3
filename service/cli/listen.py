"""`portico listen`: a registered client that prints what is pushed to it, until Ctrl-C."""

from typing import Any

import click

from portico.client.client import Client
from portico.client.events import Event
from portico.client.link import LinkOptions
from portico.wire.safe_text import safe_text

from .addressing import address, address_options, find, trusted
from .identity import identity_of, identity_options
from .outcomes import TOKEN, run
from .screen import Screen, json_text


@click.command()
@identity_options
@address_options
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many.")
@click.option("--json", "as_json", is_flag=True, help="Print each push as it came, in JSON.")
def listen(
    url: str | None,
    base_url: str | None,
    ca_file: str | None,
    token: str | None,
    count: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Register as a client, and print what is pushed to it, a line for each event.

    \b
    portico listen --user-id u1
    portico listen --channel-id news --json | jq .headline

    It reconnects for as long as it takes, and then catches up on durable events. Exit code 0 after --count
    events, 3 if the gateway refuses us or sends us away, 130 after Ctrl-C.
    """
    where = address(url, base_url)
    ssl_context = trusted(ca_file)
    identity = identity_of(options)
    screen = Screen(as_json=as_json)

    async def program() -> int:
        await find(where, ssl_context)
        left = count
        client = Client(
            **where,
            identity=identity,
            token=token,
            options=LinkOptions(ssl_context=ssl_context),
            on_event=lambda event: tell(screen, event),
        )
        async with client:
            async for pushed in client:
                screen.answer(pushed, push_text(pushed))
                if left is not None:
                    left -= 1
                    if not left:
                        break
        return 0

    run(program, secret=TOKEN)


def tell(screen: Screen, event: Event) -> None:
    """What happens to the connection, as a line."""
    screen.complain(str(event))


def push_text(pushed: dict[str, Any]) -> str:
    """A push for people: its type, its data, and where it stands in its stream."""
    data = {name: value for name, value in pushed.items() if name not in ("type", "stream", "offset")}
    place = f"  [{safe_text(str(pushed['stream']))} {pushed.get('offset')}]" if "stream" in pushed else ""
    return f"{safe_text(str(pushed.get('type')))}  {json_text(data)}{place}"
