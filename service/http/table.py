"""Table: every route of the HTTP API, once. Serving, access rules and /openapi.json are all made from it.

A route either names the scope that an API key needs for it, or is open to everybody.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from service.core.api_keys import Scope
from service.core.connections.presence import FILTERS
from service.core.push import publications

from . import forms
from .clients import DEFAULT_LIMIT, MAX_LIMIT
from .logins import MAX_LOGIN
from .request import MAX_BODY, MAX_NO_FIELDS
from .requests import MAX_REQUEST
from .revocations import LISTED, MAX_LISTED, MAX_REVOCATION

_PARAMETER = re.compile(r"\{(\w+)\}")


class OneOf:
    """Any one of some forms (a union of structs is nothing that msgspec decodes, but it can be described)."""

    def __init__(self, *forms: object) -> None:
        self.forms = forms


class ListOf:
    """A list of things of one form."""

    def __init__(self, form: object) -> None:
        self.form = form


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of the query."""

    name: str
    text: str
    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"})
    required: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `answers`: the form of the body by status, None where it isn't JSON. `scope`: what the API key of
    a back end must have; None: open to everybody.
    `body_limit`: bytes that a request's body may have; 0 where none is read. `on_ports`: also answered on the ports
    for WebSockets; `stream`: its answer never ends, so that it is served by ASGI."""

    operation: str
    method: str
    path: str
    summary: str
    answers: Mapping[int, Any]
    scope: Scope | None
    body: Any = None
    query: tuple[Query, ...] = ()
    body_limit: int = 0
    on_ports: bool = False
    stream: bool = False

    @property
    def open(self) -> bool:
        """Whether everybody may use it."""
        return self.scope is None

    @property
    def parameters(self) -> list[str]:
        """The names of the path's parameters."""
        return _PARAMETER.findall(self.path)


ROUTES: Final = (
    Route(
        "getWebSocketInfo",
        "GET",
        "/api/b-client/websocket-info",
        "Where to connect by WebSocket, as seen from where the question comes.",
        {200: forms.WebSocketInfo, 503: forms.NoPlace},
        scope=None,
        on_ports=True,
    ),
    Route(
        "getInfo",
        "GET",
        "/api/b-client/info",
        "The same in the older form.",
        {200: forms.GatewayInfo, 503: forms.NoPlace},
        scope=None,
        on_ports=True,
    ),
    Route("getHealth", "GET", "/api/health", "Is the gateway there?", {200: forms.Health}, scope=None, on_ports=True),
    Route(
        "getStatus",
        "GET",
        "/api/c-client/status",
        "Who is connected, as totals.",
        {200: forms.Status},
        scope=None,
        on_ports=True,
    ),
    Route("getLiveness", "GET", "/livez", "Is the process alive?", {200: forms.Probe}, scope=None, on_ports=True),
    Route(
        "getReadiness",
        "GET",
        "/readyz",
        "May this node be sent traffic? 503 while it starts, drains, or has lost a task that it needs.",
        {200: forms.Probe, 503: forms.Probe},
        scope=None,
        on_ports=True,
    ),
    Route(
        "getMetrics",
        "GET",
        "/metrics",
        "The numbers, in Prometheus' text form.",
        {200: None},
        scope=None,
        on_ports=True,
    ),
    Route(
        "getStreamingInfo",
        "GET",
        "/streaming/info",
        "What the page for streamed answers can do here.",
        {200: forms.StreamingInfo},
        scope=None,
    ),
    Route("getOpenApi", "GET", "/openapi.json", "This description.", {200: dict[str, Any]}, scope=None),
    Route(
        "publishNotifications",
        "POST",
        "/api/notifications",
        "Push an event, or a list of them. A list is answered by receipts and errors in the same order.",
        {202: OneOf(forms.Receipt, ListOf(OneOf(forms.Receipt, forms.Refusal))), 503: forms.Refusal},
        body=OneOf(publications.Notification, ListOf(publications.Notification)),
        body_limit=MAX_BODY,
        scope="publish",
    ),
    Route(
        "startLogin",
        "POST",
        "/api/logins",
        "Start a login session: the user's clients get auto_login, now or when they connect.",
        {201: forms.LoginView, 503: forms.Refusal},
        body=forms.NewLogin,
        body_limit=MAX_LOGIN,
        scope="logins",
    ),
    Route(
        "listLogins",
        "GET",
        "/api/logins",
        "A user's active login sessions.",
        {200: forms.LoginList},
        query=(Query("user_id", "whose", required=True),),
        scope="logins",
    ),
    Route(
        "getLogin",
        "GET",
        "/api/logins/{session_id}",
        "One login session, with what clients reported of it.",
        {200: forms.LoginView, 404: forms.Refusal},
        scope="logins",
    ),
    Route(
        "endLogin",
        "DELETE",
        "/api/logins/{session_id}",
        "End a login session: the user's clients get logout_notification.",
        {200: forms.EndedLogin, 404: forms.Refusal},
        body_limit=MAX_NO_FIELDS,
        query=(Query("reason", "why; logout unless given", {"enum": ["logout", "revoked"]}),),
        scope="logins",
    ),
    Route(
        "askWorkers",
        "POST",
        "/api/requests",
        "A request for a worker; waits for the answer. 200 when a worker answered, were it with an error.",
        {200: forms.RequestAnswer, 502: forms.RequestAnswer, 503: forms.RequestAnswer, 504: forms.RequestAnswer},
        body=forms.WorkerRequest,
        body_limit=MAX_REQUEST,
        scope="request",
    ),
    Route(
        "askClient",
        "POST",
        "/api/clients/{client_id}/requests",
        "Ask a connected client; waits for the answer.",
        {
            200: forms.ClientAnswer,
            404: forms.Refusal,
            409: forms.Refusal,
            502: forms.ClientAnswer,
            503: forms.ClientAnswer,
            504: forms.ClientAnswer,
        },
        body=forms.ClientRequest,
        body_limit=MAX_REQUEST,
        scope="request",
    ),
    Route(
        "listClients",
        "GET",
        "/api/clients",
        "Who is connected and has said who they are, node by node, in the order of arrival; all filters must hold.",
        {200: forms.ClientPage},
        query=(
            *(Query(name, f"only connections with this {name}") for name in FILTERS),
            Query(
                "limit", "how many", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
            ),
            Query("offset", "after how many", {"type": "integer", "minimum": 0, "default": 0}),
        ),
        scope="clients:read",
    ),
    Route(
        "kickClient",
        "DELETE",
        "/api/clients/{client_id}",
        "Close all connections of a client, on every node, with code 4010.",
        {200: forms.Kicked, 404: forms.Refusal, 503: forms.Refusal},
        body_limit=MAX_NO_FIELDS,
        scope="clients:kick",
    ),
    Route(
        "streamEvents",
        "GET",
        "/api/events",
        "What passes, as it passes: a stream of server-sent events, sampled.",
        {200: None},
        query=(
            Query("event", "only these, separated by commas"),
            Query("user_id", "only events of this user"),
            Query("client_id", "only events of this client"),
            Query("node", "only events of this node"),
            Query("sample", "the share of them that is sent", {"type": "number", "default": 1}),
        ),
        scope="clients:read",
        stream=True,
    ),
    Route(
        "listWorkers",
        "GET",
        "/api/workers",
        "The workers, and how they are doing.",
        {200: forms.WorkerList},
        scope="clients:read",
    ),
    Route(
        "revoke",
        "POST",
        "/api/revocations",
        "Take back a user, a token, a tenant, or all tokens issued before a moment: closes what it names on every node "
        "within a second, and keeps it away.",
        {201: forms.RevocationView, 503: forms.Refusal},
        body=forms.NewRevocation,
        body_limit=MAX_REVOCATION,
        scope="admin",
    ),
    Route(
        "listRevocations",
        "GET",
        "/api/revocations",
        "The revocations that hold.",
        {200: forms.RevocationList},
        query=(
            Query("limit", "how many", {"type": "integer", "minimum": 1, "maximum": MAX_LISTED, "default": LISTED}),
            Query("offset", "after how many", {"type": "integer", "minimum": 0, "default": 0}),
        ),
        scope="admin",
    ),
    Route(
        "drain",
        "POST",
        "/api/drain",
        "Drain this node: every connection is closed within the drain's window, and none is taken any more. "
        "The process goes on answering HTTP until it is stopped.",
        {202: forms.DrainView},
        body_limit=MAX_NO_FIELDS,
        scope="admin",
    ),
)
