"""The file of API keys: read again when it changes, and never for the worse."""

from pathlib import Path

import httpx
import pytest
import trio

from service.core.api_keys import ApiKey, ApiKeys, Scope, digest_of
from service.tokens.api_key_file import api_key_file
from tests import gateways

from .test_jwks_endpoint import Told

SHOP, DESK = "the-secret-of-the-shop-4711", "the-secret-of-the-desk-0815"


def line(name: str, secret: str, *scopes: Scope) -> str:
    return ApiKey(name, frozenset(scopes), digest_of(secret)).line + "\n"


def test_it_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path, keys, told = tmp_path / "keys", ApiKeys(configured=True), Told()
    path.write_text(line("shop", SHOP, "publish"))
    file = api_key_file(path, keys, told)
    file.load()
    file.look()
    path.write_text(line("shop", SHOP, "publish") + line("desk", DESK, "logins"))
    file.look()
    assert told.counts == [1, 2]
    assert keys.find(DESK)
    path.write_text("# nobody any more\n")
    file.look()
    assert not keys.find(DESK)
    assert told.problems == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"shop publish\n", "Line 1 has 2 fields"),
        (b"\xff\n", "not UTF-8"),
    ],
)
def test_a_broken_file_keeps_the_last_good_one_and_says_so(content: bytes, problem: str, tmp_path: Path) -> None:
    path, keys, told = tmp_path / "keys", ApiKeys(configured=True), Told()
    path.write_text(line("shop", SHOP, "publish"))
    file = api_key_file(path, keys, told)
    file.load()
    path.write_bytes(content)
    file.look()
    assert problem in told.problems[-1]
    assert keys.find(SHOP)
    path.write_text(line("desk", DESK, "publish"))
    file.look()
    assert keys.find(DESK)
    assert not keys.find(SHOP)


@pytest.mark.live
async def test_a_running_gateway_heeds_it_on_connections_that_are_open(tmp_path: Path) -> None:
    path = tmp_path / "api-keys"
    path.write_text(line("shop", SHOP, "publish", "clients:read"))
    settings = {"ENVIRONMENT": "production", "PORTICO_API_KEYS_FILE": str(path)}
    with gateways.gateway(tmp_path, settings=settings) as running:
        headers = {"authorization": f"Bearer {SHOP}"}
        # One connection that is kept: the same head comes again and again.
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(base_url=running.base_url, headers=headers, limits=limits, timeout=30) as http:

            async def until(status: int) -> httpx.Response:
                with trio.fail_after(30):
                    while (answer := await http.get("/api/workers")).status_code != status:  # noqa: ASYNC110 — another process
                        await trio.sleep(0.1)
                return answer

            await until(200)
            assert (await http.delete("/api/clients/c1")).json()["error"]["message"] == (
                "This API key lacks the scope clients:kick."
            )
            path.write_text(line("desk", DESK, "clients:read"))
            await until(401)
            path.write_text(line("shop", SHOP, "publish"))
            assert 'scope="clients:read"' in (await until(403)).headers["www-authenticate"]
            path.write_text(line("shop", SHOP, "clients:read"))
            await until(200)
            path.write_text("not a line\n")
            with trio.fail_after(30):
                while "Line 1 has" not in running.said():  # noqa: ASYNC110 — another process
                    await trio.sleep(0.1)
            await until(200)
        assert SHOP not in running.said()
