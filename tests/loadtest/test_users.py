"""What the users show who they are by. In a process of their own: locust patches it."""

import json
import subprocess
import sys

from tests.gateways import ROOT
from tests.little_gateway import little_gateway

PROGRAM = """
import json, sys
from argparse import Namespace
import gevent
from locust.env import Environment
from loadtest import locustfile
from loadtest._campaign import Campaign
from loadtest._user import Connected

for kind, token, worker_key in json.loads(sys.argv[2]):
    options = Namespace(token=token, worker_key=worker_key, step_timeout=60.0, heartbeat_interval=0.0, service_time=0.0)
    campaign = Connected.campaign = Campaign(Namespace(parsed_options=options, host=sys.argv[1]))
    user = getattr(locustfile, kind)(Environment())
    user.on_start()
    life = gevent.spawn(user._connection)
    while not user._arrived:
        assert not life.ready(), campaign.part(0)
        gevent.sleep(0.01)
    campaign.finish()
    life.kill()
"""


def test_clients_show_the_token_and_workers_their_key_where_there_is_one() -> None:
    users = [
        ("CClient", "token-1", "key-1"),
        ("Listener", "token-2", "key-2"),
        ("Worker", "token-3", "key-3"),
        ("Worker", "token-4", None),
        ("CClient", None, "key-5"),
    ]
    with little_gateway() as gateway:
        subprocess.run(
            [sys.executable, "-c", PROGRAM, gateway.base_url, json.dumps(users)], cwd=ROOT, check=True, timeout=120
        )
    handshakes = {f"Bearer {secret}" for secret in ("token-1", "token-2", "token-4")}
    assert gateway.secrets == handshakes | {"key-3"}
