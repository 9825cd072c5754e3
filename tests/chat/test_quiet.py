"""httpx's log of requests to the API, and of no others."""

import logging

import pytest

from service.chat.quiet import quietly


@pytest.mark.parametrize("name", ["httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy"])
def test_only_what_is_said_within_is_dropped(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    log = logging.getLogger(name)
    log.debug("before")
    with quietly():
        log.debug("within")
        log.error("within too")
    log.debug("after")
    assert [record.message for record in caplog.records] == ["before", "after"]
    assert len([one for one in log.filters if "quiet" in type(one).__module__]) == 1
