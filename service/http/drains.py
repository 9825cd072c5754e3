"""POST /api/drain: tell every client of this node to go. Source: HTTP API reference, "Draining".

Knows what an operator is told, and nothing of how a node drains. Promises: the answer comes at once, and asking again
while a node drains, or afterwards, changes nothing.
"""

from collections.abc import Callable

from .answers import json_answer
from .forms import DrainView
from .request import Answering, HttpHandler, HttpRequest

BeginDrain = Callable[[str | None, str | None], tuple[int, float]]
"""(the name of the caller's API key, the caller's address): begin to drain, unless it has begun already. How many
connections there are now, and the seconds within which they are closed."""


def drains_handlers(begin: BeginDrain, node: Callable[[], str]) -> dict[str, HttpHandler]:
    """The handler of this module, by operation."""

    def drain(request: HttpRequest) -> Answering:
        request.check_query()
        request.check_no_fields()
        connections, seconds = begin(request.caller, request.head.address)
        return json_answer(202, DrainView(node(), connections, round(seconds, 3)))

    return {"drain": drain}
