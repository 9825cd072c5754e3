"""NodeReports writes a line for each thing that is reported, at its level, and counts what nobody else does."""

import io
import json
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.core.ports import HttpHead
from service.node_reports import NodeReports
from service.observe import make_log
from service.sizing import Advice


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def reports(out: io.StringIO) -> NodeReports:
    return NodeReports(make_log("json", "info", out))


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_request_is_told_without_its_query(reports: NodeReports, out: io.StringIO) -> None:
    head = cast(
        "HttpHead", SimpleNamespace(method="GET", path="/api/clients", query="token=secret", address="192.0.2.7")
    )
    reports.on_request(head, 200, 3, 40, 0.00123456)
    (line,) = lines(out)
    assert (line["event"], line["level"], line["path"], line["seconds"]) == (
        "request",
        "info",
        "/api/clients",
        0.001235,
    )
    assert (line["received"], line["sent"], line["status"]) == (3, 40, 200)
    assert "secret" not in out.getvalue()


def test_a_bug_has_its_traceback_and_is_counted_once(reports: NodeReports, out: io.StringIO) -> None:
    try:
        raise ZeroDivisionError("of ours")
    except ZeroDivisionError as error:
        reports.on_error(error)
        assert reports.counters.internal_errors == 0, "who reports it has counted it"
        reports.on_uncounted_error(error)
        reports.on_unraisable(cast("sys.UnraisableHookArgs", SimpleNamespace(exc_value=error)))
    reports.on_unraisable(cast("sys.UnraisableHookArgs", SimpleNamespace(exc_value=None)))
    assert reports.counters.internal_errors == 3
    assert [line["event"] for line in lines(out)] == ["internal error"] * 3
    assert all("test_node_reports.py" in line["trace"] for line in lines(out))


def test_a_task_that_failed_is_counted_by_its_name(reports: NodeReports, out: io.StringIO) -> None:
    reports.on_task_failed("ticker", ValueError("x"))
    assert reports.counters.background_restarts == {"ticker": 1}
    (line,) = lines(out)
    assert (line["level"], line["task"], line["error"]) == ("error", "ticker", "ValueError: x")


def test_what_is_strained_or_odd_is_a_warning(reports: NodeReports, out: io.StringIO) -> None:
    reports.on_advice(Advice("split", False, "room to spare"))
    reports.on_advice(Advice("split", True, "busy"))
    reports.note("hypercorn_info", text="Running on …")
    reports.note("contained_error", address="192.0.2.7")
    assert [line["level"] for line in lines(out)] == ["info", "warning", "info", "warning"]
    assert lines(out)[3]["event"] == "an error was kept to its connection"
