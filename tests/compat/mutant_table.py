"""Which rules are broken, one each, and which scenario catches it, with which words."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from .middle import Json, Link, Messages, Request, Rule
from .mutants import (
    AnyPath,
    ClosesOnBadJson,
    Crossed,
    Drains,
    EchoesFeedback,
    EchoesToOne,
    FirstWorkerOnly,
    Greets,
    InTurn,
    LateAnswers,
    Mutant,
    NoBinary,
    NoGreeting,
    NotDeduplicated,
    StaleEpoch,
    TooMuch,
    Unpinged,
    answered,
    answers,
    asked,
    closes,
    code,
    cut,
    data,
    data_without,
    every,
    gap_in,
    handshake,
    header,
    is_push,
    never,
    of_gap,
    only,
    put,
    replies,
    sends,
    set_to,
    swapped,
    takes,
    texts,
    twice,
    upgrades,
    without,
)


def no_authorization(request: Request) -> None:
    """The header isn't looked at."""
    request.headers.pop("authorization", None)


def no_query(request: Request) -> None:
    """What is behind the question mark isn't looked at."""
    request.path = request.path.partition("?")[0]


INFO: Final = "/api/b-client/info"
WEBSOCKET_INFO: Final = "/api/b-client/websocket-info"
DISCOVERY: Final = "/api/b-client/"
PUSH: Final = "/api/notifications"
LOGINS: Final = "/api/logins"
ACK: Final = "registration_success"


def environment(said: Json) -> None:
    """Production, wherever discovery says it."""
    said.get("b_client_info", said)["environment"] = "production"
    if "b_client_info" in said:
        said["b_client_info"]["websocket"]["environment"] = "production"


def unknown_fields(rule: Rule, link: Link, it: Json) -> Messages | None:
    """A registration with a field that isn't known is rejected."""
    if "favourite_colour" not in it:
        return None
    return [{"type": "registration_rejected", "reason": "bad_field", "message": "What is that?"}]


def superseded(rule: Rule, link: Link, it: Json) -> Messages | None:
    """Of several registrations only the last is answered."""
    return [] if str(it["client_id"]).rpartition("-")[2].startswith(("id1", "id2")) else None


def fresh_id(rule: Rule, link: Link, it: Json) -> Json | None:
    """A client that registers again gets another id."""
    rule.count += 1
    return None if rule.count == 1 else {**it, "client_id": "another"}


def handed_on(rule: Rule, link: Link, it: Json) -> Messages | None:
    """A push only to the user's first connection."""
    return None if link is rule.links[0] else []


def first_resume(rule: Rule, link: Link, it: Json) -> Json | None:
    """Whoever registers is told to begin at 0."""
    return {**it, "resume": {**it["resume"], "offsets": dict.fromkeys(it["resume"]["offsets"], 0)}}


def recovered(rule: Rule, link: Link, it: Json) -> Json:
    """It always says that nothing was lost."""
    return {**it, "resume": {key: value for key, value in {**it["resume"], "recovered": True}.items() if key != "lost"}}


def details(**fields: object) -> Callable[[Rule, Link, Json], Any]:
    """Of a request to a worker, the details."""
    return lambda rule, link, it: {**it, "data": {**it["data"], "request": {**it["data"]["request"], **fields}}}


def result(**fields: object) -> Callable[[Rule, Link, Json], Any]:
    """Of an answer of `get_client_info`."""

    def change(rule: Rule, link: Link, it: Json) -> Any:
        if not isinstance(it["data"]["result"], dict):
            return None
        return {**it, "data": {**it["data"], "result": fields}}

    return change


def is_ours(it: Json) -> bool:
    """An answer that a worker gave."""
    return it.get("processed_by") is not None


def error(text: str, instead: str) -> Callable[[], Rule]:
    """A requester's error in other words."""
    return answered(only(lambda it: it["error"] == text, set_to("error", instead)))


def no_error(text: str) -> Callable[[], Rule]:
    """A requester isn't told of an error."""
    return answered(only(lambda it: it["error"] == text, never))


def cancels(it: Json) -> bool:
    return bool(it["data"].get("event") == "cancel")


def last_field(name: str) -> Callable[[Any], None]:
    """A list of receipts in the wrong order."""

    def change(said: Any) -> None:
        if isinstance(said, list):
            said.reverse()

    return change


def dropped(name: str) -> Callable[[Any], None]:
    """A field of a body that gets lost."""

    def change(said: Any) -> None:
        said.pop(name, None)

    return change


def lying(**fields: object) -> Callable[[], Rule]:
    """A receipt that isn't true."""
    return answers(PUSH, lambda said: {**said, **fields} if isinstance(said, dict) else None)


def path_status(path: str, status: int) -> Callable[[], Rule]:
    """A handshake at a path, answered otherwise."""
    return handshake(lambda request, old, headers: status if request.path.startswith(path) else old)


def no_subprotocol(request: Any, status: int, headers: dict[str, str]) -> int:
    headers.pop("sec-websocket-protocol", None)
    return status


def own_origin(request: Any, status: int, headers: dict[str, str]) -> int:
    return 403 if "origin" in request.headers else status


Row = tuple[str, str, str, Callable[[], Rule]]
ROWS: Final[tuple[Row, ...]] = (
    # Discovery
    ("http_port is another", "discovery-websocket-info", "`http_port` should be",
     answers(WEBSOCKET_INFO, put("http_port", to=8001))),
    ("http_port is a text", "discovery-websocket-info", "`http_port` should be",
     answers(WEBSOCKET_INFO, put("http_port", to="80"))),
    ("the bind address", "discovery-websocket-info", "`websocket_host` should be",
     answers(WEBSOCKET_INFO, put("websocket_host", to="0.0.0.0"))),
    ("seconds", "discovery-websocket-info", "`timestamp` should be",
     answers(WEBSOCKET_INFO, put("timestamp", to=1732000000.5))),
    ("websocket_port is another", "discovery-websocket-info", "`websocket_url` should be",
     answers(WEBSOCKET_INFO, put("websocket_port", to=1))),
    ("api_port is another", "discovery-info", "`b_client_info`.`api_port` should be",
     answers(INFO, put("b_client_info", "api_port", to=8001))),
    ("local_ip is none", "discovery-info", "`b_client_info`.`local_ip` should be",
     answers(INFO, put("b_client_info", "local_ip", to="0.0.0.0"))),
    ("the forms disagree", "discovery-info", "`b_client_info`.`environment` should be",
     answers(INFO, put("b_client_info", "environment", to="production"))),
    ("not enabled", "discovery-info", "`b_client_info`.`websocket`.`enabled` should be",
     answers(INFO, put("b_client_info", "websocket", "enabled", to=False))),
    ("no hostname", "discovery-info", "`hostname` is missing",
     answers(INFO, lambda said: said["b_client_info"].pop("hostname") and None)),
    ("no success", "discovery-info", "`success` should be", answers(INFO, put("success", to=1))),
    ("plain text", "discovery-info", "the content type", header(DISCOVERY, "content-type", "text/plain")),
    ("the environment is another", "worker-no-secret", "`type` should be", answers(DISCOVERY, environment)),
    ("the path isn't served", "address-url", "doesn't get in", path_status("/api/websocket", 404)),
    ("without a path nobody gets in", "address-host-port", "doesn't get in",
     handshake(lambda r, s, h: 404 if r.path == "/" else s)),
    ("the same from the older form", "address-host-port-info", "doesn't get in",
     handshake(lambda r, s, h: 404 if r.path == "/" else s)),
    ("not ready", "health", "should be answered with 200, is with 503",
     answers("/readyz", lambda said: None, status=503)),
    ("no metrics", "health", "the header content-type should be",
     header("/metrics", "content-type", "application/json")),
    # Who gets in
    ("no CORS", "cors-development", "the header access-control-allow-origin is missing",
     header(DISCOVERY, "access-control-allow-origin", None)),
    ("CORS for others", "cors-development", "the header access-control-allow-origin should be",
     header(DISCOVERY, "access-control-allow-origin", "https://other.example")),
    ("no preflight", "cors-development", "should be answered with 200 or 204, is with 405",
     answers(DISCOVERY, lambda said: None, method="OPTIONS", status=405)),
    ("its own origin is refused", "origin-own", "doesn't get in", handshake(own_origin)),
    ("any path is let in", "path-unknown", "should have been refused", AnyPath),
    ("unknown paths are a fault", "path-unknown", "should be refused with 404, is with 500",
     path_status("/no-such-path", 500)),
    ("a path is missing", "paths", "doesn't get in", path_status("/ws", 404)),
    ("no subprotocol is agreed to", "subprotocols", "the subprotocol of a", handshake(no_subprotocol)),
    ("no dialect is no error", "first-message", "was closed with 1003", sends(never, "error")),
    ("no dialect is a normal end", "first-message", "should be closed with 1003, was with 1000", code(1003, 1000)),
    # Registration
    ("an ack without resume", "register", "`resume` is missing", sends(without("resume"), ACK)),
    ("an ack without node", "register", "`node` is missing", sends(without("node"), ACK)),
    ("an ack twice", "register", "shouldn't have got", sends(twice, ACK)),
    ("an ack with another user", "register", "`user_id` should be", sends(set_to("user_id", "somebody"), ACK)),
    ("a heartbeat every 0 s", "register", "`heartbeat_interval` should be",
     sends(set_to("heartbeat_interval", 0), ACK)),
    ("one connection_id for all", "register-answers", "`connection_id` should be",
     sends(set_to("connection_id", "c"), ACK)),
    ("superseded registrations unanswered", "register-answers", "`client_id` should be", sends(superseded, ACK)),
    ("answers in the wrong order", "register-answers", "`client_id` should be",
     sends(swapped(lambda it: "id3" not in it["client_id"]), ACK)),
    ("the made client_id changes", "register-null", "`client_id` should be", sends(fresh_id, ACK)),
    ("unknown fields refused", "register-unknown-fields", "`type` should be",
     replies(unknown_fields, "c_client_register")),
    ("another reason", "register-rejected", "`reason` should be",
     sends(set_to("reason", "invalid"), "registration_rejected")),
    ("a rejection without the claim", "register-rejected", "`user_id` is missing",
     sends(without("user_id"), "registration_rejected")),
    ("names are cut", "register-longest", "`user_id` should be",
     takes(set_to("user_id", "u" * 128), "c_client_register")),
    ("the older stays", "same-client-returns", "should be closed with 4009, was with 1006",
     closes(lambda code, reason: None if code == 4009 else (code, reason))),
    ("replaced with 1000", "same-client-returns", "should be closed with 4009, was with 1000", code(4009, 1000)),
    ("the node doesn't count", "same-id-elsewhere", "was closed with 4009",
     takes(set_to("node_id", "n"), "c_client_register")),
    ("the user stays", "user-switch", "`user_id` should be",
     takes(only(lambda it: "channel_id" not in it, set_to("user_id", "u")), "c_client_register")),
    ("not registered is another code", "not-registered", "`code` should be",
     sends(set_to("code", "bad_field"), "error")),
    # What clients send
    ("heartbeats twice", "heartbeat", "`type` should be", sends(twice, "heartbeat")),
    ("heartbeats lost", "heartbeat", 'a got no {"type": "heartbeat"}',
     sends(every(3, never, lambda it: True), "heartbeat")),
    ("an unknown type by another code", "unknown-type", "`code` should be",
     sends(set_to("code", "bad_field"), "error")),
    ("an unknown type in silence", "unknown-type", 'a got no {"type": "error", "code": "unknown_type", "messa',
     sends(never, "error")),
    ("bad JSON ends it", "bad-json", "was closed with 1003", ClosesOnBadJson),
    ("binary refused", "binary", "`type` should be", NoBinary),
    ("messages cut at 64 KiB", "large-message", "`type` should be", texts(cut(65536), up=True)),
    ("too large is another code", "too-large", "should be closed with 1009, was with 1008", code(1009, 1008)),
    # Logins
    ("auto_login twice", "auto-login-on-registration", "shouldn't have got", sends(twice, "auto_login")),
    ("auto_login without an end", "auto-login-on-registration", "`expires_at` is missing",
     sends(without("expires_at"), "auto_login")),
    ("auto_login without what else", "auto-login-on-registration", "`website_config` is missing",
     sends(without("website_config"), "auto_login")),
    ("auto_login in milliseconds", "auto-login-on-registration", "`timestamp` should be",
     sends(set_to("timestamp", 1732000000000), "auto_login")),
    ("auto_login to one", "auto-login-on-start", 'b got no {"type": "auto_login", "session_id": "$session",',
     sends(handed_on, "auto_login")),
    ("no auto_login", "auto-login-on-start", 'a got no {"type": "auto_login", "session_id": "$session",',
     sends(never, "auto_login")),
    ("logout for another reason", "logout-notification", "`reason` should be",
     sends(set_to("reason", "expired"), "logout_notification")),
    ("no on_logout", "logout-notification", 'a got no {"type": "user_logout", "user_id": "$user", "log',
     sends(never, "user_logout")),
    ("expiry in silence", "login-expires", 'a got no {"type": "logout_notification", "session_id": "$',
     sends(never, "logout_notification")),
    ("feedback echoed", "session-feedback", "shouldn't have got", EchoesFeedback),
    ("feedback not recorded", "session-feedback", "`feedback` should be",
     answers(LOGINS, put("feedback", to=[]), method="GET")),
    ("feedback by another", "session-feedback", "`client_id` should be",
     sends(set_to("client_id", "c"), "session_feedback")),
    ("feedback needs a session", "session-feedback-current", 'b got no {"type": "session_feedback"',
     takes(only(lambda it: "session_id" not in it, never), "session_feedback")),
    ("relative addresses completed", "relative-address", "`website_config` should be",
     texts(lambda text: text.replace('"/shop', '"http://gw/shop'))),
    # Pushes
    ("no channels", "push-targets", "`matched` should be", takes(without("channel_id"), "c_client_register")),
    ("pushes to everybody", "push-targets", "`matched` should be",
     asked(PUSH, lambda said: {**said, "target": {"all": True}})),
    ("to all is to one", "push-all", 'b got no {"type": "$event", "n": 1}', sends(only(is_push, handed_on))),
    ("one in four doubled", "push-once", "`n` should be", sends(every(4, twice, is_push))),
    ("one in ten lost", "push-once", "`n` should be", sends(every(10, never, is_push))),
    ("out of order", "push-once", "`n` should be", sends(swapped(is_push))),
    ("a receipt counts too many", "push-once", "`matched` should be", lying(matched=3)),
    ("a receipt says that nothing was queued", "push-once", "`queued` should be", lying(queued=0)),
    ("receipts in the wrong order", "push-batch", "`matched` is missing",
     answers(PUSH, lambda said: said[1:] + said[:1] if isinstance(said, list) else None)),
    ("a bad item spoils the batch", "push-batch", "should be answered with 202, is with 400",
     answers(PUSH, lambda said: None, status=400)),
    ("id isn't deduplicated", "push-id", "shouldn't have got", NotDeduplicated),
    ("the data wins", "push-reserved", "`stream` shouldn't be there", sends(only(is_push, set_to("stream", "mine")))),
    ("cut at 2,000 bytes", "push-large", "should be JSON", texts(cut(2000))),
    ("cut at 64 KiB", "push-large", "should be JSON", texts(cut(65536))),
    ("bad input accepted", "push-bad", "should be answered with 400, is with 202", asked(PUSH, dropped("durabel"))),
    ("errors in another form", "push-bad", "`error` is missing",
     answers("/api/no-such", lambda said: {"detail": "Not found"})),
    ("a receipt of another id", "push-id", "`id` should be", lying(id="another")),
    ("a receipt counts nobody", "push-nobody", "`matched` should be", lying(matched=1)),
    # Durable
    ("no stream", "durable", "`stream` is missing", sends(without("stream"))),
    ("no offset", "durable", "`offset` is missing", sends(without("offset"))),
    ("the receipt's offset is another", "durable", "`offset` should be", lying(offset=7)),
    ("durable is live only", "durable", "`stream` should be", asked(PUSH, dropped("durable"))),
    ("resume isn't looked at", "resume", "`resume`.`offsets`.`user:", takes(without("resume"), "c_client_register")),
    ("replayed out of order", "resume", "`n` should be", sends(swapped(is_push))),
    ("part of it in silence", "resume", "`n` should be", sends(every(3, never, is_push))),
    ("replayed twice", "resume", "`n` should be", sends(only(is_push, twice))),
    ("never lost", "resume-lost", "`resume`.`recovered` should be", sends(recovered, ACK)),
    ("an unknown position is a lost one in silence", "resume-unknown", "`resume`.`recovered` should be",
     sends(recovered, ACK)),
    ("it begins at 0", "resume-nothing", "`resume`.`offsets`.`user:", sends(first_resume, ACK)),
    ("the envelope doesn't resume", "resume-envelope", 'b got no {"type": "notification", "data": {"event": "$eve',
     takes(data_without("resume"), "connect")),
    ("the history is lost in silence", "stream-gap", "a should be told of a gap in",
     sends(lambda rule, link, it: None if gap_in(it) is None else [])),
    ("a gap of the epoch that is over", "stream-gap", "`epoch` should be another one than", StaleEpoch),
    ("a gap from nowhere", "stream-gap", "should have positions of its streams", sends(of_gap(offsets={}))),
    ("a gap without positions", "stream-gap", "`offsets` should be an object", sends(of_gap(offsets=None))),
    ("a gap of others' streams", "stream-gap", "should have positions of its streams, and be of",
     sends(of_gap(streams=["user:u"], offsets={"user:u": 0}))),
    ("a gap tells a position that isn't reached yet", "stream-gap", "`offset` should be above",
     sends(of_gap(offsets=lambda gap: {stream: at + (1 << 60) for stream, at in gap["offsets"].items()}))),
    ("after a gap nothing is kept", "stream-gap", "`resume`.`recovered` should be true",
     takes(only(lambda it: "resume" in it, lambda rule, link, it: {**it, "resume": {**it["resume"], "epoch": "e"}}),
           "c_client_register")),
    ("an ack of an epoch that is over", "resume", "`resume`.`recovered` should be true",
     sends(lambda rule, link, it: {**it, "resume": {**it["resume"], "epoch": "over"}}, ACK)),
    ("silence is not broken", "idle-proxy", "was closed with 1006", Unpinged),
    ("heartbeats are due after a proxy's time-out", "idle-proxy", "`heartbeat_interval` should be at most",
     sends(set_to("heartbeat_interval", 55), ACK)),
    # Who is there
    ("thrown out with 1000", "kick", "should be closed with 4010, was with 1000", code(4010, 1000)),
    ("nobody is listed", "who-is-there", "`clients` should be",
     answers("/api/clients", put("clients", to=[]), method="GET")),
    ("asked without data", "asked-c-client", "`data` is missing",
     sends(only(lambda it: "-ask" in str(it.get("type")), without("data")))),
    ("its answer is lost", "asked-c-client", "`result` should be",
     answers("/api/clients/", put("result", to=None), method="POST")),
    ("who isn't there was asked", "asked-nobody", "should be answered with 404, is with 200",
     answers("/api/clients/", lambda said: None, status=200)),
    # Envelope
    ("connect without a time", "envelope-connect", "`server_time` is missing",
     sends(data_without("server_time"), "connect")),
    ("connect twice", "envelope-connect", "shouldn't have got", sends(twice, "connect")),
    ("a response under another msg_id", "envelope-requests", "`msg_id` should be",
     sends(set_to("msg_id", "m"), "response")),
    ("division by zero is fine", "envelope-requests", "`data`.`success` should be",
     sends(data(success=True), "response")),
    ("no totals", "envelope-requests", "`total_clients` is missing", sends(result(clients=[]), "response")),
    ("the payload as text", "envelope-push", "`data`.`payload` should be", sends(data(payload="{}"), "notification")),
    ("no level", "envelope-push", "`level` is missing", sends(data_without("level"), "notification")),
    ("an error without the message's id", "envelope-small", "`data`.`msg_id` should be",
     sends(data(msg_id=None), "error")),
    ("disconnect isn't normal", "envelope-small", "should be closed with 1000, was with 1001", code(1000, 1001)),
    ("params are lost", "envelope-asked", "`n` is missing", sends(data(params={}), "request")),
    ("auto_login twice there", "envelope-login", "shouldn't have got", sends(twice, "notification")),
    ("the echo goes to one", "user-dialect", "got no", EchoesToOne),
    ("the echo is bare", "user-dialect", "what a gets should be", texts(lambda text: text.removeprefix("Echo: "))),
    # Workers
    ("another title", "worker-handshake", "`data`.`title` should be", sends(data(title="Welcome"), "notification")),
    ("no details of a request", "worker-handshake", "`request` is missing", sends(data_without("request"), "request")),
    ("no greeting", "worker-silent", 'w got no {"type": "connect", "msg_id": "<filled>", "data"', NoGreeting),
    ("NaN is refused", "worker-numbers", 'r got no {"request_id": "$r1", "success": true, "data": [',
     texts(lambda text: None if "NaN" in text else text, up=True)),
    ("null reaches a worker", "worker-numbers", "`data`.`params` should be", sends(data(params=None), "request")),
    ("5 MB are too much", "worker-large", "should be answered with 200, is with 502", TooMuch),
    ("capacity isn't looked at", "worker-capacity", "`type` should be",
     takes(only(lambda it: "capacity" in it["data"], data_without("capacity")), "connect")),
    ("no more is not heard", "worker-capacity", "`type` should be",
     takes(only(lambda it: it["data"].get("capacity") == 0, never), "custom")),
    ("commands aren't looked at", "worker-commands", "w got no", takes(data_without("commands"), "connect")),
    # Requesters
    ("answers twice", "requester", "`request_id` should be", answered(only(is_ours, twice))),
    ("one answer is lost", "requester", "`request_id` should be", answered(every(7, never, is_ours))),
    ("an answer to the other requester", "requester-two", "`data` should be", Crossed),
    ("nobody did it", "requester", "`processed_by` should be", answered(set_to("processed_by", None))),
    ("request_id as text", "requester-ids", "`request_id` should be",
     answered(lambda rule, link, it: {**it, "request_id": str(it["request_id"])})),
    ("no JSON in other words", "requester-bad-input", "`error` should be", error("Invalid JSON format", "bad_json")),
    ("no command in other words", "requester-bad-input", "`error` should be",
     error("Missing command", "missing_field")),
    ("an answer lacks a field", "requester-bad-input", "`processed_by` is missing", answered(without("processed_by"))),
    ("no workers in other words", "requester-no-worker", "`error` should be", error("No available workers", "none")),
    ("no workers: it waits", "requester-no-worker", 'r got no {"request_id": "$r", "success": false, "data": n',
     no_error("No available workers")),
    ("a worker's error is hidden", "requester-error", "`error` should be", error("the disk is full", "internal")),
    ("no time is up", "requester-timeout", 'r got no {"request_id": "$r", "success": false, "data": n',
     no_error("Worker response timeout")),
    ("nobody is told to cancel", "requester-timeout", 'w got no {"type": "custom", "data": {"event": "cancel", "',
     sends(only(cancels, never), "custom")),
    ("late answers are passed on", "requester-timeout", "`request_id` should be", LateAnswers),
    ("who goes cancels nothing", "requester-cancel", 'w got no {"type": "custom", "data": {"event": "cancel", "',
     sends(only(cancels, never), "custom")),
    ("partial answers are swallowed", "requester-stream", "`data` should be",
     answered(only(lambda it: it.get("partial") is True, never))),
    ("partial answers don't say so", "requester-stream", "`partial` is missing", answered(without("partial"))),
    ("nothing moves", "requester-lost", 'w got no {"type": "request", "msg_id": "$m", "data": {"re',
     sends(only(lambda it: it["data"]["request"]["attempt"] > 1, never), "request")),
    ("lost in other words", "requester-lost", "`error` should be", error("Worker lost", "Worker response timeout")),
    ("everything is idempotent", "requester-lost", "r got no", takes(without("idempotent"))),
    ("attempts aren't counted", "requester-lost", "`data`.`request`.`attempt` should be",
     sends(details(attempt=1), "request")),
    ("no affinity", "requester-affinity", 'v got no {"type": "request", "msg_id": "$m2"}', takes(without("affinity"))),
    ("a requester is greeted", "requester-silence", "`success` is missing", Greets),
    ("3 MB are cut", "requester-longest", "`data`.`params` should be",
     takes(only(lambda it: len(str(it.get("data"))) > 2_000_000, set_to("data", "q")))),
    ("a wrong answer is waited out", "requester-wrong-answer", 'r got no {"request_id": "$r"',
     takes(never, "response")),
    ("weights aren't looked at", "balance-least-loaded", 'w got no {"type": "request", "msg_id": "$w5"}',
     takes(data_without("weight"), "connect")),
    ("the first worker gets all", "balance-least-loaded", 'w got no {"type": "request", "msg_id": "$w1"}',
     FirstWorkerOnly),
    ("no workers is a success", "requests-over-http", "should be answered with 503, is with 200",
     answers("/api/requests", lambda said: None, status=200)),
    ("a client's answer is another's", "asked-by-a-client", "`msg_id` should be",
     sends(set_to("msg_id", "m"), "response")),
    ("a worker replaced with 1000", "worker-replaced", "should be closed with 4009, was with 1000", code(4009, 1000)),
    # What a run that was told of another deployment expects, and this gateway isn't.
    ("more is kept than should be", "resume-gone", "`resume`.`recovered` should be", Rule),
    ("least_loaded instead of round_robin", "balance-round-robin", 'v got no {"type": "request"', Rule),
    ("weights count where any is as good", "balance-random", "the share of v should be", Rule),
    ("weights don't count where any should by its own", "balance-weighted-random", "the share of w should be",
     takes(data_without("weight"), "connect")),
    ("in turn is not by chance", "balance-random", "in turn should be", InTurn),
    ("the queue takes one that should not wait", "requester-busy", "r got no", Rule),
    # Tokens. The gateway looks at them where there are some: to a run that was told `off` or `required` it is broken.
    ("off looks at tokens", "token-ignored", "`type` should be", Rule),
    ("required lets everybody in", "token-needed", "`type` should be", Rule),
    ("a wrong token is passed over", "token-wrong", "`type` should be", takes(without("token"), "c_client_register")),
    ("a token's end isn't told", "token-message", "`expires_at` is missing", sends(without("expires_at"), ACK)),
    ("no token in headers", "token-header", "`expires_at` is missing", upgrades(no_authorization)),
    ("with a bearer nothing is agreed to", "token-subprotocol", "subprotocol", handshake(no_subprotocol)),
    ("no token in addresses", "token-address", "`expires_at` is missing", upgrades(no_query)),
    ("a refresh isn't answered", "token-refresh", "a got no", sends(never, "token_refresh")),
    ("a wrong refresh is passed over", "token-refresh-wrong", "a got", sends(never, "error")),
    # Drain
    ("a drain in silence", "drain", "was closed with 1012", partial(Drains, notice=False)),
    ("a drain with 1001", "drain", "should be closed with 1012, was with 1001", partial(Drains, code=1001)),
    ("a drain is a normal end", "drain", "should be closed with 1012, was with 1000", partial(Drains, code=1000)),
    ("a drain without a window", "drain", "the reason of the close", partial(Drains, reason="")),
)  # fmt: skip
TABLE: Final = tuple(Mutant(name, scenario, because, rule) for name, scenario, because, rule in ROWS)
