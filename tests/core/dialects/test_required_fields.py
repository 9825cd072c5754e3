"""Fields that a message must have, in every dialect: one that is not there is missing, one that is null is wrong."""

import json
from typing import Any, get_args

import msgspec
import pytest

from portico.wire.dialects import c_client, envelope
from portico.wire.messages import Resume
from tests.fakes import stage

C_CLIENT = {"type": "c_client_register", "client_id": "c1", "user_id": "ann"}


def custom(event: str, **fields: Any) -> dict[str, Any]:
    return {"type": "custom", "data": {"event": event, **fields}}


FULL: list[tuple[str, dict[str, Any], str]] = [
    ("c_client", {"type": "heartbeat"}, "type"),
    ("c_client", {"type": "token_refresh", "token": "a.b.c"}, "token"),
    ("c_client", {"type": "session_feedback", "success": True}, "success"),
    ("c_client", {**C_CLIENT, "resume": {"epoch": "e"}}, "resume.epoch"),
    ("envelope", {"type": "heartbeat"}, "type"),
    ("envelope", {"type": "connect", "data": {"role": "client", "resume": {"epoch": "e"}}}, "data.resume.epoch"),
    ("envelope", {"type": "request", "data": {"action": "get_time"}}, "data.action"),
    ("envelope", custom("capacity", capacity=1), "data.event"),
    ("envelope", custom("capacity", capacity=1), "data.capacity"),
    ("envelope", custom("token_refresh", token="a.b.c"), "data.token"),
    ("requester", {"command": "echo"}, "command"),
]
"""Messages that have all they must have, and a field that one must have."""


def answer_to(dialect: str, message: dict[str, Any]) -> tuple[str, str]:
    """The code and the field that the answer names."""
    house = stage()
    match dialect:
        case "c_client":
            session, _ = house.client(client_id="c1", user_id="ann")
            (answer,) = house.ask(session, message)
            return answer.get("code") or answer["reason"], answer.get("field", "")
        case "envelope":
            session, peer = house.worker("w1")
            house.say(session, message)
            answer = peer.messages[-1]["data"]
            return answer["code"], answer["field"]
        case _:
            session, _ = house.connect("/requester")
            (answer,) = house.ask(session, message)
            return answer["error"], "command"


def changed(message: dict[str, Any], path: str, *, null: bool) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(message))
    *way, last = path.split(".")
    within = copy
    for step in way:
        within = within[step]
    within.pop(last)
    if null:
        within[last] = None
    return copy


@pytest.mark.parametrize(("dialect", "message", "path"), FULL)
def test_a_field_that_must_be_there(dialect: str, message: dict[str, Any], path: str) -> None:
    field = path.removeprefix("data.")
    absent = answer_to(dialect, changed(message, path, null=False))
    null = answer_to(dialect, changed(message, path, null=True))
    if dialect == "requester":  # answers of this dialect have a sentence, which existing programs know, and no code
        assert absent == null == ("Missing command", "command")
    elif message["type"] == c_client.REGISTER:  # a rejection names no field
        assert (absent, null) == (("missing_field", ""), ("bad_field", ""))
    else:
        assert (absent, null) == (("missing_field", field), ("bad_field", field))


def test_that_is_every_such_field() -> None:
    forms = [form for form in vars(envelope).values() if isinstance(form, type) and issubclass(form, msgspec.Struct)]
    forms = [form for form in forms if form.__module__ == envelope.__name__ and not form.__name__.startswith("_")]
    forms += [Resume, *get_args(c_client.Message)]
    needed = {field.encode_name for form in forms for field in msgspec.structs.fields(form) if field.required}
    assert needed == {path.rpartition(".")[2] for dialect, _, path in FULL if dialect != "requester"}
