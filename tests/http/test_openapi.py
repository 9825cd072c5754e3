"""/openapi.json: whole, true, and without dangling references."""

from collections.abc import Iterator
from typing import Any

import httpx

from service.http.table import ROUTES

from .stage import house


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


async def document() -> dict[str, Any]:
    at = house(production=True)
    async with at.serving() as base, httpx.AsyncClient(base_url=base) as caller:
        answer = await caller.get("/openapi.json")
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()
        return found


async def test_every_reference_resolves_and_every_schema_is_used() -> None:
    found = await document()
    used = set(references(found))
    assert len(used) > 10
    for reference in used:
        place: Any = found
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place["type"] == "object"
    assert used == {f"#/components/schemas/{name}" for name in found["components"]["schemas"]}


async def test_every_route_is_described() -> None:
    found = await document()
    described = {
        (path, method.upper(), operation["operationId"])
        for path, operations in found["paths"].items()
        for method, operation in operations.items()
    }
    assert described == {(route.path, route.method, route.operation) for route in ROUTES}
    for route in ROUTES:
        operation = found["paths"][route.path][route.method.lower()]
        assert bool(operation["security"]) != route.open
        assert ("requestBody" in operation) == (route.body is not None)
        named = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "path"}
        assert named == set(route.parameters)
        assert all(f"{{{name}}}" in route.path for name in named)


async def test_bounds_and_required_fields_are_those_of_the_decoder() -> None:
    schemas = (await document())["components"]["schemas"]
    event = schemas["Notification"]
    assert set(event["required"]) == {"target", "type"}
    assert (event["properties"]["type"]["minLength"], event["properties"]["type"]["maxLength"]) == (1, 128)
    assert event["properties"]["data"] == {"type": ["object", "null"]}
    assert schemas["Problem"]["required"] == ["code", "message", "field"]


async def test_answers_have_the_fields_that_are_described() -> None:
    found = await document()
    at = house()
    at.stage.client(client_id="c1", user_id="u1")
    at.stage.worker("w1")
    login = (await at.call("POST", "/api/logins", json={"user_id": "u1"})).json()
    made = {"session_id": login["session_id"], "client_id": "c1"}
    for route in ROUTES:
        if route.method != "GET" or route.stream or route.path in ("/metrics", "/openapi.json"):
            continue
        path = route.path.format(**made)
        answer = await at.call("GET", path, params={query.name: "u1" for query in route.query if query.required})
        assert answer.status_code == 200, path
        schema = found["paths"][route.path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert _fits(answer.json(), schema, found), path


WHERE_NODES_ARE_MISSING = {"incomplete", "missing_nodes"}
"""Fields that are only there when an answer is put together from less than all nodes: never here."""


def _fits(value: Any, schema: dict[str, Any], found: dict[str, Any]) -> bool:
    """Enough of JSON Schema for answers: references, objects (no field more or less), arrays, alternatives, types."""
    if "$ref" in schema:
        return _fits(value, found["components"]["schemas"][schema["$ref"].rpartition("/")[2]], found)
    if "anyOf" in schema:
        return any(_fits(value, part, found) for part in schema["anyOf"])
    kind = schema.get("type")
    if kind == "object" and "properties" in schema:
        return (
            isinstance(value, dict)
            and set(schema["properties"]) - WHERE_NODES_ARE_MISSING == set(schema["required"])
            and set(schema["required"]) == set(value)
            and all(_fits(part, schema["properties"][name], found) for name, part in value.items())
        )
    if kind == "array":
        return isinstance(value, list) and all(_fits(item, schema["items"], found) for item in value)
    types: dict[Any, Any] = {
        "object": dict,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
        None: object,
    }
    return isinstance(value, types[kind])
