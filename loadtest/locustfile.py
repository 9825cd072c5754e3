"""The load test: `locust -f loadtest --host http://localhost:8000 --headless -u 500 -r 100 -t 30s`.

The only file here that locust may take for a locustfile: it imports every other one whose name does not
begin with an underscore, each as a module of its own. No LoadTestShape may be visible here: locust would
apply it unasked.
"""

# Locust says that it is typed, but its event hooks are not.
# mypy: untyped-calls-exclude=locust

from locust import events

from loadtest import _conductor, _options
from loadtest._user import CClient, Churner, SlowReader
from loadtest._work import Listener, Requester, Worker

__all__ = ["CClient", "Churner", "Listener", "Requester", "SlowReader", "Worker"]

events.init_command_line_parser.add_listener(_options.add)
_conductor.attach(events, [CClient, Churner, Listener, Requester, SlowReader, Worker])
