"""The app: joins the rooms into one node, and starts and stops it.

The nursery tree, under `portico serve` and under `hypercorn -k trio` alike:

    Hypercorn's worker
    ├── a task for each connection over a TLS of Hypercorn's own, or on a Unix socket
    └── the Quart app's nursery ── Node.run
                                   ├── the reactor, with a listener for each port, and a task for each HTTP request
                                   │   that waits
                                   ├── a task for each connection that the reactor has handed over to Hypercorn
                                   └── background tasks, restarted when they fail: ticker, cleanup

What depends on settings alone is made by `service/assembly.py`; `service/serving.py` runs a node as `portico serve`.
"""

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Final
from urllib.parse import urlsplit

import trio
from quart_trio import QuartTrio

from service import assembly
from service.assembly import StartError
from service.audit import AuditLog, every_line
from service.background import Background
from service.backplane.deployment import Alone, Deployment, OverRedis
from service.backplane.quota_settling import QuotaSettling
from service.chat.echo import COMMAND as ECHO
from service.chat.echo import echo_commands
from service.chat.in_process import InProcessLink
from service.collector import settle_collector
from service.core.back_end_events import BackEndEvent
from service.core.cluster.backplane import NodeState, Publication
from service.core.cluster.discovery import Places
from service.core.cluster.node_selection import Listening, NodeSelection, announcement
from service.core.counters import Metric
from service.core.gateway import Gateway, GatewayParts
from service.core.ports import Gate
from service.core.quota_gate import QuotaGate
from service.core.reply import Reply
from service.core.standstill import Standstill
from service.drain import drain
from service.extensions import ExtensionError, extend
from service.http.access import CallerRates
from service.http.api import Api
from service.http.apis import port_api, whole_api
from service.http.app import create_http
from service.http.forms import AdviceView
from service.http.pages import BESIDE_AN_APP
from service.http.parts import parts_of
from service.http.redirect import Redirects
from service.listening_sockets import ListeningSockets
from service.log_writer import say, writer_for
from service.node_journal import NodeJournal
from service.node_reports import NodeReports
from service.observe import make_log, said
from service.own_app.loading import OwnAppError
from service.own_app.mounted import Mounted
from service.roles import HttpOnly
from service.settings import Settings
from service.sizing import Sizing
from service.transports import asgi, front_door
from service.transports.door import Door
from service.transports.handed_over import HandedOver
from service.transports.native import PortApis, Reactor, ReactorParts
from service.transports.proxies import ProxyRules
from service.vitals import Vitals

TICK: Final = 0.1

LAST_EVENTS: Final = 5.0
"""Seconds that events have at the end to be delivered, where they are in memory only."""


class Node:
    """One gateway process: the core, its transports, its HTTP, its background tasks.

    `app` is the ASGI app. `run` is everything that lasts; `drain` ends the connections, `stop` the rest.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._log_writer = writer_for(sys.stderr)
        self._name: Callable[[], str] = lambda: settings.name
        self.log = make_log(settings.log_format, settings.log_level, writer=self._log_writer, node=self.node_name)
        self._audit_file = assembly.audit_file(settings)
        self.audit = self._audit_log()
        self.state = "starting"
        self._drain_end = 0.0
        self._drained = trio.Event()
        self.reports = NodeReports(self.log)
        self.background = Background(self.reports.on_task_failed)
        self._stop = trio.Event()
        self._clashes: list[str] = []
        self.deployment = self._deployment()
        self._name = lambda: self.deployment.backplane.node
        self.keys = assembly.key_store(settings, self.log)
        self.connect_hook = assembly.connect_hook(settings, self.log)
        self.certificates = assembly.certificates(settings, self.reports.note)
        journal = NodeJournal(self.log, self.deployment)
        self.gateway = Gateway(
            assembly.rules(settings),
            GatewayParts(
                now=time.monotonic,
                wall=time.time,
                defer=lambda call: self.reactor.defer(call),
                journal=journal,
                backplane=self.deployment.backplane,
                login_store=self.deployment.login_store,
                revocations=self.deployment.revocations,
                event_log=self.deployment.events,
                tokens=None if self.keys is None else self.keys.verifier,
                connect_hook=self.connect_hook,
                audit=self.audit,
            ),
        )
        self.reports.counters = self.gateway.counters
        self.courier = assembly.courier(settings, self.deployment.events, self.log)
        if self.courier is not None:
            self.gateway.counters.others.append(self.courier.metrics)
        if self.deployment.events is not None:
            self.gateway.counters.others.append(self._event_metrics)
        self.chat = assembly.chat_worker(
            settings, self.gateway, self.node_name, self.log, self.reports.on_uncounted_error
        )
        self.echo = InProcessLink(self.gateway.dispatcher, self.reports.on_uncounted_error)
        self.gateway.own_commands[ECHO] = self.echo
        self.key_file = assembly.api_key_file(settings, self.gateway, self.log)
        if self.connect_hook is not None:
            self.gateway.counters.others.append(self.connect_hook.metrics)
        self.gateway.counters.others.append(self.deployment.metrics)
        self.gateway.counters.others.append(self._log_metrics)
        self.sizing = Sizing(settings.advise_split_at, settings.advise_streams_at, self.reports.on_advice)
        self.vitals = Vitals(lambda figures: self.sizing.look(len(self.gateway.sessions), figures))
        self.gateway.counters.others.append(self._vital_metrics)
        if self.certificates is not None:
            self.gateway.counters.others.append(self.certificates.metrics)
        try:
            extend(self.gateway, settings.extensions)
        except ExtensionError as error:
            raise StartError(str(error)) from error
        self.own_app = assembly.own_app(settings, self.log)
        if self.own_app is not None:
            self.gateway.counters.others.append(self.own_app.metrics)
        hostname = socket.gethostname()
        self.places = Places(
            environment=settings.environment,
            hostname=hostname,
            local_ip=assembly.local_ip(),
            http_port=settings.port,
            websocket_port=settings.websocket_port,
            public_url=settings.public_websocket_url,
            node_selection=NodeSelection(self.deployment.backplane.nodes, Random()),
            takes_websockets=settings.api_type != "http",
        )
        self.sockets = ListeningSockets(settings, self.places, self.certificates)
        self._announced: NodeState | None = None
        gate: Gate = HttpOnly() if settings.api_type == "http" else self.gateway
        self.quotas = assembly.quotas(settings)
        if self.quotas is not None:
            journal.quota_gate = quota_gate = QuotaGate(self.gateway, self.quotas)
            self.settling = QuotaSettling(self.quotas, self.deployment.settle_quotas, quota_gate.turn_away, self.log)
            self.gateway.counters.others.append(self.settling.metrics)
            if settings.api_type != "http":
                gate = quota_gate
        parts = parts_of(self.gateway, self.places, self.unready, self.drain_when_asked, quotas=self.quotas)
        self.parts = parts = replace(
            parts,
            publish=said(parts.publish, self.log),
            advice=self._advice,
            several=lambda: self.sockets.shared,
            own_echo=ECHO,
            chat_model=settings.chat_model if settings.open_api_key is not None else None,
            page_path="/" if self.own_app is None else BESIDE_AN_APP,
        )
        rate = settings.max_http_requests_per_second
        rates = CallerRates(rate, time.monotonic) if rate else None
        access_log = self.reports.on_request if settings.access_log else None
        ports = port_api(parts, self.reports.on_error, rates=rates, access_log=access_log)
        api = ports
        if settings.api_type != "websocket":
            api = whole_api(parts, self.reports.on_error, rates=rates, access_log=access_log)
        self._make_doors(gate, ports, api, ProxyRules([str(network) for network in settings.trusted_proxies]))

    def _make_doors(self, gate: Gate, ports: Api, api: Api, proxies: ProxyRules) -> None:
        """Make the ways in: the reactor, the ASGI app, the front door. `ports`: the API of the ports for WebSockets,
        `api` that of the port for HTTP."""
        settings = self.settings
        accepted = self.gateway.admission_control.limits

        def address_of(peer: str) -> str | None:
            return None if not peer or proxies.trusts(peer) else peer

        self.pressure = assembly.pressure(settings)
        self.gateway.counters.others.append(self.pressure.metrics)
        mounted = None
        if self.own_app is not None:
            mounted = Mounted(self.own_app, self.gateway.admission_control, proxies.trusts)
            self._clashes = self.own_app.clashes(api.takes, self.gateway.admission_control.leads_somewhere)
        rules = assembly.connection_rules(settings)
        redirects = None
        if settings.redirect_port is not None:
            redirects = Redirects(self.parts, self._tls_port, self.reports.on_error)
        self.reactor = Reactor(
            ReactorParts(
                gate=gate,
                apis=PortApis(websocket=ports, http=api, redirect=redirects),
                counts=self.gateway.counters,
                resolve_source=proxies.resolve,
                pressure=self.pressure,
                log=self.reports.note,
                accepted_connections=accepted,
                address_of=address_of,
                take_over=lambda sock, received, tls: self.handed_over.take(sock, received, tls),
                others_websocket=None if mounted is None else mounted.takes,
                certificates=self.certificates,
            ),
            rules,
        )
        self.app: QuartTrio = create_http(
            api, resolver=proxies.resolve, own_app=None if mounted is None else mounted.http
        )
        self.app.before_serving(self._start)
        self.app.after_serving(self._end)
        if self.courier is not None:
            # When these seconds (5) are over Quart cancels whatever is in its nursery, and `_end` with it.
            self.app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] += LAST_EVENTS
        asgi.register(
            self.app,
            gate,
            self.gateway.counters,
            pressure=self.pressure,
            resolve=proxies.resolve,
            log=self.reports.note,
            rules=rules,
            others=mounted,
        )
        self.door = Door(
            counts=self.gateway.counters,
            log=self.reports.note,
            rules=rules,
            adopt=self.reactor.adopt,
            adopts_http=True,
            accept=self.sockets.accept_http_from,
            accepted_connections=accepted,
            address_of=address_of,
            tls=None if self.certificates is None else self.certificates.reload,
            draining=lambda: self.reactor.draining,
        )
        front_door.install(self.app, self.door)
        self.handed_over = HandedOver(self.app, self.door)

    def _deployment(self) -> Deployment:
        settings = self.settings
        if settings.redis_url is None:
            return Alone(
                node=settings.name,
                length=settings.history_length,
                ttl=settings.history_ttl,
                history_bytes=settings.history_bytes,
                events=assembly.event_rules(settings, self._present),
            )
        try:
            return OverRedis(
                settings.redis_url.get_secret_value(),
                assembly.shared_rules(settings),
                node=settings.name,
                publish=self._publish,
                present=lambda: self.gateway.hub,
                log=self.log,
                events=assembly.event_rules(settings, self._present),
            )
        except ValueError as error:
            raise StartError(str(error)) from None

    def _present(self) -> list[BackEndEvent]:
        return self.gateway.events.present()

    def _audit_log(self) -> AuditLog | None:
        if self.settings.audit_log == "off":
            return None
        writer = self._audit_file or self._log_writer
        return AuditLog(
            every_line(make_log("json", "info", writer=writer, node=self.node_name).info), now=time.monotonic
        )

    def _publish(self, publication: Publication, reply: Reply[object]) -> None:
        said(self.gateway.backplane.publish, self.log)(publication, reply)

    # How it is

    def node_name(self) -> str:
        """What this node is called now; before it has joined the others, what it wants to be called."""
        return self._name()

    def unready(self) -> str | None:
        """Why this node should get no traffic now, or None."""
        if self.state != "running":
            return self.state
        down = self.background.down
        if down is not None:
            return f"the task {down} is down"
        if self.keys is not None and self.keys.trouble is not None:
            return self.keys.trouble
        return self.deployment.backplane.trouble or self.deployment.revocations.trouble

    def _event_metrics(self) -> list[Metric]:
        events = self.deployment.events
        dropped = 0 if events is None else events.dropped
        return [
            Metric(
                "events_dropped",
                "Events for back ends that there was no room for, or that a failover lost.",
                dropped,
                counts=True,
            )
        ]

    def _advice(self) -> AdviceView | None:
        advice = self.sizing.advice
        return None if advice is None else AdviceView(advice.mode, advice.strained, advice.reason)

    def _vital_metrics(self) -> list[Metric]:
        text = "The mode that is advised: 0 none, 1 one process, 2 split, 3 split with streams."
        return [*self.vitals.metrics(), Metric("advised_mode", text, self.sizing.step)]

    def _log_metrics(self) -> list[Metric]:
        dropped = 0 if self._log_writer is None else self._log_writer.dropped
        return [Metric("log_lines_dropped", "Log lines that could not be written.", dropped, counts=True)]

    def _tls_port(self) -> int:
        """Where clients reach this gateway over TLS."""
        public = self.settings.public_websocket_url
        parts = None if public is None else urlsplit(public)
        if parts is not None and parts.scheme == "wss":
            return parts.port or 443
        return self.places.http_port

    # Start and stop

    def own_process(self) -> None:
        """The process is this node's alone: its garbage collector, and what nobody can catch (a finalizer's exception,
        a question answered twice or never), which becomes a line of the log and counts as an internal error."""
        settle_collector()
        sys.unraisablehook = self.reports.on_unraisable

    async def prepare(self, workers: int, tls: bool) -> None:
        """Take the ports, for one of Hypercorn's `workers`. Says what is wrong and raises SystemExit: nobody
        there catches a StartError.

        `tls`: Hypercorn was given a certificate of its own.
        """
        try:
            self.sockets.will_speak_tls(by_hypercorn=tls)
            self.sockets.will_be_shared(workers)
            await self.sockets.bind()
            await self.start_own_app()
            self.own_process()
        except StartError as error:
            say(sys.stderr, f"portico: {error}\n")
            raise SystemExit(2) from None

    async def start_own_app(self) -> None:
        """Start the operator's own app, if there is one, before anybody is served. Raises StartError."""
        if self.own_app is None:
            return
        try:
            await self.own_app.start()
        except OwnAppError as error:
            trace = "".join(traceback.format_exception(error.__cause__ or error))
            self.log.debug("the app could not start", trace=trace)
            if not await self.own_app.give_up():
                say(sys.stderr, f"portico: {error}\n")
                self._exit(2)
            raise StartError(str(error)) from None

    def _exit(self, code: int) -> None:
        """End the process at once; nothing else ends an app that ignores its cancellation."""
        if self._log_writer is not None:
            self._log_writer.finish()
        os._exit(code)

    async def _end_own_app(self) -> None:
        if self.own_app is None:
            return
        await self.handed_over.end()
        if not await self.own_app.stop():
            self._exit(0)  # all that was to be done is done

    async def _start(self) -> None:
        self.sockets.check_tls()
        if not self.sockets.bound:
            await self.sockets.bind()
        await self.start_own_app()
        await self.app.nursery.start(self.run)
        for warning in (*self.settings.warnings(), *self._clashes):
            self.log.warning(warning)
        self.log.info("started", **{port: str(value) for port, value in self.sockets.ports().items()})

    async def _end(self) -> None:
        # Whoever comes from now on is refused by the kernel, and has sent nothing that could be lost.
        self.reactor.stop_accepting(http=True)
        await self._deliver_last_events()
        self._stop.set()
        self.log.info("stopped")
        if self.audit is not None:
            self.audit.flush()
        if self._audit_file is not None:
            self._audit_file.finish()
        await self._end_own_app()
        if self._log_writer is not None:
            self._log_writer.finish()  # Hypercorn's processes end without what is registered for their exit

    async def _deliver_last_events(self) -> None:
        """What the courier has in memory is lost at the end. Not in `run`, which Quart cancels when `_end` returns."""
        courier = self.courier
        if courier is None or self.settings.redis_url is not None or courier.idle:
            return
        self.log.info("delivering the last events", waiting=courier.waiting, seconds=LAST_EVENTS)
        with trio.move_on_after(LAST_EVENTS):
            await courier.until_idle()
        if not courier.idle:
            self.log.warning("events for the webhook are lost with this process", waiting=courier.waiting)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`. Cancelling it is safe: connections are cut."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.reactor.run)
                await nursery.start(self.deployment.run)
                await nursery.start(self.handed_over.run)
                for kind, sockets in self.sockets.by_kind():
                    await nursery.start(self.reactor.accept_from, sockets, kind)
                nursery.start_soon(self.background.keep, "ticker", self._tick)
                nursery.start_soon(self.background.keep, "cleanup", self._clean_up)
                nursery.start_soon(self.background.keep, "pressure", self.pressure.run)
                nursery.start_soon(self.background.keep, "vitals", self.vitals.run)
                if self.keys is not None:
                    nursery.start_soon(self.background.keep, "keys", self.keys.run)
                nursery.start_soon(self.background.keep, "revocations", self.deployment.follow_revocations)
                if self.key_file is not None:
                    nursery.start_soon(self.background.keep, "api keys", self.key_file.run)
                if self.connect_hook is not None:
                    nursery.start_soon(self.background.keep, "connect hook", self.connect_hook.run)
                if self.quotas is not None:
                    nursery.start_soon(self.background.keep, "quotas", self.settling.run)
                if self.certificates is not None:
                    nursery.start_soon(self.background.keep, "certificates", self.certificates.run)
                if self.courier is not None:
                    nursery.start_soon(self.background.keep, "webhooks", self.courier.run)
                if self.chat is not None:
                    nursery.start_soon(self.background.keep, "chat", self.chat.run)
                await nursery.start(self.echo.run, echo_commands)
                if self.settings.ingress:
                    nursery.start_soon(self.background.keep, "ingress", self.deployment.take_in)
                self.state = "running"
                task_status.started()
                await self._stop.wait()
                await self.handed_over.end()
                nursery.cancel_scope.cancel()
            self.gateway.cluster_messages.survey.end()
        except Exception as error:
            # An exception in the app's nursery would leave a server that answers HTTP and is deaf otherwise.
            self.state = "broken"
            self.log.critical("the gateway failed and stops", error=f"{type(error).__name__}: {error}")
            signal.raise_signal(signal.SIGTERM)

    async def _tick(self) -> None:
        standstill = Standstill(TICK, trio.current_time())
        while True:
            self.gateway.tick(judge=standstill.may_judge(trio.current_time()))
            if self.audit is not None:
                self.audit.tick()
            self._announce()
            self.deployment.forget_old()
            await trio.sleep(TICK)

    def _announce(self) -> None:
        """Let the other nodes know how this one is, if that has changed."""
        settings, places = self.settings, self.places
        anywhere = settings.host in ("0.0.0.0", "::")
        listening = Listening(
            port=places.websocket_port or places.http_port,
            ip=places.local_ip if anywhere else settings.host,
            machine=places.hostname,
            host=settings.advertised_host,
            tls=self.sockets.speaks_tls,
        )
        state = announcement(
            self.deployment.backplane.node,
            settings.service_role or "combined",
            None if settings.api_type == "http" else listening,
            public_url=settings.public_websocket_url,
            draining=self.state != "running",
            load=len(self.gateway.sessions),
        )
        if state != self._announced:
            self._announced = state
            self.deployment.backplane.announce(state)

    async def _clean_up(self) -> None:
        while True:
            await trio.sleep(self.settings.cleanup_interval)
            self.gateway.dispatcher.drop_statistics()

    async def drain(self) -> None:
        """Tell everybody that the node goes, then close each connection at a random moment within the drain's window,
        those with requests under way last.

        HTTP is answered meanwhile, and new connections get 503. Over within the window and a second. Where a drain is
        under way already, this waits for its end.
        """
        if self.state == "draining":
            await self._drained.wait()
            return
        self._begin_drain()
        await self._end_drain()

    def drain_when_asked(self, by: str | None, address: str | None) -> tuple[int, float]:
        """Begin to drain, unless it has begun, for who has the API key of this name; the process stays. How many
        connections there are, and the seconds that are left of the drain's window."""
        if self.state != "draining":
            self._begin_drain(by, address)
            self.app.nursery.start_soon(self._drain_contained)
        return len(self.gateway.sessions), max(0.0, self._drain_end - trio.current_time())

    async def _drain_contained(self) -> None:
        try:
            await self._end_drain()
        except Exception as error:  # in the app's nursery it would end every other task
            self.reports.on_error(error)

    def _begin_drain(self, by: str | None = None, address: str | None = None) -> None:
        self.state = "draining"
        self.places.draining = True
        # At once, or discovery could name this node as one of the others.
        self._announce()
        seconds = self.settings.drain_seconds
        self.log.info("draining", connections=len(self.gateway.sessions), seconds=seconds)
        self._drain_end = trio.current_time() + seconds
        self.gateway.audit.on_act("drain", by, address, connections=len(self.gateway.sessions), seconds=seconds)
        self.reactor.stop_accepting()

    async def _end_drain(self) -> None:
        seconds = self.settings.drain_seconds
        try:
            async with trio.open_nursery() as nursery:
                if self.own_app is not None:
                    nursery.start_soon(self.own_app.drain, seconds)
                limits = self.gateway.admission_control.limits
                await drain(self.gateway, seconds, lambda: self.reactor.websocket_count, http=lambda: limits.http)
        finally:
            self._drained.set()


def create_app(settings: Settings) -> QuartTrio:
    """The ASGI app of a node with these settings, for `hypercorn -k trio`. Raises StartError."""
    node = Node(settings)
    front_door.install_drain(node.app, node.door, node.drain, prepare=node.prepare)
    return node.app
