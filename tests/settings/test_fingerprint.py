"""Fingerprints, by what they tell apart. What nodes do with those of others: `backplane/redis/test_apart`."""

from service.settings import Settings
from service.settings.fingerprint import SHARED, fingerprints


def of(**environ: str) -> dict[str, str]:
    return fingerprints(Settings.load(environ))


def test_the_order_of_several_values_makes_no_difference() -> None:
    one, other = "key-number-one-of-two", "key-number-two-of-two"
    assert of(PORTICO_API_KEYS=f"{one},{other}") == of(PORTICO_API_KEYS=f"{other},{one}")
    assert of(PORTICO_API_KEYS=one)["PORTICO_API_KEYS"] != of(PORTICO_API_KEYS=other)["PORTICO_API_KEYS"]


def test_what_a_node_does_not_have_is_left_out() -> None:
    assert "PORTICO_JWT_SECRET" not in of()
    assert "PORTICO_API_KEYS" not in of()
    assert of()["PORTICO_HISTORY_LENGTH"] == of(PORTICO_HISTORY_TTL="5")["PORTICO_HISTORY_LENGTH"]


def test_the_same_value_of_two_settings_looks_different() -> None:
    name = "a-secret-that-is-used-twice-against-all-advice"
    found = of(PORTICO_API_KEYS=name, WEBSOCKET_HANDSHAKE_KEY=name)
    assert found["PORTICO_API_KEYS"] != found["WEBSOCKET_HANDSHAKE_KEY"]


def test_what_may_differ_between_nodes_is_not_among_them() -> None:
    assert of(PORTICO_NAME="one", PORT="1", PORTICO_QUEUE_LIMIT="5") == of(PORTICO_NAME="two", PORT="2")
    assert set(of()) <= set(SHARED)
