"""Own apps in a split deployment: the processes of the API run it, those for WebSockets leave it out."""

import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.backplane.redis_server import RedisServer
from tests.split.deployment import NodeProcess

pytestmark = pytest.mark.live

APP = "tests.own_app.hostile:app"


def test_the_api_serves_it_and_nodes_for_websockets_do_not(tmp_path: Path) -> None:
    with ExitStack() as running:
        redis = RedisServer(tmp_path / "redis")
        redis.start()
        running.callback(redis.kill)
        shared = {"REDIS_URL": redis.url, "PORTICO_APP": APP}
        api, node = (NodeProcess(tmp_path, name, name, shared) for name in ("api", "websocket"))
        for process in (api, node):
            process.start()
            running.callback(process.kill)
        for process in (api, node):
            process.wait_ready()
        with httpx.Client(trust_env=False, timeout=60) as caller:
            assert caller.get(f"{api.base_url}/hello").text == "GET /hello"
            assert caller.get(f"{api.base_url}/raises").status_code == 500
            with connect(f"ws://127.0.0.1:{api.port}/chat", proxy=None, open_timeout=60) as chat:
                chat.send("hello")
                assert chat.recv(60) == "HELLO"
            # What is the gateway's stays so, though WebSockets are elsewhere.
            with pytest.raises(InvalidStatus) as refused:
                connect(f"ws://127.0.0.1:{api.port}/ws", proxy=None, open_timeout=60)
            assert refused.value.response.status_code == 404
            assert "websocket-info" in (refused.value.response.body or b"").decode()

            assert caller.get(f"{node.base_url}/hello").status_code == 426
            with pytest.raises(InvalidStatus) as refused:
                connect(f"ws://127.0.0.1:{node.port}/chat", proxy=None, open_timeout=60)
            assert refused.value.response.status_code == 404
            # Discovery sends nobody to the API for the gateway's own.
            give_up = time.monotonic() + 60
            while (found := caller.get(f"{api.base_url}/api/b-client/websocket-info")).status_code == 503:
                assert time.monotonic() < give_up  # the API hears of the node by Redis, a moment after it is ready
                time.sleep(0.05)
            assert found.json()["websocket_url"] == f"ws://127.0.0.1:{node.port}"
        assert "the app has started" in api.log.read_text()
        assert "the app has started" not in node.log.read_text()
        assert "PORTICO_APP is ignored where API_TYPE is websocket" in node.log.read_text()
