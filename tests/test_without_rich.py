"""What only commands need is in no gateway's memory; nor is what only tokens, webhooks and chat need, without them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateways import clean_environment

STARTS = {
    # An address of nobody's: it ends with 2, after everything was imported.
    "portico serve": "from service.cli import main; main(['serve', '--host', 'nosuch.invalid', '--port', '0'])",
    "hypercorn": "import service.asgi",
}
SHOW = """
import sys
try:
    {start}
except SystemExit:
    pass
assert "service.app" in sys.modules
found = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(found & {{"prompt_toolkit", "pygments", "rich", "watchfiles", "greenlet"}}))
print(sorted(found & {{"httpx", "httpcore", "joserfc", "cryptography"}}))
import rich.console
"""


@pytest.mark.parametrize("start", STARTS)
def test_a_gateway_imports_neither_prompt_nor_tables_nor_clients_of_http_and_an_extension_may(
    tmp_path: Path, start: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW.format(start=STARTS[start])],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n[]\n"), done.stderr
