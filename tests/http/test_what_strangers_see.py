"""What production tells those who show no key: nothing of the machine, at a bounded cost; what browsers are told."""

import pytest

from service.core.ports import HttpAnswer
from service.http.apis import port_api
from service.http.app import AsgiHead
from service.http.health import ANYBODY
from tests.fakes import handshake
from tests.http.stage import BEARER, KEY, OUTSIDE, SessionOwner, behind_proxy, house, problem

DISCOVERY = ("/api/b-client/info", "/api/b-client/websocket-info")
HEALTH = ("/api/health", "/api/c-client/status", "/readyz", "/livez", "/metrics")
PLACES = ("/", "/openapi.json", "/nowhere", "/api/clients", "/pages/page.js", *DISCOVERY, *HEALTH)


def production(**rules: object) -> SessionOwner:
    at = house(production=True, api_keys=[KEY], node="box-1-4711", **rules)
    at.places.environment = "production"
    return at


async def test_production_tells_strangers_no_name_or_address_of_the_machine() -> None:
    at = production()
    for path in PLACES:
        answer = await at.call("GET", path, peer=OUTSIDE)
        assert "box-1" not in answer.text, path
        assert "10.0.0.5" not in answer.text, path


async def test_what_programs_read_of_discovery_stays() -> None:
    at = production()
    with_key = (await at.call("GET", "/api/b-client/info", peer=OUTSIDE, headers=BEARER)).json()["b_client_info"]
    assert (with_key["hostname"], with_key["local_ip"]) == ("box-1", "10.0.0.5")
    without = (await at.call("GET", "/api/b-client/info", peer=OUTSIDE)).json()["b_client_info"]
    assert without.keys() == with_key.keys()
    differing = {name for name in with_key if with_key[name] != without[name]}
    assert differing == {"hostname", "local_ip"}
    # Who builds an address out of one of them gets there all the same.
    assert without["hostname"] == without["local_ip"] == without["websocket"]["host"] == "127.0.0.1"
    development = house()
    told = (await development.call("GET", "/api/b-client/info")).json()["b_client_info"]
    assert (told["hostname"], told["local_ip"]) == ("box-1", "10.0.0.5")


async def test_nodes_have_a_label_for_strangers() -> None:
    at = production()
    named = (await at.call("GET", "/api/health", headers=BEARER)).json()["node"]
    label = (await at.call("GET", "/api/health")).json()["node"]
    assert named == "box-1-4711"
    assert label.startswith("node-")
    assert list((await at.call("GET", "/api/c-client/status")).json()["by_node"]) == [label]
    assert list((await at.call("GET", "/api/c-client/status", headers=BEARER)).json()["by_node"]) == [named]


@pytest.mark.parametrize("path", ["/api/c-client/status", "/metrics"])
async def test_what_costs_something_is_told_to_strangers_again_for_a_moment(path: str) -> None:
    at = production()

    async def told(**headers: str) -> str:
        return (await at.call("GET", path, headers=headers)).text

    first = await told()
    at.stage.connect("/")
    assert await told() == first
    assert await told(**BEARER) != first
    at.stage.pass_time(1)
    assert await told() != first


@pytest.mark.parametrize("is_production", [True, False])
async def test_anybody_may_connect_is_said_where_the_operator_looks(is_production: bool) -> None:
    answer = await house(production=is_production).call("GET", "/readyz")
    assert (answer.status_code, answer.json()["warnings"]) == (200, [ANYBODY] if is_production else [])


async def test_metrics_can_want_a_key() -> None:
    at = production(open_metrics=False)
    assert problem(await at.call("GET", "/metrics"))[:2] == (401, "unauthorized")
    assert (await at.call("GET", "/metrics", headers=BEARER)).status_code == 200
    assert (await at.call("GET", "/readyz")).status_code == 200


async def test_the_page_can_be_switched_off() -> None:
    at = house(page=False)
    for path in ("/", "/pages/page.js", "/pages/page.css", "/streaming/socket", "/streaming/info"):
        assert problem(await at.call("GET", path))[:2] == (404, "not_found")
    assert (await at.call("GET", "/readyz")).status_code == 200


async def test_browsers_are_told_to_come_by_https_where_they_did() -> None:
    at = house(behind_proxy, hsts=31536000)
    proxy = ("10.0.0.1", 1)
    for path in PLACES:
        by_https = await at.call("GET", path, peer=proxy, headers={"x-forwarded-proto": "https"})
        assert by_https.headers["strict-transport-security"] == "max-age=31536000", path
        assert "strict-transport-security" not in (await at.call("GET", path, peer=proxy)).headers
    unset = house(behind_proxy)
    answer = await unset.call("GET", "/", peer=proxy, headers={"x-forwarded-proto": "https"})
    assert "strict-transport-security" not in answer.headers


@pytest.mark.parametrize("path", ["/nowhere", "/requester", "/ws/ann", "/ws/a%2Fb", "/"])
def test_a_refused_handshake_tells_browsers_too(path: str) -> None:
    told = {}
    for scheme in ("https", "http"):
        at = house(production=True, hsts=31536000, open_requesters=False, open_users=False, max_connections=1)
        at.stage.connect("/")
        refused = at.stage.gateway.admit(handshake(path, scheme=scheme))
        assert isinstance(refused, HttpAnswer)
        told[scheme] = refused
    assert dict(told["https"].headers)["strict-transport-security"] == "max-age=31536000"
    assert told["http"]._replace(headers=(*told["http"].headers, told["https"].headers[-1])) == told["https"]


async def test_a_port_for_websockets_tells_browsers_too() -> None:
    at = house(behind_proxy, hsts=31536000)
    head = AsgiHead("GET", "/nowhere", "", {"host": "gw"}, "10.0.0.1", "192.0.2.7", "https", "gw")
    call = port_api(at.parts).call(head)
    assert call is not None
    answer = call.answer(b"")
    assert isinstance(answer, HttpAnswer)
    assert answer.status == 426
    assert dict(answer.headers)["strict-transport-security"] == "max-age=31536000"


async def test_every_answer_is_what_its_type_says() -> None:
    at = production()
    for method in ("GET", "POST", "OPTIONS", "HEAD", "BREW"):
        for path in PLACES:
            answer = await at.call(method, path)
            assert answer.headers.get_list("x-content-type-options") == ["nosniff"], (method, path)
