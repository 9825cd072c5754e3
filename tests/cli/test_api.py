"""The HTTP API as commands call it: once, with the key, with the gateway's words where it refuses."""

import httpx
import pytest

from portico.client.errors import BadAddress, Unreachable
from portico.publisher import calls
from portico.publisher.answers import Refused
from service.cli.api import Api
from tests.cli.desk import Desk, error


async def test_a_call_is_made_once_whatever_comes_of_it() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/c-client/status":
            raise httpx.ReadError("cut")
        return error(503, "unavailable", "Redis is away.")

    desk = Desk(answer)
    with pytest.raises(Unreachable, match=r"http://gateway\.example"):
        await desk.api.status()
    with pytest.raises(Refused, match="Redis is away") as refused:
        await desk.api.call(calls.kick("c1"))
    assert refused.value.status == 503
    assert [(one.method, one.url.path) for one in desk.asked] == [
        ("GET", "/api/c-client/status"), ("DELETE", "/api/clients/c1"),
    ]  # fmt: skip


async def test_the_key_is_shown_and_what_waits_for_somebody_has_longer() -> None:
    async with Api("http://gateway.example/", api_key="a-key") as api:
        assert (api.base_url, api.has_key) == ("http://gateway.example", True)
        assert api.http.headers["authorization"] == "Bearer a-key"
    desk = Desk({"success": True, "result": 1})
    assert await desk.api.call(calls.request("add", None, 60.0, None, True)) == 1
    assert desk.asked[0].extensions["timeout"]["read"] == 70.0


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(BadAddress):
        Api("gateway.example")
