"""POST and GET /api/revocations."""

from typing import Any

import pytest

from service.core.connections import revoking

from .stage import BEARER, KEY, house, problem


async def test_what_is_taken_back_is_told_and_listed() -> None:
    at = house(api_keys=[KEY])
    now = at.stage.clock.wall()
    made = await at.call("POST", "/api/revocations", headers=BEARER, json={"user_id": "ann", "ttl": 60})
    assert made.status_code == 201
    told = {"user_id": "ann", "token_id": None, "tenant": None, "issued_before": None, "created_at": now}
    assert made.json() == {**told, "expires_at": now + 60}
    more: list[dict[str, Any]] = [{"token_id": "j1"}, {"tenant": "shop", "issued_before": 5.0}, {"issued_before": 7}]
    for body in more:
        assert (await at.call("POST", "/api/revocations", headers=BEARER, json={**body, "ttl": 9})).status_code == 201
    page = (await at.call("GET", "/api/revocations?limit=3", headers=BEARER)).json()
    assert (page["total"], page["next_offset"], len(page["revocations"])) == (4, 3, 3)
    rest = (await at.call("GET", "/api/revocations?limit=3&offset=3", headers=BEARER)).json()
    assert rest["next_offset"] is None
    names = ("user_id", "token_id", "tenant", "issued_before")
    found = {tuple(one[name] for name in names) for one in page["revocations"] + rest["revocations"]}
    assert found == {
        ("ann", None, None, None),
        (None, "j1", None, None),
        (None, None, "shop", 5.0),
        (None, None, None, 7.0),
    }


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"user_id": "ann"}, "missing_field", "ttl"),
        ({"ttl": 60}, "bad_field", "user_id"),
        ({"user_id": "ann", "tenant": "shop", "ttl": 60}, "bad_field", "tenant"),
        ({"token_id": "j1", "issued_before": 5, "ttl": 60}, "bad_field", "issued_before"),
        ({"user_id": "", "ttl": 60}, "bad_field", "user_id"),
        ({"user_id": "a\u202eb", "ttl": 60}, "bad_field", "user_id"),
        ({"user_id": "ann", "ttl": 0}, "bad_field", "ttl"),
        ({"user_id": "ann", "ttl": 367 * 86_400}, "bad_field", "ttl"),
        ({"issued_before": 1_732_000_000_000, "ttl": 60}, "bad_field", "issued_before"),
        ({"user": "ann", "ttl": 60}, "bad_field", None),
    ],
)
async def test_what_is_not_said_right_does_nothing(body: dict[str, Any], code: str, field: str | None) -> None:
    at = house(api_keys=[KEY])
    status, told, where = problem(await at.call("POST", "/api/revocations", headers=BEARER, json=body))
    assert (status, told) == (400, code)
    assert field is None or where == field
    assert (await at.call("GET", "/api/revocations", headers=BEARER)).json()["total"] == 0


async def test_one_too_many_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revoking, "LIMIT", 0)
    at = house(api_keys=[KEY])
    answer = await at.call("POST", "/api/revocations", headers=BEARER, json={"user_id": "ann", "ttl": 60})
    assert problem(answer)[:2] == (503, "unavailable")
