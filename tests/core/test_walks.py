"""How far a message walks: the calls from one module of the gateway into another, in one process.

A step is such a call, where the module that is entered decides or does something. No steps are questions that are
answered from a field (whether a session is over, its id, how many there are of something), and what a Reply does to be
called once.
"""

import json
import sys
from collections.abc import Callable
from types import FrameType

from service.http.apis import whole_api
from tests.fakes import stage
from tests.http.stage import BEARER, KEY, house
from tests.http.test_api import head

QUESTIONS = {
    "Session.over", "Session.id", "Hub.__contains__", "Returns.__len__", "BackEndEvents.listening", "Registered.resume",
}  # fmt: skip


def walk(call: Callable[[], object]) -> list[tuple[str, str]]:
    """The steps of a call: each the module that is entered, below `service`, and the function."""
    steps: list[tuple[str, str]] = []

    def enter(frame: FrameType, event: str, _: object) -> None:
        code, before = frame.f_code, frame.f_back
        _, service, module = code.co_filename.rpartition("/service/")
        if event != "call" or not service or before is None or before.f_code.co_filename == code.co_filename:
            return
        if module != "core/reply.py" and code.co_qualname not in QUESTIONS:
            steps.append((module, code.co_qualname))

    sys.setprofile(enter)
    try:
        call()
    finally:
        sys.setprofile(None)
    return steps


def test_a_registration_takes_thirty_steps() -> None:
    at = stage()
    session, peer = at.connect("/ws")
    message = json.dumps({"type": "c_client_register", "client_id": "c1", "user_id": "u1"}).encode()
    steps = walk(lambda: session.receive(message, True))
    assert peer.take()[0]["type"] == "registration_success"
    assert len(steps) <= 30, steps
    assert len([module for module, _ in steps if module == "core/gateway.py"]) == 1, "the gateway is no switchboard"


def test_a_push_from_http_to_the_sockets_comes_back_to_no_module() -> None:
    at = house(api_keys=(KEY,))
    peers = [at.stage.client(client_id=f"c{number}", user_id="u1")[1] for number in range(2)]
    call = whole_api(at.parts).call(head("POST", "/api/notifications", **BEARER))
    assert call is not None
    body = json.dumps({"target": {"user_id": "u1"}, "type": "t", "data": {}}).encode()
    modules = [module for module, _ in walk(lambda: call.answer(body))]
    assert [peer.take() for peer in peers] == [[{"type": "t"}]] * 2
    way = modules[: modules.index("core/dialects/c_client.py") + 1]
    entered = [module for at, module in enumerate(way) if at == 0 or module != way[at - 1]]
    assert len(set(entered)) == len(entered), entered
    assert entered[-4:] == [
        "backplane/memory.py", "core/push/delivery.py", "core/connections/hub.py", "core/dialects/c_client.py",
    ]  # fmt: skip
