"""Lua scripts: files of a package, called by their digest.

A connection whose calls must keep their order loads its scripts first (`load`). Where Redis doesn't know one (SCRIPT
FLUSH, or nobody has loaded it), it is sent whole, which also makes it known.
"""

import hashlib
from importlib import resources
from typing import Protocol

from .commands import Callback
from .faults import Refusal
from .resp import Command, Word


class Ask(Protocol):
    """Asks Redis something and waits for the answer, as `Commands.ask` does. Raises Refusal or Unreachable."""

    async def __call__(self, *words: Word) -> object: ...


class Send(Protocol):
    """Has Redis carry out a command, as `Commands.send` does; `done` is called once, with the answer or an exception
    that says why not."""

    def __call__(self, *words: Word, done: Callback) -> None: ...


class Script:
    """One script, a file of a package's."""

    def __init__(self, package: str, file: str) -> None:
        self.text = resources.files(package).joinpath(file).read_bytes()
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()
        self.load: Command = ("SCRIPT", "LOAD", self.text)

    def call(self, keys: Command, arguments: Command) -> Command:
        """The command that runs it, once it is loaded."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)

    def send(self, send: Send, keys: Command, arguments: Command, done: Callback) -> None:
        """Run it in Redis, in its turn among the other commands."""

        def answered(answer: object) -> None:
            if _is_unknown(answer):
                send(*self._whole(keys, arguments), done=done)
            else:
                done(answer)

        send(*self.call(keys, arguments), done=answered)

    async def ask(self, ask: Ask, keys: Command, arguments: Command) -> object:
        """Run it in Redis and wait for its answer. Raises Refusal or Unreachable."""
        try:
            return await ask(*self.call(keys, arguments))
        except Refusal as refusal:
            if not _is_unknown(refusal):
                raise
        return await ask(*self._whole(keys, arguments))

    def _whole(self, keys: Command, arguments: Command) -> Command:
        return ("EVAL", self.text, len(keys), *keys, *arguments)


def _is_unknown(answer: object) -> bool:
    return isinstance(answer, Refusal) and answer.word == "NOSCRIPT"
