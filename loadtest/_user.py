"""The users that locust runs whose connections are C-Clients': they come, stay, and come back.

Knows the order of the steps and when to come back; what each step does is elsewhere.
"""

from __future__ import annotations

import re
import time
from argparse import Namespace
from typing import ClassVar, Final

import gevent
from locust import User, tag, task

from loadtest._api import Api, ApiError
from loadtest._campaign import Campaign
from loadtest._link import Link, LinkClosedError, LinkError, at_path
from loadtest._member import BrokenOffError, HeartbeatLostError, Member, NotRecoveredError, RegistrationError
from loadtest._preflight import Door

NEVER: Final = float("inf")
_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 30.0
_LINGER: Final = 0.5


class Connected(User):
    """What all users have in common: finding the gateway, connecting to it, and when to come back."""

    abstract = True
    campaign: ClassVar[Campaign]

    @classmethod
    def door(cls, options: Namespace) -> Door:
        """Where these users come in, and what they show there."""
        return Door(None, "--token", options.token)

    def on_start(self) -> None:
        """Take a name: a client that comes back is the same client."""
        self._name = self.campaign.next_client()
        self._failures = 0
        self._first = True
        self._arrived = False

    def spend(self) -> None:
        """One connection's life, and the wait before the next: the task of every kind, which has a tag of its own."""
        if self._first:
            self._first = False
            self.campaign.may_begin.wait()
            gevent.sleep(self.campaign.turn())
        wait = self._connection()
        end = time.monotonic() + wait
        while (left := end - time.monotonic()) > 0:
            if self.campaign.held_at is not None:
                # A test that is ending wants no new connections; locust kills this greenlet soon.
                self._wait_for_end()
                return
            gevent.sleep(min(left, 1.0))

    def on_stop(self) -> None:
        """Locust wants fewer users."""
        if self._arrived:
            self.campaign.arrived -= 1

    def _wait_for_end(self) -> None:
        gevent.sleep(3600)

    def _has_arrived(self) -> None:
        """Note that the user is registered, and count it if that is for the first time."""
        self._failures = 0
        if not self._arrived:
            self._arrived = True
            self.campaign.arrived += 1

    def _connection(self) -> float:
        """Live through one connection; the seconds after which to come back."""
        raise NotImplementedError

    def _connect(self, path: str | None = None, receive_buffer: int | None = None) -> Link | None:
        """Discover and connect; None if that failed, which is counted.

        Args:
            path: instead of the one in the address that discovery gives.
            receive_buffer: the kernel's, in bytes.
        """
        campaign = self.campaign
        timeout: float = campaign.options.step_timeout
        source = campaign.source()
        try:
            with campaign.step("discover") as ended:
                api = Api(campaign.reactor, campaign.host, None, timeout, source)
                try:
                    answer = api.websocket_url()
                    ended.append(answer.arrived)
                finally:
                    api.close()
            url = str(answer.content)
            if path is not None:
                url = at_path(url, path)
            with campaign.step("connect") as ended:
                link = Link.open(
                    campaign.reactor, url, timeout, token=self._token(), source=source, receive_buffer=receive_buffer
                )
                ended.append(link.opened)
        except (ApiError, LinkError):
            return None
        return link

    def _token(self) -> str | None:
        return self.door(self.campaign.options).in_handshake

    def _after(self, error: LinkClosedError) -> float:
        """Seconds after which a client that was closed so comes back; NEVER if the code says not to."""
        if error.is_final:
            return NEVER
        window = re.search(r"retry_within_ms=(\d{1,7})\b", error.reason)
        if error.code == 1012 and window:
            return self.campaign.random.uniform(0, int(window[1]) / 1000)
        return self._back_off()

    def _back_off(self) -> float:
        """Seconds to wait: doubled with every failure in a row, up to a bound, and jittered."""
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**self._failures)
        self._failures += 1
        return longest * self.campaign.random.uniform(0.5, 1.0)


class Registered(Connected):
    """What those have in common who are C-Clients."""

    abstract = True
    receive_buffer: ClassVar[int | None] = None
    measured: ClassVar[bool] = True
    """Whether it sends heartbeats and its deliveries count."""

    def _connection(self) -> float:
        link = self._connect(receive_buffer=self.receive_buffer)
        if link is None:
            return self._back_off()
        member = Member(self.campaign, link, self._name, self._name, measured=self.measured)
        polite = True
        try:
            try:
                self._register(member)
            except LinkClosedError as error:
                return self._after(error)
            except RegistrationError:
                return self._back_off()
            self._has_arrived()
            polite, wait = self._registered(member, link)
            return wait
        finally:
            member.gone()
            if polite:
                link.close(2.0)
            else:
                link.cut()

    def _register(self, member: Member) -> None:
        kept = self.campaign.kept.get(self._name)
        step = "resume" if kept is not None and kept.resume() else "register"
        try:
            with self.campaign.step(step) as ended:
                ended.append(member.register(self._token()))
        except NotRecoveredError:
            # It is in the statistics; the client is registered, and goes on.
            return

    def _registered(self, member: Member, link: Link) -> tuple[bool, float]:
        """Stay until the connection ends; whether to say good-bye, and the seconds after which to come back."""
        campaign = self.campaign
        if self.measured:
            campaign.enter(member)
            member.start_heartbeats()
        try:
            return self._stay(member, link)
        except LinkClosedError as error:
            campaign.disconnected(error.cause)
            return True, self._after(error)
        except BrokenOffError as error:
            self._linger(member)
            return False, error.wait
        except HeartbeatLostError:
            campaign.disconnected("no heartbeat")
            return False, self._back_off()
        except gevent.GreenletExit:
            # Locust wants fewer users. Pushes on their way to this one are still owed to it, later ones not.
            if not campaign.finished:
                self._linger(member)
            raise

    def _stay(self, member: Member, link: Link) -> tuple[bool, float]:
        member.stay()
        return True, NEVER

    def _linger(self, member: Member) -> None:
        """Take what was sent before this connection leaves."""
        member.leave()
        gevent.sleep(_LINGER)


class CClient(Registered):
    """A C-Client: discovers, connects, registers, and stays connected for as long as the test lasts."""

    @tag("client")
    @task
    def live(self) -> None:
        """One connection's life, and the wait before the next."""
        self.spend()


class Churner(Registered):
    """A C-Client that goes and comes back, politely or as if its machine were gone, and resumes where it was.

    Durable pushes are sent to it whether it is there or not: what it missed has to come, in order, none of it twice.
    """

    @tag("churner")
    @task
    def live(self) -> None:
        """One connection's life, and the wait before the next."""
        self.spend()

    def _has_arrived(self) -> None:
        # What is kept before it was there for the first time is not for it: it has no position to resume from.
        if not self._arrived:
            self.campaign.keepers.append(self._name)
        super()._has_arrived()

    def on_stop(self) -> None:
        """It won't come back: nothing more is owed to it."""
        super().on_stop()
        if self._name in self.campaign.keepers:
            self.campaign.keepers.remove(self._name)

    def _wait_for_end(self) -> None:
        """It comes back all the same, for what it missed."""

    def _stay(self, member: Member, link: Link) -> tuple[bool, float]:
        campaign = self.campaign
        end = time.monotonic() + campaign.random.expovariate(1 / campaign.options.churn_seconds)
        while (left := end - time.monotonic()) > 0 and campaign.held_at is None:
            try:
                with gevent.Timeout(min(left, 1.0)):
                    member.stay()
            except gevent.Timeout:
                continue
        if campaign.held_at is not None:
            member.stay()
        self._linger(member)
        away = campaign.random.uniform(0, 2 * campaign.options.away_seconds)
        return campaign.random.random() >= campaign.options.rude_share, away


class SlowReader(Registered):
    """A C-Client that reads little by little: others must not feel it, and it may be closed with 4008."""

    receive_buffer = 8192
    measured = False

    @tag("slow")
    @task
    def live(self) -> None:
        """One connection's life, and the wait before the next."""
        self.spend()

    def _stay(self, member: Member, link: Link) -> tuple[bool, float]:
        options = self.campaign.options
        while self.campaign.held_at is None:
            link.pause()
            gevent.sleep(options.slow_pause)
            link.resume()
            try:
                with gevent.Timeout(0.05):
                    member.stay()
            except gevent.Timeout:
                continue
            except LinkClosedError as error:
                if error.code != 4008:
                    raise
                return True, self._after(error)
        link.resume()
        member.stay()
        return True, NEVER
