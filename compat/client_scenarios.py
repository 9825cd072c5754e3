"""What existing C-Clients rely on, one scenario each, played by every kind of client program.

Knows the C-Client dialect and the HTTP routes that drive it. A scenario that checks that something does *not* arrive
first lets a marker through behind it, and never waits for time to pass.
"""

from typing import Any, Final
from urllib.parse import urlsplit

from compat.address import why_not
from compat.expect import (
    ANYTHING,
    FILLED_TEXT,
    HOST,
    MILLISECONDS,
    OBJECT,
    PORT,
    POSITIVE,
    SECONDS,
    TEXT,
    Json,
    Rule,
    SkipError,
    UnmetError,
    expect,
    one_of,
    or_null,
    same,
    shown,
)
from compat.program import Program
from compat.scenario import Scenario
from compat.stage import Stage

ENVIRONMENT: Final = one_of("development", "production")


async def _answer(stage: Stage, form: str) -> Json:
    program = await stage.start(discovery=form, discover_only=True)
    report = await program.take("discovery answer", lambda report: report["event"] == "discovered")
    expect("discovery", report, {"status": same(200)})
    if not str(report["content_type"]).startswith("application/json"):
        raise UnmetError(f"discovery: the content type should be application/json, is {shown(report['content_type'])}")
    answer: Json = expect("discovery", report, {"answer": OBJECT})["answer"]
    return answer


async def discovery_websocket_info(stage: Stage) -> None:
    answer = await _answer(stage, "websocket-info")
    scheme = "wss" if stage.target.base_url.startswith("https:") else "ws"
    expect(
        "websocket-info",
        answer,
        {
            "websocket_url": Rule(f"a {scheme}:// address", lambda url: str(url).startswith(f"{scheme}://")),
            "websocket_host": HOST,
            "websocket_port": PORT,
            "http_port": PORT,
            "environment": ENVIRONMENT,
            "timestamp": MILLISECONDS,
        },
    )
    parts = urlsplit(answer["websocket_url"])
    port = parts.port or {"ws": 80, "wss": 443}[scheme]
    host = answer["websocket_host"].strip("[]").lower()
    if (parts.hostname, port) != (host, answer["websocket_port"]):
        raise UnmetError(f"websocket-info: the URL and the host and port disagree in {shown(answer)}")


async def discovery_info(stage: Stage) -> None:
    answer = expect("info", await _answer(stage, "info"), {"success": same(True), "b_client_info": OBJECT})
    info = expect(
        "b_client_info",
        answer["b_client_info"],
        {
            "websocket": OBJECT,
            "api_port": PORT,
            "websocket_port": PORT,
            "hostname": TEXT,
            "local_ip": TEXT,
            "environment": ENVIRONMENT,
            "timestamp": MILLISECONDS,
        },
    )
    expect(
        "b_client_info.websocket",
        info["websocket"],
        {
            "enabled": same(True),
            "host": HOST,
            "port": same(info["websocket_port"]),
            "environment": same(info["environment"]),
        },
    )


async def _gets_in(stage: Stage, way: str, form: str = "websocket-info") -> None:
    if (reason := why_not(way, stage.target.base_url)) is not None:
        raise SkipError(reason)
    client_id = stage.fresh("client")
    program = await stage.start({"client_id": client_id}, discovery=form, address=way)
    await program.message("registration_success", client_id=client_id)


async def address_url(stage: Stage) -> None:
    await _gets_in(stage, "url")


async def address_host_port(stage: Stage) -> None:
    await _gets_in(stage, "host-port")


async def address_host_port_info(stage: Stage) -> None:
    await _gets_in(stage, "host-port", "info")


async def address_base_url(stage: Stage) -> None:
    await _gets_in(stage, "base-url")


async def address_base_url_info(stage: Stage) -> None:
    await _gets_in(stage, "base-url", "info")


async def register(stage: Stage) -> None:
    identity = {
        "client_id": stage.fresh("client"),
        "user_id": stage.fresh("user"),
        "username": "Ann Ünïcode 安",
        **{name: stage.fresh(name) for name in ("node_id", "domain_id", "cluster_id", "channel_id")},
    }
    program = await stage.start(identity)
    answer = await program.message("registration_success")
    expect(
        "registration_success",
        answer,
        {
            "client_id": same(identity["client_id"]),
            "user_id": same(identity["user_id"]),
            "connection_id": FILLED_TEXT,
            "node": FILLED_TEXT,
            "heartbeat_interval": POSITIVE,
        },
    )
    if program.messages()[0] != answer:
        raise UnmetError(f"a message came before registration_success: {shown(program.messages()[0])}")


async def register_anonymous(stage: Stage) -> None:
    program = await stage.start()
    answer = await program.message("registration_success")
    expect("registration_success", answer, {"client_id": FILLED_TEXT, "user_id": same(None)})


async def register_rejected(stage: Stage) -> None:
    program = await stage.start({"client_id": "x" * 129, "user_id": stage.fresh("user")})
    answer = await program.message("registration_rejected")
    named = dict.fromkeys(("client_id", "user_id", "username", "node_id"), ANYTHING)
    expect("registration_rejected", answer, {"reason": same("bad_field"), "message": FILLED_TEXT, **named})
    await program.failed()


async def user_switch(stage: Stage) -> None:
    first, second = stage.fresh("user"), stage.fresh("user")
    session_id = await stage.deployment.start_login(second)
    program = await stage.registered(user_id=first)
    await program.tell("register", identity={"user_id": second})
    program.identity["user_id"] = second
    await program.message("registration_success", user_id=second)
    await program.message("auto_login", session_id=session_id, user_id=second)
    stray = stage.fresh("stray")
    await stage.deployment.push({"user_id": first}, stray, {})
    await stage.settled(program)
    program.never_got(stray)


async def same_client_returns(stage: Stage) -> None:
    identity = {"client_id": stage.fresh("client"), "user_id": stage.fresh("user"), "node_id": stage.fresh("node")}
    older = await stage.registered(**identity)
    newer = await stage.registered(**identity)
    await older.closed(4009)
    await older.failed()
    await stage.settled(newer)


async def same_id_elsewhere(stage: Stage) -> None:
    user, client_id = stage.fresh("user"), stage.fresh("client")
    first = await stage.registered(client_id=client_id, user_id=user, node_id=stage.fresh("node"))
    second = await stage.registered(client_id=client_id, user_id=user, node_id=stage.fresh("node"))
    await stage.settled(first, second)


async def heartbeat(stage: Stage) -> None:
    program = await stage.registered()
    await program.tell("heartbeat")
    await program.message("heartbeat")


def _expect_auto_login(message: Json, session_id: str, user_id: str, config: Json) -> None:
    expect(
        "auto_login",
        message,
        {
            "session_id": same(session_id),
            "user_id": same(user_id),
            "username": same(f"{user_id} by name"),
            "session_data": same({"theme": "dark"}),
            "message": TEXT,
            "timestamp": SECONDS,
            "expires_at": or_null(SECONDS),
            "website_config": same(config),
        },
    )


async def auto_login_on_registration(stage: Stage) -> None:
    user, config = stage.fresh("user"), {"url": "https://shop.example.com", "tabs": [1, 2]}
    session_id = await stage.deployment.start_login(user, website_config=config)
    program = await stage.registered(user_id=user)
    _expect_auto_login(await program.message("auto_login"), session_id, user, config)


async def auto_login_on_start(stage: Stage) -> None:
    user, config = stage.fresh("user"), {"url": "https://shop.example.com"}
    first, second, stranger = await stage.cast({"user_id": user}, {"user_id": user}, {})
    session_id = await stage.deployment.start_login(user, website_config=config)
    for program in (first, second):
        _expect_auto_login(await program.message("auto_login"), session_id, user, config)
    await stage.settled(stranger)
    stranger.never_got("auto_login")


async def logout_notification(stage: Stage) -> None:
    user = stage.fresh("user")
    session_id = await stage.deployment.start_login(user)
    program = await stage.registered(user_id=user)
    await program.message("auto_login")
    await stage.deployment.end_login(session_id)
    expect(
        "logout_notification",
        await program.message("logout_notification"),
        {
            "session_id": same(session_id),
            "user_id": same(user),
            "username": same(f"{user} by name"),
            "reason": one_of("logout", "revoked"),
            "message": TEXT,
            "timestamp": SECONDS,
        },
    )
    late = await stage.registered(user_id=user)
    await stage.settled(late)
    late.never_got("auto_login")


async def login_expires(stage: Stage) -> None:
    user = stage.fresh("user")
    program = await stage.registered(user_id=user)
    session_id = await stage.deployment.start_login(user, ttl=1)
    await program.message("auto_login", session_id=session_id)
    ended = await program.message("logout_notification", session_id=session_id)
    expect("logout_notification", ended, {"user_id": same(user), "reason": same("expired"), "timestamp": SECONDS})


async def _feedback(stage: Stage, *, with_session_id: bool) -> None:
    user = stage.fresh("user")
    session_id = await stage.deployment.start_login(user)
    sender, other = await stage.cast({"user_id": user}, {"user_id": user})
    for program in (sender, other):
        await program.message("auto_login", session_id=session_id)
    said = stage.fresh("said")
    await sender.tell("feedback", success=False, message=said, with_session_id=with_session_id)
    expect(
        "session_feedback",
        await other.message("session_feedback"),
        {
            "session_id": same(session_id),
            "user_id": same(user),
            "client_id": same(sender.identity["client_id"]),
            "success": same(False),
            "message": same(said),
            "timestamp": SECONDS,
        },
    )
    await stage.settled(sender, other)
    sender.never_got("session_feedback")
    session = await stage.deployment.login(session_id)
    if not _recorded(session, client_id=sender.identity["client_id"], success=False, message=said):
        raise UnmetError(f"the session should hold the feedback, is {shown(session)}")


def _recorded(value: Any, **fields: object) -> bool:
    """Whether an object with these fields is anywhere in a JSON value."""
    if isinstance(value, list):
        return any(_recorded(item, **fields) for item in value)
    if not isinstance(value, dict):
        return False
    if all(name in value and value[name] == wanted for name, wanted in fields.items()):
        return True
    return any(_recorded(item, **fields) for item in value.values())


async def session_feedback(stage: Stage) -> None:
    await _feedback(stage, with_session_id=True)


async def session_feedback_current(stage: Stage) -> None:
    await _feedback(stage, with_session_id=False)


async def _push(stage: Stage, target: Json, matching: list[Program]) -> None:
    kind = stage.fresh("event")
    data = {"text": "naïve 安 \u202e", "list": [1, 2.5, None, True], "nested": {"a": {"b": []}}}
    await stage.deployment.push(target, kind, {**data, "type": "not this one"})
    for program in matching:
        message = await program.message(kind)
        expect(f"a push to {shown(target)}", message, {name: same(value) for name, value in data.items()})


async def push_targets(stage: Stage) -> None:
    names = ("client_id", "user_id", "node_id", "domain_id", "cluster_id", "channel_id")
    hit, missed = await stage.cast(*({name: stage.fresh(name) for name in names} for _ in range(2)))
    for name in names:
        await _push(stage, {name: hit.identity[name]}, [hit])
    await stage.settled(missed)
    for message in hit.messages():
        missed.never_got(message["type"], text="naïve 安 \u202e")


async def push_all(stage: Stage) -> None:
    await _push(stage, {"all": True}, await stage.cast({}, {}))


async def unknown_type(stage: Stage) -> None:
    program = await stage.registered()
    await program.tell("send", text='{"type": "no_such_thing", "x": 1}')
    expect("error", await program.message("error"), {"code": same("unknown_type"), "message": FILLED_TEXT})
    await program.tell("heartbeat")
    await program.message("heartbeat")


async def bad_json(stage: Stage) -> None:
    program = await stage.registered()
    await program.tell("send", text='{"type": "heartbeat"')
    expect("error", await program.message("error"), {"code": same("bad_json"), "message": FILLED_TEXT})
    await program.tell("heartbeat")
    await program.message("heartbeat")


async def kick(stage: Stage) -> None:
    program = await stage.registered()
    await stage.deployment.kick(program.identity["client_id"])
    await program.closed(4010)
    await program.failed()


def _row(name: str, what: str, play: Any, *, needs_api: bool = True) -> Scenario:
    return Scenario(name, what, play, needs_api=needs_api)


CLIENT_SCENARIOS: Final = (
    _row("discovery-websocket-info", "every field, with its type and unit", discovery_websocket_info, needs_api=False),
    _row("discovery-info", "every field, with its type and unit", discovery_info, needs_api=False),
    _row("address-url", "gets in by websocket_url", address_url, needs_api=False),
    _row("address-host-port", "gets in by host and port", address_host_port, needs_api=False),
    _row("address-host-port-info", "the same from the other form", address_host_port_info, needs_api=False),
    _row("address-base-url", "gets in by the base URL and the port", address_base_url, needs_api=False),
    _row("address-base-url-info", "the same from the other form", address_base_url_info, needs_api=False),
    _row("register", "registration_success and its fields", register, needs_api=False),
    _row("register-anonymous", "the gateway makes a client_id", register_anonymous, needs_api=False),
    _row("register-rejected", "a client_id that is too long", register_rejected, needs_api=False),
    _row("user-switch", "another user on the same connection", user_switch),
    _row("same-client-returns", "the older connection is closed with 4009", same_client_returns),
    _row("same-id-elsewhere", "the same client_id on another node: both stay", same_id_elsewhere),
    _row("heartbeat", "a heartbeat is answered by one", heartbeat, needs_api=False),
    _row("auto-login-on-registration", "the user has a login session already", auto_login_on_registration),
    _row("auto-login-on-start", "a login session starts", auto_login_on_start),
    _row("logout-notification", "the login session is ended", logout_notification),
    _row("login-expires", "a login session of one second ends by itself", login_expires),
    _row("session-feedback", "to the user's other client, and recorded", session_feedback),
    _row("session-feedback-current", "the same without a session_id", session_feedback_current),
    _row("push-targets", "to each kind of target, and to nobody else", push_targets),
    _row("push-all", "to everybody", push_all),
    _row("unknown-type", "an error frame, and the connection goes on", unknown_type, needs_api=False),
    _row("bad-json", "an error frame, and the connection goes on", bad_json, needs_api=False),
    _row("kick", "closed with 4010", kick),
)
