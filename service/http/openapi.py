"""OpenAPI: the description of the HTTP API, made from the route table and the forms.

No OpenAPI library is used: the ones for Quart read bodies in their own, less strict way, and left references to
nested structs dangling. msgspec describes the very structs that bodies are decoded with, all of them at once.
"""

from functools import cache
from typing import Any, Final

import msgspec

from .answers import json_answer
from .forms import Refusal
from .request import HttpHandler
from .table import ROUTES, ListOf, OneOf, Route

_BAD: Final = {
    400: "Not as it should be; nothing was done.",
    401: "No API key, or a wrong one.",
    403: "Not with this API key, not from here, or not without API keys configured.",
    413: "Too large.",
}
_ANSWERED: Final = {
    200: "Done.",
    201: "Made.",
    202: "Accepted.",
    404: "There is none.",
    409: "It cannot be asked.",
    502: "It was lost on the way.",
    503: "Not possible now.",
    504: "No answer in time.",
}


@cache
def description(version: str) -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    types: dict[Any, None] = {}
    for route in ROUTES:
        for form in (Refusal, route.body, *route.answers.values()):
            types.update(dict.fromkeys(_plain(form)))
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Portico",
            "version": version,
            "description": "The HTTP API of a Portico gateway: discovery and health for all, the rest for back ends.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "One of PORTICO_API_KEYS."}},
        },
    }


def _plain(form: Any) -> list[Any]:
    """The forms that msgspec knows, out of one of the table's."""
    if isinstance(form, OneOf):
        return [plain for part in form.forms for plain in _plain(part)]
    if isinstance(form, ListOf):
        return _plain(form.form)
    return [] if form is None else [form]


def _schema(form: Any, schema_of: dict[Any, Any]) -> Any:
    if isinstance(form, OneOf):
        return {"anyOf": [_schema(part, schema_of) for part in form.forms]}
    if isinstance(form, ListOf):
        return {"type": "array", "items": _schema(form.form, schema_of)}
    return schema_of[form]


def _operation(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    answers = {status: _answer(_ANSWERED[status], form, schema_of) for status, form in route.answers.items()}
    if not route.open:
        for status, text in _BAD.items():
            if status != 413 or route.body is not None:
                answers.setdefault(status, _answer(text, Refusal, schema_of))
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "security": [] if route.open else [{"key": [route.scope]}],
        "responses": {str(status): answers[status] for status in sorted(answers)},
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in route.parameters
    ] + [
        {
            "name": query.name,
            "in": "query",
            "required": query.required,
            "description": query.text,
            "schema": dict(query.schema),
        }
        for query in route.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _schema(route.body, schema_of)}},
        }
    return operation


def _answer(text: str, form: Any, schema_of: dict[Any, Any]) -> dict[str, Any]:
    if form is None:
        return {"description": text, "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {"description": text, "content": {"application/json": {"schema": _schema(form, schema_of)}}}


def openapi_handlers(version: str) -> dict[str, HttpHandler]:
    """The handler of this module, by operation."""
    answer = json_answer(200, description(version))
    return {"getOpenApi": lambda _: answer}
