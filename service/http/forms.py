"""Forms: what the HTTP API takes and gives, as msgspec structs.

The one source of what is accepted, of what goes out, and of the schemas in /openapi.json. What is only passed on
stays the bytes that came (`msgspec.Raw`). The form of a push is the core's (`core/push/publications.py`), since not
all pushes come by HTTP.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from service.core.connections.authentication import WayIn
from service.core.dispatch.model import WorkerStatus
from service.core.push.publications import DAY, Address, AnObject, EventType, Ttl

Anything = Annotated[Raw, Meta(description="any JSON value")]
ScalarId = Annotated[Raw, Meta(description="a text of at most 256 characters, a number, true or false")]
Timeout = Annotated[float, Meta(gt=0, le=DAY, description="seconds, over all attempts and waiting")]
Command = Annotated[str, Meta(min_length=1, max_length=128)]
RevocationTtl = Annotated[float, Meta(gt=0, le=366 * DAY, description="seconds")]
Moment = Annotated[float, Meta(ge=0, lt=1e11, description="seconds since the epoch")]
ShortText = Annotated[str, Meta(max_length=256)]


class Problem(Struct):
    """What was wrong, and what would be right. `field` names the field concerned."""

    code: str
    message: str
    field: str | None


class Refusal(Struct):
    """The body of every answer that refuses something."""

    error: Problem


class OnLogout(Struct, forbid_unknown_fields=True):
    """An event that the user's clients get besides `logout_notification` when the session ends."""

    type: EventType
    data: AnObject | UnsetType = UNSET


class NewLogin(Struct):
    """A login session to start. Whatever else is in the object is passed on in `auto_login` and
    `logout_notification`. `message`: what `auto_login` says."""

    user_id: Address
    username: ShortText | None = None
    session_data: Anything | UnsetType = UNSET
    ttl: Ttl | None = None
    message: str | None = None
    on_logout: OnLogout | None = None


class NewRevocation(Struct, forbid_unknown_fields=True):
    """What is to be taken back: exactly one of `user_id`, `token_id` and `tenant`, or what was `issued_before` a
    moment; of a user's or a tenant's also both. `ttl`: as long as the longest of these tokens may still live."""

    ttl: RevocationTtl
    user_id: Address | None = None
    token_id: Address | None = None
    tenant: Address | None = None
    issued_before: Moment | None = None


class RevocationView(Struct):
    """A revocation. Times in seconds since the epoch."""

    user_id: str | None
    token_id: str | None
    tenant: str | None
    issued_before: float | None
    created_at: float
    expires_at: float


class RevocationList(Struct):
    """Some of the revocations that hold, and how many these are. `next_offset`: where the next page begins."""

    revocations: list[RevocationView]
    total: int
    next_offset: int | None


class DrainView(Struct):
    """A drain that has begun. `connections`: how many there are still; `seconds`: how long the last of them has."""

    node: str
    connections: int
    seconds: float


class LoginFeedback(Struct):
    """What one client reported of its automatic login. `timestamp` in seconds since the epoch."""

    client_id: str | None
    success: bool
    message: str | None
    timestamp: float


class LogoutView(Struct):
    """What the user's clients are pushed besides `logout_notification` when the session ends."""

    type: str
    data: AnObject


class LoginView(Struct):
    """A login session, with whatever else it was made with. Times in seconds since the epoch."""

    session_id: str
    user_id: str
    username: str | None
    session_data: Anything
    created_at: float
    expires_at: float
    feedback: list[LoginFeedback]
    message: str | None
    on_logout: LogoutView | None


class LoginList(Struct):
    """The active sessions of a user, oldest first."""

    logins: list[LoginView]


class EndedLogin(Struct):
    """A login session that was ended."""

    session_id: str
    user_id: str
    reason: str


class WorkerRequest(Struct, forbid_unknown_fields=True):
    """A request for a worker. `affinity`: the same key goes to the same worker while it lives. `idempotent`: may be
    sent to another worker if its worker is lost."""

    command: Command
    data: Anything | UnsetType = UNSET
    timeout: Timeout | None = None
    request_id: ScalarId | UnsetType = UNSET
    affinity: Annotated[str, Meta(max_length=256)] | None = None
    idempotent: bool | None = True


class RequestAnswer(Struct):
    """What came of a request: `data` if it succeeded, else `error`; `processed_by` is the worker that answered."""

    request_id: ScalarId
    success: bool
    data: Annotated[Raw, Meta(description="any JSON value, or null")] | None
    error: str | None
    processed_by: str | None


class ClientRequest(Struct, forbid_unknown_fields=True):
    """A request for one connected client of the envelope dialect."""

    action: Command
    params: Anything | UnsetType = UNSET
    timeout: Timeout | None = None


class ClientAnswer(Struct):
    """What a client answered: `result` if it succeeded, else `error`."""

    request_id: str
    client_id: str
    success: bool
    result: Annotated[Raw, Meta(description="any JSON value, or null")] | None
    error: str | None


class Together(Struct, kw_only=True):
    """What was put together from the answers of several nodes. Where some did not answer in time, `incomplete` is true
    and `missing_nodes` names them; else both are left out."""

    incomplete: bool | UnsetType = UNSET
    missing_nodes: list[str] | UnsetType = UNSET


class ClientView(Struct):
    """One connection, and the node that it is on. `connected_at` in seconds since the epoch."""

    client_id: str | None
    user_id: str | None
    username: str | None
    node_id: str | None
    domain_id: str | None
    cluster_id: str | None
    channel_id: str | None
    dialect: str
    transport: str
    role: str
    connection_id: str
    connected_at: float
    id: str
    ip: str
    port: int | None
    status: str
    duration: float
    node: str


class ClientPage(Together):
    """Some of the connections that were asked for: node by node, in the order of their arrival. `next_offset` is null
    on the last page."""

    clients: list[ClientView]
    total: int
    offset: int
    limit: int
    next_offset: int | None


class Kicked(Together):
    """How many connections of a client were closed."""

    client_id: str
    kicked: int


class WorkerView(WorkerStatus, frozen=True):
    """A worker, and the node that it is connected to."""

    node: str


class WorkerList(Together):
    """The workers, node by node."""

    workers: list[WorkerView]


class Health(Struct):
    """The gateway is there. `timestamp` in seconds since the epoch."""

    status: str
    node: str
    environment: str
    connections: int
    timestamp: float


class Probe(Struct):
    """`status` is `ok`, or `unavailable` for the `reason` given. `warnings`: what an operator should know."""

    status: str
    reason: str | None
    warnings: list[str]


class StreamingInfo(Struct):
    """What the pages can do here. `chat`: a worker answers with a model, `model` if known; else `hint` says what to
    set. `echo`: the command that echoes in parts. `socket`: whether this very port takes WebSockets, or discovery has
    to be asked. `access`: what a page must show to ask workers, `access_hint` in words; `client_access`: what it must
    show to register a client. `timeout`: seconds that one answer may take."""

    chat: bool
    echo: str | None
    model: str | None
    hint: str | None
    socket: Literal["here", "elsewhere"]
    access: WayIn
    access_hint: str | None
    client_access: WayIn
    timeout: float


class Summary(Struct):
    """How many connections there are, and how many different clients, users and nodes they name."""

    total_connections: int
    total_clients: int
    total_users: int
    total_nodes: int


class ConnectedClients(Struct):
    """The totals by the names that older programs read."""

    summary: Summary


class AdviceView(Struct):
    """Which mode a node advises, by its own figures: `integrated`, `split` or `streams` (split, with durable events).
    `strained`: its core, its loop or its memory is used up."""

    mode: str
    strained: bool
    reason: str


class Status(Together):
    """Who is connected, on all nodes. `registered` have said who they are; `total` counts all connections."""

    status: str
    total: int
    registered: int
    workers: int
    by_dialect: dict[str, int]
    by_transport: dict[str, int]
    by_node: dict[str, int]
    timestamp: float
    success: bool
    connected_clients: ConnectedClients
    advice: AdviceView | None


class WebSocketInfo(Struct):
    """Where to connect. `timestamp` in milliseconds since the epoch."""

    websocket_url: str
    websocket_host: str
    websocket_port: int
    http_port: int
    environment: str
    timestamp: int


class NoPlace(Struct):
    """Nobody takes WebSockets now. `success` is false."""

    success: bool
    error: str


class Receipt(Struct, frozen=True):
    """What became of a push: `matched` connections belong to the target, `queued` of them were handed the
    event (or stand in line for it); `stream` and `offset` are set for durable events only."""

    id: str
    stream: str | None
    offset: int | None
    matched: int
    queued: int


class WebSocketPlace(Struct):
    """The WebSocket endpoint, in the older form."""

    enabled: bool
    host: str
    port: int
    environment: str


class GatewayPlaces(Struct):
    """Where the gateway is, in the older form. `timestamp` in milliseconds since the epoch."""

    websocket: WebSocketPlace
    api_port: int
    websocket_port: int
    hostname: str
    local_ip: str
    environment: str
    timestamp: int


class GatewayInfo(Struct):
    """The answer of the older form of discovery."""

    success: bool
    b_client_info: GatewayPlaces
