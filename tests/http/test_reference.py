"""The reference page says what is there."""

import re
from pathlib import Path

from service.core.connections import presence
from service.core.push import publications
from service.http import clients, logins, notifications, request, requests
from service.http.table import ROUTES

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "http-api.md").read_text(encoding="utf-8")


def test_the_routes_are_those_of_the_app() -> None:
    rows = re.findall(r"^\| `(\w+) ([^`?]+)[^`]*` \| (all|`[a-z:]+`) \|", PAGE, re.MULTILINE)
    assert rows == [(route.method, route.path, "all" if route.open else f"`{route.scope}`") for route in ROUTES]


def test_the_limits_are_those_of_the_app() -> None:
    assert f"{request.MAX_BODY >> 20} MiB; for a login session more than {logins.MAX_LOGIN >> 10} KiB" in PAGE
    assert f"for a request more than {requests.MAX_REQUEST >> 20} MiB" in PAGE
    assert f"of up to {notifications.MAX_BATCH:,}" in PAGE
    assert f"up to {publications.LONGEST_TTL // publications.DAY} days" in PAGE
    assert f"`limit` ({clients.DEFAULT_LIMIT}; up to {clients.MAX_LIMIT})" in PAGE
    assert all(f"`{name}`" in PAGE for name in presence.FILTERS)


def test_every_status_is_explained() -> None:
    explained = {
        int(status)
        for row in re.findall(r"^\| (\d{3}(?:, \d{3})*) \|", PAGE, re.MULTILINE)
        for status in row.split(", ")
    }
    assert {status for route in ROUTES for status in route.answers if status >= 400} <= explained
