"""Lua scripts: loaded once, then called by their digest.

Loaded on every new connection, so that a call sends a digest only; where Redis has forgotten a script meanwhile
(SCRIPT FLUSH), it is sent whole.
"""

import hashlib
from importlib import resources

from .commands import Callback, Commands, Refusal, Word


class Script:
    """One script, a file of a package's."""

    def __init__(self, package: str, file: str) -> None:
        self.text = resources.files(package).joinpath(file).read_bytes()
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()
        self.load: tuple[Word, ...] = ("SCRIPT", "LOAD", self.text)

    def call(self, keys: tuple[Word, ...], arguments: tuple[Word, ...]) -> tuple[Word, ...]:
        """The command that runs it, once it is loaded."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)

    def send(self, commands: Commands, keys: tuple[Word, ...], arguments: tuple[Word, ...], done: Callback) -> None:
        """Run it in Redis, in its turn among the other commands."""

        def answered(answer: object) -> None:
            if isinstance(answer, Refusal) and answer.word == "NOSCRIPT":
                commands.send("EVAL", self.text, len(keys), *keys, *arguments, done=done)
            else:
                done(answer)

        commands.send(*self.call(keys, arguments), done=answered)
