"""Readiness of descriptors: epoll where there is one, else whatever `selectors` finds (kqueue on BSD and macOS).

Promises: `fileno` is itself pollable, so that one trio task can wait for all connections at once;
level-triggered; the masks are epoll's on every system.
"""

import select
import selectors
from typing import Final, Protocol

READABLE: Final = 0x001
WRITABLE: Final = 0x004
NOTHING: Final = 0
"""Watch for neither; epoll still reports a connection that was reset."""


class Poller(Protocol):
    """The part of `select.epoll` that the reactor uses."""

    def register(self, fd: int, eventmask: int) -> None: ...
    def modify(self, fd: int, eventmask: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def poll(self, timeout: float | None, maxevents: int) -> list[tuple[int, int]]: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class PollableSelector(Protocol):
    """A selector of the standard library that has a descriptor of its own."""

    def register(self, fileobj: int, events: int) -> object: ...
    def modify(self, fileobj: int, events: int) -> object: ...
    def unregister(self, fileobj: int) -> object: ...
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class SelectorPoller:
    """A Poller over a selector, for systems without epoll."""

    def __init__(self, selector: PollableSelector) -> None:
        self._selector = selector
        self._unwatched: set[int] = set()

    def register(self, fd: int, eventmask: int) -> None:
        self._selector.register(fd, _to_selector(eventmask))

    def modify(self, fd: int, eventmask: int) -> None:
        # A selector refuses an empty mask: what is watched for nothing is not registered.
        if eventmask == NOTHING:
            self._selector.unregister(fd)
            self._unwatched.add(fd)
        elif fd in self._unwatched:
            self._unwatched.discard(fd)
            self.register(fd, eventmask)
        else:
            self._selector.modify(fd, _to_selector(eventmask))

    def unregister(self, fd: int) -> None:
        if fd in self._unwatched:
            self._unwatched.discard(fd)
        else:
            self._selector.unregister(fd)

    def poll(self, timeout: float | None, maxevents: int) -> list[tuple[int, int]]:
        return [
            (key.fd, (mask & 1 and READABLE) | (mask & 2 and WRITABLE)) for key, mask in self._selector.select(timeout)
        ]

    def fileno(self) -> int:
        return self._selector.fileno()

    def close(self) -> None:
        self._selector.close()


def _to_selector(eventmask: int) -> int:
    return (eventmask & READABLE and selectors.EVENT_READ) | (eventmask & WRITABLE and selectors.EVENT_WRITE)


def make_poller() -> Poller:
    """The best that this system has.

    Raises OSError when there is no descriptor left for it, RuntimeError where nothing pollable exists.
    """
    if hasattr(select, "epoll"):
        return select.epoll()
    selector = selectors.DefaultSelector()
    if not hasattr(selector, "fileno"):
        selector.close()
        raise RuntimeError("The native transport needs epoll or kqueue; this system has neither.")
    return SelectorPoller(selector)
