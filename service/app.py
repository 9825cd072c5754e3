"""The app: joins the rooms into one node, and starts and stops it.

The nursery tree, under `portico serve` and under `hypercorn -k trio` alike:

    Hypercorn's worker
    ├── a task for each connection over a TLS of Hypercorn's own, or on a Unix socket
    └── the Quart app's nursery ── Node.run
                                   ├── the reactor, with a listener for each port, and a task for each HTTP request
                                   │   that waits
                                   ├── a task for each connection that the reactor has handed over to Hypercorn
                                   └── background tasks, restarted when they fail: ticker, cleanup

Only this module and the entry points see the whole settings object.
"""

import errno
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlsplit

import structlog
import trio
from quart_trio import QuartTrio

from portico.version import VERSION
from service.audit import AuditLog, every_line
from service.background import Background
from service.backplane.deployment import Alone, Deployment, EventRules, EventsOfDeployment, OverRedis
from service.backplane.quota_settling import QuotaSettling
from service.banner import banner, how_it_was_called
from service.collector import settle_collector
from service.core.api_keys import ApiKey, is_line, parse_line
from service.core.back_end_events import BackEndEvent
from service.core.cluster.backplane import NodeState, Publication
from service.core.cluster.discovery import Places
from service.core.cluster.node_selection import Listening, NodeSelection, announcement
from service.core.connections.session import Session
from service.core.counters import Metric
from service.core.gateway import Gateway, Rules
from service.core.hosts import host_of
from service.core.ports import Gate, HttpAnswer, HttpHead
from service.core.quota_gate import QuotaGate
from service.core.quotas import Quota, Quotas
from service.core.reply import Reply
from service.drain import drain
from service.extensions import ExtensionError, extend
from service.http.access import CallerRates
from service.http.apis import port_api, whole_api
from service.http.app import create_http
from service.http.forms import AdviceView
from service.http.parts import parts_of
from service.http.redirect import Redirects
from service.log_writer import LogWriter, say, writer_for
from service.observe import LogJournal, event_of, make_log, said
from service.outgoing.network import public_and
from service.outgoing.post import Poster
from service.roles import HttpOnly
from service.settings import Settings
from service.settings.certificates import certificate_problems
from service.settings.fingerprint import fingerprints
from service.sizing import Advice, Sizing
from service.supervision.link import Supervised
from service.tokens.api_key_file import ApiKeyFile
from service.tokens.connect_hook import ConnectHook
from service.tokens.key_store import KeyLog, KeyStore, TokenRules
from service.tokens.keys import BadKey
from service.transports import asgi, front_door
from service.transports.door import Door, Log
from service.transports.handed_over import HandedOver
from service.transports.http_server import serve_http
from service.transports.listener import open_listeners, why_it_cannot_listen
from service.transports.native import Reactor
from service.transports.pressure import Pressure
from service.transports.proxies import ProxyRules
from service.transports.server_certificates import Certificates, TlsFiles
from service.vitals import Vitals
from service.webhooks.courier import CONCURRENT, MAX_ANSWER, Courier

TICK: Final = 0.1
LATECOMERS: Final = 0.5
"""Seconds that who was accepted just before a successor took over has for its handshake."""


LAST_EVENTS: Final = 5.0
"""Seconds that events have at the end to be delivered, where they are in memory only."""


class _NodeJournal(LogJournal):
    """Also tells the deployment who is here."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger, deployment: Deployment) -> None:
        super().__init__(log)
        self._deployment = deployment
        self.quota_gate: QuotaGate | None = None

    def on_registered(self, session: Session) -> None:
        self._deployment.on_registered(session)
        if self.quota_gate is not None:
            self.quota_gate.on_known(session)
        super().on_registered(session)

    def on_closed(self, session: Session, code: int, reason: str, seconds: float) -> None:
        self._deployment.on_closed(session)
        if self.quota_gate is not None:
            self.quota_gate.on_closed(session)
        super().on_closed(session, code, reason, seconds)


class StartError(Exception):
    """The gateway cannot start; the text is a sentence for the operator."""


class Node:
    """One gateway process: the core, its transports, its HTTP, its background tasks.

    `app` is the ASGI app. `run` is everything that lasts; `drain` ends the connections, `stop` the rest.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._log_writer = writer_for(sys.stderr)
        self._name: Callable[[], str] = lambda: settings.name
        self.log = make_log(settings.log_format, settings.log_level, writer=self._log_writer, node=self.node_name)
        self._audit_file = _audit_file(settings)
        self.audit = self._audit_log()
        self.state = "starting"
        self._several = False  # shares its ports with other processes
        self._drain_end = 0.0
        self._drained = trio.Event()
        self.background = Background(self._task_failed)
        self._stop = trio.Event()
        self._speaks_tls = False
        self._http_sockets: list[socket.socket] | None = None
        self._websocket_sockets: list[socket.socket] | None = None
        self._worker_sockets: list[socket.socket] | None = None
        self._redirect_sockets: list[socket.socket] | None = None
        self._bound = False
        self.deployment = self._deployment()
        self._name = lambda: self.deployment.backplane.node
        self.keys = _key_store(settings, self.log)
        self.connect_hook = _connect_hook(settings, self.log)
        self.certificates = _certificates(settings, self._note)
        journal = _NodeJournal(self.log, self.deployment)
        self.gateway = Gateway(
            _rules(settings),
            now=time.monotonic,
            wall=time.time,
            defer=lambda call: self.reactor.defer(call),
            journal=journal,
            backplane=self.deployment.backplane,
            login_store=self.deployment.login_store,
            revocations=self.deployment.revocations,
            audit=self.audit,
            tokens=None if self.keys is None else self.keys.verifier,
            connect_hook=self.connect_hook,
            event_log=self.deployment.events,
        )
        self.courier = _courier(settings, self.deployment.events, self.log)
        if self.courier is not None:
            self.gateway.counters.others.append(self.courier.metrics)
        if self.deployment.events is not None:
            self.gateway.counters.others.append(self._event_metrics)
        self.key_file = _api_key_file(settings, self.gateway, self.log)
        if self.connect_hook is not None:
            self.gateway.counters.others.append(self.connect_hook.metrics)
        self.gateway.counters.others.append(self.deployment.metrics)
        self.gateway.counters.others.append(self._log_metrics)
        self.sizing = Sizing(settings.advise_split_at, settings.advise_streams_at, self._advise)
        self.vitals = Vitals(lambda figures: self.sizing.look(len(self.gateway.sessions), figures))
        self.gateway.counters.others.append(self._vital_metrics)
        if self.certificates is not None:
            self.gateway.counters.others.append(self.certificates.metrics)
        try:
            extend(self.gateway, settings.extensions)
        except ExtensionError as error:
            raise StartError(str(error)) from error
        hostname = socket.gethostname()
        self.places = Places(
            environment=settings.environment,
            hostname=hostname,
            local_ip=_local_ip(),
            http_port=settings.port,
            websocket_port=settings.websocket_port,
            public_url=settings.public_websocket_url,
            node_selection=NodeSelection(self.deployment.backplane.nodes, Random()),
            takes_websockets=settings.api_type != "http",
        )
        self._announced: NodeState | None = None
        proxies = ProxyRules([str(network) for network in settings.trusted_proxies])
        gate: Gate = HttpOnly() if settings.api_type == "http" else self.gateway
        self.quotas = _quotas(settings)
        if self.quotas is not None:
            journal.quota_gate = quota_gate = QuotaGate(self.gateway, self.quotas)
            self.settling = QuotaSettling(self.quotas, self.deployment.settle_quotas, quota_gate.turn_away, self.log)
            self.gateway.counters.others.append(self.settling.metrics)
            if settings.api_type != "http":
                gate = quota_gate
        parts = parts_of(self.gateway, self.places, self.unready, self.drain_when_asked, quotas=self.quotas)
        self.parts = parts = replace(
            parts, publish=said(parts.publish, self.log), advice=self._advice, several=lambda: self._several
        )
        rate = settings.max_http_requests_per_second
        rates = CallerRates(rate, time.monotonic) if rate else None
        access_log = self._log_request if settings.access_log else None
        ports = port_api(parts, self._broke, rates=rates, access_log=access_log)
        api = ports
        if settings.api_type != "websocket":
            api = whole_api(parts, self._broke, rates=rates, access_log=access_log)
        accepted = self.gateway.admission_control.limits

        def address_of(peer: str) -> str | None:
            return None if not peer or proxies.trusts(peer) else peer

        self.pressure = Pressure(
            limit=settings.outbound_limit,
            hard_limit=settings.outbound_hard_limit,
            total_limit=settings.outbound_total_limit,
            slow_seconds=settings.slow_seconds,
        )
        self.gateway.counters.others.append(self.pressure.metrics)
        self.reactor = Reactor(
            gate,
            ports,
            self.gateway.counters,
            resolve_origin=proxies.resolve,
            log=self._note,
            pressure=self.pressure,
            handshake_timeout=settings.handshake_timeout,
            ping_interval=settings.ping_interval,
            pong_timeout=settings.pong_timeout,
            max_messages_per_second=settings.max_messages_per_second,
            max_bytes_per_second=settings.max_bytes_per_second,
            compression=settings.compression,
            h2c=settings.h2c,
            http_api=api,
            accepted_connections=accepted,
            address_of=address_of,
            take_over=lambda sock, received, tls: self.handed_over.take(sock, received, tls),
            certificates=self.certificates,
            redirects=None if settings.redirect_port is None else Redirects(parts, self._tls_port, self._broke),
        )
        self.app: QuartTrio = create_http(api, resolver=proxies.resolve)
        self.app.before_serving(self._start)
        self.app.after_serving(self._end)
        asgi.register(
            self.app,
            gate,
            self.gateway.counters,
            pressure=self.pressure,
            resolve=proxies.resolve,
            log=self._note,
            max_messages_per_second=settings.max_messages_per_second,
            max_bytes_per_second=settings.max_bytes_per_second,
            h2c=settings.h2c,
        )
        self.door = Door(
            counts=self.gateway.counters,
            log=self._note,
            adopt=self.reactor.adopt,
            adopts_http=True,
            accept=self.accept_http_from,
            accepted_connections=accepted,
            address_of=address_of,
            handshake_timeout=settings.handshake_timeout,
            ping_interval=settings.ping_interval,
            pong_timeout=settings.pong_timeout,
            compression=settings.compression,
            h2c=settings.h2c,
            tls=None if self.certificates is None else self.certificates.reload,
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
                events=_event_rules(settings, self._present),
            )
        try:
            return OverRedis(
                settings.redis_url.get_secret_value(),
                node=settings.name,
                prefix=settings.redis_prefix,
                length=settings.history_length,
                ttl=settings.history_ttl,
                lease=settings.node_lease,
                settings=fingerprints(settings),
                publish=self._publish,
                present=lambda: self.gateway.hub,
                log=self.log,
                events=_event_rules(settings, self._present),
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

    def _log_request(self, head: HttpHead, answer: HttpAnswer, received: int, seconds: float) -> None:
        # Without the query: tokens are in it, and what people look for.
        self.log.info(
            "request",
            method=head.method,
            path=head.path,
            status=answer.status,
            address=head.address,
            received=received,
            sent=len(answer.body),
            seconds=round(seconds, 6),
        )

    def _broke(self, error: Exception) -> None:
        self.log.error("internal error", trace="".join(traceback.format_exception(error)))

    def _event_metrics(self) -> list[Metric]:
        events = self.deployment.events
        dropped = 0 if events is None else events.dropped
        return [Metric("events_dropped", "Events for back ends that there was no room for.", dropped, counts=True)]

    def _advise(self, advice: Advice) -> None:
        say = self.log.warning if advice.strained else self.log.info
        say("advice on the mode", mode=advice.mode, reason=advice.reason)

    def _advice(self) -> AdviceView | None:
        advice = self.sizing.advice
        return None if advice is None else AdviceView(advice.mode, advice.strained, advice.reason)

    def _vital_metrics(self) -> list[Metric]:
        text = "The mode that is advised: 0 none, 1 one process, 2 split, 3 split with streams."
        return [*self.vitals.metrics(), Metric("advised_mode", text, self.sizing.step)]

    def _log_metrics(self) -> list[Metric]:
        dropped = 0 if self._log_writer is None else self._log_writer.dropped
        return [Metric("log_lines_dropped", "Log lines that could not be written.", dropped, counts=True)]

    def _note(self, event: str, /, **fields: object) -> None:
        # What Hypercorn says of itself in passing; all else that a transport reports is a warning.
        say = self.log.info if event == "hypercorn_info" else self.log.warning
        say(event_of(event), **fields)

    def _task_failed(self, name: str, error: Exception) -> None:
        self.gateway.counters.background_restarts[name] += 1
        self.log.error("background task failed", task=name, error=f"{type(error).__name__}: {error}")

    def _tls_port(self) -> int:
        """Where clients reach this gateway over TLS."""
        public = self.settings.public_websocket_url
        parts = None if public is None else urlsplit(public)
        if parts is not None and parts.scheme == "wss":
            return parts.port or 443
        return self.places.http_port

    # Start and stop

    async def bind(self, *, reuse_port: bool = False) -> None:
        """Take the ports of the reactor's own, so that a port that is taken is found out before anything starts.

        `reuse_port`: share them with the other processes of the same gateway. Raises StartError.
        """
        self._bound = True
        settings = self.settings
        if self._speaks_tls and self.certificates is None:
            # Hypercorn's certificate is not ours to use, and ports that nobody asked for would be open by surprise.
            self.places.websocket_port = None
            return
        if settings.redirect_port is not None:
            self._redirect_sockets = await _listen(
                settings.host, settings.redirect_port, "PORTICO_REDIRECT_PORT", reuse_port
            )
        if settings.websocket_port is not None:
            self._websocket_sockets = await _listen(
                settings.host, settings.websocket_port, "WEBSOCKET_PORT", reuse_port
            )
            self.places.websocket_port = self._websocket_sockets[0].getsockname()[1]
        if settings.worker_port is not None:
            self._worker_sockets = await _listen(settings.host, settings.worker_port, "WORKER_PORT", reuse_port)

    def take(self, sockets: Mapping[str, list[socket.socket]]) -> None:
        """`bind`, where a supervisor has bound them."""
        self._several = True
        self._websocket_sockets = sockets.get("websocket")
        self._worker_sockets = sockets.get("worker")
        self._redirect_sockets = sockets.get("redirect")
        self._bound = True
        if self._websocket_sockets is not None:
            self.places.websocket_port = self._websocket_sockets[0].getsockname()[1]

    def accept_http_from(self, sockets: list[socket.socket]) -> None:
        """Serve `PORT`, whose sockets these are, by the reactor. Call it before the app is served."""
        self._http_sockets = sockets

    def will_speak_tls(self, *, by_hypercorn: bool = False) -> None:
        """Whoever serves the app has what it takes for TLS, where that is set. Call it before `bind`.

        `by_hypercorn`: with a certificate that Hypercorn was given. Raises StartError.
        """
        ours = self.certificates is not None
        if ours and by_hypercorn:
            raise StartError(
                "Hypercorn has a certificate (--certfile), and PORTICO_TLS_CERT is set too: leave one of them out."
            )
        if by_hypercorn and (plain := self.settings.plain_ports()):
            raise StartError(" ".join(plain))
        self._speaks_tls = ours or by_hypercorn
        self.places.tls = ours
        if self.certificates is not None:
            try:
                self.certificates.load()
            except OSError as error:  # it was good when the settings were read
                raise StartError(f"PORTICO_TLS_CERT and PORTICO_TLS_KEY cannot be used ({error}).") from None

    def own_process(self) -> None:
        """The process is this node's alone: its garbage collector, and what nobody can catch (a finalizer's exception,
        a question answered twice or never), which becomes a line of the log and counts as an internal error."""
        settle_collector()
        sys.unraisablehook = self._on_unraisable

    def _on_unraisable(self, report: "sys.UnraisableHookArgs") -> None:
        self.gateway.counters.internal_errors += 1
        if isinstance(report.exc_value, Exception):
            self._broke(report.exc_value)

    async def prepare(self, workers: int, tls: bool) -> None:
        """`bind`, for one of Hypercorn's `workers`, where nobody catches a StartError: says it, raises SystemExit.

        `tls`: Hypercorn was given a certificate of its own.
        """
        try:
            self.will_speak_tls(by_hypercorn=tls)
            self._several = workers > 1
            if workers > 1:
                self._check_joined(workers)
            await self.bind(reuse_port=workers > 1)
            self.own_process()
        except StartError as error:
            say(sys.stderr, f"portico: {error}\n")
            raise SystemExit(2) from None

    def _check_joined(self, workers: int) -> None:
        settings = self.settings
        if settings.redis_url is None:
            raise StartError(
                f"--workers {workers} would be {workers} gateways that don't know of each other's clients: set "
                "REDIS_URL, or run portico serve --workers, which brings a Redis of its own, or one worker."
            )
        if settings.origin("name") != "derived":
            raise StartError(
                f"--workers {workers} would be {workers} nodes of the name {settings.name}: leave PORTICO_NAME unset."
            )

    async def _start(self) -> None:
        if self.certificates is not None and not self._speaks_tls:
            raise StartError(
                "PORTICO_TLS_CERT is set, but this server can't be told of it and would speak plain HTTP: start the "
                "gateway with portico serve, or give the server the certificate itself (hypercorn --certfile … "
                "--keyfile …) and unset PORTICO_TLS_CERT and PORTICO_TLS_KEY."
            )
        if not self._bound:
            await self.bind()
        await self.app.nursery.start(self.run)
        for warning in self.settings.warnings():
            self.log.warning(warning)
        self.log.info("started", **{port: str(value) for port, value in self.ports().items()})

    async def _end(self) -> None:
        self._stop.set()
        self.log.info("stopped")
        if self.audit is not None:
            self.audit.flush()
        if self._audit_file is not None:
            self._audit_file.finish()
        if self._log_writer is not None:
            self._log_writer.finish()  # Hypercorn's processes end without what is registered for their exit

    def ports(self) -> dict[str, int]:
        """The ports of the reactor's own that are bound, by what they are for."""
        bound = {
            "websocket": self._websocket_sockets,
            "worker": self._worker_sockets,
            "redirect": self._redirect_sockets,
        }
        return {name: sockets[0].getsockname()[1] for name, sockets in bound.items() if sockets}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`. Cancelling it is safe: connections are cut."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.reactor.run)
                await nursery.start(self.deployment.run)
                await nursery.start(self.handed_over.run)
                for kind, sockets in (
                    ("http", self._http_sockets),
                    ("websocket", self._websocket_sockets),
                    ("worker", self._worker_sockets),
                    ("redirect", self._redirect_sockets),
                ):
                    if sockets:
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
                if self.settings.ingress:
                    nursery.start_soon(self.background.keep, "ingress", self.deployment.take_in)
                self.state = "running"
                task_status.started()
                await self._stop.wait()
                await self.handed_over.end()
                if self.courier is not None and self.settings.redis_url is None:
                    # What it has in memory is lost otherwise.
                    with trio.move_on_after(LAST_EVENTS):
                        await self.courier.until_idle()
                nursery.cancel_scope.cancel()
            self.gateway.cluster_messages.survey.end()
        except Exception as error:
            # An exception in the app's nursery would leave a server that answers HTTP and is deaf otherwise.
            self.state = "broken"
            self.log.critical("the gateway failed and stops", error=f"{type(error).__name__}: {error}")
            signal.raise_signal(signal.SIGTERM)

    async def _tick(self) -> None:
        while True:
            self.gateway.tick()
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
            tls=self._speaks_tls,
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
            self._broke(error)

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
        try:
            await drain(self.gateway, self.settings.drain_seconds, lambda: self.reactor.websocket_count)
        finally:
            self._drained.set()


def create_app(settings: Settings) -> QuartTrio:
    """The ASGI app of a node with these settings, for `hypercorn -k trio`. Raises StartError."""
    node = Node(settings)
    front_door.install_drain(node.app, node.door, node.drain, prepare=node.prepare)
    return node.app


def serve(settings: Settings, supervised: Supervised | None = None) -> int:
    """`portico serve`: run a node until SIGINT or SIGTERM; a second signal stops it at once. Returns the exit code.

    `supervised`: the link to the supervisor, where it is one process of several.
    """
    try:
        node = Node(settings)
        return trio.run(_serve, node, supervised)
    except StartError as error:
        say(sys.stderr, f"portico: {error}\n")
        if supervised is not None:
            supervised.say("failed", str(error))
        return 2


async def _serve(node: Node, supervised: Supervised | None) -> int:
    settings = node.settings
    node.will_speak_tls()
    if supervised is None:
        await node.bind()
        sockets = await _listen(settings.host, settings.port, "PORT")
    else:
        node.take(supervised.sockets)
        sockets = supervised.sockets["http"]
    node.places.http_port = sockets[0].getsockname()[1]
    # The reactor accepts by itself, and hands over what it can't serve.
    node.accept_http_from(sockets)
    node.own_process()
    shutdown = trio.Event()
    ending = False
    code = 0

    async def heed_signals() -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            heard = 0
            async for number in signals:
                if number == signal.SIGHUP:
                    if node.certificates is not None:
                        node.certificates.reload("SIGHUP")
                        continue
                    node.log.warning("SIGHUP does nothing to one process", remedy="restart it, or run several workers")
                    continue
                heard += 1
                if heard == 1:
                    nursery.start_soon(end)
                else:
                    stop()
                    return

    def stop() -> None:
        nonlocal code
        node.log.warning("stopping at once")
        code = 1
        nursery.cancel_scope.cancel()

    async def obey(supervised: Supervised) -> None:
        async for order in supervised.orders():
            if order == "stop":
                stop()
            elif order == "drain":
                nursery.start_soon(end)
            else:
                nursery.start_soon(hand_over)

    async def hand_over() -> None:
        node.reactor.stop_accepting(leave=True)
        await trio.sleep(LATECOMERS)
        await end()

    async def end() -> None:
        nonlocal ending
        if ending:
            return
        ending = True
        code_if_broken = 1 if node.state == "broken" else 0
        await node.drain()
        nonlocal code
        code = code_if_broken
        shutdown.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(heed_signals)

        async def serve_until_shutdown(task_status: trio.TaskStatus[list[tuple[str, int]]]) -> None:
            await serve_http(node.app, door=node.door, shutdown=shutdown, sockets=[], task_status=task_status)
            nursery.cancel_scope.cancel()

        await nursery.start(serve_until_shutdown)
        if supervised is not None:
            supervised.say("started")
            nursery.start_soon(obey, supervised)
            nursery.start_soon(_tell_when_ready, node, supervised)
        if supervised is None and settings.log_format == "console":
            say(
                sys.stdout,
                banner(
                    environment=settings.environment,
                    api_type=settings.api_type,
                    host=settings.host,
                    http_port=node.places.http_port,
                    tls=node.certificates is not None,
                    ports=node.ports(),
                    command=how_it_was_called(),
                ),
            )
        else:
            node.log.info("listening", host=settings.host, http=node.places.http_port, **node.ports())
    return code


async def _tell_when_ready(node: Node, supervised: Supervised) -> None:
    while node.unready() is not None:  # noqa: ASYNC110 — readiness is a question, not an event
        await trio.sleep(TICK)
    supervised.say("ready")


def _quotas(settings: Settings) -> Quotas | None:
    if not settings.quotas:
        return None
    return Quotas((Quota(*quota) for quota in settings.quotas), time.monotonic)


def _certificates(settings: Settings, log: Log) -> Certificates | None:
    """What TLS is spoken with, or None where the ports speak plain HTTP."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    files = TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    return Certificates(files, lambda: certificate_problems(*files), log)


def _audit_file(settings: Settings) -> LogWriter | None:
    """What writes to the file of the audit log; None where there is none. Raises StartError."""
    if settings.audit_log in ("off", "stderr"):
        return None
    try:
        return LogWriter(os.open(settings.audit_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640))
    except OSError as error:
        raise StartError(f"PORTICO_AUDIT_LOG: the file cannot be written to ({error.strerror}).") from None


def _key_store(settings: Settings, log: structlog.typing.FilteringBoundLogger) -> KeyStore | None:
    """Where tokens are checked, or None where nobody looks at them. Raises StartError."""
    sources = (settings.jwt_secret, settings.jwt_public_keys, settings.jwks_url)
    if settings.auth == "off" or all(source is None for source in sources):
        return None
    rules = TokenRules(
        secret=None if settings.jwt_secret is None else settings.jwt_secret.get_secret_value(),
        key_file=None if settings.jwt_public_keys is None else Path(settings.jwt_public_keys),
        jwks_url=settings.jwks_url,
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        leeway=settings.token_leeway,
    )
    try:
        return KeyStore(rules, KeyLog(log), wall=time.time)
    except BadKey as bad:
        name = "PORTICO_JWT_SECRET" if str(bad).startswith("A shared secret") else "PORTICO_JWT_PUBLIC_KEYS"
        raise StartError(f"{name}: {bad}") from None


def _api_key_file(
    settings: Settings, gateway: Gateway, log: structlog.typing.FilteringBoundLogger
) -> ApiKeyFile | None:
    """The file of API keys, read once; None where none is set. Raises StartError."""
    if settings.api_keys_file is None:
        return None
    file = ApiKeyFile(Path(settings.api_keys_file), gateway.api_keys, KeyLog(log))
    try:
        file.load()
    except BadKey as bad:
        raise StartError(f"PORTICO_API_KEYS_FILE: {bad}") from None
    return file


def _api_keys(settings: Settings) -> tuple[ApiKey | str, ...]:
    texts = (secret.get_secret_value() for secret in settings.api_keys)
    return tuple(parse_line(text) if is_line(text) else text for text in texts)


def _connect_hook(settings: Settings, log: structlog.typing.FilteringBoundLogger) -> ConnectHook | None:
    """Who is asked about connections, or None where nobody is."""
    if settings.auth == "off" or settings.connect_url is None:
        return None
    return ConnectHook(
        settings.connect_url,
        headers=settings.connect_headers,
        timeout=settings.connect_timeout,
        keys=[key.get_secret_value().encode() for key in settings.webhook_keys],
        wall=time.time,
        log=log,
    )


def _event_rules(settings: Settings, present: Callable[[], Iterable[BackEndEvent]]) -> EventRules | None:
    """How events for back ends are kept; None where nobody listens."""
    outbox = settings.webhook_outbox if settings.webhook_url is not None else 0
    if not outbox and not settings.event_stream:
        return None
    return EventRules(outbox, settings.event_stream, settings.offline_seconds, present)


def _courier(
    settings: Settings, events: EventsOfDeployment | None, log: structlog.typing.FilteringBoundLogger
) -> Courier | None:
    """Who delivers events, or None where nobody does."""
    if settings.webhook_url is None or events is None:
        return None
    poster = Poster(
        settings.webhook_url,
        public_and(settings.webhook_networks),
        limit=MAX_ANSWER,
        connections=CONCURRENT,
        keys=[key.get_secret_value().encode() for key in settings.webhook_keys],
        agent=f"Portico/{VERSION}",
    )
    return Courier(
        events, poster, timeout=settings.webhook_timeout, give_up=settings.webhook_give_up, wall=time.time, log=log
    )


def _rules(settings: Settings) -> Rules:
    key = settings.websocket_handshake_key
    return Rules(
        production=settings.production,
        handshake_key=None if key is None else key.get_secret_value(),
        api_keys=_api_keys(settings),
        more_api_keys=settings.api_keys_file is not None,
        authentication=settings.auth,
        open_requesters=settings.open_requesters,
        open_users=settings.open_users,
        open_metrics=settings.open_metrics,
        page=settings.page,
        hsts=settings.hsts,
        allowed_origins=settings.allowed_origins,
        allowed_hosts=_known_hosts(settings),
        any_host_over_tls=settings.allowed_hosts is None,
        registration_timeout=settings.registration_timeout,
        heartbeat_interval=settings.ping_interval,
        duplicates=settings.duplicate_client,
        max_message_size=settings.max_message_size,
        max_worker_message_size=settings.max_worker_message_size,
        max_requester_message_size=settings.max_requester_message_size,
        max_connections=settings.max_connections,
        max_connections_per_address=settings.max_connections_per_address,
        spare_loopback=all(
            settings.origin(name) == "derived" for name in ("max_connections_per_address", "max_handshakes_per_second")
        ),
        max_connections_per_user=settings.max_connections_per_user,
        max_handshakes_per_second=settings.max_handshakes_per_second,
        worker_capacity=settings.worker_capacity,
        worker_timeout=settings.worker_timeout,
        max_request_timeout=settings.max_request_timeout,
        queue_limit=settings.queue_limit,
        queue_bytes=settings.queue_bytes,
        max_attempts=settings.max_attempts,
        strategy=settings.lb_strategy,
        relayed=settings.relay_types,
        announce_others=settings.announce_others,
    )


def _known_hosts(settings: Settings) -> Collection[str] | None:
    """The names by which the gateway may be asked for: those that are set, or those that the other settings and the
    machine have; None for any."""
    if settings.allowed_hosts is not None or not settings.production:
        return settings.allowed_hosts
    urls = (settings.public_websocket_url, *(settings.allowed_origins or ()))
    named = [host_of(url.partition("://")[2].partition("/")[0]) for url in urls if url]
    machine = socket.gethostname().lower()
    return [name for name in (*named, settings.host, settings.advertised_host, machine) if name and name != "*"]


async def rehearse(settings: Settings) -> list[str]:
    """Do what `serve` does up to taking the ports, and give them back. Returns warnings about ports that are in use.

    The operator's extensions are imported and called, as at a start. Nothing is connected to. Raises StartError.
    """
    node = Node(settings)
    node.will_speak_tls()
    in_use = []
    for setting, port in (
        ("PORT", settings.port),
        ("WEBSOCKET_PORT", settings.websocket_port),
        ("WORKER_PORT", settings.worker_port),
        ("PORTICO_REDIRECT_PORT", settings.redirect_port),
    ):
        if port is None:
            continue
        try:
            sockets = await open_listeners(settings.host, port, listening=False)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise StartError(why_it_cannot_listen(error, settings.host, port, setting)) from error
            in_use.append(f"{setting}={port} is in use just now, by this gateway or by another program.")
        else:
            for sock in sockets:
                sock.close()
    return in_use


async def _listen(host: str, port: int, setting: str, reuse_port: bool = False) -> list[socket.socket]:
    try:
        return await open_listeners(host, port, reuse_port)
    except OSError as error:
        raise StartError(why_it_cannot_listen(error, host, port, setting)) from error


def _local_ip() -> str:
    """The address that this machine would use towards others. No packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation, RFC 5737
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
