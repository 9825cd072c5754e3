"""Existing client programs, which bring no token, in the modes of PORTICO_AUTH: served by off and optional as ever, and
told by required what is missing. (With off, the default, test_live has every scenario.)"""

from pathlib import Path

import pytest

from compat.clients import BARE
from compat.program import KINDS
from tests.gateways import gateway

from .test_clients import run_to_its_end
from .test_live import compat, rows

pytestmark = pytest.mark.live

NAMES = (
    "register", "user-switch", "same-client-returns", "push-all", "worker-handshake", "requester", "envelope-connect",
    "user-dialect",
)  # fmt: skip
SETTINGS = {"PORTICO_JWT_SECRET": "a-secret-of-thirty-two-bytes-or-more"}


def test_optional_serves_those_without_a_token_as_before(tmp_path: Path) -> None:
    with gateway(tmp_path, settings={**SETTINGS, "PORTICO_AUTH": "optional"}) as live:
        code, results, printed = compat(live, "--client", BARE, "--invasive", "--only", ",".join(NAMES))
    assert rows(results, "passed") == {(name, BARE) for name in NAMES}, printed
    assert code == 0


async def test_required_tells_each_of_them_what_is_missing(tmp_path: Path) -> None:
    with gateway(tmp_path, settings={**SETTINGS, "PORTICO_AUTH": "required"}) as live:
        for kind in KINDS:
            code, reports, lines = await run_to_its_end(kind, "--base-url", live.base_url)
            assert code == 1
            assert len(lines) == 1
            assert lines[0].startswith("The gateway rejected the registration: A token is needed here")
            assert lines[0].endswith("(unauthorized).")
            # It is no use to try again, and no program of theirs does.
            assert not [report for report in reports if report["event"] == "attempt_failed"]
        names = ("register", "requester", "user-dialect")
        _, results, printed = compat(live, "--client", BARE, "--only", ",".join(names), "--timeout", "5")
    assert rows(results, "failed") == {(name, BARE) for name in names}, printed
