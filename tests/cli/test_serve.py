"""`portico serve`: what its options mean, and how it refuses to start."""

import re
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from service.cli import main
from tests.cli.running import portico
from tests.gateways import BIN, clean_environment, end


@pytest.mark.parametrize(
    ("options", "env", "expected"),
    [
        (["--port", "3000"], {}, ("development", 3000, 8766)),
        (["--port", "3000"], {"PORT": "4000"}, ("production", 3000, 3001)),
        (["--port", "3000"], {"PORT": "4000", "ENVIRONMENT": "development"}, ("development", 3000, 8766)),
        (["--websocket-port", "same"], {}, ("development", 8000, None)),
        ([], {"PORT": "4000"}, ("production", 4000, 4001)),
        (["--port", "0"], {"PORT": "4000"}, ("production", 0, 0)),
    ],
)
def test_options_of_serve_override_and_a_typed_port_is_no_platform_s(
    options: list[str],
    env: dict[str, str],
    expected: tuple[str, int, int | None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    seen: list[tuple[str, int, int | None]] = []

    def record(settings: Any, *, at_a_console: bool) -> int:
        assert not at_a_console
        seen.append((settings.environment, settings.port, settings.websocket_port))
        return 0

    monkeypatch.chdir(tmp_path)
    for name in ("PORT", "ENVIRONMENT", "WEBSOCKET_PORT", "WORKER_PORT", "HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("service.serving.serve", record)
    result = CliRunner().invoke(main, ["serve", *options])
    assert result.exit_code == 0, result.output
    assert seen == [expected]


# 192.0.2.1 is for documentation (RFC 5737): no machine has it. Labels have at most 63 letters.
@pytest.mark.parametrize("host", ["nosuch.invalid", "192.0.2.1", "2001:db8::1", "a" * 63 + ".invalid"])
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_host_that_is_not_of_this_machine_is_what_is_blamed(tmp_path: Path, host: str, workers: str) -> None:
    given = ["serve", "--host", host, "--port", "0", "--workers", workers]
    code, out, err = await portico(*given, cwd=tmp_path, REDIS_URL="redis://127.0.0.1:1/0")
    assert (code, out) == (2, "")
    assert err == (
        f"portico: cannot listen on {host}, which is no address of this machine: set HOST to one, such as 127.0.0.1, "
        "or 0.0.0.0 for all.\n"
    )


@pytest.mark.live
def test_it_serves_with_standard_error_closed_and_no_connection_is_written_to(tmp_path: Path) -> None:
    # With descriptor 2 closed, the first socket would get its number, and the log would be written into it.
    output = tmp_path / "out"
    command = f'exec "{BIN / "portico"}" serve --host 127.0.0.1 --port 0 --websocket-port same --worker-port off 2>&-'
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["sh", "-c", command], cwd=tmp_path, env=clean_environment(), stdout=file, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", output.read_text())):
            assert process.poll() is None, "it ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)  # there is no event for what another process writes
        with urllib.request.urlopen(f"{found[0]}/livez", timeout=30) as answer:
            assert answer.status == 200
    finally:
        code = end(process)
    assert code == 0
