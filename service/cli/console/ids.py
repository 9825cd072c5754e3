"""The ids that are connected, for completion: asked for when Tab is pressed, and remembered for a moment."""

import time
from collections.abc import Iterable
from typing import Any, Final

import trio

from portico.client.errors import ClientError
from portico.publisher import calls

from ..api import Api
from ..client_rows import FILTERS

FRESH: Final = 3.0
"""Seconds that an answer is good for."""
PATIENCE: Final = 2.0
"""Seconds that a person waits for a completion."""


class Ids:
    """The ids of the first thousand clients of one gateway. To be made in a trio task."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._token = trio.lowlevel.current_trio_token()
        self._rows: list[dict[str, Any]] = []
        self._asked = -FRESH

    def known(self, kind: str) -> Iterable[str]:
        """Ids of a kind, such as `client_id`, sorted; the kinds themselves for an empty one. From any other thread."""
        if not kind:
            return FILTERS
        if kind not in FILTERS:
            return ()
        if time.monotonic() - self._asked >= FRESH:
            try:
                self._rows = trio.from_thread.run(self._ask, trio_token=self._token)
            except (ClientError, trio.RunFinishedError, trio.Cancelled):
                return ()
            self._asked = time.monotonic()
        return sorted({value for row in self._rows if isinstance(value := row.get(kind), str)})

    def forget(self) -> None:
        """Ask again next time: a command may have changed who is there."""
        self._asked = -FRESH

    async def _ask(self) -> list[dict[str, Any]]:
        with trio.move_on_after(PATIENCE):
            page = await self._api.call(calls.clients({}, calls.PAGE, 0))
            rows: list[dict[str, Any]] = page["clients"]
            return rows
        return []
