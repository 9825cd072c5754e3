"""What an operator sends: the bodies that go out, and what is said of the answers."""

import json

from service.cli.outcomes import FAILED
from service.cli.pushing import broadcast, login, logins, logout, push, request, send
from tests.cli.desk import Desk, error

RECEIPT = {"id": "p\x1b1", "stream": "user:u1", "offset": 7, "matched": 3, "queued": 2}


async def test_a_push_with_all_that_it_may_have() -> None:
    desk = Desk(RECEIPT)
    assert await desk.run(push, "user:u1", "cart", '{"items": 3}', "--durable", "--ttl", "60", "--id", "p1") == 0
    assert desk.asked[0].url.path == "/api/notifications"
    assert desk.bodies == [
        {"target": {"user_id": "u1"}, "type": "cart", "data": {"items": 3}, "durable": True, "ttl": 60.0, "id": "p1"}
    ]
    assert desk.said == [r"pushed to 2 of 3 connections (id p\x1b1, offset 7 of user:u1)"]
    programs = Desk(RECEIPT, as_json=True)
    await programs.run(push, "all", "note")
    assert json.loads(programs.said[0]) == RECEIPT


async def test_a_broadcast_is_a_text_for_everybody() -> None:
    desk = Desk({**RECEIPT, "stream": None, "offset": None})
    assert await desk.run(broadcast, "back", "at", "ten") == 0
    (body,) = desk.bodies
    assert (body["target"], body["type"]) == ({"all": True}, "broadcast")
    assert body["data"] == {"message": "back at ten", "content": "back at ten"}
    assert "offset" not in desk.said[0]


async def test_logins_begin_end_and_are_listed() -> None:
    desk = Desk({"session_id": "s1", "expires_at": "soon"})
    more = ["--session-data", "[1]", "--more", '{"website_config": {"a": 1}}', "--ttl", "60", "--username", "ann"]
    assert await desk.run(login, "u1", *more) == 0
    (body,) = desk.bodies
    assert {name: body[name] for name in ("username", "session_data", "ttl", "website_config")} == {
        "username": "ann", "session_data": [1], "ttl": 60.0, "website_config": {"a": 1},
    }  # fmt: skip
    assert desk.said == ["session s1, until soon"]
    assert await Desk({"success": True}).run(logout, "s1", "--reason", "revoked") == 0
    gone = Desk(lambda _: error(404, "not_found", "No such session."))
    assert (await gone.run(logout, "s1"), gone.said) == (FAILED, ["there is no such session (any more)"])
    found = Desk({"logins": [{"session_id": "s1", "username": "ann", "created_at": "then"}]})
    assert await found.run(logins, "u1") == 0
    assert found.said[0].splitlines()[-1].split() == ["s1", "ann", "then"]


async def test_who_is_asked_answers_or_fails() -> None:
    for operation, words in ((request, ["add", "[1, 2]"]), (send, ["c1", "confirm", "{}"])):
        desk = Desk({"success": True, "result": {"sum": 3}})
        assert (await desk.run(operation, *words), desk.said) == (0, ['{"sum":3}'])
        failing = {"success": False, "error": "No available workers", "processed_by": "w1"}
        failed = Desk(failing)
        assert await failed.run(operation, *words, "--timeout", "5") == FAILED
        assert failed.bodies[0]["timeout"] == 5.0
        assert failed.said[0].startswith("error: No available workers")
        programs = Desk(failing, as_json=True)
        await programs.run(operation, *words)
        assert json.loads(programs.said[0]) == failing
