"""RESP, both ways."""

import pytest

from service.redis.faults import MalformedReply, Refusal
from service.redis.resp import encode, new_reader


def test_a_command_is_an_array_of_its_words_bytes() -> None:
    words = (b"*4", b"$3", b"SET", b"$4", b"\xc3\xa4\r\n", b"$2", b"\x00\xff", b"$1", b"7", b"")
    assert encode(("SET", "ä\r\n", b"\x00\xff", 7)) == b"\r\n".join(words)
    assert encode(("ECHO", "")) == b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n"


def test_answers_come_whole_however_they_are_cut() -> None:
    answer = b"*4\r\n:1\r\n$2\r\n\r\n\r\n$-1\r\n*0\r\n+OK\r\n"
    reader = new_reader()
    found: list[object] = []
    for byte in answer:
        reader.feed(bytes([byte]))
        while (one := reader.gets()) is not False:
            found.append(one)
    assert found == [[1, b"\r\n", None, []], b"OK"]


def test_an_error_is_an_answer_among_the_others() -> None:
    reader = new_reader()
    reader.feed(b"*2\r\n-OOM command not allowed\r\n:1\r\n")
    refusal, one = reader.gets()
    assert isinstance(refusal, Refusal)
    assert (refusal.word, str(refusal), one) == ("OOM", "OOM command not allowed", 1)


def test_what_is_not_redis_is_told_apart() -> None:
    reader = new_reader()
    reader.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(MalformedReply):
        reader.gets()
