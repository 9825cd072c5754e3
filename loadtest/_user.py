"""The user that locust runs: one client, from discovery to the end of its connection, and again.

Knows the order of the steps and when to come back; what each step does is elsewhere.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

import gevent
from locust import User, task

from loadtest._api import Api, ApiError
from loadtest._campaign import Campaign
from loadtest._link import Link, LinkClosedError, LinkError
from loadtest._member import HeartbeatLostError, Member, RegistrationError, register

_NEVER: Final = float("inf")
_STAY_AWAY: Final = frozenset({1003, 1007, 1008, 1009, 4001, 4003, 4009, 4010})
_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 30.0
_LINGER: Final = 0.5


class CClient(User):
    """A C-Client: discovers, connects, registers, and stays connected for as long as the test lasts."""

    campaign: ClassVar[Campaign]

    def on_start(self) -> None:
        """Take a name: a client that comes back is the same client."""
        self._name = self.campaign.next_client()
        self._failures = 0

    @task
    def live(self) -> None:
        """One connection's life, and the wait before the next."""
        wait = self._connection()
        # A test that is ending wants no new connections; locust kills this greenlet soon.
        if wait == _NEVER or self.campaign.held_at is not None:
            gevent.sleep(3600)
        else:
            gevent.sleep(wait)

    def _connection(self) -> float:
        """Live through one connection; the seconds after which to come back."""
        campaign = self.campaign
        timeout: float = campaign.options.step_timeout
        try:
            with campaign.step("discover"), Api(campaign.host, None, timeout) as api:
                url = api.websocket_url()
            with campaign.step("connect"):
                link = Link.open(url, timeout)
        except (ApiError, LinkError):
            return self._back_off()
        try:
            try:
                with campaign.step("register"):
                    register(link, self._name, self._name, timeout)
            except LinkClosedError as error:
                return self._after(error)
            except RegistrationError:
                return self._back_off()
            self._failures = 0
            return self._registered(Member(campaign, link, self._name))
        finally:
            link.close(2.0)

    def _registered(self, member: Member) -> float:
        """Stay until the connection ends; the seconds after which to come back."""
        campaign = self.campaign
        left = False
        try:
            member.stay()
        except LinkClosedError as error:
            campaign.disconnected(str(error.code))
            return self._after(error)
        except HeartbeatLostError:
            campaign.disconnected("no heartbeat")
            return self._back_off()
        except gevent.GreenletExit:
            # Locust wants fewer users. Pushes on their way to this one are still owed to it, later ones not.
            if not campaign.finished:
                left = True
                campaign.leave(member)
                member.linger(_LINGER)
            raise
        finally:
            if not left:
                campaign.leave(member)
        return _NEVER

    def _after(self, error: LinkClosedError) -> float:
        """The seconds after which a client comes back that was closed with that code."""
        if error.code in _STAY_AWAY:
            return _NEVER
        window = re.search(r"retry_within_ms=(\d{1,7})\b", error.reason)
        if error.code == 1012 and window:
            return self.campaign.random.uniform(0, int(window[1]) / 1000)
        return self._back_off()

    def _back_off(self) -> float:
        """Seconds, doubled with every failure in a row, and never the same for many clients."""
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**self._failures)
        self._failures += 1
        return longest * self.campaign.random.uniform(0.5, 1.0)
