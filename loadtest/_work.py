"""The users that locust runs whose connections are not C-Clients': listeners, requesters and workers.

Knows at which path each has its connection; what is said there is its session's.
"""

from __future__ import annotations

import time
from argparse import Namespace
from typing import ClassVar

from locust import tag, task

from loadtest._link import Link, LinkClosedError
from loadtest._member import BrokenOffError
from loadtest._preflight import Door
from loadtest._sessions import Listening, Requesting, Session, Working
from loadtest._user import NEVER, Connected


class Worked(Connected):
    """What they have in common: one session per connection, at a path of their own."""

    abstract = True
    path: ClassVar[str] = "/"

    @classmethod
    def door(cls, options: Namespace) -> Door:
        return super().door(options)._replace(path=cls.path)

    def session(self, link: Link) -> Session:
        """A session on that link."""
        raise NotImplementedError

    def owed(self) -> bool:
        """Whether pushes to all must reach it."""
        return False

    def _connection(self) -> float:
        campaign = self.campaign
        link = self._connect(self.path.format(name=self._name))
        if link is None:
            return self._back_off()
        campaign.join(link.opened, owed=self.owed())
        self._has_arrived()
        session = self.session(link)
        try:
            session.start()
            session.over.get()
        except LinkClosedError as error:
            campaign.disconnected(error.cause)
            return self._after(error)
        except BrokenOffError as error:
            return error.wait
        finally:
            campaign.left(time.time(), owed=self.owed())
            session.close()
            link.close(2.0)
        return NEVER


class Listener(Worked):
    """A page that only listens, at `/ws/{user_id}`: from the publishing to the arrival."""

    path = "/ws/{name}"

    def owed(self) -> bool:
        return True

    @tag("listener")
    @task
    def live(self) -> None:
        """One connection's life, and the wait before the next."""
        self.spend()

    def session(self, link: Link) -> Session:
        return Listening(self.campaign, link, self._name)


class Requester(Worked):
    """A program that sends requests, at `/requester`: from when each was due to its answer."""

    path = "/requester"

    @tag("requester")
    @task
    def live(self) -> None:
        """One connection's life, and the wait before the next."""
        self.spend()

    def session(self, link: Link) -> Session:
        return Requesting(self.campaign, link, self._name)


class Worker(Worked):
    """A program that answers requests, at `/worker`, each after `--service-time`."""

    path = "/worker"

    @tag("worker")
    @task
    def live(self) -> None:
        """One connection's life, and the wait before the next."""
        self.spend()

    def session(self, link: Link) -> Session:
        return Working(self.campaign, link, self._name)

    @classmethod
    def door(cls, options: Namespace) -> Door:
        key = options.worker_key
        if options.token and not key:
            return super().door(options)
        return Door(cls.path, "--worker-key", key, as_worker=True)
