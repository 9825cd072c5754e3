"""The token that a client shows, and where it gets the next one: from a function of the program's.

The function is asked before the first registration if there is no token yet, in good time before the token's end, and
when the gateway has refused the one there is. It may be a plain function, which must not wait for long, or an async
one. It says that there will be no more by returning None or raising NoToken; then the client stops. Anything else that
it raises is reported, and it is asked again after a while.
"""

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from .errors import NoToken, Unreachable, reason_of
from .events import Report, TokenFailed

Refresh = Callable[[], "str | Awaitable[str | None] | None"]
"""Gives the next token; None: there will be none."""

LEAD: Final = 60.0
"""Seconds before a token's end when the next one is asked for; with less than 5 minutes left, a fifth of those."""
PAUSE: Final = 1.0
"""Seconds between two refreshes at least, whatever the clocks say."""
RETRY: Final = 5.0
"""Seconds until the function is asked again after it has failed, or its token was refused."""


class TokenSource:
    """One client's token. `report` is told when the function failed. `wall` is Unix time."""

    def __init__(
        self, token: str | None, refresh: Refresh | None, report: Report, *, wall: Callable[[], float] = time.time
    ) -> None:
        self.token = token
        self.refreshes: Final = refresh is not None
        self._refresh = refresh
        self._report = report
        self._wall = wall
        self._refused = False

    def refused(self) -> None:
        """Note that the gateway has refused the present token."""
        self._refused = True

    async def ready(self) -> None:
        """Ask the function for a token if there is none, or it was refused. Without a function nothing is done. Raises
        NoToken, or Unreachable where the function failed. Cancelling is safe."""
        if self._refresh is not None and (self.token is None or self._refused):
            try:
                await self.renew()
            except NoToken:
                raise
            except Exception as error:
                self._report(TokenFailed(reason_of(error)))
                raise Unreachable(f"There is no token to register with: {reason_of(error)}.") from error

    async def renew(self) -> str:
        """Ask for the next token. Raises NoToken, and whatever else the program's function does. Cancelling is safe."""
        assert self._refresh is not None
        found = self._refresh()
        token = await found if inspect.isawaitable(found) else found
        if token is None:
            raise NoToken("The program has no more tokens for this client.")
        self.token, self._refused = token, False
        return token

    async def due(self, expires_at: float) -> None:
        """Wait until it is time for the next token; `expires_at` is Unix time. Cancelling is safe."""
        left = max(0.0, expires_at - self._wall())
        await trio.sleep(max(left - min(LEAD, left / 5), PAUSE))

    async def next_one(self) -> str:
        """The next token; the function is asked until it gives one. Raises NoToken. Cancelling is safe."""
        while True:
            try:
                return await self.renew()
            except NoToken:
                raise
            except Exception as error:
                self._report(TokenFailed(reason_of(error)))
                await trio.sleep(RETRY)
