"""Reply: where the answer to one question goes, exactly once.

A caller that asks a port something which may take a round trip hands it a Reply. The port calls the Reply with the
answer, maybe before the call that asked has returned, in the thread that trio runs in. For example:

    logins.get(session_id, Reply(show))       # show(login) is called once, whatever becomes of the store

What is promised to both sides:
- *Not twice*: a second answer is a bug of ours. It is reported, and not delivered.
- *Not never*: a Reply that is dropped without an answer is a bug of ours too, and reported when it is dropped.
- *Not into the port*: an exception of the caller's function is reported, and not raised in the port, where it would
  harm other callers.

Reports go to `sys.unraisablehook`, as those of finalizers do, since nobody could catch them: the app writes them to
the log and counts them; in tests they fail the test.
"""

import sys
from collections.abc import Callable
from typing import Generic, TypeVar

T_contra = TypeVar("T_contra", contravariant=True)


class AnsweredTwice(Exception):
    """A port has answered one question a second time."""


class NeverAnswered(Exception):
    """A port has forgotten a question without an answer."""


class Reply(Generic[T_contra]):
    """The way back to the caller. Call it with the answer, once.

    Making and answering one costs about as much as a closure: there is one for each publication.
    """

    __slots__ = ("_deliver",)

    def __init__(self, deliver: Callable[[T_contra], object]) -> None:
        """`deliver` is called with the answer; it must not wait, and what it returns is ignored."""
        self._deliver: Callable[[T_contra], object] | None = deliver

    def __call__(self, answer: T_contra) -> None:
        """Give the answer. Never raises."""
        deliver = self._deliver
        if deliver is None:
            _report(AnsweredTwice(f"a second answer was given, and is dropped: {type(answer).__name__}"))
            return
        self._deliver = None
        try:
            deliver(answer)
        except Exception as error:
            _report(error)

    def withdraw(self) -> None:
        """The caller has gone: from now on an answer is ignored, and none needs to be given."""
        if self._deliver is not None:
            self._deliver = _ignore

    def __del__(self) -> None:
        if self._deliver is not None and self._deliver is not _ignore and not sys.is_finalizing():
            raise NeverAnswered(f"{getattr(self._deliver, '__qualname__', 'somebody')} will wait for ever")


def _ignore(_: object) -> None:
    pass


class _Report:
    """An error that nobody can catch: Python reports what a finalizer raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __del__(self) -> None:
        raise self._error


def _report(error: Exception) -> None:
    _Report(error)
