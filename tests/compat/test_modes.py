"""The modes of PORTICO_AUTH, as existing client programs meet them, which bring no token.

Off and optional serve them as ever, and required tells them what is missing; with a token everybody is served. (With
off, the default, test_live has every row.) The same gateways show what is about other strategies than the default's, as
tokens and strategies know nothing of one another.
"""

from pathlib import Path

import pytest

from compat.clients import BARE
from compat.script import read
from tests.compat.documented_clients import KINDS

from .deployments import admin_token, one, tokens_are
from .test_clients import run_to_its_end
from .test_live import compat, needing, rows

pytestmark = pytest.mark.live

NAMES = (
    "register", "user-switch", "same-client-returns", "push-all", "worker-handshake", "requester", "envelope-connect",
    "user-dialect",
)  # fmt: skip
ABOUT_TOKENS = {row.name for row in read() if row.name.startswith("token-")}
LEAST_LOADED = {(name, BARE) for name in {*NAMES} & needing("least-loaded")}


def test_optional_serves_those_without_a_token_as_before(tmp_path: Path) -> None:
    arguments = ("--token", admin_token(), "--strategy", "weighted_random")
    settings = {**tokens_are("optional"), "PORTICO_LB_STRATEGY": "weighted_random"}
    names = {*NAMES, *ABOUT_TOKENS, *needing("weighted-random")}
    with one(tmp_path, *arguments, settings=settings) as live:
        code, results, printed = compat(live, tmp_path, "--client", BARE, "--invasive", "--only", ",".join(names))
    elsewhere = {("token-ignored", BARE), ("token-needed", BARE)} | LEAST_LOADED
    assert rows(results, "skipped") == elsewhere, printed
    assert rows(results, "passed") == {(name, BARE) for name in (*names, "mode")} - elsewhere, printed
    assert code == 0


async def test_required_tells_each_of_them_what_is_missing(tmp_path: Path) -> None:
    settings = {**tokens_are("required"), "PORTICO_LB_STRATEGY": "round_robin", "PORTICO_QUEUE_LIMIT": 0}
    with one(tmp_path, "--strategy", "round_robin", "--no-queue", settings=settings) as live:
        for kind in KINDS:
            code, reports, lines = await run_to_its_end(kind, "--base-url", live[0])
            assert code == 1
            assert len(lines) == 1
            assert lines[0].startswith("The gateway rejected the registration: A token is needed here")
            assert lines[0].endswith("(unauthorized).")
            # It is no use to try again, and no program of theirs does.
            assert not [report for report in reports if report["event"] == "attempt_failed"]
        names = ("register", "requester-no-worker", "user-dialect", "token-needed", "token-wrong")
        _, results, printed = compat(live, tmp_path, "--client", BARE, "--only", ",".join(names))
        assert rows(results, "passed") == {(name, BARE) for name in ("token-needed", "token-wrong", "mode")}, printed
        assert rows(results, "skipped") == {(name, BARE) for name in names[:3]}, printed
        served = {*NAMES, *ABOUT_TOKENS, *needing("round-robin", "no-queue"), "requester-no-worker"}
        served -= {"token-ignored", "token-wrong"}
        arguments = ("--client", BARE, "--invasive", "--only", ",".join(sorted(served)), "--token", admin_token())
        code, results, printed = compat(live, tmp_path, *arguments)
        assert rows(results, "skipped") == LEAST_LOADED, printed
        assert rows(results, "passed") == {(name, BARE) for name in (*served, "mode")} - LEAST_LOADED, printed
        assert code == 0
