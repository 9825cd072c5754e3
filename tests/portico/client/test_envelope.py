from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from portico.client.envelope import Call, call_of, data_of, message, response

JSON: st.SearchStrategy[Any] = st.sampled_from([None, True, 0, -1.5, "", "text", [], [1], {}, {"id": 1}])
NAMES = st.sampled_from(["type", "msg_id", "data", "action", "params", "request", "id", "attempt", "stream"])


def test_a_request_is_known_by_the_gateway_s_id_and_answered_under_both() -> None:
    call = call_of(
        {
            "type": "request",
            "msg_id": "m1",
            "data": {
                "action": "add",
                "params": [1, 2],
                "request": {"id": "r1", "attempt": 2, "deadline_ms": 5000, "stream": True},
            },
        }
    )
    assert call == Call("r1", "m1", "add", [1, 2], attempt=2, deadline_ms=5000, stream=True)
    answer = response(call, result=3)
    assert (answer["msg_id"], answer["data"]["request_id"]) == ("m1", "r1")


def test_a_request_without_an_id_of_the_gateway_s_is_known_by_its_message() -> None:
    call = call_of({"type": "request", "msg_id": "m1", "data": {"action": "add", "params": None}})
    assert call == Call("m1", "m1", "add", None)


def test_answers_say_what_they_are() -> None:
    call = Call("r1", "m1", "add", None)
    assert response(call, error="no")["data"] == {
        "request_id": "r1",
        "success": False,
        "result": None,
        "error": "no",
    }
    assert response(call, result=1, partial=True)["data"]["partial"] is True


def test_every_message_has_an_id_of_its_own() -> None:
    first, second = message("heartbeat", {}), message("heartbeat", {})
    assert first["msg_id"] != second["msg_id"]
    assert first.keys() == {"type", "msg_id", "timestamp", "data"}


@settings(deadline=None)  # what is asked is whether it breaks, not how loaded the machine is
@given(st.dictionaries(NAMES, JSON | st.dictionaries(NAMES, JSON | st.dictionaries(NAMES, JSON))))
def test_no_message_of_any_shape_breaks_the_reader(envelope: dict[str, Any]) -> None:
    assert isinstance(data_of(envelope), dict)
    call = call_of(envelope)
    assert call is None or (call.request_id is not None and isinstance(call.command, str))
