"""What the node says to people: structured log lines, JSON in production, readable in development.

One line for each connection, when it ends: who, how long, how much, and why; the steps before that, and each push that
was accepted, at debug. Also refused messages, bugs, and what the transports report. Every line names its node.
Untrusted text is made harmless here, once, for every line: control characters and text direction marks are escaped,
length is cut. Secrets are never given to it. Faults come at most FAULTS_PER_SECOND lines a second, so that a flood of
bad messages is no flood of lines; the metrics count them all. So do refusals, and registrations,
REGISTRATIONS_PER_SECOND, since one connection may register again and again.
"""

import logging
import sys
import time
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any, Final, TextIO, cast

import msgspec
import structlog

from portico.wire.codes import CloseCode
from portico.wire.faults import PeerFault
from portico.wire.safe_text import safe_text
from service.core.cluster.backplane import Publication, Published
from service.core.connections.session import Session
from service.core.proof import Caused, cause_of
from service.core.reply import Reply
from service.log_writer import LogWriter, writer_for

FAULTS_PER_SECOND: Final = 20
REGISTRATIONS_PER_SECOND: Final = 500
REFUSALS_PER_SECOND: Final = 20

Line = MutableMapping[str, Any]

_MEANINGS: Final = {
    **{int(code): code.meaning for code in CloseCode},
    1000: "the client closed it",
    1001: "the client went away",
    1005: "the client closed it, and gave no code",
    1006: "the connection broke off",
    # Ours has words of its own: without any it is the client's, such as of a program that raised an exception.
    1011: "the client closed it, for an error of its own",
}
"""Why a connection ended whose Close gave no reason, or which had none."""

EVENTS: Final = {
    "accept_paused": "accepting paused, for want of descriptors or memory",
    "accept_resumed": "accepting again",
    "access_log_off": "Hypercorn's access log stays off",
    "certificate_kept": "the certificate can't be read again, and the one before stays in force",
    "certificate_read": "the certificate was read again",
    "contained_error": "an error was kept to its connection",
    "descriptor_lost": "a descriptor was lost",
    "drain_failed": "the drain failed",
    "drain_missing": "no drain under this Hypercorn",
    "front_door_missing": "no front door under this Hypercorn",
    "hypercorn_error": "an error in Hypercorn",
    "hypercorn_info": "Hypercorn says",
    "hypercorn_warning": "Hypercorn warns",
}
"""What the transports report, as a person reads it."""


def event_of(name: str) -> str:
    """What a line says of an event that a transport reports by this name."""
    return EVENTS.get(name, name)


def _harmless_line(_: object, __: str, line: Line) -> Line:
    for key, value in line.items():
        if isinstance(value, str) and key != "trace":
            line[key] = safe_text(value)
    return line


def _no_empty(_: object, __: str, line: Line) -> Line:
    return {key: value for key, value in line.items() if value is not None}


NodeName = Callable[[], str]
"""What this node is called now: it is renamed where its name is taken."""


class _JsonLine:
    """Everything that is done to a JSON line, in one go: a line for each connection is a good part of its cost."""

    def __init__(self, node: NodeName | None) -> None:
        self._node = node
        self._second = 0
        self._date = ""

    def __call__(self, _: object, level: str, line: Line) -> str:
        fields = {
            key: safe_text(value) if isinstance(value, str) and key != "trace" else value
            for key, value in line.items()
            if value is not None
        }
        if self._node is not None and "node" not in fields:
            fields["node"] = self._node()
        now = time.time()
        if (second := int(now)) != self._second:
            self._second = second
            self._date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        fields["level"] = level
        fields["timestamp"] = f"{self._date}.{int((now - second) * 1_000_000):06d}Z"
        return msgspec.json.encode(fields, enc_hook=str).decode()


def _filtering(level: str) -> type[structlog.typing.FilteringBoundLogger]:
    return structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()])


class _JsonLogger(structlog.BoundLoggerBase):
    """Straight to `_JsonLine`, by the hook that structlog has for it: a line for each connection is a good part of
    its cost, and there is one processor only."""

    @classmethod
    def at(cls, level: str) -> type[structlog.typing.FilteringBoundLogger]:
        """The same for lines of this level and above."""
        return type("JsonLogger", (cls, _filtering(level)), {})

    def _proxy_to_logger(self, method_name: str, event: str | None = None, *_: object, **fields: object) -> None:
        (json_line,) = self._processors
        fields["event"] = event
        self._logger.msg(json_line(self._logger, method_name, {**self._context, **fields} if self._context else fields))


def _naming(node: NodeName) -> structlog.typing.Processor:
    def name_node(_: object, __: str, line: Line) -> Line:
        line.setdefault("node", node())
        return line

    return name_node


def make_log(
    log_format: str,
    level: str,
    stream: TextIO | None = None,
    writer: LogWriter | None = None,
    node: NodeName | None = None,
) -> structlog.typing.FilteringBoundLogger:
    """A logger that writes one line an event. `log_format`: `json` or `console`; `level`: `debug` … `error`; `node`:
    what each line names as its node, unless it names one itself.

    `stream`: where to (None: standard error). One over a descriptor is written to by a LogWriter (`writer`, or one of
    its own), so logging never raises and never waits; when lines were dropped, a line says how many.
    """
    stream = sys.stderr if stream is None else stream
    writer = writer_for(stream) if writer is None else writer
    processors: list[structlog.typing.Processor] = [_JsonLine(node)]
    if log_format != "json":
        processors = [
            *([] if node is None else [_naming(node)]),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            _no_empty,
            _harmless_line,
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=24, sort_keys=False),
        ]
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(stream if writer is None else cast("TextIO", writer)),  # it has the two methods needed
        processors=processors,
        wrapper_class=_JsonLogger.at(level) if log_format == "json" else _filtering(level),
    ).bind()  # bound once, or every line would bind anew
    if writer is not None:
        writer.on_recovery = lambda count: logger.warning("log lines dropped", count=count)
    return logger


class LogJournal:
    """The core's Journal, as log lines."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self._log = log
        self._second = 0
        self._faults = 0
        self._registered_in = 0
        self._registered = 0
        self._refused_in = 0
        self._refused = 0

    def on_opened(self, session: Session) -> None:
        """A connection was accepted."""
        self._log.debug(
            "connection opened", connection=session.id, transport=session.peer.transport, address=session.address
        )

    def on_registered(self, session: Session) -> None:
        """A connection said who it is, or who it is now."""
        second = int(time.monotonic())
        if second != self._registered_in:
            if self._registered > REGISTRATIONS_PER_SECOND:
                self._log.debug("more connections registered", count=self._registered - REGISTRATIONS_PER_SECOND)
            self._registered_in, self._registered = second, 0
        self._registered += 1
        if self._registered > REGISTRATIONS_PER_SECOND:
            return
        identity = session.identity
        self._log.debug(
            "connection registered",
            connection=session.id,
            dialect=session.handler.name,
            client_id=identity.client_id,
            user_id=identity.user_id,
        )

    def on_closed(self, session: Session, code: int, reason: str, seconds: float) -> None:
        """A connection is over."""
        if not self._log.is_enabled_for(logging.INFO):
            return
        identity, traffic = session.identity, session.peer.traffic()
        self._log.info(
            "connection closed",
            connection=session.id,
            dialect=session.handler.name,
            client_id=identity.client_id,
            user_id=identity.user_id,
            transport=session.peer.transport,
            address=session.address,
            seconds=round(seconds, 3),
            received=None if traffic is None else traffic[1],
            sent=None if traffic is None else traffic[0],
            code=int(code),
            reason=reason or _MEANINGS.get(code),
        )

    def on_fault(self, session: Session, fault: PeerFault) -> None:
        """A message was refused."""
        second = int(time.monotonic())
        if second != self._second:
            if self._faults > FAULTS_PER_SECOND:
                self._log.warning("more messages refused", count=self._faults - FAULTS_PER_SECOND)
            self._second, self._faults = second, 0
        self._faults += 1
        if self._faults <= FAULTS_PER_SECOND:
            self._log.warning(
                "message refused",
                connection=session.id,
                dialect=session.handler.name,
                code=fault.code.value,
                field=fault.field,
                problem=fault.message,
                cause=cause_of(fault) if isinstance(fault, Caused) else None,
                address=session.address,
            )

    def on_refused(self, cause: str, address: str) -> None:
        """Somebody was refused."""
        second = int(time.monotonic())
        if second != self._refused_in:
            if self._refused > REFUSALS_PER_SECOND:
                self._log.warning("more refused", count=self._refused - REFUSALS_PER_SECOND)
            self._refused_in, self._refused = second, 0
        self._refused += 1
        if self._refused <= REFUSALS_PER_SECOND:
            self._log.warning("refused", cause=cause, address=address)

    def on_error(self, session: Session | None, error: Exception) -> None:
        """A bug of ours came up."""
        whose = {} if session is None else {"connection": session.id, "dialect": session.handler.name}
        self._log.error("internal error", **whose, trace="".join(traceback.format_exception(error)))


Publish = Callable[[Publication, Reply[Published | PeerFault]], None]


def said(publish: Publish, log: structlog.typing.FilteringBoundLogger) -> Publish:
    """The same `publish`, which also says at debug what was accepted; at a higher level it is `publish` itself."""
    if not log.is_enabled_for(logging.DEBUG):
        return publish

    def publish_and_say(publication: Publication, reply: Reply[Published | PeerFault]) -> None:
        def answer(result: Published | PeerFault) -> None:
            if isinstance(result, Published):
                log.debug(
                    "push accepted",
                    type=publication.event.type,
                    target=f"{publication.target.kind}:{publication.target.value}",
                    id=result.id,
                    matched=result.matched,
                    queued=result.queued,
                    repeated=result.repeated or None,
                )
            reply(result)

        publish(publication, Reply(answer))

    return publish_and_say
