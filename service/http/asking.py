"""Asking: one HTTP request as the rooms see it, whatever framework it came through.

The rooms are functions from an Asking to an HttpAnswer that raise PeerFault for what cannot be accepted.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.core.ports import HttpAnswer


class Origin(Protocol):
    """Where a request really came from, trusted proxies taken into account."""

    @property
    def address(self) -> str:
        """The caller's address, no port."""

    @property
    def scheme(self) -> str:
        """`http` or `https`, as the caller used it."""

    @property
    def host(self) -> str:
        """What the caller asked for, `name[:port]`; empty if it didn't say."""


Resolver = Callable[[str, Mapping[str, str], str], Origin]
"""(address of the socket's peer, headers by lower-case name, scheme) → where the request really came from."""

Ready = Callable[[], str | None]
"""None if this node may be sent traffic, else why not, as a sentence."""


@dataclass(frozen=True, slots=True)
class Asking:
    """One request. Header names are lower case; `parameters` are the path's. `peer` is the socket's own peer.

    `read(limit)` gives the whole body; it raises PeerFault `too_large` beyond `limit` bytes.
    """

    origin: Origin
    peer: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    parameters: Mapping[str, str]
    read: Callable[[int], Awaitable[bytes]]

    def check_query(self, *names: str) -> None:
        """Refuse a query with anything but `names`: a filter that is misspelt must not select everything.

        Raises PeerFault `bad_field`.
        """
        for name in self.query:
            if name not in names:
                known = ", ".join(names) if names else "none"
                raise PeerFault(
                    ErrorCode.BAD_FIELD, f"The query has a parameter that is not known here; known: {known}."
                )


Handler = Callable[[Asking], Awaitable[HttpAnswer]]
