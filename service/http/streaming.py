"""Streaming: what the pages ask before they connect: who answers, where, and what they must show.

Open to everybody, as the pages are, so nothing here is secret: no key, no worker's name, no address of a model's API.
The page for streamed answers asks anew before each connection, so it finds its way when a deployment changes.
"""

from typing import Final

from service.core.ports import HttpAnswer

from .answers import json_answer
from .forms import StreamingInfo
from .parts import Parts
from .request import HttpHandler, HttpRequest

FOR_PAGES: Final = frozenset({"getStreamingInfo"})
"""Routes that are there for the pages only, and go with them."""
CHAT: Final = "chat"
ECHOES: Final = ("streaming.echo", "echo")
"""Commands that echo in parts, the best first: the gateway's own one always does, a worker's if it knows how."""
LONGEST_ANSWER: Final = 600.0
"""Seconds that the page gives one answer, if the gateway lets requests take as long."""
NO_MODEL: Final = (
    "Set `OPEN_API_KEY` to the key of a model's API (and `OPEN_API_BASE_URL` for any other than OpenAI's) and start "
    "the gateway again, or connect a worker that has them: `portico worker --commands chat`."
)
HINTS: Final = {
    "token": "This gateway wants a token from whoever asks its workers: a JWT with the role requester. Its operator "
    "makes one: `portico token make --role requester`.",
    "closed": "This gateway is in production and lets nobody ask its workers without a proof, and a page has none to "
    "show. Its operator sets `PORTICO_AUTH=optional` and `PORTICO_JWT_SECRET`, and gives out what "
    "`portico token make --role requester` prints; or opens it to everybody: `PORTICO_OPEN_REQUESTERS=true`.",
}


def streaming_handlers(parts: Parts) -> dict[str, HttpHandler]:
    """The handlers of this module, by operation."""
    places, dispatcher, access = parts.places, parts.dispatcher, parts.way_in_for_pages

    def info(request: HttpRequest) -> HttpAnswer:
        chat = dispatcher.is_named(CHAT)
        # A public address is where the operator has WebSockets go, which need not be where this page came from.
        here = places.takes_websockets and not places.draining and places.public_url is None
        told = StreamingInfo(
            chat=chat,
            echo=parts.own_echo or next((name for name in ECHOES if dispatcher.is_named(name)), None),
            model=parts.chat_model,
            hint=None if chat else parts.chat_hint or NO_MODEL,
            socket="here" if here else "elsewhere",
            access=access,
            access_hint=HINTS.get(access),
            client_access=parts.client_way_in_for_pages,
            timeout=min(LONGEST_ANSWER, dispatcher.max_timeout),
        )
        return json_answer(200, told)

    return {"getStreamingInfo": info}
