"""KeyStore: several sources at once, and what the log says of them. The sources themselves: `test_watched_file`
and `test_jwks_endpoint`."""

import io
import json
from pathlib import Path

import pytest
import trio
import trio.testing

from service.observe import make_log
from service.tokens.key_store import KeyLog, KeyStore, TokenRules
from service.tokens.keys import BadKey, KeyRing, secret_key

from .signing import NOW, SECRET, public_pem


class Quiet:
    def on_keys(self, source: str, count: int) -> None:
        """Not asked about here."""

    def on_key_trouble(self, source: str, problem: str) -> None:
        """Not asked about here."""


def store(rules: TokenRules, more: KeyRing | None = None) -> KeyStore:
    return KeyStore(rules, Quiet(), wall=lambda: NOW, more=more)


def test_keys_of_all_sources_are_in_force_at_once(tmp_path: Path) -> None:
    file = tmp_path / "keys.pem"
    file.write_bytes(public_pem("ES256") + public_pem("EdDSA"))
    made = store(TokenRules(secret=SECRET, key_file=file), more=secret_key("another-secret-" * 4))
    assert len(made.ring()) == 4
    assert made.ring() is made.ring()  # made anew only where a source has other keys
    assert made.trouble is None


async def test_without_any_key_it_says_so_until_the_endpoint_has_answered() -> None:
    made = store(TokenRules(jwks_url="http://127.0.0.1:9/keys"))
    assert made.trouble == "no keys to check tokens with have been read yet"


def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadKey):
        store(TokenRules(secret=SECRET, key_file=tmp_path / "missing.pem"))


def test_the_log_has_each_change_once() -> None:
    said = io.StringIO()
    log = KeyLog(make_log("json", "info", said))
    for count in (1, 1, 2):
        log.on_keys("jwks", count)
    for problem in ("It is away.", "It is away.", "It lies."):
        log.on_key_trouble("jwks", problem)
    log.on_keys("file", 2)
    log.on_keys("jwks", 2)
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    assert [(line["source"], line.get("keys", line.get("problem"))) for line in lines] == [
        ("jwks", 1),
        ("jwks", 2),
        ("jwks", "It is away."),
        ("jwks", "It lies."),
        ("file", 2),
        ("jwks", 2),
    ]


async def test_keys_of_the_file_take_those_before_them_out_of_force(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "keys.pem"
    path.write_bytes(public_pem("ES256"))
    made = store(TokenRules(key_file=path))

    def keys(algorithm: str) -> int:
        return len(made.ring().candidates(algorithm, None))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        path.write_bytes(public_pem("Ed25519") + public_pem("ES384")[:40])  # it is being written
        await trio.sleep(3)
        assert keys("ES256") == 1
        path.write_bytes(public_pem("Ed25519") + public_pem("ES384"))
        await trio.sleep(3)
        assert (keys("ES256"), keys("ES384"), keys("EdDSA")) == (0, 1, 1)
        nursery.cancel_scope.cancel()
