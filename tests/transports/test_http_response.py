"""An answer as the bytes of a response."""

import time
from email.utils import parsedate_to_datetime

from service.core.ports import HttpAnswer
from service.transports.http_response import render

ANSWER = HttpAnswer(200, (("a", "b"),), b"hello")


def test_what_goes_out() -> None:
    whole = render(ANSWER, without_body=False, close=False)
    head, _, body = whole.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[:4] == [
        b"HTTP/1.1 200 ", b"x-content-type-options: nosniff", b"a: b", b"content-length: 5",
    ]  # fmt: skip
    assert body == b"hello"
    assert render(ANSWER, without_body=True, close=True).endswith(b"connection: close\r\n\r\n")
    assert b"content-length" not in render(HttpAnswer(204, (), b""), without_body=False, close=False)


def test_the_date_is_now_and_in_the_one_form_that_everybody_reads() -> None:
    response = render(ANSWER, without_body=False, close=False).decode()
    (date,) = [line.removeprefix("date: ") for line in response.split("\r\n") if line.startswith("date: ")]
    assert date.endswith(" GMT")
    assert abs(parsedate_to_datetime(date).timestamp() - time.time()) < 60


def test_no_header_of_ours_breaks_out_of_latin_1() -> None:
    assert b"a: caf\xe9 ?\r\n" in render(HttpAnswer(200, (("a", "café 日"),), b""), without_body=False, close=False)
