"""POST /api/drain, before the node: what it is told, and who may."""

from service.core.api_keys import ApiKey, digest_of

from .stage import BEARER, KEY, OUTSIDE, house, problem


async def test_the_node_is_told_who_asks_and_the_answer_says_how_far_it_is() -> None:
    at = house(api_keys=[KEY])
    at.stage.client(client_id="c1")
    told = {"node": "node", "connections": 1, "seconds": 20.0}
    for _ in range(2):
        answer = await at.call("POST", "/api/drain", headers=BEARER, peer=OUTSIDE)
        assert (answer.status_code, answer.json()) == (202, told)
    assert at.drains == [("key-1", OUTSIDE[0])] * 2


async def test_who_may_not_drains_nothing() -> None:
    at = house(api_keys=[ApiKey("shop", frozenset(("publish", "clients:kick")), digest_of(KEY))])
    assert problem(await at.call("POST", "/api/drain", headers=BEARER))[:2] == (403, "forbidden")
    assert problem(await at.call("POST", "/api/drain"))[:2] == (401, "unauthorized")
    assert problem(await house().call("POST", "/api/drain", peer=OUTSIDE))[:2] == (403, "forbidden")
    assert (await at.call("GET", "/api/drain", headers=BEARER)).status_code == 405
    assert at.drains == []


async def test_what_the_query_says_is_looked_at_before_anything_is_done() -> None:
    at = house()
    assert problem(await at.call("POST", "/api/drain?seconds=5"))[0] == 400
    assert at.drains == []
