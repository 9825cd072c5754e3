"""What a line that was typed says: words, and JSON that needs no quotes.

    push user:u1 cart_updated {"items": 3}      three words and an object
    push user:u1 cart_updated '{"items": 3}'    the same, as in a shell

A word that begins with `{` or `[` goes as far as its JSON value does, or to the end of the line where it is none: then
whoever parses it says what is wrong with it. Knows no command.
"""

import json
import shlex
from dataclasses import dataclass
from io import StringIO

_DECODER = json.JSONDecoder()


class BadLine(ValueError):
    """A line that can't be taken apart, such as one with an open quote."""


def split(line: str) -> list[str]:
    """The words of a line. Raises BadLine."""
    words: list[str] = []
    rest = line.strip()
    while rest:
        if rest[0] in "{[":
            try:
                _, end = _DECODER.raw_decode(rest)
            except (ValueError, RecursionError):
                end = len(rest)
            if not rest[end : end + 1].isspace():
                end = len(rest)
            words.append(rest[:end].rstrip())
        else:
            word, end = _word(rest)
            words.append(word)
        rest = rest[end:].lstrip()
    return words


def _word(text: str) -> tuple[str, int]:
    """The first word, without its quotes, and where it ends."""
    source = StringIO(text)
    lexer = shlex.shlex(source, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        word = lexer.get_token()
    except ValueError as error:
        raise BadLine(f"{str(error).lower()}: close the quote, or leave it out") from None
    return word or "", source.tell()


@dataclass(frozen=True, slots=True)
class Typed:
    """A line that is being typed: the words before the one that the cursor is in, and the beginning of that."""

    before: list[str]
    word: str


def typed(text: str) -> Typed:
    """What is before the cursor. A line that can't be taken apart (yet) is one word."""
    try:
        words = split(text)
    except BadLine:
        return Typed([], text)
    if not text or text[-1].isspace():
        return Typed(words, "")
    return Typed(words[:-1], words[-1]) if words else Typed([], "")
