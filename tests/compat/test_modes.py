"""The modes of PORTICO_AUTH, as existing client programs meet them, which bring no token.

Off and optional serve them as ever, and required tells them what is missing; with a token everybody is served. (With
off, the default, test_live has every row.)
"""

import time
from pathlib import Path
from typing import Any

import pytest

from compat.clients import BARE
from compat.program import KINDS
from compat.script import read
from tests.gateways import gateway
from tests.tokens.signing import SECRET, token

from .test_clients import run_to_its_end
from .test_live import compat, rows

pytestmark = pytest.mark.live

NAMES = (
    "register", "user-switch", "same-client-returns", "push-all", "worker-handshake", "requester", "envelope-connect",
    "user-dialect",
)  # fmt: skip
ABOUT_TOKENS = {row.name for row in read() if row.name.startswith("token-")}


def tokens_are(auth: str) -> dict[str, Any]:
    """The settings of a gateway that looks at our tokens."""
    return {"PORTICO_AUTH": auth, "PORTICO_JWT_SECRET": SECRET}


def admin_token() -> str:
    """One that may be anybody, for an hour."""
    return token(sub="compat-admin", role="admin", exp=int(time.time()) + 3600)


def test_optional_serves_those_without_a_token_as_before(tmp_path: Path) -> None:
    with gateway(tmp_path, settings=tokens_are("optional")) as live:
        names = ",".join((*NAMES, *ABOUT_TOKENS))
        code, results, printed = compat(live, "--client", BARE, "--invasive", "--only", names, "--token", admin_token())
    elsewhere = {("token-ignored", BARE), ("token-needed", BARE)}
    assert rows(results, "skipped") == elsewhere, printed
    assert rows(results, "passed") == {(name, BARE) for name in (*NAMES, *ABOUT_TOKENS)} - elsewhere, printed
    assert code == 0


async def test_required_tells_each_of_them_what_is_missing(tmp_path: Path) -> None:
    with gateway(tmp_path, settings=tokens_are("required")) as live:
        for kind in KINDS:
            code, reports, lines = await run_to_its_end(kind, "--base-url", live.base_url)
            assert code == 1
            assert len(lines) == 1
            assert lines[0].startswith("The gateway rejected the registration: A token is needed here")
            assert lines[0].endswith("(unauthorized).")
            # It is no use to try again, and no program of theirs does.
            assert not [report for report in reports if report["event"] == "attempt_failed"]
        names = ("register", "requester", "user-dialect", "token-needed", "token-wrong")
        _, results, printed = compat(live, "--client", BARE, "--only", ",".join(names))
        assert rows(results, "passed") == {("token-needed", BARE), ("token-wrong", BARE)}, printed
        assert rows(results, "skipped") == {(name, BARE) for name in names[:3]}, printed
        served = {*NAMES, *ABOUT_TOKENS, "requester-no-worker"} - {"token-ignored", "token-wrong"}
        arguments = ("--client", BARE, "--invasive", "--only", ",".join(sorted(served)), "--token", admin_token())
        code, results, printed = compat(live, *arguments)
        assert rows(results, "passed") == {(name, BARE) for name in served}, printed
        assert code == 0
